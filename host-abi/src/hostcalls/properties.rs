//! Hostcalls about properties.

use crate::abi::property::path_bytes;
use crate::abi::status::Status;
use crate::hostcalls::call::{Call, CallResult};

/// `proxy_get_property(path pointer, path size, &value pointer, &value size)`
pub(super) fn property(call: &mut Call<'_>, [path, path_size, value_at, size_at]: [u32; 4]) -> CallResult {
    let parts = call.lend_for_answer([value_at, size_at])?;
    let path = path_bytes(parts.memory.bytes(path, path_size)?);
    if path.is_empty() {
        return Err(Status::SerializationFailure.into()); // As in Envoy.
    }
    let out = parts.out;
    parts.host.property(parts.context, path, &mut |value| value.write(out))?;
    call.give_scratch([value_at, size_at])
}

/// `proxy_set_property(path pointer, path size, value pointer, value size)`
pub(super) fn set_property(call: &mut Call<'_>, [path, path_size, value, value_size]: [u32; 4]) -> CallResult {
    let parts = call.lend()?;
    let path = path_bytes(parts.memory.bytes(path, path_size)?);
    let value = parts.memory.bytes(value, value_size)?;
    Ok(parts.host.set_property(parts.context, path, value)?)
}
