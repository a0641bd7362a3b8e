//! Requests that filters make themselves (`proxy_http_call`): to a cluster, bounded in number, size and time. Each
//! accepted call is answered exactly once, on the plugin context, unless its VM has gone meanwhile.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::BodyExt;
use tracing::warn;
use weir_host_abi::host::HttpCall;
use weir_host_abi::{CalloutResponse, Status};
use weir_model::ClusterName;

use crate::body::Body;
use crate::filter::call::with_vm;
use crate::filter::host::About;
use crate::filter::slot::Slot;
use crate::limits::{
    MAX_CALLOUT_BODY_BYTES, MAX_CALLOUT_REQUEST_BYTES, MAX_CALLOUT_TIME, MAX_CALLOUTS, MAX_HOST_BYTES,
};
use crate::task;
use crate::upstream::{Cluster, Outgoing, SendOptions, Upstreams, send};

/// What a callout brought back.
#[derive(Debug, Default)]
pub(super) struct CallAnswer {
    /// `:status`, empty when the call failed.
    pub(super) status: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    pub(super) trailers: HeaderMap,
    /// Why it failed.
    pub(super) failed: Option<&'static str>,
}

/// The clusters that callouts of a worker may go to: all of the configuration that serves.
pub(super) type Directory = Rc<RefCell<HashMap<ClusterName, Arc<Cluster>>>>;

/// Callouts of one plugin on one worker.
pub(crate) struct Callouts {
    upstreams: Rc<Upstreams>,
    directory: Directory,
    in_flight: Cell<usize>,
    /// Of the bodies of their requests.
    bytes_in_flight: Cell<usize>,
    last: Cell<u32>,
    /// Grows when the VM dies: what was asked by a dead VM is answered to nobody.
    epoch: Cell<u64>,
}

impl Callouts {
    pub(super) fn new(upstreams: Rc<Upstreams>, directory: Directory) -> Self {
        Self {
            upstreams,
            directory,
            in_flight: Cell::new(0),
            bytes_in_flight: Cell::new(0),
            last: Cell::new(0),
            epoch: Cell::new(0),
        }
    }

    /// The VM that asked is gone.
    pub(super) fn abandon(&self) {
        self.epoch.set(self.epoch.get() + 1);
    }

    /// Starts a callout and names it. Kinds are told by the low two bits: 0 is HTTP.
    pub(super) fn start(&self, slot: &Rc<Slot>, call: &HttpCall<'_>) -> Result<u32, Status> {
        let plugin = &slot.plugin.model.name;
        let Some(cluster) = self.cluster(plugin.as_str(), call.upstream) else {
            if slot.may_complain() {
                let upstream = String::from_utf8_lossy(&call.upstream[..call.upstream.len().min(MAX_HOST_BYTES)]);
                warn!(%plugin, %upstream, "callout refused: no Service port of that name; write namespace/service:port");
            }
            return Err(Status::BadArgument);
        };
        let Some(outgoing) = outgoing(call) else {
            if slot.may_complain() {
                warn!(%plugin, cluster = %cluster.model().name,
                    "callout refused: :method, :path and :authority are needed, and every header must be valid");
            }
            return Err(Status::BadArgument);
        };
        let bytes = call.body.len();
        if self.in_flight.get() >= MAX_CALLOUTS || self.bytes_in_flight.get() + bytes > MAX_CALLOUT_REQUEST_BYTES {
            if slot.may_complain() {
                warn!(%plugin, limit = MAX_CALLOUTS, limit_bytes = MAX_CALLOUT_REQUEST_BYTES,
                    "callout refused: too many are in flight");
            }
            return Err(Status::InternalFailure);
        }
        self.in_flight.set(self.in_flight.get() + 1);
        self.bytes_in_flight.set(self.bytes_in_flight.get() + bytes);
        let id = self.last.get().wrapping_add(4).max(4);
        self.last.set(id);
        let timeout = call.timeout.unwrap_or(MAX_CALLOUT_TIME).min(MAX_CALLOUT_TIME);
        let (slot, epoch) = (Rc::clone(slot), self.epoch.get());
        let upstreams = Rc::clone(&self.upstreams);
        task::spawn_local("filter-callout", async move {
            let answer = match tokio::time::timeout(timeout, exchange(&upstreams, &cluster, outgoing)).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(failed)) => CallAnswer { failed: Some(failed), ..CallAnswer::default() },
                Err(_) => CallAnswer { failed: Some("timeout"), ..CallAnswer::default() },
            };
            slot.callouts.in_flight.set(slot.callouts.in_flight.get() - 1);
            slot.callouts.bytes_in_flight.set(slot.callouts.bytes_in_flight.get() - bytes);
            if slot.callouts.epoch.get() == epoch {
                deliver(&slot, id, &answer);
            }
        });
        Ok(id)
    }

    /// `namespace/service:port`; without namespace it is the plugin's own, without port the service's only one.
    fn cluster(&self, plugin: &str, upstream: &[u8]) -> Option<Arc<Cluster>> {
        let wanted = std::str::from_utf8(upstream).ok()?;
        let namespace = plugin.split('/').next().unwrap_or_default();
        let full = if wanted.contains('/') { wanted.to_owned() } else { format!("{namespace}/{wanted}") };
        let clusters = self.directory.borrow();
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

/// The request of a call, when it is whole and valid.
fn outgoing(call: &HttpCall<'_>) -> Option<Outgoing> {
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
    let body = Body::full(Bytes::copy_from_slice(call.body));
    Some(Outgoing { method: method?, scheme: "http", authority: authority?, path: path?, headers, body })
}

async fn exchange(
    upstreams: &Rc<Upstreams>,
    cluster: &Arc<Cluster>,
    outgoing: Outgoing,
) -> Result<CallAnswer, &'static str> {
    let answer = send(upstreams, cluster, outgoing, SendOptions::default()).await.map_err(|_| "reset")?;
    let (head, mut incoming) = answer.response.into_parts();
    let mut body = BytesMut::new();
    let mut trailers = HeaderMap::new();
    while let Some(frame) = incoming.frame().await {
        match frame.map_err(|_| "reset")?.into_data() {
            Ok(data) if body.len() + data.len() > MAX_CALLOUT_BODY_BYTES => return Err("response too large"),
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    drop(answer.lease);
    let status = head.status.as_str().to_owned();
    Ok(CallAnswer { status, headers: head.headers, body: body.freeze(), trailers, failed: None })
}

fn deliver(slot: &Rc<Slot>, id: u32, answer: &CallAnswer) {
    let count = |map: &HeaderMap, pseudo: usize| u32::try_from(map.len() + pseudo).unwrap_or(u32::MAX);
    let response = match answer.failed {
        Some(_) => CalloutResponse::default(),
        None => CalloutResponse {
            headers: count(&answer.headers, 1),
            body: answer.body.len(),
            trailers: count(&answer.trailers, 0),
        },
    };
    let called = with_vm(slot, About::Answer(answer), |vm, host| vm.on_http_call_response(host, id, response));
    if let Some(Err(failure)) = called {
        slot.on_failure(&failure);
    }
}
