//! Hostcalls on properties.

use crate::abi::property::path_bytes;
use crate::abi::status::Status;
use crate::hostcalls::context::{HostcallContext, HostcallResult};

/// `proxy_get_property(path pointer, path size, &value pointer, &value size)`
pub(super) fn property(
    call: &mut HostcallContext<'_>,
    [path, path_size, value_at, size_at]: [u32; 4],
) -> HostcallResult {
    let args = call.borrow_for_result([value_at, size_at])?;
    let path = path_bytes(args.memory.bytes(path, path_size)?);
    if path.is_empty() {
        return Err(Status::SerializationFailure.into()); // As in Envoy.
    }
    let out = args.out;
    args.host.property(args.context, path, &mut |value| value.write(out))?;
    call.return_scratch([value_at, size_at])
}

/// `proxy_set_property(path pointer, path size, value pointer, value size)`
pub(super) fn set_property(
    call: &mut HostcallContext<'_>,
    [path, path_size, value, value_size]: [u32; 4],
) -> HostcallResult {
    let args = call.borrow()?;
    let path = path_bytes(args.memory.bytes(path, path_size)?);
    let value = args.memory.bytes(value, value_size)?;
    Ok(args.host.set_property(args.context, path, value)?)
}
