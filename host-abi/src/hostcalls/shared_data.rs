//! Hostcalls on shared data.

use crate::abi::status::Status;
use crate::hostcalls::context::{HostcallContext, HostcallResult};
use crate::limits::MAX_NAME;

/// `proxy_get_shared_data(key pointer, key size, &value pointer, &value size, &version)`
pub(super) fn value(
    call: &mut HostcallContext<'_>,
    [key, key_size, value_at, size_at, version_at]: [u32; 5],
) -> HostcallResult {
    let mut args = call.borrow_for_result([value_at, size_at])?;
    args.memory.check(version_at, 4)?;
    let key = args.memory.bytes(key, key_size)?;
    let version = args.host.shared_data(key, args.out)?;
    args.memory.write_u32(version_at, version)?;
    call.return_scratch([value_at, size_at])
}

/// `proxy_set_shared_data(key pointer, key size, value pointer, value size, version)`
pub(super) fn set_value(
    call: &mut HostcallContext<'_>,
    [key, key_size, value, value_size, version]: [u32; 5],
) -> HostcallResult {
    if key_size as usize > MAX_NAME {
        return Err(Status::BadArgument.into());
    }
    let args = call.borrow()?;
    let key = args.memory.bytes(key, key_size)?;
    let value = args.memory.bytes(value, value_size)?;
    Ok(args.host.set_shared_data(key, value, version)?)
}
