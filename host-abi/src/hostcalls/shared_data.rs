//! Hostcalls about shared data.

use crate::abi::status::Status;
use crate::hostcalls::call::{Call, CallResult};
use crate::limits::MAX_NAME;

/// `proxy_get_shared_data(key pointer, key size, &value pointer, &value size, &version)`
pub(super) fn value(call: &mut Call<'_>, [key, key_size, value_at, size_at, version_at]: [u32; 5]) -> CallResult {
    let mut parts = call.lend_for_answer([value_at, size_at])?;
    parts.memory.check(version_at, 4)?;
    let key = parts.memory.bytes(key, key_size)?;
    let version = parts.host.shared_data(key, parts.out)?;
    parts.memory.write_u32(version_at, version)?;
    call.give_scratch([value_at, size_at])
}

/// `proxy_set_shared_data(key pointer, key size, value pointer, value size, version)`
pub(super) fn set_value(call: &mut Call<'_>, [key, key_size, value, value_size, version]: [u32; 5]) -> CallResult {
    if key_size as usize > MAX_NAME {
        return Err(Status::BadArgument.into());
    }
    let parts = call.lend()?;
    let key = parts.memory.bytes(key, key_size)?;
    let value = parts.memory.bytes(value, value_size)?;
    Ok(parts.host.set_shared_data(key, value, version)?)
}
