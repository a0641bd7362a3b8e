//! The aggregated discovery service: one task for each proxy's stream, driving `weir_xds::ServerState`. A proxy of ours and
//! an Envoy differ in what they are offered, not in how; delta and state of the world differ in the envelopes.
//!
//! ```text
//! request ─► ServerState ─┐
//! board has changed ──────┼─► next response? ─► stream
//! a wait is over ─────────┘
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
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::{Request, Status, Streaming};
use tracing::{info, warn};
use weir_identity::wire::CertificatesServer;
use weir_model::SpiffeId;
use weir_xds::proto::{DeltaDiscoveryRequest, DiscoveryRequest, Node};
use weir_xds::server::{Protocol, Said};
use weir_xds::{Offer, Outgoing, Report, ServerState};

use crate::authority::Authority;
use crate::board::{Board, Program, Scope};
use crate::limits::{MAX_NODE_BYTES, MAX_SHOWN_REFUSAL, MAX_UNREPORTED, PROXY_KEEPALIVE, RESPONSE_QUEUE};
use crate::module_store::ModuleStore;
use crate::serve::modules::modules_for_workloads;
use crate::serve::{CertificateSigner, mutual};
use crate::status::{ProxyBook, ProxyEntry};
use crate::task;

/// Serves every proxy that connects, until the process ends.
///
/// # Errors
/// The listener fails.
pub async fn serve_ads(
    listener: TcpListener,
    board: Arc<Board>,
    book: Arc<ProxyBook>,
) -> Result<(), tonic::transport::Error> {
    // tonic sets this only on sockets that it accepts itself; without it a response may wait for the ACK of another.
    let connections = TcpListenerStream::new(listener).map(|accepted| {
        accepted.inspect(|socket| drop(socket.set_nodelay(true))) // Only slower without.
    });
    server().add_service(AdsServer { board, book, asks_for_identity: false }).serve_with_incoming(connections).await
}

/// Serves those who prove by mutual TLS who they are, and signs for those who have to prove it yet.
///
/// # Errors
/// The listener fails.
pub async fn serve_mutual(
    listener: TcpListener,
    (board, book): (Arc<Board>, Arc<ProxyBook>),
    (authority, signer): (Arc<Authority>, Arc<CertificateSigner>),
    modules: Arc<ModuleStore>,
) -> Result<(), tonic::transport::Error> {
    let mut routes = Routes::builder();
    routes.add_service(AdsServer { board, book, asks_for_identity: true });
    routes.add_service(CertificatesServer::new(signer));
    let routes = routes.routes().into_axum_router().merge(modules_for_workloads(modules));
    server().add_routes(Routes::from(routes)).serve_with_incoming(mutual::accept(listener, authority)).await
}

fn server() -> Server {
    Server::builder().http2_keepalive_interval(Some(PROXY_KEEPALIVE)).http2_keepalive_timeout(Some(PROXY_KEEPALIVE))
}

/// The service.
#[derive(Clone)]
pub struct AdsServer {
    board: Arc<Board>,
    book: Arc<ProxyBook>,
    /// Nobody is told anything who has not proved who it is.
    asks_for_identity: bool,
}

impl AdsServer {
    /// Opens a stream: what is to be sent on it comes out of the receiver.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn open<E: Envelopes>(
        &self,
        request: Request<Streaming<E::Request>>,
    ) -> Result<mpsc::Receiver<Result<Outgoing, Status>>, Status> {
        let proof = request.extensions().get::<mutual::Peer>().cloned().filter(|_| self.asks_for_identity);
        if self.asks_for_identity && proof.as_ref().and_then(mutual::Peer::id_now).is_none() {
            return Err(Status::unauthenticated("show a certificate of this mesh; `Certificates/Sign` gives one"));
        }
        let requests = request.into_inner();
        let (responses, receiver) = mpsc::channel(RESPONSE_QUEUE);
        let peer: Peer<E> = Peer {
            board: Arc::clone(&self.board),
            book: Arc::clone(&self.book),
            state: ServerState::new(E::PROTOCOL),
            began: Instant::now(),
            proof,
            proxy: None,
            settled: VecDeque::new(),
            settled_last: None,
            reported_up_to: 0,
            responses,
            protocol: PhantomData,
        };
        task::spawn("proxy stream", peer.run(requests));
        Ok(receiver)
    }
}

/// What the two protocols call their messages.
pub(super) trait Envelopes: Send + 'static {
    type Request: Message + Default + Send + Sync + 'static;
    const PROTOCOL: Protocol;

    fn node(request: &Self::Request) -> Option<&Node>;
    fn take_in(state: &mut ServerState, request: &Self::Request, offer: &Offer) -> Said;
}

pub(super) struct Delta;

impl Envelopes for Delta {
    type Request = DeltaDiscoveryRequest;
    const PROTOCOL: Protocol = Protocol::Delta;

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn take_in(state: &mut ServerState, request: &Self::Request, offer: &Offer) -> Said {
        state.on_delta_request(request, offer)
    }
}

/// State of the world.
pub(super) struct Whole;

impl Envelopes for Whole {
    type Request = DiscoveryRequest;
    const PROTOCOL: Protocol = Protocol::StateOfTheWorld;

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn take_in(state: &mut ServerState, request: &Self::Request, offer: &Offer) -> Said {
        state.on_request(request, offer)
    }
}

/// One proxy's stream.
struct Peer<E: Envelopes> {
    board: Arc<Board>,
    book: Arc<ProxyBook>,
    state: ServerState,
    began: Instant,
    /// Who it has proved to be, on a connection where that is asked.
    proof: Option<mutual::Peer>,
    /// Who it is; said in the first request.
    proxy: Option<OpenProxy>,
    /// Generations that were sent whole, and the last response of each, until the proxy reports on them.
    settled: VecDeque<(u64, u64)>,
    /// The last generation that it has answered whole.
    settled_last: Option<u64>,
    /// The last response that the proxy has reported on.
    reported_up_to: u64,
    responses: mpsc::Sender<Result<Outgoing, Status>>,
    protocol: PhantomData<E>,
}

/// A proxy in the book; it leaves it when this is dropped.
struct OpenProxy {
    id: u64,
    node: String,
    scope: Scope,
    program: Program,
    entry: Arc<Mutex<ProxyEntry>>,
    book: Arc<ProxyBook>,
}

impl Drop for OpenProxy {
    fn drop(&mut self) {
        self.book.close(self.id);
    }
}

impl<E: Envelopes> Peer<E> {
    async fn run(mut self, mut requests: Streaming<E::Request>) {
        let mut changes = self.board.changes();
        let ends = self
            .proof
            .as_ref()
            .and_then(|proof| proof.ends)
            .map(|ends| Instant::now() + ends.duration_since(SystemTime::now()).unwrap_or_default());
        loop {
            let wait = self.state.wait(self.began.elapsed()).map(|until| self.began + until);
            tokio::select! {
                biased;
                () = sleep_until(ends) => {
                    let status = Status::unauthenticated("the certificate of this connection has ended; open another");
                    drop(self.responses.send(Err(status)).await);
                    break;
                }
                request = requests.next() => match request {
                    Some(Ok(request)) => if let Err(status) = self.take_in(&request) {
                        drop(self.responses.send(Err(status)).await);
                        break;
                    },
                    Some(Err(_)) | None => break,
                },
                changed = changes.changed() => if changed.is_err() { break },
                () = sleep_until(wait) => {}
            }
            if self.push().await.is_none() {
                break;
            }
        }
        info!(node = self.name(), "the proxy's stream has ended");
    }

    /// # Errors
    /// Why the stream has to end.
    fn take_in(&mut self, request: &E::Request) -> Result<(), Status> {
        if self.proxy.is_none() {
            self.proxy = Some(self.open(E::node(request))?);
        }
        let Some(proxy) = &self.proxy else { return Ok(()) };
        let offer = self.board.offer(&proxy.scope, proxy.program);
        let said = E::take_in(&mut self.state, request, &offer.offer);
        match said {
            Said::Asked | Said::Stale => return Ok(()),
            Said::Accepted(kind, names) => proxy.entry.lock().accepted(kind, &names),
            Said::Refused(kind, names, text) => {
                let shown: String = text.chars().take(MAX_SHOWN_REFUSAL).collect();
                warn!(node = self.name(), ?kind, "the proxy refuses what it was told: {shown}");
                proxy.entry.lock().refused(kind, &names, &text);
            }
            Said::Reported(report) => self.reported(report),
            Said::Unknown(url) => info!(node = self.name(), url, "the proxy asks for a kind that there is nothing of"),
            Said::TooMany(kind) => {
                return Err(Status::resource_exhausted(format!("too many resources of the kind {kind:?}")));
            }
        }
        self.book.note_change();
        Ok(())
    }

    fn open(&self, node: Option<&Node>) -> Result<OpenProxy, Status> {
        let missing = || Status::invalid_argument("the first request must say who asks: `node` is missing");
        let Node { id, cluster, user_agent_name, .. } = node.ok_or_else(missing)?;
        if id.len() > MAX_NODE_BYTES || cluster.len() > MAX_NODE_BYTES || user_agent_name.len() > MAX_NODE_BYTES {
            return Err(Status::invalid_argument(format!("names of a node have at most {MAX_NODE_BYTES} bytes")));
        }
        let scope = Scope::of(cluster);
        let identity = self.proof.as_ref().and_then(|proof| proof.id_now().cloned());
        match (&self.proof, &identity) {
            (None, _) => {} // On loopback everybody is believed.
            (Some(_), Some(id)) => check_scope(id, &scope)?,
            (Some(_), None) => return Err(Status::unauthenticated("the certificate of this connection has ended")),
        }
        let program = Program::of(user_agent_name);
        let protocol = match E::PROTOCOL {
            Protocol::Delta => "delta",
            Protocol::StateOfTheWorld => "state of the world",
        };
        let entry = ProxyEntry::new(id.clone(), scope.clone(), (program, user_agent_name.clone()), protocol);
        let entry = entry.proved(identity);
        let (number, entry) = self.book.open(entry).ok_or_else(|| Status::unavailable("too many proxies are here"))?;
        info!(node = id, gateway = cluster, protocol, program = user_agent_name, "a proxy has opened a stream");
        Ok(OpenProxy { id: number, node: id.clone(), scope, program, entry, book: Arc::clone(&self.book) })
    }

    /// What became of what was sent up to a response.
    fn reported(&mut self, report: Report) {
        let mut serves = None;
        self.reported_up_to = self.reported_up_to.max(report.nonce);
        while let Some((generation, _)) = self.settled.pop_front_if(|(_, nonce)| *nonce <= report.nonce) {
            serves = Some(generation);
        }
        if let Some(proxy) = &self.proxy {
            for (kind, name, reason) in &report.failed {
                warn!(node = proxy.node, ?kind, name, "the proxy cannot serve what it was told: {reason}");
            }
            proxy.entry.lock().reported(report, serves);
        }
    }

    /// Sends what there is to send; `None` when the stream has ended.
    async fn push(&mut self) -> Option<()> {
        let Some(proxy) = &self.proxy else { return Some(()) };
        let offer = self.board.offer(&proxy.scope, proxy.program);
        while let Some(response) = self.state.next_response(&offer.offer, self.began.elapsed()) {
            proxy.entry.lock().behind_since.get_or_insert_with(jiff::Timestamp::now);
            self.responses.send(Ok(response)).await.ok()?;
        }
        if self.settled_last != Some(offer.generation) && self.state.is_settled(&offer.offer) {
            self.settled_last = Some(offer.generation);
            let nonce = self.state.last_nonce();
            let mut entry = proxy.entry.lock();
            entry.settle(offer.generation);
            if self.settled.len() >= MAX_UNREPORTED {
                self.settled.pop_front();
            }
            self.settled.push_back((offer.generation, nonce));
            if self.reported_up_to >= nonce {
                entry.serve(offer.generation); // Nothing of it was new to this proxy.
            }
            drop(entry);
            self.book.note_change();
        }
        Some(())
    }

    fn name(&self) -> &str {
        self.proxy.as_ref().map_or("", |proxy| &proxy.node)
    }
}

/// A workload may be told of the Gateways of its own namespace.
fn check_scope(id: &SpiffeId, scope: &Scope) -> Result<(), Status> {
    let namespace = match scope {
        Scope::Everything => None,
        Scope::Gateway(gateway) => gateway.split_once('/').map(|(namespace, _)| namespace),
    };
    if namespace.is_some() && namespace == id.workload.namespace() {
        return Ok(());
    }
    let asked = match scope {
        Scope::Everything => "every Gateway",
        Scope::Gateway(gateway) => gateway,
    };
    let reason =
        format!("{id} may follow the Gateways of its own namespace, not {asked}: say --gateway NAMESPACE/NAME");
    Err(Status::permission_denied(reason))
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
