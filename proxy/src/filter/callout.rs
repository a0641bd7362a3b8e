//! Requests that filters make themselves (`proxy_http_call`, `proxy_grpc_call`, `proxy_grpc_stream`): to a cluster,
//! bounded in number, size and time. Each accepted call is answered exactly once, on the plugin context, unless its VM
//! has gone meanwhile.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use http_body_util::BodyExt;
use tokio::task::AbortHandle;
use tracing::warn;
use weir_host_abi::host::{GrpcCall, HttpCall};
use weir_host_abi::{CalloutResponse, EndOfStream, Status};
use weir_model::{ClusterName, PluginName};

use crate::body::Body;
use crate::filter::call::tell_vm;
use crate::filter::grpc::{self, GrpcEvent, Upload};
use crate::filter::slot::Slot;
use crate::filter::view::About;
use crate::limits::{MAX_CALLOUT_BODY_BYTES, MAX_CALLOUT_REQUEST_BYTES, MAX_CALLOUT_TIME, MAX_HOST_BYTES};
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

/// What kind a call is: the low two bits of its name.
const HTTP: u32 = 0;
const GRPC_CALL: u32 = 1;
const GRPC_STREAM: u32 = 2;

/// Callouts under way of one plugin on one worker, of all its VMs.
#[derive(Default)]
struct Tally {
    in_flight: Cell<u32>,
    /// Of the bodies of their requests.
    bytes_in_flight: Cell<usize>,
}

/// Callouts of one VM after another.
pub(crate) struct Callouts {
    upstreams: Rc<Upstreams>,
    directory: Directory,
    tally: Rc<Tally>,
    /// Grows when the VM dies: what was asked by a dead VM is answered to nobody.
    epoch: Cell<u64>,
    /// gRPC calls and streams that the guest may still name.
    grpc: RefCell<HashMap<u32, Live>>,
    /// What `proxy_get_status` says: how the last call ended.
    status: RefCell<(u32, String)>,
}

/// A gRPC call or stream.
struct Live {
    task: AbortHandle,
    upload: Upload,
    /// A unary call's answer, until its status is known.
    answer: Option<Bytes>,
    /// The upstream has said its last word.
    is_closed: bool,
}

/// A place among the calls under way, and how long the body of its request is; given back when dropped.
struct Place(Rc<Tally>, usize);

impl Drop for Place {
    fn drop(&mut self) {
        let Tally { in_flight, bytes_in_flight } = &*self.0;
        in_flight.set(in_flight.get().saturating_sub(1));
        bytes_in_flight.set(bytes_in_flight.get().saturating_sub(self.1));
    }
}

impl Callouts {
    pub(super) fn new(upstreams: Rc<Upstreams>, directory: Directory) -> Self {
        Self {
            upstreams,
            directory,
            tally: Rc::default(),
            epoch: Cell::new(0),
            grpc: RefCell::default(),
            status: RefCell::default(),
        }
    }

    /// Callouts of another VM of the same plugin on the same worker.
    pub(super) fn sibling(&self) -> Self {
        let other = Self::new(Rc::clone(&self.upstreams), Rc::clone(&self.directory));
        Self { tally: Rc::clone(&self.tally), ..other }
    }

    /// The VM that asked is gone.
    pub(super) fn abandon(&self) {
        self.epoch.set(self.epoch.get() + 1);
        for (_, live) in self.grpc.borrow_mut().drain() {
            live.task.abort();
        }
        *self.status.borrow_mut() = (0, String::new());
    }

    /// How the last call ended: code and text.
    pub(super) fn status(&self) -> (u32, String) {
        self.status.borrow().clone()
    }

    /// Starts an HTTP callout and names it.
    pub(super) fn start(&self, slot: &Rc<Slot>, call: &HttpCall<'_>) -> Result<u32, Status> {
        let plugin = &slot.plugin.model.name;
        let Some(cluster) = self.allowed_cluster(slot, call.upstream) else {
            tell_unknown(slot, call.upstream);
            return Err(Status::BadArgument);
        };
        let Some(outgoing) = outgoing(call) else {
            if slot.may_complain() {
                warn!(%plugin, cluster = %cluster.model().name,
                    "callout refused: :method, :path and :authority are needed, and every header must be valid");
            }
            return Err(Status::BadArgument);
        };
        let place = self.place(slot, call.body.len())?;
        let id = Self::name(slot, HTTP);
        let timeout = call.timeout.unwrap_or(MAX_CALLOUT_TIME).min(MAX_CALLOUT_TIME);
        let (slot, epoch) = (Rc::clone(slot), self.epoch.get());
        let upstreams = Rc::clone(&self.upstreams);
        task::spawn_local("filter-callout", async move {
            let answer = match tokio::time::timeout(timeout, exchange(&upstreams, &cluster, outgoing)).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(failed)) => CallAnswer { failed: Some(failed), ..CallAnswer::default() },
                Err(_) => CallAnswer { failed: Some("timeout"), ..CallAnswer::default() },
            };
            drop(place);
            if slot.callouts.epoch.get() == epoch {
                deliver(&slot, id, &answer);
            }
        });
        Ok(id)
    }

    /// Starts a gRPC call, or a stream when there is no message yet, and names it.
    pub(super) fn start_grpc(&self, slot: &Rc<Slot>, call: &GrpcCall<'_>) -> Result<u32, Status> {
        let named = self.allowed_cluster(slot, call.upstream).map(|it| (it, grpc::Target::plain(call.upstream)));
        let Some((cluster, target)) = named.or_else(|| {
            let target = grpc::Target::of_service(call.upstream)?;
            Some((self.allowed_cluster(slot, &target.cluster)?, target))
        }) else {
            tell_unknown(slot, call.upstream);
            return Err(Status::ParseFailure);
        };
        let upload = Upload::default();
        let (kind, body, timeout) = match call.message {
            Some(message) => {
                let timeout = target.timeout(call).unwrap_or(MAX_CALLOUT_TIME).min(MAX_CALLOUT_TIME);
                (GRPC_CALL, Body::full(grpc::framed(message)), Some(timeout))
            }
            None => (GRPC_STREAM, Body::made(upload.clone()), target.timeout(call)),
        };
        let Some(outgoing) = target.request(call, &cluster, body) else {
            if slot.may_complain() {
                warn!(plugin = %slot.plugin.model.name, cluster = %cluster.model().name,
                    "gRPC callout refused: service, method and metadata must be valid in a request");
            }
            return Err(Status::InternalFailure);
        };
        let place = self.place(slot, call.message.map_or(0, <[u8]>::len))?;
        let id = Self::name(slot, kind);
        let (upstreams, asked) = (Rc::clone(&self.upstreams), Rc::clone(slot));
        let task = task::spawn_local("filter-grpc", async move {
            let mut tell = |event| deliver_grpc(&asked, id, event);
            grpc::exchange(&upstreams, (&cluster, outgoing), timeout, &mut tell).await;
            drop(place);
        });
        let live = Live { task: task.abort_handle(), upload, answer: None, is_closed: false };
        self.grpc.borrow_mut().insert(id, live);
        Ok(id)
    }

    /// Sends a message on a stream; perhaps the last one.
    pub(super) fn send(&self, slot: &Slot, id: u32, message: &[u8], end: EndOfStream) -> Result<(), Status> {
        if id & 3 != GRPC_STREAM {
            return Err(Status::BadArgument);
        }
        let upload = match self.grpc.borrow().get(&id) {
            Some(live) if !live.upload.is_ended() => live.upload.clone(),
            _ => return Err(Status::NotFound),
        };
        if !upload.push(message) {
            slot.metrics.limited.increment("grpc");
            if slot.may_complain() {
                warn!(plugin = %slot.plugin.model.name,
                    "a gRPC stream is cancelled: the upstream takes nothing, and too much waits");
            }
            return self.cancel(id);
        }
        if end == EndOfStream::Yes {
            upload.end();
        }
        Ok(())
    }

    /// Nothing more is sent on a stream; a unary call is cancelled.
    pub(super) fn close(&self, id: u32) -> Result<(), Status> {
        match id & 3 {
            GRPC_CALL => self.cancel(id),
            GRPC_STREAM => {
                let mut calls = self.grpc.borrow_mut();
                let live = calls.get(&id).ok_or(Status::NotFound)?;
                live.upload.end();
                if live.is_closed {
                    calls.remove(&id);
                }
                Ok(())
            }
            _ => Err(Status::BadArgument),
        }
    }

    /// Gives up a call or stream: the guest hears nothing more of it.
    pub(super) fn cancel(&self, id: u32) -> Result<(), Status> {
        if !matches!(id & 3, GRPC_CALL | GRPC_STREAM) {
            return Err(Status::BadArgument);
        }
        let live = self.grpc.borrow_mut().remove(&id).ok_or(Status::NotFound)?;
        live.task.abort();
        Ok(())
    }

    /// A place for one more call, whose request has a body of so many bytes.
    fn place(&self, slot: &Rc<Slot>, bytes: usize) -> Result<Place, Status> {
        let limit = slot.limits().callouts;
        // Streams that have ended and that the guest does not close count, too: they are kept for it.
        let kept = u32::try_from(self.grpc.borrow().values().filter(|live| live.is_closed).count()).unwrap_or(u32::MAX);
        let bytes_in_flight = self.tally.bytes_in_flight.get().saturating_add(bytes);
        if self.tally.in_flight.get().saturating_add(kept) >= limit || bytes_in_flight > MAX_CALLOUT_REQUEST_BYTES {
            slot.metrics.limited.increment("callouts");
            if slot.may_complain() {
                warn!(plugin = %slot.plugin.model.name, limit, limit_bytes = MAX_CALLOUT_REQUEST_BYTES,
                    "callout refused: too many are in flight");
            }
            return Err(Status::InternalFailure);
        }
        self.tally.in_flight.set(self.tally.in_flight.get() + 1);
        self.tally.bytes_in_flight.set(bytes_in_flight);
        Ok(Place(Rc::clone(&self.tally), bytes))
    }

    /// A number unlike any other callout's of the VM, whichever of its plugins has asked: guests keep one table.
    fn name(slot: &Slot, kind: u32) -> u32 {
        slot.cell.next_call() | kind
    }

    /// The cluster of a name, if the plugin may call it.
    fn allowed_cluster(&self, slot: &Slot, upstream: &[u8]) -> Option<Arc<Cluster>> {
        let cluster = self.cluster(&slot.plugin.model.name, upstream)?;
        if !is_allowed(&slot.plugin.model, &cluster.model().name) {
            slot.metrics.limited.increment("services");
            return None;
        }
        Some(cluster)
    }

    /// `namespace/service:port`; without namespace it is the plugin's own, without port the service's only one.
    fn cluster(&self, plugin: &PluginName, upstream: &[u8]) -> Option<Arc<Cluster>> {
        let wanted = std::str::from_utf8(upstream).ok()?;
        let full = with_namespace(plugin, wanted);
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

/// Logs that a callout goes nowhere.
fn tell_unknown(slot: &Slot, upstream: &[u8]) {
    if !slot.may_complain() {
        return;
    }
    let plugin = &slot.plugin.model.name;
    let upstream = String::from_utf8_lossy(&upstream[..upstream.len().min(MAX_HOST_BYTES)]);
    warn!(%plugin, %upstream,
        "callout refused: no Service port of that name that the filter may call; write namespace/service:port");
}

/// Whether callouts of a plugin may go to a cluster: its list names it, with or without namespace and port.
fn is_allowed(plugin: &weir_model::Plugin, cluster: &ClusterName) -> bool {
    let Some(services) = &plugin.allow.services else { return true };
    services.iter().any(|service| {
        let full = with_namespace(&plugin.name, service);
        let rest = cluster.as_str().strip_prefix(full.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    })
}

/// What a plugin calls a service, with the plugin's own namespace when it names none.
fn with_namespace(plugin: &PluginName, service: &str) -> String {
    if service.contains('/') { service.to_owned() } else { format!("{}/{service}", plugin.namespace()) }
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
    let failed = answer.failed.map(|reason| (Status::BrokenConnection.number(), reason.to_owned()));
    if let Some(failed) = failed {
        *slot.callouts.status.borrow_mut() = failed;
    }
    tell_vm(slot, About::Answer(answer), |vm, host| vm.on_http_call_response(host, id, response));
}

/// Tells the guest what a gRPC call or stream has brought; false when it does not listen any more.
fn deliver_grpc(slot: &Rc<Slot>, id: u32, event: GrpcEvent) -> bool {
    let is_unary = id & 3 == GRPC_CALL;
    let event = {
        let mut calls = slot.callouts.grpc.borrow_mut();
        let Some(live) = calls.get_mut(&id) else { return false };
        let event = match event {
            // A unary call is told its one message, once its status is known, or else its status.
            GrpcEvent::Message(message) if is_unary => {
                live.answer = Some(message);
                return true;
            }
            GrpcEvent::InitialMetadata(_) | GrpcEvent::TrailingMetadata(_) if is_unary => return true,
            GrpcEvent::Closed(0, _) if is_unary => match live.answer.take() {
                Some(message) => GrpcEvent::Message(message),
                None => GrpcEvent::Closed(grpc::INTERNAL, "no message".to_owned()),
            },
            other => other,
        };
        live.is_closed = is_unary || matches!(event, GrpcEvent::Closed(..));
        if live.is_closed && (is_unary || live.upload.is_ended()) {
            calls.remove(&id);
        }
        event
    };
    if let GrpcEvent::Closed(code, text) = &event {
        *slot.callouts.status.borrow_mut() = (*code, text.clone());
    }
    let count = |map: &HeaderMap| u32::try_from(map.len()).unwrap_or(u32::MAX);
    tell_vm(slot, About::Grpc(&event), |vm, host| match &event {
        GrpcEvent::InitialMetadata(map) => vm.on_grpc_initial_metadata(host, id, count(map)),
        GrpcEvent::Message(message) => vm.on_grpc_receive(host, id, message.len()),
        GrpcEvent::TrailingMetadata(map) => vm.on_grpc_trailing_metadata(host, id, count(map)),
        GrpcEvent::Closed(code, _) => vm.on_grpc_close(host, id, *code),
    })
}
