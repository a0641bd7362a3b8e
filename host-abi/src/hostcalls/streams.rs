//! Hostcalls that steer a stream. All of them only ask: the host acts after the outermost call into the guest has
//! returned.

use crate::abi::status::Status;
use crate::abi::stream::StreamKind;
use crate::host::LocalReply;
use crate::hostcalls::call::{Call, CallResult, read_pairs};

/// The largest gRPC status; larger numbers mean that the guest gave none.
const MAX_GRPC_STATUS: u32 = 16;

/// `proxy_continue_request()`, ABI 0.1.0
pub(super) fn continue_request(call: &mut Call<'_>, []: [u32; 0]) -> CallResult {
    continue_stream(call, [StreamKind::Request.number()])
}

/// `proxy_continue_response()`, ABI 0.1.0
pub(super) fn continue_response(call: &mut Call<'_>, []: [u32; 0]) -> CallResult {
    continue_stream(call, [StreamKind::Response.number()])
}

/// `proxy_continue_stream(stream)`
pub(super) fn continue_stream(call: &mut Call<'_>, [stream]: [u32; 1]) -> CallResult {
    let stream = StreamKind::try_from(stream)?;
    let parts = call.lend()?;
    Ok(parts.host.continue_stream(parts.context, stream)?)
}

/// `proxy_close_stream(stream)`
pub(super) fn close_stream(call: &mut Call<'_>, [stream]: [u32; 1]) -> CallResult {
    let stream = StreamKind::try_from(stream)?;
    let parts = call.lend()?;
    Ok(parts.host.close_stream(parts.context, stream)?)
}

/// `proxy_clear_route_cache()`
pub(super) fn clear_route_cache(call: &mut Call<'_>, []: [u32; 0]) -> CallResult {
    let parts = call.lend()?;
    Ok(parts.host.clear_route_cache(parts.context)?)
}

/// `proxy_send_local_response(status, details, body, headers, grpc status)`, each of the middle three a pointer and a
/// size
pub(super) fn send_local_reply(call: &mut Call<'_>, arguments: [u32; 8]) -> CallResult {
    let [status, details, details_size, body, body_size, headers, headers_size, grpc_status] = arguments;
    let parts = call.lend()?;
    let reply = LocalReply {
        status,
        details: parts.memory.bytes(details, details_size)?,
        body: parts.memory.bytes(body, body_size)?,
        headers: read_pairs(&parts.memory, [headers, headers_size])?,
        grpc_status: (grpc_status <= MAX_GRPC_STATUS).then_some(grpc_status),
    };
    match parts.host.send_local_reply(parts.context, &reply) {
        // Nothing to answer any more: guests cannot handle it, and it changes nothing.
        Err(Status::NotFound) | Ok(()) => Ok(()),
        Err(status) => Err(status.into()),
    }
}
