//! Hostcalls on header maps. A read of a map that does not exist at the moment returns an empty map, because guests
//! panic otherwise.

use crate::abi::calls::AbiVersion;
use crate::abi::map::MapKind;
use crate::abi::status::Status;
use crate::hostcalls::context::{HostcallContext, HostcallError, HostcallResult, read_pairs};
use crate::limits::SCRATCH_KEEP;

/// Encodes a map into the VM's encoder and returns its size. A map that does not exist is empty.
fn encode(call: &mut HostcallContext<'_>, map: u32, out_at: [u32; 2]) -> Result<usize, HostcallError> {
    let map = MapKind::try_from(map)?;
    let args = call.borrow_for_result(out_at)?;
    let encoder = args.encoder;
    match args.host.header_pairs(args.context, map, &mut |name, value| encoder.push(name, value)) {
        Ok(()) => Ok(encoder.size()),
        Err(Status::NotFound | Status::BadArgument) => {
            encoder.clear(SCRATCH_KEEP);
            Ok(0)
        }
        Err(status) => Err(status.into()),
    }
}

/// `proxy_get_header_map_size(map, &size)`: returns the size of the list of `proxy_get_header_map_pairs`.
pub(super) fn size(call: &mut HostcallContext<'_>, [map, size_at]: [u32; 2]) -> HostcallResult {
    let size = encode(call, map, [size_at, size_at])?;
    call.state().encoder.clear(SCRATCH_KEEP);
    let mut args = call.borrow()?;
    Ok(args.memory.write_u32(size_at, u32::try_from(size).unwrap_or(u32::MAX))?)
}

/// `proxy_get_header_map_pairs(map, &pointer, &size)`
pub(super) fn pairs(call: &mut HostcallContext<'_>, [map, pointer_at, size_at]: [u32; 3]) -> HostcallResult {
    encode(call, map, [pointer_at, size_at])?;
    call.return_pairs([pointer_at, size_at])
}

/// `proxy_set_header_map_pairs(map, pairs pointer, pairs size)`
pub(super) fn set_pairs(call: &mut HostcallContext<'_>, [map, pairs, pairs_size]: [u32; 3]) -> HostcallResult {
    let map = MapKind::try_from(map)?;
    let args = call.borrow()?;
    let pairs = read_pairs(&args.memory, [pairs, pairs_size])?;
    Ok(args.host.set_header_pairs(args.context, map, pairs)?)
}

/// `proxy_get_header_map_value(map, name pointer, name size, &value pointer, &value size)`
pub(super) fn value(
    call: &mut HostcallContext<'_>,
    [map, name, name_size, value_at, size_at]: [u32; 5],
) -> HostcallResult {
    let map = MapKind::try_from(map)?;
    let missing_is_empty = call.state().interface.abi == AbiVersion::V0_1_0;
    let args = call.borrow_for_result([value_at, size_at])?;
    let name = args.memory.bytes(name, name_size)?;
    match args.host.header_value(args.context, map, name, args.out) {
        Ok(()) => call.return_scratch([value_at, size_at]),
        Err(Status::NotFound | Status::BadArgument) => {
            if missing_is_empty {
                call.return_bytes(&[], [value_at, size_at])
            } else {
                Err(Status::NotFound.into())
            }
        }
        Err(status) => Err(status.into()),
    }
}

/// `proxy_add_header_map_value(map, name pointer, name size, value pointer, value size)`
pub(super) fn add(
    call: &mut HostcallContext<'_>,
    [map, name, name_size, value, value_size]: [u32; 5],
) -> HostcallResult {
    let map = MapKind::try_from(map)?;
    let args = call.borrow()?;
    let name = args.memory.bytes(name, name_size)?;
    let value = args.memory.bytes(value, value_size)?;
    Ok(args.host.add_header(args.context, map, name, value)?)
}

/// `proxy_replace_header_map_value(map, name pointer, name size, value pointer, value size)`
pub(super) fn replace(
    call: &mut HostcallContext<'_>,
    [map, name, name_size, value, value_size]: [u32; 5],
) -> HostcallResult {
    let map = MapKind::try_from(map)?;
    let args = call.borrow()?;
    let name = args.memory.bytes(name, name_size)?;
    let value = args.memory.bytes(value, value_size)?;
    Ok(args.host.replace_header(args.context, map, name, value)?)
}

/// `proxy_remove_header_map_value(map, name pointer, name size)`
pub(super) fn remove(call: &mut HostcallContext<'_>, [map, name, name_size]: [u32; 3]) -> HostcallResult {
    let map = MapKind::try_from(map)?;
    let args = call.borrow()?;
    let name = args.memory.bytes(name, name_size)?;
    Ok(args.host.remove_header(args.context, map, name)?)
}
