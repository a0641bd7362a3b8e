//! Runs a gRPC callout: a unary call with one response, or a stream of messages both ways.
//!
//! ```text
//! guest ─► CalloutTable entry ─► run ─► headers, messages, trailers, end ─► guest's callbacks, on the plugin context
//!   └──── send, close, cancel ──► GrpcSendStream (the body of the request)
//! ```

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;

use crate::filter::callout::{FrameDecoder, GrpcCallout, GrpcDelivery, GrpcEvent, GrpcStatus};
use crate::filter::chain::grpc_status;
use crate::filter::host::CallScope;
use crate::filter::instance::PluginRef;
use crate::filter::invoke::notify_plugin;
use crate::upstream::{Cluster, SendOptions, UpstreamRequest, Upstreams, send};

/// Sends the request and delivers its events, until the end of the call. The guest may cancel it in between.
pub(super) async fn run(upstreams: Rc<Upstreams>, plugin: PluginRef, callout: GrpcCallout) {
    let GrpcCallout { id, cluster, request, timeout, permit } = callout;
    let mut on_event = |event| deliver_event(&plugin, id, event);
    let call = send_and_receive(&upstreams, &cluster, request, &mut on_event);
    let status = match timeout {
        None => call.await,
        Some(timeout) => match tokio::time::timeout(timeout, call).await {
            Ok(status) => status,
            Err(_) => Some(GrpcStatus::new(GrpcStatus::DEADLINE_EXCEEDED, "timeout")),
        },
    };
    if let Some(status) = status {
        on_event(GrpcEvent::Closed(status));
    }
    drop(permit);
}

/// Calls the guest with an event. Returns false once the call is cancelled or closed, or its VM has failed.
fn deliver_event(plugin: &PluginRef, id: u32, event: GrpcEvent) -> bool {
    let event = match plugin.callouts.on_grpc_event(id, event) {
        GrpcDelivery::Deliver(event) => event,
        GrpcDelivery::Deferred => return true,
        GrpcDelivery::Gone => return false,
    };
    let count = |map: &HeaderMap| u32::try_from(map.len()).unwrap_or(u32::MAX);
    notify_plugin(plugin, CallScope::GrpcEvent(&event), |vm, host| match &event {
        GrpcEvent::InitialMetadata(map) => vm.on_grpc_initial_metadata(host, id, count(map)),
        GrpcEvent::Message(message) => vm.on_grpc_receive(host, id, message.len()),
        GrpcEvent::TrailingMetadata(map) => vm.on_grpc_trailing_metadata(host, id, count(map)),
        GrpcEvent::Closed(status) => vm.on_grpc_close(host, id, status.code),
    })
}

/// Sends a request, passes its events to `on_event`, and returns the final status. `None` if `on_event` returned
/// false.
async fn send_and_receive(
    upstreams: &Rc<Upstreams>,
    cluster: &Arc<Cluster>,
    request: UpstreamRequest,
    on_event: &mut dyn FnMut(GrpcEvent) -> bool,
) -> Option<GrpcStatus> {
    let reset = || Some(GrpcStatus::new(GrpcStatus::UNAVAILABLE, "reset"));
    let Ok(received) = send(upstreams, cluster, request, SendOptions::default()).await else { return reset() };
    let (head, mut body) = received.response.into_parts();
    if head.status != StatusCode::OK {
        let text = format!("HTTP status {}", head.status.as_u16());
        return Some(GrpcStatus { code: grpc_status(head.status), text });
    }
    // A response without messages has its status in the headers.
    if let Some(status) = grpc_status_in(&head.headers) {
        return on_event(GrpcEvent::TrailingMetadata(head.headers)).then_some(status);
    }
    if !on_event(GrpcEvent::InitialMetadata(head.headers)) {
        return None;
    }
    let mut decoder = FrameDecoder::default();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return reset() };
        match frame.into_data() {
            Ok(data) => decoder.push(&data),
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                let status = grpc_status_in(&trailers).unwrap_or_else(no_status);
                return on_event(GrpcEvent::TrailingMetadata(trailers)).then_some(status);
            }
        }
        loop {
            match decoder.next() {
                Ok(Some(message)) => {
                    if !on_event(GrpcEvent::Message(message)) {
                        return None;
                    }
                }
                Ok(None) => break,
                Err(error) => return Some(error.into()),
            }
        }
    }
    drop(received.lease);
    Some(no_status())
}

/// Returns the gRPC status in headers or trailers.
fn grpc_status_in(headers: &HeaderMap) -> Option<GrpcStatus> {
    let code =
        headers.get("grpc-status")?.to_str().ok().and_then(|text| text.parse().ok()).unwrap_or(GrpcStatus::UNKNOWN);
    let text = headers.get("grpc-message").map(|text| String::from_utf8_lossy(text.as_bytes()).into_owned());
    Some(GrpcStatus { code, text: text.unwrap_or_default() })
}

fn no_status() -> GrpcStatus {
    GrpcStatus::new(GrpcStatus::UNKNOWN, "no status")
}
