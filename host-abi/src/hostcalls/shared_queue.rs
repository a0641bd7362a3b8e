//! Hostcalls about shared queues.

use crate::abi::status::Status;
use crate::hostcalls::call::{Call, CallResult};
use crate::limits::MAX_NAME;

/// `proxy_register_shared_queue(name pointer, name size, &queue)`
pub(super) fn register(call: &mut Call<'_>, [name, name_size, queue_at]: [u32; 3]) -> CallResult {
    if name_size as usize > MAX_NAME {
        return Err(Status::BadArgument.into());
    }
    let mut parts = call.lend()?;
    parts.memory.check(queue_at, 4)?;
    let name = parts.memory.bytes(name, name_size)?;
    let queue = parts.host.register_queue(parts.root, name)?;
    Ok(parts.memory.write_u32(queue_at, queue)?)
}

/// `proxy_resolve_shared_queue(VM id pointer, VM id size, name pointer, name size, &queue)`
pub(super) fn resolve(call: &mut Call<'_>, [vm_id, vm_id_size, name, name_size, queue_at]: [u32; 5]) -> CallResult {
    let mut parts = call.lend()?;
    parts.memory.check(queue_at, 4)?;
    let vm_id = parts.memory.bytes(vm_id, vm_id_size)?;
    let name = parts.memory.bytes(name, name_size)?;
    let queue = parts.host.resolve_queue(vm_id, name)?;
    Ok(parts.memory.write_u32(queue_at, queue)?)
}

/// `proxy_enqueue_shared_queue(queue, value pointer, value size)`
pub(super) fn enqueue(call: &mut Call<'_>, [queue, value, value_size]: [u32; 3]) -> CallResult {
    let parts = call.lend()?;
    let value = parts.memory.bytes(value, value_size)?;
    Ok(parts.host.enqueue(queue, value)?)
}

/// `proxy_dequeue_shared_queue(queue, &value pointer, &value size)`
pub(super) fn dequeue(call: &mut Call<'_>, [queue, value_at, size_at]: [u32; 3]) -> CallResult {
    let parts = call.lend_for_answer([value_at, size_at])?;
    parts.host.dequeue(queue, parts.out)?;
    call.give_scratch([value_at, size_at])
}
