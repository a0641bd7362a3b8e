//! The aggregated discovery service: one task for each ADS stream, driving `weir_xds::ServerState`. Client types
//! differ in their resources, not in the protocol; delta and state-of-the-world differ in their messages.
//!
//! ```text
//! request ─────────────────────────┐
//! the snapshot cache has changed ──┼─► ServerState ─► next response ─► stream
//! a deadline has passed ───────────┘
//! ```

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::{Request, Status, Streaming};
use tracing::{info, warn};
use weir_identity::ca_proto::CertificateServiceServer;
use weir_model::{SpiffeId, printable};
use weir_xds::proto::{DeltaDiscoveryRequest, DiscoveryRequest, Node};
use weir_xds::server::{Protocol, RequestOutcome};
use weir_xds::{ChunkedResponse, ClientType, Report, ReportedFailure, ResourceSet, ServerState};

use crate::ca::CertificateAuthority;
use crate::limits::{
    MAX_NODE_BYTES, MAX_PENDING_REPORTS, MAX_SHOWN_REJECTION_CHARACTERS, PROXY_KEEPALIVE, RESPONSE_QUEUE,
};
use crate::module_store::ModuleStore;
use crate::scope::Scope;
use crate::serve::modules::modules_for_workloads;
use crate::serve::{CaService, mtls, plaintext};
use crate::snapshot_cache::SnapshotCache;
use crate::status::{ConnectedProxies, ProxyState};
use crate::task;

/// Serves ADS over plaintext on at most `connections` connections, until the process ends. Every client is trusted, so
/// the listener must be on loopback.
///
/// # Errors
/// The server fails.
pub async fn serve_ads(
    listener: TcpListener,
    connections: usize,
    snapshot_cache: Arc<SnapshotCache>,
    proxies: Arc<ConnectedProxies>,
    mesh: Arc<str>,
) -> Result<(), tonic::transport::Error> {
    server()
        .add_service(AdsServer { snapshot_cache, proxies, mesh, requires_identity: false })
        .serve_with_incoming(plaintext::accept(listener, connections))
        .await
}

/// The services of the mTLS listener.
pub struct MtlsServices {
    /// The source of snapshots.
    pub snapshot_cache: Arc<SnapshotCache>,
    /// The register of open streams.
    pub proxies: Arc<ConnectedProxies>,
    /// The source of the server certificate and of the trusted roots.
    pub ca: Arc<CertificateAuthority>,
    /// The gRPC service that signs certificates.
    pub ca_service: Arc<CaService>,
    /// The modules that proxies fetch.
    pub modules: Arc<ModuleStore>,
    /// The id of the mesh, sent with each response.
    pub mesh: Arc<str>,
}

/// Serves ADS and modules to authenticated workloads, and `Certificates/Sign` to every client, on at most `connections`
/// connections, until the process ends.
///
/// # Errors
/// The server fails.
pub async fn serve_mtls(
    listener: TcpListener,
    connections: usize,
    services: MtlsServices,
) -> Result<(), tonic::transport::Error> {
    let MtlsServices { snapshot_cache, proxies, ca, ca_service, modules, mesh } = services;
    let mut routes = Routes::builder();
    routes.add_service(AdsServer { snapshot_cache, proxies, mesh, requires_identity: true });
    routes.add_service(CertificateServiceServer::new(ca_service));
    let routes = routes.routes().into_axum_router().merge(modules_for_workloads(modules));
    server().add_routes(Routes::from(routes)).serve_with_incoming(mtls::accept(listener, connections, ca)).await
}

fn server() -> Server {
    Server::builder().http2_keepalive_interval(Some(PROXY_KEEPALIVE)).http2_keepalive_timeout(Some(PROXY_KEEPALIVE))
}

/// The ADS service. It opens one `AdsStream` per gRPC stream.
#[derive(Clone)]
pub struct AdsServer {
    snapshot_cache: Arc<SnapshotCache>,
    proxies: Arc<ConnectedProxies>,
    /// The id of the mesh.
    mesh: Arc<str>,
    /// True if only clients with a valid workload certificate may open a stream.
    requires_identity: bool,
}

impl AdsServer {
    /// Opens a stream. The receiver yields its responses.
    ///
    /// # Errors
    /// `UNAUTHENTICATED` if the client must have a workload certificate and has none.
    pub(super) fn open_stream<P: AdsProtocol>(
        &self,
        request: Request<Streaming<P::Request>>,
    ) -> Result<mpsc::Receiver<Result<ChunkedResponse, Status>>, Status> {
        let peer_identity =
            request.extensions().get::<mtls::PeerIdentity>().cloned().filter(|_| self.requires_identity);
        if self.requires_identity && peer_identity.as_ref().and_then(mtls::PeerIdentity::valid_spiffe_id).is_none() {
            return Err(Status::unauthenticated(
                "a certificate of this mesh is required; `Certificates/Sign` issues one",
            ));
        }
        let requests = request.into_inner();
        let (responses, receiver) = mpsc::channel(RESPONSE_QUEUE);
        let stream: AdsStream<P> = AdsStream {
            snapshot_cache: Arc::clone(&self.snapshot_cache),
            proxies: Arc::clone(&self.proxies),
            state: ServerState::new(P::PROTOCOL).with_mesh(&self.mesh),
            started: Instant::now(),
            peer_identity,
            proxy: None,
            acked_generations: VecDeque::new(),
            last_acked: None,
            last_reported_nonce: 0,
            responses,
            protocol: PhantomData,
        };
        task::spawn("ADS stream", stream.run(requests));
        Ok(receiver)
    }
}

/// The messages of one variant of ADS.
pub(super) trait AdsProtocol: Send + 'static {
    type Request: Message + Default + Send + Sync + 'static;
    const PROTOCOL: Protocol;

    fn node(request: &Self::Request) -> Option<&Node>;
    fn on_request(state: &mut ServerState, request: &Self::Request, resources: &ResourceSet) -> RequestOutcome;
}

pub(super) struct Delta;

impl AdsProtocol for Delta {
    type Request = DeltaDiscoveryRequest;
    const PROTOCOL: Protocol = Protocol::Delta;

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn on_request(state: &mut ServerState, request: &Self::Request, resources: &ResourceSet) -> RequestOutcome {
        state.on_delta_request(request, resources)
    }
}

/// State-of-the-world ADS.
pub(super) struct Sotw;

impl AdsProtocol for Sotw {
    type Request = DiscoveryRequest;
    const PROTOCOL: Protocol = Protocol::StateOfTheWorld;

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn on_request(state: &mut ServerState, request: &Self::Request, resources: &ResourceSet) -> RequestOutcome {
        state.on_request(request, resources)
    }
}

/// One ADS stream of one client.
struct AdsStream<P: AdsProtocol> {
    snapshot_cache: Arc<SnapshotCache>,
    proxies: Arc<ConnectedProxies>,
    state: ServerState,
    started: Instant,
    /// The client's certificate, on connections that require one.
    peer_identity: Option<mtls::PeerIdentity>,
    /// The registered client. `None` before the first request.
    proxy: Option<ProxyGuard>,
    /// Acknowledged generations, each with the nonce of its last response, until the client reports on them.
    acked_generations: VecDeque<(u64, u64)>,
    /// The last generation that the client has acknowledged completely.
    last_acked: Option<u64>,
    /// The nonce of the last response that the client has reported on.
    last_reported_nonce: u64,
    responses: mpsc::Sender<Result<ChunkedResponse, Status>>,
    protocol: PhantomData<P>,
}

/// A client in the register of open streams. Dropping it removes the client.
struct ProxyGuard {
    id: u64,
    node: String,
    scope: Scope,
    client_type: ClientType,
    entry: Arc<Mutex<ProxyState>>,
    proxies: Arc<ConnectedProxies>,
}

impl Drop for ProxyGuard {
    fn drop(&mut self) {
        self.proxies.close(self.id);
    }
}

impl<P: AdsProtocol> AdsStream<P> {
    async fn run(mut self, mut requests: Streaming<P::Request>) {
        let mut changes = self.snapshot_cache.subscribe();
        let not_after = self
            .peer_identity
            .as_ref()
            .and_then(|identity| identity.not_after)
            .map(|not_after| Instant::now() + not_after.duration_since(SystemTime::now()).unwrap_or_default());
        loop {
            let deadline = self.state.next_deadline(self.started.elapsed()).map(|deadline| self.started + deadline);
            tokio::select! {
                biased;
                () = task::sleep_until(not_after) => {
                    let status = Status::unauthenticated("the client certificate has expired; reconnect");
                    drop(self.responses.send(Err(status)).await);
                    break;
                }
                request = requests.next() => match request {
                    Some(Ok(request)) => if let Err(status) = self.on_request(&request) {
                        drop(self.responses.send(Err(status)).await);
                        break;
                    },
                    Some(Err(_)) | None => break,
                },
                changed = changes.changed() => if changed.is_err() { break },
                () = task::sleep_until(deadline) => {}
            }
            if self.push().await.is_none() {
                break;
            }
        }
        info!(node = self.node(), "proxy disconnected");
    }

    /// Handles a request.
    ///
    /// # Errors
    /// The status that ends the stream.
    fn on_request(&mut self, request: &P::Request) -> Result<(), Status> {
        if self.proxy.is_none() {
            self.proxy = Some(self.register_node(P::node(request))?);
        }
        let Some(proxy) = &self.proxy else { return Ok(()) };
        let scoped = self.snapshot_cache.for_client(&proxy.scope, proxy.client_type);
        let outcome = P::on_request(&mut self.state, request, &scoped.resources);
        match outcome {
            RequestOutcome::Subscribe | RequestOutcome::StaleNonce => return Ok(()),
            RequestOutcome::Ack(resource_type, names) => proxy.entry.lock().record_accepted(resource_type, &names),
            RequestOutcome::Nack(resource_type, names, text) => {
                let shown: String = text.chars().take(MAX_SHOWN_REJECTION_CHARACTERS).collect();
                warn!(node = self.node(), ?resource_type, "NACK: {}", printable(&shown));
                proxy.entry.lock().record_rejection(resource_type, &names, &text);
            }
            RequestOutcome::Report(report) => self.on_report(report),
            RequestOutcome::UnknownType(url) => info!(node = self.node(), url, "unsupported type URL"),
            RequestOutcome::TooManyResources(resource_type) => {
                return Err(Status::resource_exhausted(format!("too many resources of type {resource_type:?}")));
            }
        }
        self.proxies.notify_watchers();
        Ok(())
    }

    fn register_node(&self, node: Option<&Node>) -> Result<ProxyGuard, Status> {
        let missing = || Status::invalid_argument("`node` is missing in the first request");
        let Node { id, cluster, user_agent_name, .. } = node.ok_or_else(missing)?;
        if id.len() > MAX_NODE_BYTES || cluster.len() > MAX_NODE_BYTES || user_agent_name.len() > MAX_NODE_BYTES {
            return Err(Status::invalid_argument(format!("names of a node have at most {MAX_NODE_BYTES} bytes")));
        }
        let scope = Scope::from_node_cluster(cluster);
        let identity = self.peer_identity.as_ref().and_then(|identity| identity.valid_spiffe_id().cloned());
        match (&self.peer_identity, &identity) {
            (None, _) => {} // Clients on loopback are trusted.
            (Some(_), Some(id)) => check_scope(id, &scope)?,
            (Some(_), None) => return Err(Status::unauthenticated("the client certificate has expired")),
        }
        let client_type = ClientType::from_user_agent(user_agent_name);
        let protocol = match P::PROTOCOL {
            Protocol::Delta => "delta",
            Protocol::StateOfTheWorld => "state of the world",
        };
        let entry = ProxyState::new(id.clone(), scope.clone(), client_type, user_agent_name.clone(), protocol);
        let entry = entry.with_identity(identity);
        let (stream_id, entry) =
            self.proxies.open(entry).ok_or_else(|| Status::unavailable("too many proxies are connected"))?;
        info!(node = id, gateway = cluster, protocol, program = user_agent_name, "proxy connected");
        Ok(ProxyGuard {
            id: stream_id,
            node: id.clone(),
            scope,
            client_type,
            entry,
            proxies: Arc::clone(&self.proxies),
        })
    }

    /// Handles a `weir.v1.Report`: the result of applying the responses up to its nonce.
    fn on_report(&mut self, report: Report) {
        let mut serving = None;
        self.last_reported_nonce = self.last_reported_nonce.max(report.nonce);
        while let Some((generation, _)) = self.acked_generations.pop_front_if(|(_, nonce)| *nonce <= report.nonce) {
            serving = Some(generation);
        }
        if let Some(proxy) = &self.proxy {
            for ReportedFailure { resource_type, name, reason, .. } in &report.failed {
                let reason = printable(reason);
                warn!(node = proxy.node, ?resource_type, name, "proxy failed to apply resource: {reason}");
            }
            proxy.entry.lock().record_report(report, serving);
        }
    }

    /// Sends all pending responses. Returns `None` if the stream has ended.
    async fn push(&mut self) -> Option<()> {
        let Some(proxy) = &self.proxy else { return Some(()) };
        let scoped = self.snapshot_cache.for_client(&proxy.scope, proxy.client_type);
        while let Some(response) = self.state.next_response(&scoped.resources, self.started.elapsed()) {
            proxy.entry.lock().lagging_since.get_or_insert_with(jiff::Timestamp::now);
            self.responses.send(Ok(response)).await.ok()?;
        }
        if self.last_acked != Some(scoped.generation) && self.state.is_synced(&scoped.resources) {
            self.last_acked = Some(scoped.generation);
            let nonce = self.state.last_nonce();
            let mut entry = proxy.entry.lock();
            entry.record_ack(scoped.generation);
            if self.acked_generations.len() >= MAX_PENDING_REPORTS {
                self.acked_generations.pop_front();
            }
            self.acked_generations.push_back((scoped.generation, nonce));
            if self.last_reported_nonce >= nonce {
                entry.record_serving(scoped.generation); // The snapshot was equal for this client.
            }
            drop(entry);
            self.proxies.notify_watchers();
        }
        Some(())
    }

    fn node(&self) -> &str {
        self.proxy.as_ref().map_or("", |proxy| &proxy.node)
    }
}

/// Checks that a workload may subscribe to a scope: a Gateway of its own namespace.
fn check_scope(id: &SpiffeId, scope: &Scope) -> Result<(), Status> {
    let namespace = match scope {
        Scope::Everything => None,
        Scope::Gateway(gateway) => gateway.split_once('/').map(|(namespace, _)| namespace),
    };
    if namespace.is_some() && namespace == id.workload.namespace() {
        return Ok(());
    }
    let requested = match scope {
        Scope::Everything => "every Gateway",
        Scope::Gateway(gateway) => gateway,
    };
    let reason =
        format!("{id} may follow the Gateways of its own namespace, not {requested}: set --gateway NAMESPACE/NAME");
    Err(Status::permission_denied(reason))
}
