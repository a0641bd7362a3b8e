//! Hostcalls that control a stream. All of them queue a command; the host applies it after the outermost call into the
//! guest has returned.

use crate::abi::status::Status;
use crate::abi::stream::StreamKind;
use crate::host::LocalReply;
use crate::hostcalls::context::{HostcallContext, HostcallResult, read_pairs};

/// The largest gRPC status. Larger numbers mean that the guest set none.
const MAX_GRPC_STATUS: u32 = 16;

/// `proxy_continue_request()`, ABI 0.1.0
pub(super) fn continue_request(call: &mut HostcallContext<'_>, []: [u32; 0]) -> HostcallResult {
    continue_stream(call, [StreamKind::Request.number()])
}

/// `proxy_continue_response()`, ABI 0.1.0
pub(super) fn continue_response(call: &mut HostcallContext<'_>, []: [u32; 0]) -> HostcallResult {
    continue_stream(call, [StreamKind::Response.number()])
}

/// `proxy_continue_stream(stream)`
pub(super) fn continue_stream(call: &mut HostcallContext<'_>, [stream]: [u32; 1]) -> HostcallResult {
    let stream = StreamKind::try_from(stream)?;
    let args = call.borrow()?;
    Ok(args.host.continue_stream(args.context, stream)?)
}

/// `proxy_close_stream(stream)`
pub(super) fn close_stream(call: &mut HostcallContext<'_>, [stream]: [u32; 1]) -> HostcallResult {
    let stream = StreamKind::try_from(stream)?;
    let args = call.borrow()?;
    Ok(args.host.close_stream(args.context, stream)?)
}

/// `proxy_clear_route_cache()`
pub(super) fn clear_route_cache(call: &mut HostcallContext<'_>, []: [u32; 0]) -> HostcallResult {
    let args = call.borrow()?;
    Ok(args.host.clear_route_cache(args.context)?)
}

/// `proxy_send_local_response(status, details, body, headers, grpc status)`, each of the middle three a pointer and a
/// size
pub(super) fn send_local_reply(call: &mut HostcallContext<'_>, arguments: [u32; 8]) -> HostcallResult {
    let [status, details, details_size, body, body_size, headers, headers_size, grpc_status] = arguments;
    let args = call.borrow()?;
    let reply = LocalReply {
        status,
        details: args.memory.bytes(details, details_size)?,
        body: args.memory.bytes(body, body_size)?,
        headers: read_pairs(&args.memory, [headers, headers_size])?,
        grpc_status: (grpc_status <= MAX_GRPC_STATUS).then_some(grpc_status),
    };
    match args.host.send_local_reply(args.context, &reply) {
        // The request has no reply left to send. Guests cannot handle the status, and it changes nothing.
        Err(Status::NotFound) | Ok(()) => Ok(()),
        Err(status) => Err(status.into()),
    }
}
