//! The control plane as the source: one delta ADS stream over gRPC, driven by `weir-xds`. Every response is answered at
//! once, with field paths when something of it is refused; what was good of it stays. A lost stream is opened again with
//! a growing pause, and what serves goes on meanwhile; a proxy that starts without its control plane serves what it was
//! told last (`config/last_good.rs`).
//!
//! ```text
//! response ─► Held (decoded) ─► answer, new requests ─► nothing missing? ─► Update ─► the configuration walk
//!                                                            └─ else wait for the rest, at most 15 s
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tracing::{debug, info, warn};
use weir_file_source::Update;
use weir_model::{Rejection, Version};
use weir_resources::Compiled;
use weir_xds::client::Changes;
use weir_xds::limits::MAX_MESSAGE_BYTES;
use weir_xds::proto::{AggregatedDiscoveryServiceClient, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use weir_xds::{ClientState, Held, Kind, Report, SavedResource};

use crate::config::last_good::LastGood;
use crate::config::state::Outcome;
use crate::identity::{ControlPlane, Identity, ReplicaNumber};
use crate::limits::{
    CONTROL_PLANE_STEADY_TIME, MAX_RECONNECT_PAUSE, MIN_RECONNECT_PAUSE, MISSING_RESOURCE_TIMEOUT,
    REFUSED_RETRY_INTERVAL, XDS_REQUEST_QUEUE,
};

/// Which control plane, and who asks.
#[derive(Clone)]
pub(crate) struct XdsOptions {
    /// Where it is.
    pub(crate) control_plane: Arc<ControlPlane>,
    /// What the control plane knows this proxy by.
    pub(crate) node: String,
    /// The Gateway that it serves; every Gateway when it says none.
    pub(crate) gateway: Option<String>,
    /// Who we are, for one that wants to know.
    pub(crate) identity: Arc<Identity>,
}

/// A control plane, asked over one stream.
pub(crate) struct XdsSource {
    options: XdsOptions,
    /// The replica that the last stream was opened to.
    replica: Option<ReplicaNumber>,
    client: ClientState,
    held: Held,
    /// What was accepted, as it came.
    raw: BTreeMap<(Kind, String), Arc<SavedResource>>,
    /// Kinds without names that were answered at least once: before that, nothing is known to be all there is.
    answered: BTreeSet<Kind>,
    /// Until when what is missing is waited for.
    patience: Option<Instant>,
    /// What was handed on last.
    told: Option<Version>,
    /// Its number, and the last response that it holds.
    newest: (u64, Option<u64>),
    last_good: LastGood,
    /// What the configuration walk says of what was handed on.
    outcomes: mpsc::Receiver<Outcome>,
    /// The number of what serves.
    serves: u64,
    /// What does not work, and why.
    failed: BTreeMap<(Kind, String), String>,
    /// What was refused as it came, and has not come anew since.
    rejected: BTreeMap<(Kind, String), String>,
    /// What the control plane was told of that on this stream.
    reported: Option<Report>,
    /// When what did not work is tried again.
    retry: Option<Instant>,
}

/// Where requests of a stream are put.
type Requests = mpsc::Sender<DeltaDiscoveryRequest>;

/// Where updates go.
type Updates = watch::Sender<Option<Update>>;

impl XdsSource {
    /// A source that has asked for nothing yet, and holds what an earlier process has left in `last_good`.
    pub(crate) fn new(options: XdsOptions, last_good: LastGood, outcomes: mpsc::Receiver<Outcome>) -> Self {
        let node = Node {
            id: options.node.clone(),
            cluster: options.gateway.clone().unwrap_or_default(),
            user_agent_name: "weir-proxy".to_owned(),
            ..Node::default()
        };
        let mut source = Self {
            options,
            replica: None,
            client: ClientState::new(node),
            held: Held::default(),
            raw: BTreeMap::new(),
            answered: BTreeSet::new(),
            patience: None,
            told: None,
            newest: (0, None),
            last_good,
            outcomes,
            serves: 0,
            failed: BTreeMap::new(),
            rejected: BTreeMap::new(),
            reported: None,
            retry: None,
        };
        source.restore();
        source
    }

    /// Follows the control plane, and keeps the newest update where `updates` can be taken from. Ends with its receiver.
    pub(crate) async fn follow(mut self, updates: Updates) {
        self.tell(&updates);
        let mut pause = MIN_RECONNECT_PAUSE;
        loop {
            let began = Instant::now();
            let ended = tokio::select! {
                ended = self.stream(&updates) => ended,
                () = updates.closed() => return,
            };
            if began.elapsed() > CONTROL_PLANE_STEADY_TIME {
                pause = MIN_RECONNECT_PAUSE;
            }
            let (control_plane, pause_ms) = (&self.options.control_plane, pause.as_millis());
            self.replica.take().into_iter().for_each(|replica| control_plane.leave(replica));
            warn!(%control_plane, pause_ms, "no stream to the control plane; what serves goes on: {ended}");
            let jitter = SmallRng::from_os_rng().random_range(0.5..1.0);
            let until = Instant::now() + pause.mul_f64(jitter);
            tokio::select! {
                () = self.rest(until, &updates) => {}
                () = updates.closed() => return,
            }
            pause = (pause * 2).min(MAX_RECONNECT_PAUSE);
        }
    }

    /// Waits, and does what has to be done without a stream.
    async fn rest(&mut self, until: Instant, updates: &Updates) {
        loop {
            let retry = self.retry;
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                Some(outcome) = self.outcomes.recv() => self.hear(outcome),
                () = sleep_until(retry) => self.try_again(),
            }
            self.tell(updates);
        }
    }

    /// One stream, until it ends; why it did.
    async fn stream(&mut self, updates: &Updates) -> String {
        let config = self.options.identity.client_config();
        let (channel, replica) = match self.options.control_plane.connect(config.as_ref()).await {
            Ok(connected) => connected,
            Err(reason) => return reason,
        };
        self.replica = Some(replica);
        let (requests, receiver) = mpsc::channel(XDS_REQUEST_QUEUE);
        self.reported = None;
        self.newest.1 = None; // Counted by the stream before.
        send(&requests, self.client.connect()).await;
        let mut service: AggregatedDiscoveryServiceClient<Channel> = AggregatedDiscoveryServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let opened = service.delta_aggregated_resources(ReceiverStream::new(receiver)).await;
        let mut responses = match opened {
            Ok(responses) => responses.into_inner(),
            Err(status) => return said(&status),
        };
        let control_plane = self.options.control_plane.name(replica);
        info!(%control_plane, node = %self.options.node, "stream to the control plane is open");
        loop {
            let (patience, retry) = (self.patience, self.retry);
            tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => self.take_in(response, &requests).await,
                    Ok(None) => return "the control plane has ended it".to_owned(),
                    Err(status) => return said(&status),
                },
                () = sleep_until(patience) => self.give_up(),
                Some(outcome) = self.outcomes.recv() => self.hear(outcome),
                () = sleep_until(retry) => self.try_again(),
            }
            self.tell(updates);
            send(&requests, self.report()).await;
        }
    }

    /// Takes in a response: decodes, answers, and asks for what it refers to.
    async fn take_in(&mut self, response: DeltaDiscoveryResponse, requests: &Requests) {
        let Some(changes) = self.client.on_response(response) else { return };
        self.answered.insert(changes.kind);
        let rejected = self.apply(&changes);
        for rejection in rejected.values().flatten() {
            let Rejection { resource, field, reason, hint } = rejection;
            warn!(%resource, field, hint, "refused what the control plane sent: {reason}");
        }
        self.note_rejected(&changes, &rejected);
        send(requests, [self.client.answer(&changes, &rejected)]).await;
        for kind in Kind::ALL {
            let wanted = self.wanted(kind);
            send(requests, self.client.want(kind, wanted)).await;
        }
    }

    fn apply(&mut self, changes: &Changes) -> BTreeMap<String, Vec<Rejection>> {
        let mut rejected = BTreeMap::new();
        for (name, version, resource) in &changes.put {
            match self.held.put(changes.kind, name, resource) {
                Ok(()) => {
                    let (kind, resource) = (changes.kind, resource.clone());
                    let saved = SavedResource { kind, name: name.clone(), version: version.clone(), resource };
                    self.raw.insert((kind, name.clone()), Arc::new(saved));
                }
                Err(rejections) => {
                    rejected.insert(name.clone(), rejections);
                }
            }
        }
        for name in &changes.removed {
            self.held.remove(changes.kind, name);
            self.raw.remove(&(changes.kind, name.clone()));
        }
        rejected
    }

    /// What was refused is reported until it comes anew: an ACK of something else does not make it work.
    fn note_rejected(&mut self, changes: &Changes, rejected: &BTreeMap<String, Vec<Rejection>>) {
        for name in changes.put.iter().map(|(name, ..)| name).chain(&changes.removed) {
            let key = (changes.kind, name.clone());
            match rejected.get(name) {
                Some(rejections) => {
                    let reasons: Vec<String> = rejections.iter().map(ToString::to_string).collect();
                    self.rejected.insert(key, reasons.join("; "));
                }
                None => drop(self.rejected.remove(&key)),
            }
        }
    }

    fn wanted(&mut self, kind: Kind) -> BTreeSet<String> {
        let wanted = self.held.wanted(kind);
        if !kind.is_wildcard() {
            self.raw.retain(|(of, name), _| *of != kind || wanted.contains(name));
        }
        wanted
    }

    /// Hands on what is held, if it is whole and new.
    fn tell(&mut self, updates: &Updates) {
        let missing = self.held.missing();
        let is_begun = self.answered.contains(&Kind::Cluster) && self.answered.contains(&Kind::Listener);
        if !missing.is_empty() || !is_begun {
            debug!(?missing, "the configuration is not whole yet");
            self.patience.get_or_insert_with(|| Instant::now() + MISSING_RESOURCE_TIMEOUT);
            return;
        }
        self.patience = None;
        self.newest.1 = self.client.reports();
        let outcome = match self.held.snapshot() {
            Ok(snapshot) if self.told == Some(snapshot.version) => return,
            Ok(snapshot) => {
                self.told = Some(snapshot.version);
                self.last_good.keep(self.raw.values().cloned().collect());
                Ok(Arc::new(Compiled::unwritten(snapshot)))
            }
            Err(rejections) => Err(Arc::new(rejections.into_iter().map(Compiled::unwritten_refusal).collect())),
        };
        self.newest.0 += 1;
        updates.send_replace(Some(Update { number: self.newest.0, outcome, files: Arc::default() }));
    }

    /// What to say of what serves and what does not, when that is news to the control plane and it wants to hear it.
    fn report(&mut self) -> Option<DeltaDiscoveryRequest> {
        let (newest, nonce) = self.newest;
        let known = self.reported.as_ref().map_or(0, |report| report.nonce);
        let nonce = nonce.filter(|_| self.serves == newest).unwrap_or(known);
        self.client.reports()?;
        let failed = self.rejected.iter().chain(&self.failed);
        let failed = failed.map(|((kind, name), reason)| (*kind, name.clone(), reason.clone()));
        let report = Report { nonce, failed: failed.collect() };
        if self.reported.as_ref() == Some(&report) {
            return None;
        }
        let request = self.client.report(&report);
        self.reported = Some(report);
        Some(request)
    }

    /// What was asked for by name and did not come counts as absent. A control plane that says nothing of clusters has
    /// none; one that says nothing of listeners is waited for, since a proxy without any is not ready.
    fn give_up(&mut self) {
        self.patience = None;
        self.answered.insert(Kind::Cluster);
        for (kind, name) in self.held.missing() {
            warn!(?kind, name, "the control plane does not send it; requests that need it fail");
            if kind == Kind::Plugin {
                // A filter cannot be left out: what served before goes on.
                self.patience = Some(Instant::now() + MISSING_RESOURCE_TIMEOUT);
            } else {
                self.held.remove(kind, &name);
            }
        }
    }

    /// What became of what was handed on. What does not work is left out, so that everything else can change.
    fn hear(&mut self, outcome: Outcome) {
        if outcome.rejections.is_empty() {
            self.serves = outcome.number;
            let refused = self.held.refused();
            self.failed.retain(|resource, _| refused.contains(resource));
        }
        for rejection in outcome.rejections {
            let resource = &rejection.resource;
            if self.held.refuse(resource) {
                let retry_s = REFUSED_RETRY_INTERVAL.as_secs();
                warn!(%resource, retry_s, "left out until it changes, or is tried again; what it said before goes on");
                self.retry.get_or_insert_with(|| Instant::now() + REFUSED_RETRY_INTERVAL);
            }
            let Rejection { resource, field, reason, .. } = rejection;
            self.failed.insert((Kind::of_resource(resource.kind), resource.name), format!("{field}: {reason}"));
        }
    }

    /// A module may be there by now, an address free.
    fn try_again(&mut self) {
        self.retry = None;
        self.held.retry_refused();
    }

    fn restore(&mut self) {
        let saved = self.last_good.read();
        if saved.is_empty() {
            return;
        }
        for resource in saved {
            let SavedResource { kind, name, version, resource: content } = &resource;
            match self.held.put(*kind, name, content) {
                Ok(()) => {
                    self.client.restore(*kind, name, version);
                    self.raw.insert((*kind, name.clone()), Arc::new(resource));
                }
                // An older proxy took it; the control plane is asked for it again.
                Err(rejections) => warn!(?kind, name, ?rejections, "what was kept on disk is not understood any more"),
            }
        }
        for kind in Kind::ALL {
            let wanted = self.wanted(kind);
            // Asked for when the stream opens.
            drop(self.client.want(kind, wanted));
        }
        self.answered.extend([Kind::Cluster, Kind::Listener]);
        info!(resources = self.raw.len(), "begins with what the control plane said last");
    }
}

/// Puts requests on the stream; one that has ended takes none, which is told by its responses.
async fn send(requests: &Requests, all: impl IntoIterator<Item = DeltaDiscoveryRequest>) {
    for request in all {
        drop(requests.send(request).await);
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

fn said(status: &tonic::Status) -> String {
    format!("{}: {}", status.code(), status.message())
}
