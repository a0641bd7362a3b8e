//! The aggregated discovery service: one task for each proxy's stream, driving `weir_xds::ServerState`. A proxy of ours and
//! an Envoy differ in what they are offered, not in how; delta and state of the world differ in the envelopes.
//!
//! ```text
//! request ─► ServerState ─┐
//! board has changed ──────┼─► next response? ─► stream
//! a wait is over ─────────┘
//! ```

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};
use weir_xds::limits::MAX_MESSAGE_BYTES;
use weir_xds::proto::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer, DeltaDiscoveryRequest, DeltaDiscoveryResponse,
    DiscoveryRequest, DiscoveryResponse, Node,
};
use weir_xds::server::{Protocol, Said};
use weir_xds::{Offer, ServerState};

use crate::board::{Board, Offers};
use crate::limits::{MAX_LOGGED_REFUSAL, PROXY_KEEPALIVE, RESPONSE_QUEUE};
use crate::task;

/// Serves every proxy that connects, until the process ends.
///
/// # Errors
/// The listener fails.
pub async fn serve_ads(listener: TcpListener, board: Arc<Board>) -> Result<(), tonic::transport::Error> {
    let service = AggregatedDiscoveryServiceServer::new(AdsServer { board })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let connections = TcpListenerStream::new(listener);
    Server::builder()
        .http2_keepalive_interval(Some(PROXY_KEEPALIVE))
        .http2_keepalive_timeout(Some(PROXY_KEEPALIVE))
        .tcp_nodelay(true)
        .serve_with_incoming(service, connections)
        .await
}

/// The service.
#[derive(Clone)]
pub struct AdsServer {
    board: Arc<Board>,
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for AdsServer {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Ok(Response::new(Box::pin(self.open::<Whole>(request.into_inner()))))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Ok(Response::new(Box::pin(self.open::<Delta>(request.into_inner()))))
    }
}

impl AdsServer {
    fn open<E: Envelopes>(&self, requests: Streaming<E::Request>) -> ReceiverStream<Result<E::Response, Status>> {
        let (responses, receiver) = mpsc::channel(RESPONSE_QUEUE);
        let peer: Peer<E> = Peer {
            board: Arc::clone(&self.board),
            state: ServerState::new(E::PROTOCOL),
            began: Instant::now(),
            node: None,
            responses,
        };
        task::spawn("proxy stream", peer.run(requests));
        ReceiverStream::new(receiver)
    }
}

/// What the two protocols call their messages.
trait Envelopes: Send + 'static {
    type Request: Send + Sync + 'static;
    type Response: Send + 'static;
    const PROTOCOL: Protocol;

    fn node(request: &Self::Request) -> Option<&Node>;
    fn take_in(state: &mut ServerState, request: &Self::Request) -> Said;
    fn next(state: &mut ServerState, offer: &Offer, now: Duration) -> Option<Self::Response>;
}

struct Delta;

impl Envelopes for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;
    const PROTOCOL: Protocol = Protocol::Delta;

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn take_in(state: &mut ServerState, request: &Self::Request) -> Said {
        state.on_delta_request(request)
    }

    fn next(state: &mut ServerState, offer: &Offer, now: Duration) -> Option<Self::Response> {
        state.next_delta(offer, now)
    }
}

/// State of the world.
struct Whole;

impl Envelopes for Whole {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;
    const PROTOCOL: Protocol = Protocol::StateOfTheWorld;

    fn node(request: &Self::Request) -> Option<&Node> {
        request.node.as_ref()
    }

    fn take_in(state: &mut ServerState, request: &Self::Request) -> Said {
        state.on_request(request)
    }

    fn next(state: &mut ServerState, offer: &Offer, now: Duration) -> Option<Self::Response> {
        state.next_state(offer, now)
    }
}

/// One proxy's stream.
struct Peer<E: Envelopes> {
    board: Arc<Board>,
    state: ServerState,
    began: Instant,
    /// Who it is; said in the first request.
    node: Option<Node>,
    responses: mpsc::Sender<Result<E::Response, Status>>,
}

impl<E: Envelopes> Peer<E> {
    async fn run(mut self, mut requests: Streaming<E::Request>) {
        let mut changes = self.board.changes();
        loop {
            let wait = self.state.wait(self.began.elapsed()).map(|until| self.began + until);
            tokio::select! {
                request = requests.next() => match request {
                    Some(Ok(request)) => if !self.take_in(&request).await { return },
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

    /// False when the stream has to end.
    async fn take_in(&mut self, request: &E::Request) -> bool {
        if self.node.is_none() {
            let Some(node) = E::node(request) else {
                let missing = Status::invalid_argument("the first request must say who asks: `node` is missing");
                drop(self.responses.send(Err(missing)).await);
                return false;
            };
            self.node = Some(node.clone());
            let (protocol, program) = (E::PROTOCOL, &node.user_agent_name);
            info!(node = self.name(), ?protocol, program, "a proxy has opened a stream");
        }
        match E::take_in(&mut self.state, request) {
            Said::Asked | Said::Accepted(..) | Said::Reported(_) | Said::Stale => {}
            Said::Refused(kind, _, text) => {
                let text: String = text.chars().take(MAX_LOGGED_REFUSAL).collect();
                warn!(node = self.name(), ?kind, "the proxy refuses what it was told: {text}");
            }
            Said::Unknown(url) => info!(node = self.name(), url, "the proxy asks for a kind that there is nothing of"),
            Said::TooMany(kind) => {
                let much = Status::resource_exhausted(format!("too many resources of the kind {kind:?}"));
                drop(self.responses.send(Err(much)).await);
                return false;
            }
        }
        true
    }

    /// Sends what there is to send; `None` when the stream has ended.
    async fn push(&mut self) -> Option<()> {
        let offers = self.board.offers();
        let offer = self.offer(&offers);
        while let Some(response) = E::next(&mut self.state, offer, self.began.elapsed()) {
            self.responses.send(Ok(response)).await.ok()?;
        }
        Some(())
    }

    fn offer<'a>(&self, offers: &'a Offers) -> &'a Offer {
        let is_ours = self.node.as_ref().is_some_and(|node| node.user_agent_name == "weir-proxy");
        if is_ours { &offers.weir } else { &offers.envoy }
    }

    fn name(&self) -> &str {
        self.node.as_ref().map_or("", |node| &node.id)
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
