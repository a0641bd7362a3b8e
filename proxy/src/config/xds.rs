//! The control plane as configuration source: one delta ADS stream over gRPC, driven by `weir-xds`.
//!
//! Every response is acknowledged at once; a NACK names the field paths of rejected resources, and the valid resources
//! of the response are applied. A lost stream is reopened with exponential backoff while the active configuration
//! serves. A proxy that starts without its control plane serves the last known good resources
//! (`config/last_known_good.rs`).
//!
//! ```text
//! response ─► ResourceCache ─► ACK or NACK, subscriptions ─► complete? ─► ConfigUpdate ─► the configuration walk
//!                                                             └─ else wait for missing resources, at most 15 s
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
use weir_file_source::ConfigUpdate;
use weir_model::{ContentHash, Rejection};
use weir_resources::Compiled;
use weir_xds::client::ParsedResponse;
use weir_xds::limits::MAX_MESSAGE_BYTES;
use weir_xds::proto::{AggregatedDiscoveryServiceClient, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use weir_xds::{ClientState, FailedVersion, PersistedResource, Report, ReportedFailure, ResourceCache, ResourceType};

use crate::config::last_known_good::{AcceptedResources, LastKnownGood};
use crate::config::mesh_guard::MeshGuard;
use crate::config::resource_versions::{PluginVersions, ResourceVersions};
use crate::config::state::UpdateOutcome;
use crate::control_plane::{ControlPlane, ReplicaIndex};
use crate::identity::Identity;
use crate::limits::{
    CONTROL_PLANE_STEADY_TIME, MAX_RECONNECT_BACKOFF, MIN_RECONNECT_BACKOFF, MISSING_RESOURCE_TIMEOUT,
    REJECTED_RETRY_INTERVAL, XDS_REQUEST_QUEUE,
};

/// The control plane of an [`XdsSource`], and the node that it serves.
#[derive(Clone)]
pub(crate) struct XdsOptions {
    /// The replicas of the control plane.
    pub(crate) control_plane: Arc<ControlPlane>,
    /// The node id of this proxy (`Node.id`).
    pub(crate) node: String,
    /// The Gateway that this proxy serves (`Node.cluster`); `None` requests every Gateway.
    pub(crate) gateway: Option<String>,
    /// The id of another mesh that this proxy may change to.
    pub(crate) accepted_mesh: Option<String>,
    /// The identity of this proxy, for a control plane that demands mutual TLS.
    pub(crate) identity: Arc<Identity>,
}

/// A configuration source over one ADS stream.
pub(crate) struct XdsSource {
    options: XdsOptions,
    /// The replica that the last stream was opened to.
    replica: Option<ReplicaIndex>,
    client: ClientState,
    /// The mesh whose resources these are.
    mesh: MeshGuard,
    /// The decoded resources.
    resources: ResourceCache,
    /// The encoded form of every accepted resource, for the last known good file.
    accepted: ResourceVersions,
    /// Kinds with at least one response. Before the first response of a wildcard kind, its set is not complete.
    received_kinds: BTreeSet<ResourceType>,
    /// The time from which resources that are referenced but not received are treated as absent.
    missing_deadline: Option<Instant>,
    /// The version of the last snapshot passed to the configuration walk.
    published_version: Option<ContentHash>,
    latest: LatestUpdate,
    last_known_good: LastKnownGood,
    /// The results of updates from the configuration walk.
    outcomes: mpsc::Receiver<UpdateOutcome>,
    /// The number of the update that serves.
    active_update: u64,
    /// Resources that cannot be applied, and the reasons.
    apply_errors: BTreeMap<(ResourceType, String), ApplyError>,
    /// Resources whose last received version is invalid, and the reasons.
    decode_errors: BTreeMap<(ResourceType, String), String>,
    /// The last report sent on this stream.
    last_report: Option<Report>,
    /// The time of the next retry of resources that could not be applied.
    retry_at: Option<Instant>,
}

/// The reason for which a resource cannot be applied.
#[derive(Debug)]
struct ApplyError {
    reason: String,
    /// True if requests that need the resource fail.
    is_blocking: bool,
}

/// The last update passed to the configuration walk.
#[derive(Debug, Default)]
struct LatestUpdate {
    /// The number of the update; 0 before the first.
    number: u64,
    /// The ADS nonce of the newest response that it contains; `None` before the first response of this stream.
    nonce: Option<u64>,
    /// The newest versions of plugins in it, without those that have failed.
    plugins: PluginVersions,
}

/// The request side of a stream.
type RequestSender = mpsc::Sender<DeltaDiscoveryRequest>;

/// The channel to the configuration walk.
type UpdateSender = watch::Sender<Option<ConfigUpdate>>;

impl XdsSource {
    /// Returns a source without a stream. It contains the resources of an earlier process, if `last_known_good` has
    /// some.
    pub(crate) fn new(
        options: XdsOptions,
        last_known_good: LastKnownGood,
        outcomes: mpsc::Receiver<UpdateOutcome>,
    ) -> Self {
        let node = Node {
            id: options.node.clone(),
            cluster: options.gateway.clone().unwrap_or_default(),
            user_agent_name: "weir-proxy".to_owned(),
            ..Node::default()
        };
        let mesh = MeshGuard::new(options.accepted_mesh.clone());
        let mut source = Self {
            options,
            replica: None,
            client: ClientState::new(node),
            mesh,
            resources: ResourceCache::default(),
            accepted: ResourceVersions::default(),
            received_kinds: BTreeSet::new(),
            missing_deadline: None,
            published_version: None,
            latest: LatestUpdate::default(),
            last_known_good,
            outcomes,
            active_update: 0,
            apply_errors: BTreeMap::new(),
            decode_errors: BTreeMap::new(),
            last_report: None,
            retry_at: None,
        };
        source.restore();
        source
    }

    /// Receives configuration and publishes the newest update in `updates`. Returns when its receiver is dropped.
    pub(crate) async fn run(mut self, updates: UpdateSender) {
        self.publish_update(&updates);
        let mut pause = MIN_RECONNECT_BACKOFF;
        loop {
            let started = Instant::now();
            let reason = tokio::select! {
                reason = self.stream(&updates) => reason,
                () = updates.closed() => return,
            };
            if started.elapsed() > CONTROL_PLANE_STEADY_TIME {
                pause = MIN_RECONNECT_BACKOFF;
            }
            let (control_plane, pause_ms) = (&self.options.control_plane, pause.as_millis());
            self.replica.take().into_iter().for_each(|replica| control_plane.demote(replica));
            warn!(%control_plane, pause_ms, "no stream to the control plane; the active configuration serves: {reason}");
            let jitter = SmallRng::from_os_rng().random_range(0.5..1.0);
            let until = Instant::now() + pause.mul_f64(jitter);
            tokio::select! {
                () = self.wait_for_reconnect(until, &updates) => {}
                () = updates.closed() => return,
            }
            pause = (pause * 2).min(MAX_RECONNECT_BACKOFF);
        }
    }

    /// Waits until the next connection attempt, and handles apply results and retries meanwhile.
    async fn wait_for_reconnect(&mut self, until: Instant, updates: &UpdateSender) {
        loop {
            let retry_at = self.retry_at;
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                Some(outcome) = self.outcomes.recv() => self.on_outcome(outcome),
                () = sleep_until(retry_at) => self.retry_rejected(),
            }
            self.publish_update(updates);
        }
    }

    /// Runs one stream until it ends, and returns the reason.
    async fn stream(&mut self, updates: &UpdateSender) -> String {
        let config = self.options.identity.client_config();
        let (channel, replica) = match self.options.control_plane.connect(config.as_ref()).await {
            Ok(connected) => connected,
            Err(reason) => return reason,
        };
        self.replica = Some(replica);
        let mut renewals = self.options.identity.renewals();
        let (requests, receiver) = mpsc::channel(XDS_REQUEST_QUEUE);
        self.last_report = None;
        self.latest.nonce = None; // Nonces of the previous stream mean nothing on this one.
        send(&requests, self.client.connect()).await;
        let mut service: AggregatedDiscoveryServiceClient<Channel> = AggregatedDiscoveryServiceClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let opened = service.delta_aggregated_resources(ReceiverStream::new(receiver)).await;
        let mut responses = match opened {
            Ok(responses) => responses.into_inner(),
            Err(status) => return status_text(&status),
        };
        let control_plane = self.options.control_plane.name(replica);
        info!(%control_plane, node = %self.options.node, "stream to the control plane is open");
        loop {
            let (missing_deadline, retry_at) = (self.missing_deadline, self.retry_at);
            tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => match self.mesh.check(&response) {
                        Ok(()) => self.on_response(response, &requests).await,
                        Err(reason) => return reason,
                    },
                    Ok(None) => return "the control plane closed the stream".to_owned(),
                    Err(status) => return status_text(&status),
                },
                () = sleep_until(missing_deadline) => self.on_missing_timeout(),
                Ok(()) = renewals.changed() => {} // The report has the failure, if there is one.
                Some(outcome) = self.outcomes.recv() => self.on_outcome(outcome),
                () = sleep_until(retry_at) => self.retry_rejected(),
            }
            self.publish_update(updates);
            send(&requests, self.report()).await;
        }
    }

    /// Decodes a response, acknowledges it, and subscribes to the resources that it refers to.
    async fn on_response(&mut self, response: DeltaDiscoveryResponse, requests: &RequestSender) {
        let Some(changes) = self.client.on_response(response) else { return };
        self.received_kinds.insert(changes.resource_type);
        let rejected = self.apply(&changes);
        for rejection in rejected.values().flatten() {
            let Rejection { resource, field, reason, hint } = rejection;
            warn!(%resource, field, hint, "rejected a resource from the control plane: {reason}");
        }
        self.record_decode_errors(&changes, &rejected);
        send(requests, [self.client.acknowledge(&changes, &rejected)]).await;
        for kind in ResourceType::ALL {
            let required = self.required_names(kind);
            send(requests, self.client.subscribe(kind, required)).await;
        }
    }

    /// Stores the valid resources of a response, and returns the rejections of the others by name.
    fn apply(&mut self, changes: &ParsedResponse) -> BTreeMap<String, Vec<Rejection>> {
        let mut rejected = BTreeMap::new();
        for (name, version, resource) in &changes.updated {
            let replaces_failed = self.resources.is_failed(changes.resource_type, name);
            match self.resources.upsert(changes.resource_type, name, resource) {
                Ok(()) => {
                    let (kind, resource) = (changes.resource_type, resource.clone());
                    let saved = PersistedResource {
                        resource_type: kind,
                        name: name.clone(),
                        version: version.clone(),
                        resource,
                    };
                    self.accepted.insert(saved, replaces_failed);
                }
                Err(rejections) => {
                    rejected.insert(name.clone(), rejections);
                }
            }
        }
        for name in &changes.removed {
            self.resources.remove(changes.resource_type, name);
            self.accepted.remove(changes.resource_type, name);
        }
        rejected
    }

    /// Updates the decode errors. An error is reported until a new version of its resource arrives.
    fn record_decode_errors(&mut self, changes: &ParsedResponse, rejected: &BTreeMap<String, Vec<Rejection>>) {
        for name in changes.updated.iter().map(|(name, ..)| name).chain(&changes.removed) {
            let key = (changes.resource_type, name.clone());
            match rejected.get(name) {
                Some(rejections) => {
                    let reasons: Vec<String> = rejections.iter().map(ToString::to_string).collect();
                    self.decode_errors.insert(key, reasons.join("; "));
                }
                None => drop(self.decode_errors.remove(&key)),
            }
        }
    }

    /// Returns the names to subscribe to, and drops accepted resources that nothing refers to.
    fn required_names(&mut self, kind: ResourceType) -> BTreeSet<String> {
        let required = self.resources.prune_and_list_required(kind);
        if !kind.is_wildcard() {
            self.accepted.retain(kind, &required);
        }
        required
    }

    /// Publishes a snapshot of the received resources if it is complete and new.
    fn publish_update(&mut self, updates: &UpdateSender) {
        let missing = self.resources.unresolved();
        let has_received = |resource_type| self.received_kinds.contains(&resource_type);
        let has_initial_response = has_received(ResourceType::Cluster) && has_received(ResourceType::Listener);
        if !missing.is_empty() || !has_initial_response {
            debug!(?missing, "the configuration is not complete yet");
            self.missing_deadline.get_or_insert_with(|| Instant::now() + MISSING_RESOURCE_TIMEOUT);
            return;
        }
        self.missing_deadline = None;
        self.latest.nonce = self.client.report_nonce();
        let outcome = match self.resources.snapshot() {
            Ok(snapshot) if self.published_version == Some(snapshot.version) => return,
            Ok(snapshot) => {
                self.published_version = Some(snapshot.version);
                let resources = &self.resources;
                self.latest.plugins =
                    self.accepted.working_plugins(|name| resources.is_failed(ResourceType::Plugin, name));
                self.save();
                Ok(Arc::new(Compiled::from_wire(snapshot)))
            }
            Err(rejections) => Err(Arc::new(rejections.into_iter().map(Compiled::wire_diagnostic).collect())),
        };
        self.latest.number += 1;
        updates.send_replace(Some(ConfigUpdate { number: self.latest.number, outcome, files: Arc::default() }));
    }

    /// Returns the report of active and failed resources, if it differs from the last one and the control plane
    /// supports reports.
    fn report(&mut self) -> Option<DeltaDiscoveryRequest> {
        let LatestUpdate { number, nonce, .. } = self.latest;
        let reported = self.last_report.as_ref().map_or(0, |report| report.nonce);
        let nonce = nonce.filter(|_| self.active_update == number).unwrap_or(reported);
        self.client.report_nonce()?;
        let failure = |kind: ResourceType, name: &String, reason: &String, is_blocking| ReportedFailure {
            resource_type: kind,
            name: name.clone(),
            reason: reason.clone(),
            is_blocking,
        };
        let invalid = self.decode_errors.iter().map(|((kind, name), reason)| {
            let is_blocking = !self.accepted.contains(*kind, name);
            failure(*kind, name, reason, is_blocking)
        });
        let failed = self.apply_errors.iter();
        let failed = failed.map(|((kind, name), error)| failure(*kind, name, &error.reason, error.is_blocking));
        let failed = invalid.chain(failed);
        let certificate_failure = self.options.identity.renewals().borrow().clone();
        let report = Report { nonce, failed: failed.collect(), certificate_failure };
        if self.last_report.as_ref() == Some(&report) {
            return None;
        }
        let request = report.to_request();
        self.last_report = Some(report);
        Some(request)
    }

    /// Treats requested resources that have not arrived as absent.
    ///
    /// No response for clusters means no clusters. Listeners are still waited for: a proxy without them is not ready.
    fn on_missing_timeout(&mut self) {
        self.missing_deadline = None;
        self.received_kinds.insert(ResourceType::Cluster);
        for (kind, name) in self.resources.unresolved() {
            warn!(?kind, name, "the control plane does not send a resource; requests that need it fail");
            if kind == ResourceType::Plugin {
                // A filter cannot be left out, so the active configuration keeps serving.
                self.missing_deadline = Some(Instant::now() + MISSING_RESOURCE_TIMEOUT);
            } else {
                self.resources.remove(kind, &name);
            }
        }
    }

    /// Handles the result of an update. Resources that cannot be applied are left out, so that all others can change.
    fn on_outcome(&mut self, outcome: UpdateOutcome) {
        if outcome.rejections.is_empty() {
            self.active_update = outcome.number;
            let resources = &self.resources;
            self.apply_errors.retain(|(kind, name), _| resources.is_failed(*kind, name));
            if outcome.number == self.latest.number {
                self.confirm_plugins();
            }
        }
        for rejection in outcome.rejections {
            let failed = self.resources.mark_failed(&rejection, outcome.number, self.latest.number);
            let Rejection { resource, field, reason, .. } = rejection;
            let retry_s = REJECTED_RETRY_INTERVAL.as_secs();
            if failed.is_some() {
                self.retry_at.get_or_insert_with(|| Instant::now() + REJECTED_RETRY_INTERVAL);
            }
            let key = (ResourceType::from_resource_kind(resource.kind), resource.name.clone());
            let is_blocking = self.resources.is_blocking(key.0, &key.1);
            let error = ApplyError { reason: format!("{field}: {reason}"), is_blocking };
            match failed {
                Some(FailedVersion::Newest) => {
                    warn!(%resource, retry_s, "left out until it changes or is retried; its previous version serves");
                    self.apply_errors.insert(key, error);
                }
                Some(FailedVersion::LastGood) => {
                    warn!(%resource, retry_s, "its previous version cannot be applied, either: {field}: {reason}");
                    self.apply_errors.entry(key).or_insert(error).is_blocking = is_blocking;
                }
                None => drop(self.apply_errors.entry(key).or_insert(error)),
            }
        }
    }

    /// Records the plugins of the newest update, which serves, as the last good ones.
    fn confirm_plugins(&mut self) {
        let changed = self.accepted.confirm(&self.latest.plugins);
        if changed.is_empty() {
            return;
        }
        self.set_last_good_plugins(&changed);
        self.save();
    }

    /// Stores the accepted resources for the next start.
    fn save(&self) {
        let resources = self.accepted.to_store();
        self.last_known_good.save(AcceptedResources { mesh: self.mesh.id(), resources });
    }

    fn set_last_good_plugins(&mut self, plugins: &PluginVersions) {
        for (name, plugin) in plugins {
            if let Err(rejections) = self.resources.set_last_good_plugin(name, &plugin.resource) {
                warn!(name, ?rejections, "the last good version of a filter is not valid any more");
                self.accepted.remove_good_plugin(name);
            }
        }
    }

    /// Retries failed resources: a module may exist by now, or an address may be free.
    fn retry_rejected(&mut self) {
        self.retry_at = None;
        self.resources.retry_failed();
    }

    /// Loads the last known good resources.
    fn restore(&mut self) {
        let saved = self.last_known_good.read();
        self.mesh.restore(saved.mesh);
        if saved.resources.is_empty() {
            return;
        }
        self.accepted = ResourceVersions::restore(saved.resources);
        for resource in self.accepted.newest() {
            let PersistedResource { resource_type: kind, name, version, resource: content } = &*resource;
            match self.resources.upsert(*kind, name, content) {
                Ok(()) => self.client.restore(*kind, name, version),
                Err(rejections) => {
                    // An older proxy accepted it. The control plane sends it again.
                    warn!(?kind, name, ?rejections, "a stored resource is not valid any more");
                    self.accepted.remove(*kind, name);
                }
            }
        }
        self.set_last_good_plugins(&self.accepted.good_plugins());
        for kind in ResourceType::ALL {
            let required = self.required_names(kind);
            // The requests are sent when the stream opens.
            drop(self.client.subscribe(kind, required));
        }
        self.received_kinds.extend([ResourceType::Cluster, ResourceType::Listener]);
        info!(resources = self.accepted.newest().len(), "starting with the last known good configuration");
    }
}

/// Sends requests on the stream. Errors are ignored: the response side reports a closed stream.
async fn send(requests: &RequestSender, all: impl IntoIterator<Item = DeltaDiscoveryRequest>) {
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

fn status_text(status: &tonic::Status) -> String {
    format!("{}: {}", status.code(), status.message())
}
