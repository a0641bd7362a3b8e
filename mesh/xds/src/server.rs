//! The control plane's end of an ADS stream with one client: its subscriptions, and the next response to send. Speaks
//! delta and SotW. Performs no IO: the caller passes requests in, and takes the next response after each request, after
//! each new resource set, and at [`ServerState::next_deadline`].
//!
//! ```text
//!   Cluster ─► Endpoints ─► Plugin ─► Secret ─► Listener ─► RouteTable      new and changed resources, in this order
//!   Cluster ◄─ Endpoints ◄─ Plugin ◄─ Secret ◄─ Listener ◄─ RouteTable      then removals: Listener first, then the rest in reverse
//! ```
//!
//! A resource type waits until all earlier ones are sent and acknowledged. Types after `Endpoints` also wait until the
//! client has subscribed to the endpoints of the clusters that it just received. A reconnected client may have
//! resources of types that it has not requested yet; removals wait until it has. So a client never routes to a resource
//! that it lacks, and never loses one that another still refers to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::limits::{MAX_CLIENT_WAIT, MAX_RESOURCES};
use crate::proto::{DeltaDiscoveryRequest, DiscoveryRequest};
pub use crate::protocol::{Protocol, RequestOutcome};
use crate::report::Report;
use crate::resource_set::{NamedResource, ResourceMap, ResourceSet};
use crate::resource_type::ResourceType;
use crate::response::{ChunkedResponse, ResponseStamp};
use crate::subscription::{PendingUpdate, ResponseContent, Subscription};

/// The state of one stream.
///
/// Times are durations since any fixed start.
#[derive(Debug)]
pub struct ServerState {
    protocol: Protocol,
    /// The id of the mesh, sent as a part of `control_plane.identifier`.
    mesh: Option<Arc<str>>,
    subscriptions: BTreeMap<ResourceType, Subscription>,
    /// The nonce of the last response, as a number.
    last_nonce: u64,
    /// Clusters sent to the client, to whose endpoints it has not subscribed yet.
    awaited_endpoints: BTreeSet<Arc<str>>,
    /// The end of that wait.
    endpoints_deadline: Duration,
    /// True when the client came with resources of an earlier stream.
    is_reconnect: bool,
    /// The time of the first call of `next_response`.
    started_at: Option<Duration>,
}

/// A response before it is encoded for the stream's protocol.
#[derive(Debug)]
struct Response {
    resource_type: ResourceType,
    content: ResponseContent,
    nonce: String,
}

impl ServerState {
    /// Creates the state of a new stream.
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            mesh: None,
            subscriptions: ResourceType::ALL
                .into_iter()
                .map(|resource_type| (resource_type, Subscription::default()))
                .collect(),
            last_nonce: 0,
            awaited_endpoints: BTreeSet::new(),
            endpoints_deadline: Duration::ZERO,
            is_reconnect: false,
            started_at: None,
        }
    }

    /// Sets the id of the mesh, by which a client recognizes its mesh.
    #[must_use]
    pub fn with_mesh(self, mesh: &Arc<str>) -> Self {
        Self { mesh: Some(Arc::clone(mesh)), ..self }
    }

    /// Processes a request of a delta stream. Names of available resources share the memory of `resources`.
    pub fn on_delta_request(&mut self, request: &DeltaDiscoveryRequest, resources: &ResourceSet) -> RequestOutcome {
        if let Some(report) = Report::from_request(request) {
            return RequestOutcome::Report(report);
        }
        let Some(resource_type) = ResourceType::from_type_url(&request.type_url) else {
            return RequestOutcome::UnknownType(request.type_url.clone());
        };
        let subscription = self.subscriptions.entry(resource_type).or_default();
        let is_first = !std::mem::replace(&mut subscription.requested, true);
        if is_first {
            let versions = request.initial_resource_versions.iter();
            subscription.client_versions = Arc::new(
                versions.map(|(name, version)| resources.lookup_version(resource_type, name, version)).collect(),
            );
            self.is_reconnect |= !subscription.client_versions.is_empty();
            subscription.wildcard = request.resource_names_subscribe.is_empty();
            subscription.response_due = subscription.wildcard; // A wildcard gets a response even if it is empty.
        }
        let changes = !request.resource_names_subscribe.is_empty() || !request.resource_names_unsubscribe.is_empty();
        if is_first || changes {
            subscription.reset_sync();
        }
        for name in &request.resource_names_subscribe {
            if name == "*" {
                subscription.wildcard = true;
                continue;
            }
            subscription.reported_missing.remove(name.as_str());
            let name = resources.name(resource_type, name);
            if !subscription.subscribed.insert(Arc::clone(&name)) && !is_first {
                subscription.resend.insert(name); // A repeated subscription means that the client lost the resource.
            }
        }
        for name in &request.resource_names_unsubscribe {
            subscription.unsubscribe(name);
        }
        if subscription.subscribed.len() > MAX_RESOURCES || subscription.client_versions.len() > MAX_RESOURCES {
            return RequestOutcome::TooManyResources(resource_type);
        }
        let outcome = subscription.on_ack(resource_type, &request.response_nonce, request.error_detail.as_ref());
        self.on_endpoints_requested(resource_type);
        outcome
    }

    /// Processes a request of a SotW stream.
    pub fn on_request(&mut self, request: &DiscoveryRequest, resources: &ResourceSet) -> RequestOutcome {
        let Some(resource_type) = ResourceType::from_type_url(&request.type_url) else {
            return RequestOutcome::UnknownType(request.type_url.clone());
        };
        let subscription = self.subscriptions.entry(resource_type).or_default();
        let is_first = !std::mem::replace(&mut subscription.requested, true);
        let outcome = subscription.on_ack(resource_type, &request.response_nonce, request.error_detail.as_ref());
        if outcome == RequestOutcome::StaleNonce {
            return outcome; // Its names are outdated.
        }
        let names = request.resource_names.iter().filter(|name| *name != "*");
        let names: BTreeSet<Arc<str>> = names.map(|name| resources.name(resource_type, name)).collect();
        if names.len() > MAX_RESOURCES {
            return RequestOutcome::TooManyResources(resource_type);
        }
        // An empty list means everything until the first name. After that it means nothing.
        let wildcard = resource_type.is_wildcard()
            && ((subscription.wildcard || is_first) && names.is_empty()
                || request.resource_names.iter().any(|name| name == "*"));
        if std::mem::replace(&mut subscription.wildcard, wildcard) != wildcard || subscription.subscribed != names {
            subscription.reset_sync();
        }
        if subscription.subscribed != names {
            subscription.reported_missing.clear();
            subscription.response_due |= names.difference(&subscription.subscribed).next().is_some();
            subscription.retain_versions(|name| wildcard || names.contains(name));
            subscription.subscribed = names;
        }
        subscription.response_due |= is_first && subscription.wildcard;
        self.on_endpoints_requested(resource_type);
        outcome
    }

    /// Returns the next response; `None` when the client is in sync, must acknowledge first, or a wait is not over.
    pub fn next_response(&mut self, resources: &ResourceSet, now: Duration) -> Option<ChunkedResponse> {
        let Response { resource_type, content, nonce } = self.next(resources, now)?;
        let stamp = ResponseStamp { nonce, mesh: self.mesh.as_deref() };
        Some(match self.protocol {
            Protocol::Delta => ChunkedResponse::delta(resource_type, content.updated, &content.removed, stamp),
            Protocol::StateOfTheWorld => {
                let all = self.subscriptions[&resource_type].client_versions.iter();
                let all = all.map(|(name, resource)| (Arc::clone(name), Arc::clone(resource))).collect();
                ChunkedResponse::state(resource_type, all, stamp)
            }
        })
    }

    /// Returns the time at which `next_response` must be called even without a request; `None` when nothing waits for
    /// time to pass.
    pub fn next_deadline(&self, now: Duration) -> Option<Duration> {
        let endpoints = (!self.awaited_endpoints.is_empty()).then_some(self.endpoints_deadline);
        let removals = self.removals_deadline(ResourceType::Cluster);
        endpoints.into_iter().chain(removals).filter(|deadline| *deadline > now).min()
    }

    /// Returns the nonce of the last response as a number, to which a [`Report`] refers. 0 before the first.
    pub fn last_nonce(&self) -> u64 {
        self.last_nonce
    }

    /// True if the client has acknowledged all responses and has all available resources that it subscribes to.
    pub fn is_synced(&self, resources: &ResourceSet) -> bool {
        self.subscriptions.iter().all(|(resource_type, subscription)| {
            let available = resources.of_type(*resource_type);
            let is_requested = subscription.requested || !resource_type.is_wildcard() || available.is_empty();
            is_requested
                && !subscription.awaiting_ack
                && !subscription.response_due
                && subscription.pending_update(available).is_empty()
        })
    }

    fn next(&mut self, resources: &ResourceSet, now: Duration) -> Option<Response> {
        self.started_at.get_or_insert(now);
        let mut removals = Vec::new();
        for resource_type in ResourceType::ALL {
            let awaits_endpoints = !self.awaited_endpoints.is_empty() && now < self.endpoints_deadline;
            let awaits_clusters = self.subscriptions[&ResourceType::Cluster].awaiting_ack;
            if resource_type > ResourceType::Endpoints && (awaits_endpoints || awaits_clusters) {
                return None;
            }
            let subscription = self.subscriptions.entry(resource_type).or_default();
            if subscription.awaiting_ack {
                if resource_type == ResourceType::Cluster {
                    continue; // Envoy acknowledges a new cluster after it has received its endpoints.
                }
                return None;
            }
            let available = resources.of_type(resource_type);
            let PendingUpdate { updated, missing, removed } = subscription.pending_update(available);
            if !updated.is_empty() || !missing.is_empty() || subscription.response_due {
                self.on_clusters_sent(resource_type, &updated, now);
                let content = ResponseContent { updated, removed: missing, is_complete: removed.is_empty() };
                return Some(self.send(resource_type, available, content));
            }
            if removed.is_empty() {
                subscription.mark_synced(available);
            } else {
                removals.push((resource_type, removed));
            }
        }
        let (resource_type, removed) = removals.into_iter().min_by_key(|(removed, _)| removed.removal_rank())?;
        if self.removals_deadline(resource_type).is_some_and(|deadline| now < deadline) {
            return None;
        }
        // A SotW client keeps endpoints, and other resources that it names, when a response omits them. So no response
        // would remove them.
        if self.protocol == Protocol::StateOfTheWorld && !resource_type.is_wildcard() {
            self.forget_versions(resource_type, &removed);
            return self.next(resources, now);
        }
        let content = ResponseContent { updated: Vec::new(), removed, is_complete: false };
        Some(self.send(resource_type, resources.of_type(resource_type), content))
    }

    /// Returns the time until which removals of this type wait: a reconnected client may have resources of later types,
    /// which refer to the removed ones, and has not requested these types yet. `None` when nothing waits.
    fn removals_deadline(&self, resource_type: ResourceType) -> Option<Duration> {
        let has_requested_later =
            || self.subscriptions.iter().all(|(other, subscription)| *other <= resource_type || subscription.requested);
        let started_at = self.started_at.filter(|_| self.is_reconnect && !has_requested_later());
        started_at.map(|started_at| started_at + MAX_CLIENT_WAIT)
    }

    /// Drops the client's versions of these resources without a response.
    fn forget_versions(&mut self, resource_type: ResourceType, names: &[Arc<str>]) {
        let subscription = self.subscriptions.entry(resource_type).or_default();
        let names: BTreeSet<&Arc<str>> = names.iter().collect();
        Arc::make_mut(&mut subscription.client_versions).retain(|name, _| !names.contains(name));
    }

    fn send(
        &mut self,
        resource_type: ResourceType,
        available: &Arc<ResourceMap>,
        content: ResponseContent,
    ) -> Response {
        self.last_nonce += 1;
        let nonce = self.last_nonce.to_string();
        let subscription = self.subscriptions.entry(resource_type).or_default();
        subscription.on_sent(&content, available, self.protocol, &nonce);
        Response { resource_type, content, nonce }
    }

    /// Schedules the endpoints of sent clusters, even unchanged ones: Envoy does not finish warming a cluster without
    /// them. Endpoints to which the client does not subscribe yet are awaited.
    fn on_clusters_sent(&mut self, resource_type: ResourceType, updated: &[NamedResource], now: Duration) {
        if resource_type != ResourceType::Cluster || !self.subscriptions[&resource_type].wildcard {
            return;
        }
        let endpoints = self.subscriptions.entry(ResourceType::Endpoints).or_default();
        let names = || updated.iter().map(|(name, _)| name);
        for name in names() {
            if endpoints.client_versions.contains_key(name) {
                endpoints.schedule_resend(Arc::clone(name));
            }
        }
        self.awaited_endpoints.extend(names().filter(|name| !endpoints.wants(name)).cloned());
        self.endpoints_deadline = now + MAX_CLIENT_WAIT;
    }

    fn on_endpoints_requested(&mut self, resource_type: ResourceType) {
        if resource_type == ResourceType::Endpoints {
            let subscription = &self.subscriptions[&resource_type];
            self.awaited_endpoints.retain(|name| !subscription.wants(name));
        }
    }
}
