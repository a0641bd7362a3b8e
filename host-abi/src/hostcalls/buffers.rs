//! Hostcalls on buffers. The VM serves the two configuration buffers itself, at any time.

use std::sync::Arc;

use crate::abi::buffer::BufferKind;
use crate::abi::status::Status;
use crate::host::BufferRange;
use crate::hostcalls::context::{HostcallContext, HostcallResult};
use crate::settings::PluginSettings;

/// Returns the content of a configuration buffer; `None` for other buffers.
fn configured(settings: &PluginSettings, buffer: BufferKind) -> Option<&[u8]> {
    match buffer {
        BufferKind::VmConfiguration => Some(&settings.vm_configuration),
        BufferKind::PluginConfiguration => Some(&settings.configuration),
        BufferKind::RequestBody
        | BufferKind::ResponseBody
        | BufferKind::DownstreamData
        | BufferKind::UpstreamData
        | BufferKind::CalloutBody
        | BufferKind::GrpcMessage
        | BufferKind::CallData => None,
    }
}

/// `proxy_get_buffer_bytes(buffer, start, max, &pointer, &size)`
pub(super) fn bytes(
    call: &mut HostcallContext<'_>,
    [buffer, start, max, pointer_at, size_at]: [u32; 5],
) -> HostcallResult {
    let buffer = BufferKind::try_from(buffer)?;
    let range = BufferRange { start: start as usize, max: max as usize };
    let settings = Arc::clone(call.state().settings());
    if let Some(bytes) = configured(&settings, buffer) {
        call.check_result_pointers([pointer_at, size_at])?;
        return call.return_bytes(&[&bytes[range.within(bytes.len())]], [pointer_at, size_at]);
    }
    let args = call.borrow_for_result([pointer_at, size_at])?;
    args.host.buffer_bytes(args.context, buffer, range, args.out)?;
    call.return_scratch([pointer_at, size_at])
}

/// `proxy_get_configuration(&pointer, &size)`: returns the plugin's configuration, or the VM's while
/// `proxy_on_vm_start` runs.
pub(super) fn configuration(call: &mut HostcallContext<'_>, [pointer_at, size_at]: [u32; 2]) -> HostcallResult {
    let state = call.state();
    let settings = Arc::clone(state.settings());
    let bytes = if state.in_vm_start { &settings.vm_configuration } else { &settings.configuration };
    call.check_result_pointers([pointer_at, size_at])?;
    call.return_bytes(&[bytes], [pointer_at, size_at])
}

/// `proxy_get_buffer_status(buffer, &length, &flags)`
pub(super) fn status(call: &mut HostcallContext<'_>, [buffer, length_at, flags_at]: [u32; 3]) -> HostcallResult {
    let buffer = BufferKind::try_from(buffer)?;
    let settings = Arc::clone(call.state().settings());
    let mut args = call.borrow_for_result([length_at, flags_at])?;
    let length = match configured(&settings, buffer) {
        Some(bytes) => bytes.len(),
        None => args.host.buffer_len(args.context, buffer)?,
    };
    args.memory.write_u32(length_at, u32::try_from(length).unwrap_or(u32::MAX))?;
    Ok(args.memory.write_u32(flags_at, 0)?)
}

/// `proxy_set_buffer_bytes(buffer, start, size, value pointer, value size)`
pub(super) fn set_bytes(
    call: &mut HostcallContext<'_>,
    [buffer, start, size, value, value_size]: [u32; 5],
) -> HostcallResult {
    let buffer = BufferKind::try_from(buffer)?;
    if !buffer.is_writable() {
        return Err(Status::BadArgument.into());
    }
    let range = BufferRange { start: start as usize, max: size as usize };
    let args = call.borrow()?;
    let value = args.memory.bytes(value, value_size)?;
    Ok(args.host.set_buffer_bytes(args.context, buffer, range, value)?)
}
