//! Hostcalls on shared queues.

use crate::abi::status::Status;
use crate::hostcalls::context::{HostcallContext, HostcallResult};
use crate::limits::MAX_NAME;

/// `proxy_register_shared_queue(name pointer, name size, &queue)`
pub(super) fn register(call: &mut HostcallContext<'_>, [name, name_size, queue_at]: [u32; 3]) -> HostcallResult {
    if name_size as usize > MAX_NAME {
        return Err(Status::BadArgument.into());
    }
    let mut args = call.borrow()?;
    args.memory.check(queue_at, 4)?;
    let name = args.memory.bytes(name, name_size)?;
    let queue = args.host.register_queue(args.root, name)?;
    Ok(args.memory.write_u32(queue_at, queue)?)
}

/// `proxy_resolve_shared_queue(VM id pointer, VM id size, name pointer, name size, &queue)`
pub(super) fn resolve(
    call: &mut HostcallContext<'_>,
    [vm_id, vm_id_size, name, name_size, queue_at]: [u32; 5],
) -> HostcallResult {
    let mut args = call.borrow()?;
    args.memory.check(queue_at, 4)?;
    let vm_id = args.memory.bytes(vm_id, vm_id_size)?;
    let name = args.memory.bytes(name, name_size)?;
    let queue = args.host.resolve_queue(vm_id, name)?;
    Ok(args.memory.write_u32(queue_at, queue)?)
}

/// `proxy_enqueue_shared_queue(queue, value pointer, value size)`
pub(super) fn enqueue(call: &mut HostcallContext<'_>, [queue, value, value_size]: [u32; 3]) -> HostcallResult {
    let args = call.borrow()?;
    let value = args.memory.bytes(value, value_size)?;
    Ok(args.host.enqueue(queue, value)?)
}

/// `proxy_dequeue_shared_queue(queue, &value pointer, &value size)`
pub(super) fn dequeue(call: &mut HostcallContext<'_>, [queue, value_at, size_at]: [u32; 3]) -> HostcallResult {
    let args = call.borrow_for_result([value_at, size_at])?;
    args.host.dequeue(queue, args.out)?;
    call.return_scratch([value_at, size_at])
}
