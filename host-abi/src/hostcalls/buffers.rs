//! Hostcalls about buffers. The two configurations are the VM's own and are readable at any time.

use std::sync::Arc;

use crate::abi::buffer::BufferKind;
use crate::abi::status::Status;
use crate::host::BufferRange;
use crate::hostcalls::call::{Call, CallResult};
use crate::settings::PluginSettings;

/// The bytes of a configuration buffer; `None` for the others.
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
pub(super) fn bytes(call: &mut Call<'_>, [buffer, start, max, pointer_at, size_at]: [u32; 5]) -> CallResult {
    let buffer = BufferKind::try_from(buffer)?;
    let range = BufferRange { start: start as usize, max: max as usize };
    let settings = Arc::clone(call.state().settings());
    if let Some(bytes) = configured(&settings, buffer) {
        call.check_answer([pointer_at, size_at])?;
        return call.give(&[&bytes[range.within(bytes.len())]], [pointer_at, size_at]);
    }
    let parts = call.lend_for_answer([pointer_at, size_at])?;
    parts.host.buffer_bytes(parts.context, buffer, range, parts.out)?;
    call.give_scratch([pointer_at, size_at])
}

/// `proxy_get_configuration(&pointer, &size)`: the plugin's configuration, but the VM's while `proxy_on_vm_start` runs.
pub(super) fn configuration(call: &mut Call<'_>, [pointer_at, size_at]: [u32; 2]) -> CallResult {
    let state = call.state();
    let settings = Arc::clone(state.settings());
    let bytes = if state.in_vm_start { &settings.vm_configuration } else { &settings.configuration };
    call.check_answer([pointer_at, size_at])?;
    call.give(&[bytes], [pointer_at, size_at])
}

/// `proxy_get_buffer_status(buffer, &length, &flags)`
pub(super) fn status(call: &mut Call<'_>, [buffer, length_at, flags_at]: [u32; 3]) -> CallResult {
    let buffer = BufferKind::try_from(buffer)?;
    let settings = Arc::clone(call.state().settings());
    let mut parts = call.lend_for_answer([length_at, flags_at])?;
    let length = match configured(&settings, buffer) {
        Some(bytes) => bytes.len(),
        None => parts.host.buffer_len(parts.context, buffer)?,
    };
    parts.memory.write_u32(length_at, u32::try_from(length).unwrap_or(u32::MAX))?;
    Ok(parts.memory.write_u32(flags_at, 0)?)
}

/// `proxy_set_buffer_bytes(buffer, start, size, value pointer, value size)`
pub(super) fn set_bytes(call: &mut Call<'_>, [buffer, start, size, value, value_size]: [u32; 5]) -> CallResult {
    let buffer = BufferKind::try_from(buffer)?;
    if !buffer.is_writable() {
        return Err(Status::BadArgument.into());
    }
    let range = BufferRange { start: start as usize, max: size as usize };
    let parts = call.lend()?;
    let value = parts.memory.bytes(value, value_size)?;
    Ok(parts.host.set_buffer_bytes(parts.context, buffer, range, value)?)
}
