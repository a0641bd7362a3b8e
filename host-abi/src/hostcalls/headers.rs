//! Hostcalls about header maps. Reads of a map that is not there now answer as if it were empty: guests panic on
//! anything else.

use crate::abi::calls::AbiVersion;
use crate::abi::map::MapKind;
use crate::abi::status::Status;
use crate::hostcalls::call::{Call, CallResult, Refusal, read_pairs};
use crate::limits::SCRATCH_KEEP;

/// Encodes a map; one that is not there is empty.
fn encode(call: &mut Call<'_>, map: u32, out_at: [u32; 2]) -> Result<usize, Refusal> {
    let map = MapKind::try_from(map)?;
    let parts = call.lend_for_answer(out_at)?;
    let encoder = parts.encoder;
    match parts.host.header_pairs(parts.context, map, &mut |name, value| encoder.push(name, value)) {
        Ok(()) => Ok(encoder.size()),
        Err(Status::NotFound | Status::BadArgument) => {
            encoder.clear(SCRATCH_KEEP);
            Ok(0)
        }
        Err(status) => Err(status.into()),
    }
}

/// `proxy_get_header_map_size(map, &size)`: the size of the list that `proxy_get_header_map_pairs` would give.
pub(super) fn size(call: &mut Call<'_>, [map, size_at]: [u32; 2]) -> CallResult {
    let size = encode(call, map, [size_at, size_at])?;
    call.state().encoder.clear(SCRATCH_KEEP);
    let mut parts = call.lend()?;
    Ok(parts.memory.write_u32(size_at, u32::try_from(size).unwrap_or(u32::MAX))?)
}

/// `proxy_get_header_map_pairs(map, &pointer, &size)`
pub(super) fn pairs(call: &mut Call<'_>, [map, pointer_at, size_at]: [u32; 3]) -> CallResult {
    encode(call, map, [pointer_at, size_at])?;
    call.give_pairs([pointer_at, size_at])
}

/// `proxy_set_header_map_pairs(map, pairs pointer, pairs size)`
pub(super) fn set_pairs(call: &mut Call<'_>, [map, pairs, pairs_size]: [u32; 3]) -> CallResult {
    let map = MapKind::try_from(map)?;
    let parts = call.lend()?;
    let pairs = read_pairs(&parts.memory, [pairs, pairs_size])?;
    Ok(parts.host.set_header_pairs(parts.context, map, pairs)?)
}

/// `proxy_get_header_map_value(map, name pointer, name size, &value pointer, &value size)`
pub(super) fn value(call: &mut Call<'_>, [map, name, name_size, value_at, size_at]: [u32; 5]) -> CallResult {
    let map = MapKind::try_from(map)?;
    let missing_is_empty = call.state().interface.abi == AbiVersion::V0_1_0;
    let parts = call.lend_for_answer([value_at, size_at])?;
    let name = parts.memory.bytes(name, name_size)?;
    match parts.host.header_value(parts.context, map, name, parts.out) {
        Ok(()) => call.give_scratch([value_at, size_at]),
        Err(Status::NotFound | Status::BadArgument) => {
            if missing_is_empty {
                call.give(&[], [value_at, size_at])
            } else {
                Err(Status::NotFound.into())
            }
        }
        Err(status) => Err(status.into()),
    }
}

/// `proxy_add_header_map_value(map, name pointer, name size, value pointer, value size)`
pub(super) fn add(call: &mut Call<'_>, [map, name, name_size, value, value_size]: [u32; 5]) -> CallResult {
    let map = MapKind::try_from(map)?;
    let parts = call.lend()?;
    let name = parts.memory.bytes(name, name_size)?;
    let value = parts.memory.bytes(value, value_size)?;
    Ok(parts.host.add_header(parts.context, map, name, value)?)
}

/// `proxy_replace_header_map_value(map, name pointer, name size, value pointer, value size)`
pub(super) fn replace(call: &mut Call<'_>, [map, name, name_size, value, value_size]: [u32; 5]) -> CallResult {
    let map = MapKind::try_from(map)?;
    let parts = call.lend()?;
    let name = parts.memory.bytes(name, name_size)?;
    let value = parts.memory.bytes(value, value_size)?;
    Ok(parts.host.replace_header(parts.context, map, name, value)?)
}

/// `proxy_remove_header_map_value(map, name pointer, name size)`
pub(super) fn remove(call: &mut Call<'_>, [map, name, name_size]: [u32; 3]) -> CallResult {
    let map = MapKind::try_from(map)?;
    let parts = call.lend()?;
    let name = parts.memory.bytes(name, name_size)?;
    Ok(parts.host.remove_header(parts.context, map, name)?)
}
