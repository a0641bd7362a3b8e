//! Runs an HTTP callout: sends its request, and calls the guest with the whole response or a failure.

use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use http::HeaderMap;
use http_body_util::BodyExt;
use weir_host_abi::{CalloutResponseSizes, Status};

use crate::filter::callout::{CalloutResponse, GrpcStatus, HttpCallout};
use crate::filter::host::CallScope;
use crate::filter::instance::PluginRef;
use crate::filter::invoke::notify_plugin;
use crate::limits::MAX_CALLOUT_RESPONSE_BYTES;
use crate::upstream::{Cluster, SendOptions, UpstreamRequest, Upstreams, send};

/// Sends the request and delivers the response, unless the VM has failed meanwhile.
pub(super) async fn run(upstreams: Rc<Upstreams>, plugin: PluginRef, callout: HttpCallout) {
    let HttpCallout { id, epoch, cluster, request, target, timeout, permit } = callout;
    let options = SendOptions { target, ..SendOptions::default() };
    let sending = send_and_collect(&upstreams, &cluster, request, options);
    let response = match tokio::time::timeout(timeout, sending).await {
        Ok(Ok(response)) => response,
        Ok(Err(reason)) => CalloutResponse { failed: Some(reason), ..CalloutResponse::default() },
        Err(_) => CalloutResponse { failed: Some("timeout"), ..CalloutResponse::default() },
    };
    drop(permit);
    if plugin.callouts.epoch() == epoch {
        deliver_response(&plugin, id, &response);
    }
}

/// Sends a request and collects the whole response.
///
/// # Errors
/// Returns the reason for `proxy_get_status` if there is no complete response or its body is too large.
async fn send_and_collect(
    upstreams: &Rc<Upstreams>,
    cluster: &Arc<Cluster>,
    request: UpstreamRequest,
    options: SendOptions,
) -> Result<CalloutResponse, &'static str> {
    let received = send(upstreams, cluster, request, options).await.map_err(|_| "reset")?;
    let (head, mut incoming) = received.response.into_parts();
    let mut body = BytesMut::new();
    let mut trailers = HeaderMap::new();
    while let Some(frame) = incoming.frame().await {
        match frame.map_err(|_| "reset")?.into_data() {
            Ok(data) if body.len() + data.len() > MAX_CALLOUT_RESPONSE_BYTES => return Err("response too large"),
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    drop(received.lease);
    let status = head.status.as_str().to_owned();
    Ok(CalloutResponse { status, headers: head.headers, body: body.freeze(), trailers, failed: None })
}

/// Calls the guest with the response.
fn deliver_response(plugin: &PluginRef, id: u32, response: &CalloutResponse) {
    let count = |map: &HeaderMap, pseudo: usize| u32::try_from(map.len() + pseudo).unwrap_or(u32::MAX);
    let sizes = match response.failed {
        Some(_) => CalloutResponseSizes::default(),
        None => CalloutResponseSizes {
            headers: count(&response.headers, 1),
            body: response.body.len(),
            trailers: count(&response.trailers, 0),
        },
    };
    if let Some(reason) = response.failed {
        plugin.callouts.set_status(GrpcStatus::new(Status::BrokenConnection.number(), reason));
    }
    notify_plugin(plugin, CallScope::HttpResponse(response), |vm, host| vm.on_http_call_response(host, id, sizes));
}
