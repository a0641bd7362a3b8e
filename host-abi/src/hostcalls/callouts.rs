//! Hostcalls that start and control callouts. They act on the plugin context, whichever context is effective.

use std::time::Duration;

use crate::abi::status::Status;
use crate::host::{EndOfStream, GrpcCall, HttpCall};
use crate::hostcalls::context::{HostcallContext, HostcallResult, read_pairs};

/// Decodes a timeout: signed milliseconds, 0 for none.
fn timeout(milliseconds: u32) -> Result<Option<Duration>, Status> {
    let milliseconds = u64::try_from(milliseconds.cast_signed()).map_err(|_| Status::BadArgument)?;
    Ok((milliseconds > 0).then(|| Duration::from_millis(milliseconds)))
}

/// `proxy_http_call(upstream, headers, body, trailers, timeout, &call)`, the first four a pointer and a size each
pub(super) fn http_call(call: &mut HostcallContext<'_>, arguments: [u32; 10]) -> HostcallResult {
    let [upstream, upstream_size, headers, headers_size, body, body_size, trailers, trailers_size, timeout_ms, call_at] =
        arguments;
    let mut args = call.borrow()?;
    for (pointer, size) in
        [(upstream, upstream_size), (headers, headers_size), (body, body_size), (trailers, trailers_size)]
    {
        args.memory.check(pointer, size)?;
    }
    args.memory.write_u32(call_at, 0)?;
    let request = HttpCall {
        upstream: args.memory.bytes(upstream, upstream_size)?,
        headers: read_pairs(&args.memory, [headers, headers_size])?,
        body: args.memory.bytes(body, body_size)?,
        trailers: read_pairs(&args.memory, [trailers, trailers_size])?,
        timeout: timeout(timeout_ms)?,
    };
    let id = args.host.http_call(args.root, &request)?;
    Ok(args.memory.write_u32(call_at, id)?)
}

/// `proxy_get_status(&code, &text pointer, &text size)`
pub(super) fn status(call: &mut HostcallContext<'_>, [code_at, text_at, size_at]: [u32; 3]) -> HostcallResult {
    let mut args = call.borrow_for_result([text_at, size_at])?;
    args.memory.check(code_at, 4)?;
    let code = args.host.call_status(args.root, args.out)?;
    args.memory.write_u32(code_at, code)?;
    call.return_scratch([text_at, size_at])
}

/// `proxy_grpc_call(upstream, service, method, metadata, message, timeout, &call)`, the first five a pointer and a size
/// each
pub(super) fn grpc_call(call: &mut HostcallContext<'_>, arguments: [u32; 12]) -> HostcallResult {
    let [upstream, upstream_size, service, service_size, method, method_size, metadata, metadata_size, rest @ ..] =
        arguments;
    let [message, message_size, timeout_ms, call_at] = rest;
    let mut args = call.borrow()?;
    args.memory.check(call_at, 4)?;
    let request = GrpcCall {
        upstream: args.memory.bytes(upstream, upstream_size)?,
        service: args.memory.bytes(service, service_size)?,
        method: args.memory.bytes(method, method_size)?,
        metadata: read_pairs(&args.memory, [metadata, metadata_size])?,
        message: Some(args.memory.bytes(message, message_size)?),
        timeout: timeout(timeout_ms).map_err(|_| Status::InternalFailure)?,
    };
    let id = args.host.grpc_call(args.root, &request)?;
    Ok(args.memory.write_u32(call_at, id)?)
}

/// `proxy_grpc_stream(upstream, service, method, metadata, &call)`, the first four a pointer and a size each
pub(super) fn grpc_stream(call: &mut HostcallContext<'_>, arguments: [u32; 9]) -> HostcallResult {
    let [upstream, upstream_size, service, service_size, method, method_size, metadata, metadata_size, call_at] =
        arguments;
    let mut args = call.borrow()?;
    args.memory.check(call_at, 4)?;
    let request = GrpcCall {
        upstream: args.memory.bytes(upstream, upstream_size)?,
        service: args.memory.bytes(service, service_size)?,
        method: args.memory.bytes(method, method_size)?,
        metadata: read_pairs(&args.memory, [metadata, metadata_size])?,
        message: None,
        timeout: None,
    };
    let id = args.host.grpc_call(args.root, &request)?;
    Ok(args.memory.write_u32(call_at, id)?)
}

/// `proxy_grpc_send(call, message pointer, message size, end of stream)`
pub(super) fn grpc_send(call: &mut HostcallContext<'_>, [id, message, message_size, end]: [u32; 4]) -> HostcallResult {
    let args = call.borrow()?;
    let message = args.memory.bytes(message, message_size)?;
    Ok(args.host.grpc_send(args.root, id, message, EndOfStream::from(end != 0))?)
}

/// `proxy_grpc_close(call)`
pub(super) fn grpc_close(call: &mut HostcallContext<'_>, [id]: [u32; 1]) -> HostcallResult {
    let args = call.borrow()?;
    Ok(args.host.grpc_close(args.root, id)?)
}

/// `proxy_grpc_cancel(call)`
pub(super) fn grpc_cancel(call: &mut HostcallContext<'_>, [id]: [u32; 1]) -> HostcallResult {
    let args = call.borrow()?;
    Ok(args.host.grpc_cancel(args.root, id)?)
}
