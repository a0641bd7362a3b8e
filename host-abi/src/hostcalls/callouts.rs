//! Hostcalls that start and steer callouts. They act on the plugin context, whichever context makes them.

use std::time::Duration;

use crate::abi::status::Status;
use crate::host::{EndOfStream, GrpcCall, HttpCall};
use crate::hostcalls::call::{Call, CallResult, read_pairs};

/// Reads a timeout in milliseconds: a signed number, 0 for none.
fn timeout(milliseconds: u32) -> Result<Option<Duration>, Status> {
    let milliseconds = u64::try_from(milliseconds.cast_signed()).map_err(|_| Status::BadArgument)?;
    Ok((milliseconds > 0).then(|| Duration::from_millis(milliseconds)))
}

/// `proxy_http_call(upstream, headers, body, trailers, timeout, &call)`, the first four a pointer and a size each
pub(super) fn http_call(call: &mut Call<'_>, arguments: [u32; 10]) -> CallResult {
    let [upstream, upstream_size, headers, headers_size, body, body_size, trailers, trailers_size, timeout_ms, call_at] =
        arguments;
    let mut parts = call.lend()?;
    for (pointer, size) in
        [(upstream, upstream_size), (headers, headers_size), (body, body_size), (trailers, trailers_size)]
    {
        parts.memory.check(pointer, size)?;
    }
    parts.memory.write_u32(call_at, 0)?;
    let request = HttpCall {
        upstream: parts.memory.bytes(upstream, upstream_size)?,
        headers: read_pairs(&parts.memory, [headers, headers_size])?,
        body: parts.memory.bytes(body, body_size)?,
        trailers: read_pairs(&parts.memory, [trailers, trailers_size])?,
        timeout: timeout(timeout_ms)?,
    };
    let id = parts.host.http_call(parts.root, &request)?;
    Ok(parts.memory.write_u32(call_at, id)?)
}

/// `proxy_get_status(&code, &text pointer, &text size)`
pub(super) fn status(call: &mut Call<'_>, [code_at, text_at, size_at]: [u32; 3]) -> CallResult {
    let mut parts = call.lend_for_answer([text_at, size_at])?;
    parts.memory.check(code_at, 4)?;
    let code = parts.host.call_status(parts.root, parts.out)?;
    parts.memory.write_u32(code_at, code)?;
    call.give_scratch([text_at, size_at])
}

/// `proxy_grpc_call(upstream, service, method, metadata, message, timeout, &call)`, the first five a pointer and a size
/// each
pub(super) fn grpc_call(call: &mut Call<'_>, arguments: [u32; 12]) -> CallResult {
    let [upstream, upstream_size, service, service_size, method, method_size, metadata, metadata_size, rest @ ..] =
        arguments;
    let [message, message_size, timeout_ms, call_at] = rest;
    let mut parts = call.lend()?;
    parts.memory.check(call_at, 4)?;
    let request = GrpcCall {
        upstream: parts.memory.bytes(upstream, upstream_size)?,
        service: parts.memory.bytes(service, service_size)?,
        method: parts.memory.bytes(method, method_size)?,
        metadata: read_pairs(&parts.memory, [metadata, metadata_size])?,
        message: Some(parts.memory.bytes(message, message_size)?),
        timeout: timeout(timeout_ms).map_err(|_| Status::InternalFailure)?,
    };
    let id = parts.host.grpc_call(parts.root, &request)?;
    Ok(parts.memory.write_u32(call_at, id)?)
}

/// `proxy_grpc_stream(upstream, service, method, metadata, &call)`, the first four a pointer and a size each
pub(super) fn grpc_stream(call: &mut Call<'_>, arguments: [u32; 9]) -> CallResult {
    let [upstream, upstream_size, service, service_size, method, method_size, metadata, metadata_size, call_at] =
        arguments;
    let mut parts = call.lend()?;
    parts.memory.check(call_at, 4)?;
    let request = GrpcCall {
        upstream: parts.memory.bytes(upstream, upstream_size)?,
        service: parts.memory.bytes(service, service_size)?,
        method: parts.memory.bytes(method, method_size)?,
        metadata: read_pairs(&parts.memory, [metadata, metadata_size])?,
        message: None,
        timeout: None,
    };
    let id = parts.host.grpc_call(parts.root, &request)?;
    Ok(parts.memory.write_u32(call_at, id)?)
}

/// `proxy_grpc_send(call, message pointer, message size, end of stream)`
pub(super) fn grpc_send(call: &mut Call<'_>, [id, message, message_size, end]: [u32; 4]) -> CallResult {
    let parts = call.lend()?;
    let message = parts.memory.bytes(message, message_size)?;
    Ok(parts.host.grpc_send(parts.root, id, message, EndOfStream::from(end != 0))?)
}

/// `proxy_grpc_close(call)`
pub(super) fn grpc_close(call: &mut Call<'_>, [id]: [u32; 1]) -> CallResult {
    let parts = call.lend()?;
    Ok(parts.host.grpc_close(parts.root, id)?)
}

/// `proxy_grpc_cancel(call)`
pub(super) fn grpc_cancel(call: &mut Call<'_>, [id]: [u32; 1]) -> CallResult {
    let parts = call.lend()?;
    Ok(parts.host.grpc_cancel(parts.root, id)?)
}
