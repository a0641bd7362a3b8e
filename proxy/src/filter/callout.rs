//! Callouts: requests that filters make themselves (`proxy_http_call`, `proxy_grpc_call`, `proxy_grpc_stream`). Each
//! goes to a cluster and is bounded in number, size and time. Each accepted call gets exactly one response, on the
//! plugin context, unless its VM has failed meanwhile.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::{BodyExt, Full};
use tokio::task::AbortHandle;
use tracing::warn;
use weir_host_abi::host::{GrpcCall, HttpCall};
use weir_host_abi::{CalloutResponseSizes, EndOfStream, Status};
use weir_model::{ClusterName, PluginName};

use crate::body::Body;
use crate::filter::callout_grpc::{self, GrpcEvent, GrpcSendStream, GrpcTarget};
use crate::filter::invoke::notify_plugin;
use crate::filter::plugin_instance::PluginInstance;
use crate::filter::scope::CallScope;
use crate::limits::{MAX_CALLOUT_REQUEST_BYTES, MAX_CALLOUT_RESPONSE_BYTES, MAX_CALLOUT_TIMEOUT, MAX_HOST_BYTES};
use crate::task;
use crate::upstream::{Cluster, SendOptions, UpstreamRequest, Upstreams, send};

/// The response of an HTTP callout.
#[derive(Debug, Default)]
pub(super) struct CalloutResponse {
    /// The `:status` pseudo-header, empty if the call failed.
    pub(super) status: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: HeaderMap,
    /// Reason of the failure, if the call failed.
    pub(super) failed: Option<&'static str>,
}

/// The clusters of the active configuration, which callouts of a worker may use.
pub(super) type ClusterMap = Rc<RefCell<HashMap<ClusterName, Arc<Cluster>>>>;

/// Kind of a callout: the low two bits of its id.
const HTTP: u32 = 0;
const GRPC_CALL: u32 = 1;
const GRPC_STREAM: u32 = 2;

/// Callouts in flight of one plugin on one worker, across its VMs.
#[derive(Default)]
struct CalloutUsage {
    in_flight: Cell<u32>,
    /// Bytes of the request bodies of these callouts.
    bytes_in_flight: Cell<usize>,
}

/// Callouts of one plugin instance, whose VM may be replaced.
pub(crate) struct CalloutTable {
    upstreams: Rc<Upstreams>,
    clusters: ClusterMap,
    usage: Rc<CalloutUsage>,
    /// Incremented when the VM fails, so that responses to its callouts are dropped.
    epoch: Cell<u64>,
    /// gRPC calls and streams whose ids the guest may still use, by id.
    grpc: RefCell<HashMap<u32, GrpcCallState>>,
    /// Status of the last failed or closed call, for `proxy_get_status`.
    status: RefCell<(u32, String)>,
}

/// State of a gRPC call or stream.
struct GrpcCallState {
    task: AbortHandle,
    send_stream: GrpcSendStream,
    /// The response message of a unary call, until its status arrives.
    response: Option<Bytes>,
    /// True once the upstream has ended the stream.
    is_closed: bool,
}

/// Permit for one call in flight, with the size of its request body. Dropping it releases both.
struct CalloutPermit {
    usage: Rc<CalloutUsage>,
    body_bytes: usize,
}

impl Drop for CalloutPermit {
    fn drop(&mut self) {
        let CalloutUsage { in_flight, bytes_in_flight } = &*self.usage;
        in_flight.set(in_flight.get().saturating_sub(1));
        bytes_in_flight.set(bytes_in_flight.get().saturating_sub(self.body_bytes));
    }
}

impl CalloutTable {
    pub(super) fn new(upstreams: Rc<Upstreams>, clusters: ClusterMap) -> Self {
        Self::with_usage(upstreams, clusters, Rc::default())
    }

    /// Returns an empty table for another VM of the same plugin on this worker. Both share the limits.
    pub(super) fn for_new_vm(&self) -> Self {
        Self::with_usage(Rc::clone(&self.upstreams), Rc::clone(&self.clusters), Rc::clone(&self.usage))
    }

    fn with_usage(upstreams: Rc<Upstreams>, clusters: ClusterMap, usage: Rc<CalloutUsage>) -> Self {
        Self { upstreams, clusters, usage, epoch: Cell::new(0), grpc: RefCell::default(), status: RefCell::default() }
    }

    /// Abandons all callouts, after the VM has failed.
    pub(super) fn abandon_all(&self) {
        self.epoch.set(self.epoch.get() + 1);
        for (_, state) in self.grpc.borrow_mut().drain() {
            state.task.abort();
        }
        *self.status.borrow_mut() = (0, String::new());
    }

    /// Returns the status code and text of the last failed or closed call.
    pub(super) fn status(&self) -> (u32, String) {
        self.status.borrow().clone()
    }

    /// Starts an HTTP callout and returns its id.
    ///
    /// # Errors
    /// `BadArgument` for an unknown or forbidden cluster and for invalid headers, `InternalFailure` beyond a limit.
    pub(super) fn start(&self, instance: &Rc<PluginInstance>, call: &HttpCall<'_>) -> Result<u32, Status> {
        let plugin = &instance.plugin.model.name;
        let Some(cluster) = self.allowed_cluster(instance, call.upstream) else {
            log_unknown_cluster(instance, call.upstream);
            return Err(Status::BadArgument);
        };
        let Some(request) = http_request(call) else {
            if instance.should_log_misuse() {
                warn!(%plugin, cluster = %cluster.model().name,
                    "callout rejected: :method, :path and :authority are needed, and every header must be valid");
            }
            return Err(Status::BadArgument);
        };
        let permit = self.acquire_permit(instance, call.body.len())?;
        let id = Self::next_id(instance, HTTP);
        let timeout = call.timeout.unwrap_or(MAX_CALLOUT_TIMEOUT).min(MAX_CALLOUT_TIMEOUT);
        let (instance, epoch) = (Rc::clone(instance), self.epoch.get());
        let upstreams = Rc::clone(&self.upstreams);
        task::spawn_local("filter-callout", async move {
            let response = match tokio::time::timeout(timeout, send_and_collect(&upstreams, &cluster, request)).await {
                Ok(Ok(response)) => response,
                Ok(Err(reason)) => CalloutResponse { failed: Some(reason), ..CalloutResponse::default() },
                Err(_) => CalloutResponse { failed: Some("timeout"), ..CalloutResponse::default() },
            };
            drop(permit);
            if instance.callouts.epoch.get() == epoch {
                deliver_response(&instance, id, &response);
            }
        });
        Ok(id)
    }

    /// Starts a gRPC call, or a stream if the call has no message, and returns its id.
    ///
    /// # Errors
    /// `ParseFailure` for an unknown or forbidden cluster, `InternalFailure` for invalid metadata and beyond a limit.
    pub(super) fn start_grpc(&self, instance: &Rc<PluginInstance>, call: &GrpcCall<'_>) -> Result<u32, Status> {
        let named = self
            .allowed_cluster(instance, call.upstream)
            .map(|cluster| (cluster, GrpcTarget::from_cluster_name(call.upstream)));
        let Some((cluster, target)) = named.or_else(|| {
            let target = GrpcTarget::from_grpc_service(call.upstream)?;
            Some((self.allowed_cluster(instance, &target.cluster)?, target))
        }) else {
            log_unknown_cluster(instance, call.upstream);
            return Err(Status::ParseFailure);
        };
        let send_stream = GrpcSendStream::default();
        let (kind, body, timeout) = match call.message {
            Some(message) => {
                let timeout = target.timeout(call).unwrap_or(MAX_CALLOUT_TIMEOUT).min(MAX_CALLOUT_TIMEOUT);
                (GRPC_CALL, Body::full(callout_grpc::encode_frame(message)), Some(timeout))
            }
            None => (GRPC_STREAM, Body::stream(send_stream.clone()), target.timeout(call)),
        };
        let Some(request) = target.request(call, &cluster, body) else {
            if instance.should_log_misuse() {
                warn!(plugin = %instance.plugin.model.name, cluster = %cluster.model().name,
                    "gRPC callout rejected: service, method and metadata must be valid in a request");
            }
            return Err(Status::InternalFailure);
        };
        let permit = self.acquire_permit(instance, call.message.map_or(0, <[u8]>::len))?;
        let id = Self::next_id(instance, kind);
        let (upstreams, owner) = (Rc::clone(&self.upstreams), Rc::clone(instance));
        let task = task::spawn_local("filter-grpc", async move {
            let mut on_event = |event| deliver_grpc_event(&owner, id, event);
            callout_grpc::run_call(&upstreams, &cluster, request, timeout, &mut on_event).await;
            drop(permit);
        });
        let state = GrpcCallState { task: task.abort_handle(), send_stream, response: None, is_closed: false };
        self.grpc.borrow_mut().insert(id, state);
        Ok(id)
    }

    /// Sends a message on a stream, which may be the last one. Cancels the stream if too many bytes wait for the
    /// upstream.
    pub(super) fn send(
        &self,
        instance: &PluginInstance,
        id: u32,
        message: &[u8],
        end: EndOfStream,
    ) -> Result<(), Status> {
        if id & 3 != GRPC_STREAM {
            return Err(Status::BadArgument);
        }
        let send_stream = match self.grpc.borrow().get(&id) {
            Some(state) if !state.send_stream.is_ended() => state.send_stream.clone(),
            _ => return Err(Status::NotFound),
        };
        if !send_stream.push(message) {
            instance.metrics.limited.increment("grpc");
            if instance.should_log_misuse() {
                warn!(plugin = %instance.plugin.model.name,
                    "gRPC stream canceled: too many bytes wait for the upstream");
            }
            return self.cancel(id);
        }
        if end == EndOfStream::Yes {
            send_stream.end();
        }
        Ok(())
    }

    /// Ends the request side of a stream, or cancels a unary call.
    pub(super) fn close(&self, id: u32) -> Result<(), Status> {
        match id & 3 {
            GRPC_CALL => self.cancel(id),
            GRPC_STREAM => {
                let mut calls = self.grpc.borrow_mut();
                let state = calls.get(&id).ok_or(Status::NotFound)?;
                state.send_stream.end();
                if state.is_closed {
                    calls.remove(&id);
                }
                Ok(())
            }
            _ => Err(Status::BadArgument),
        }
    }

    /// Cancels a call or stream. The guest gets no further callback for it.
    pub(super) fn cancel(&self, id: u32) -> Result<(), Status> {
        if !matches!(id & 3, GRPC_CALL | GRPC_STREAM) {
            return Err(Status::BadArgument);
        }
        let state = self.grpc.borrow_mut().remove(&id).ok_or(Status::NotFound)?;
        state.task.abort();
        Ok(())
    }

    /// Acquires a permit for one more call with a request body of `bytes` bytes.
    ///
    /// # Errors
    /// `InternalFailure` beyond the plugin's limit of callouts or the limit of body bytes.
    fn acquire_permit(&self, instance: &Rc<PluginInstance>, bytes: usize) -> Result<CalloutPermit, Status> {
        let limit = instance.limits().callouts;
        // Streams that the upstream has ended and the guest has not closed count too, since their state is stored.
        let unclosed =
            u32::try_from(self.grpc.borrow().values().filter(|state| state.is_closed).count()).unwrap_or(u32::MAX);
        let bytes_in_flight = self.usage.bytes_in_flight.get().saturating_add(bytes);
        if self.usage.in_flight.get().saturating_add(unclosed) >= limit || bytes_in_flight > MAX_CALLOUT_REQUEST_BYTES {
            instance.metrics.limited.increment("callouts");
            if instance.should_log_misuse() {
                warn!(plugin = %instance.plugin.model.name, limit, limit_bytes = MAX_CALLOUT_REQUEST_BYTES,
                    "callout rejected: too many are in flight");
            }
            return Err(Status::InternalFailure);
        }
        self.usage.in_flight.set(self.usage.in_flight.get() + 1);
        self.usage.bytes_in_flight.set(bytes_in_flight);
        Ok(CalloutPermit { usage: Rc::clone(&self.usage), body_bytes: bytes })
    }

    /// Returns the id of a new callout. Unique in the VM, since plugins of one VM may share a table in the guest.
    fn next_id(instance: &PluginInstance, kind: u32) -> u32 {
        instance.vm.next_callout_id() | kind
    }

    /// Returns the cluster of a name, if the plugin may call it.
    fn allowed_cluster(&self, instance: &PluginInstance, upstream: &[u8]) -> Option<Arc<Cluster>> {
        let cluster = self.cluster(&instance.plugin.model.name, upstream)?;
        if !is_allowed(&instance.plugin.model, &cluster.model().name) {
            instance.metrics.limited.increment("services");
            return None;
        }
        Some(cluster)
    }

    /// Returns the cluster `namespace/service:port`. The namespace defaults to the plugin's, and the port to the
    /// service's only one.
    fn cluster(&self, plugin: &PluginName, upstream: &[u8]) -> Option<Arc<Cluster>> {
        let name = std::str::from_utf8(upstream).ok()?;
        let full = qualified_name(plugin, name);
        let clusters = self.clusters.borrow();
        if let Some(cluster) = ClusterName::new(&full).ok().and_then(|name| clusters.get(&name)) {
            return Some(Arc::clone(cluster));
        }
        let prefix = format!("{full}:");
        let mut ports = clusters.iter().filter(|(name, _)| name.as_str().starts_with(&prefix));
        match (ports.next(), ports.next()) {
            (Some((_, only)), None) => Some(Arc::clone(only)),
            _ => None,
        }
    }
}

/// Logs a callout to an unknown or forbidden cluster.
fn log_unknown_cluster(instance: &PluginInstance, upstream: &[u8]) {
    if !instance.should_log_misuse() {
        return;
    }
    let plugin = &instance.plugin.model.name;
    let upstream = String::from_utf8_lossy(&upstream[..upstream.len().min(MAX_HOST_BYTES)]);
    warn!(%plugin, %upstream,
        "callout rejected: no Service port of that name that the filter may call; write namespace/service:port");
}

/// Returns whether the plugin's list of services allows a cluster. An entry may omit namespace and port.
fn is_allowed(plugin: &weir_model::Plugin, cluster: &ClusterName) -> bool {
    let Some(services) = &plugin.capabilities.callout_clusters else { return true };
    services.iter().any(|service| {
        let full = qualified_name(&plugin.name, service);
        let rest = cluster.as_str().strip_prefix(full.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    })
}

/// Returns a service name with a namespace, which defaults to the plugin's.
fn qualified_name(plugin: &PluginName, service: &str) -> String {
    if service.contains('/') { service.to_owned() } else { format!("{}/{service}", plugin.namespace()) }
}

/// Returns the request of a call. `None` if a pseudo-header is missing or a header is invalid.
fn http_request(call: &HttpCall<'_>) -> Option<UpstreamRequest> {
    let (mut method, mut path, mut authority) = (None, None, None);
    let mut headers = HeaderMap::with_capacity(call.headers.len());
    for (name, value) in call.headers.iter() {
        match name {
            b":method" => method = Some(Method::from_bytes(value).ok()?),
            b":path" => path = Some(PathAndQuery::try_from(value).ok()?),
            b":authority" => authority = Some(HeaderValue::from_bytes(value).ok()?),
            b":scheme" => {}
            _ => {
                headers.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
            }
        }
    }
    let body = request_body(call)?;
    let (method, authority, path) = (method?, authority?, path?);
    Some(UpstreamRequest { method, scheme: "http", authority, path, headers, sent_names: None, body })
}

/// Returns the body of a call, followed by its trailers if it has any. `None` if a trailer is invalid.
///
/// As in Envoy, an HTTP/1 upstream may not receive the trailers.
fn request_body(call: &HttpCall<'_>) -> Option<Body> {
    let body = Bytes::copy_from_slice(call.body);
    if call.trailers.is_empty() {
        return Some(Body::full(body));
    }
    let mut trailers = HeaderMap::with_capacity(call.trailers.len());
    for (name, value) in call.trailers.iter() {
        trailers.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
    }
    let body = Full::new(body).map_err(|never| match never {});
    Some(Body::stream(body.with_trailers(std::future::ready(Some(Ok(trailers))))))
}

/// Sends a request and collects the whole response.
///
/// # Errors
/// Returns the reason for `proxy_get_status` if there is no complete response or its body is too large.
async fn send_and_collect(
    upstreams: &Rc<Upstreams>,
    cluster: &Arc<Cluster>,
    request: UpstreamRequest,
) -> Result<CalloutResponse, &'static str> {
    let received = send(upstreams, cluster, request, SendOptions::default()).await.map_err(|_| "reset")?;
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

/// Delivers the response of an HTTP callout to the guest.
fn deliver_response(instance: &Rc<PluginInstance>, id: u32, response: &CalloutResponse) {
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
        *instance.callouts.status.borrow_mut() = (Status::BrokenConnection.number(), reason.to_owned());
    }
    notify_plugin(instance, CallScope::HttpResponse(response), |vm, host| vm.on_http_call_response(host, id, sizes));
}

/// Delivers an event of a gRPC call or stream to the guest. Returns false once the call is cancelled or closed.
fn deliver_grpc_event(instance: &Rc<PluginInstance>, id: u32, event: GrpcEvent) -> bool {
    let is_unary = id & 3 == GRPC_CALL;
    let event = {
        let mut calls = instance.callouts.grpc.borrow_mut();
        let Some(state) = calls.get_mut(&id) else { return false };
        let event = match event {
            // A unary call gets its message once the status is known to be OK, otherwise the status.
            GrpcEvent::Message(message) if is_unary => {
                state.response = Some(message);
                return true;
            }
            GrpcEvent::InitialMetadata(_) | GrpcEvent::TrailingMetadata(_) if is_unary => return true,
            GrpcEvent::Closed(0, _) if is_unary => match state.response.take() {
                Some(message) => GrpcEvent::Message(message),
                None => GrpcEvent::Closed(callout_grpc::INTERNAL, "no message".to_owned()),
            },
            other => other,
        };
        state.is_closed = is_unary || matches!(event, GrpcEvent::Closed(..));
        if state.is_closed && (is_unary || state.send_stream.is_ended()) {
            calls.remove(&id);
        }
        event
    };
    if let GrpcEvent::Closed(code, text) = &event {
        *instance.callouts.status.borrow_mut() = (*code, text.clone());
    }
    let count = |map: &HeaderMap| u32::try_from(map.len()).unwrap_or(u32::MAX);
    notify_plugin(instance, CallScope::GrpcEvent(&event), |vm, host| match &event {
        GrpcEvent::InitialMetadata(map) => vm.on_grpc_initial_metadata(host, id, count(map)),
        GrpcEvent::Message(message) => vm.on_grpc_receive(host, id, message.len()),
        GrpcEvent::TrailingMetadata(map) => vm.on_grpc_trailing_metadata(host, id, count(map)),
        GrpcEvent::Closed(code, _) => vm.on_grpc_close(host, id, *code),
    })
}

#[cfg(test)]
mod tests {
    use weir_host_abi::abi::pairs::{Pairs, encode};

    use super::*;

    async fn collected(trailers: &[(&[u8], &[u8])]) -> Option<(Bytes, Option<HeaderMap>)> {
        let no_headers = encode([]);
        let trailers = encode(trailers.iter().copied());
        let call = HttpCall {
            upstream: b"shop/api:80",
            headers: Pairs::decode(&no_headers).unwrap(),
            body: b"body",
            trailers: Pairs::decode(&trailers).unwrap(),
            timeout: None,
        };
        let collected = request_body(&call)?.collect().await.ok()?;
        let trailers = collected.trailers().cloned();
        Some((collected.to_bytes(), trailers))
    }

    #[tokio::test]
    async fn request_trailers_follow_body() {
        let body = Bytes::from_static(b"body");
        assert_eq!(collected(&[]).await, Some((body.clone(), None)));
        let trailers = HeaderMap::from_iter([(HeaderName::from_static("x-sum"), HeaderValue::from_static("1"))]);
        assert_eq!(collected(&[(b"x-sum", b"1")]).await, Some((body, Some(trailers))));
        assert_eq!(collected(&[(b":path", b"/")]).await, None);
    }
}
