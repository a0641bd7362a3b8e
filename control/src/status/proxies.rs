//! Connected proxies and their progress. Each ADS stream updates its entry; the API reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::watch;
use weir_model::{ResourceId, SpiffeId};
use weir_resources::{ObjectId, source_object};
use weir_xds::{ClientType, Report, ReportedFailure, ResourceType};

use crate::limits::{MAX_SHOWN_REJECTION_CHARACTERS, MAX_SHOWN_REJECTIONS, MAX_STREAMS};
use crate::scope::Scope;
use crate::store::ObjectRef;

/// All open ADS streams.
#[derive(Debug)]
pub struct ConnectedProxies {
    proxies: Mutex<BTreeMap<u64, Arc<Mutex<ProxyState>>>>,
    last_id: Mutex<u64>,
    changed: watch::Sender<u64>,
}

/// The state of one xDS client.
#[derive(Debug, Clone)]
pub struct ProxyState {
    /// Its node id.
    pub node: String,
    /// The resources that it may see.
    pub scope: Scope,
    /// The type of its program.
    pub client_type: ClientType,
    identity: Option<SpiffeId>,
    user_agent: String,
    protocol: &'static str,
    connected: jiff::Timestamp,
    /// The last generation that it has acknowledged completely.
    acked_generation: u64,
    /// The last generation that it has reported as serving. Only `weir-proxy` reports.
    serving_generation: Option<u64>,
    /// Resources that it has rejected or failed to apply, with the reason, until they are sent again.
    rejected: BTreeMap<(ResourceType, String), String>,
    /// Failed resources without which it does not serve the routes that need them, with the reason, until its next
    /// report.
    blocking: BTreeMap<BlockingResource, String>,
    last_rejection: Option<(jiff::Timestamp, String)>,
    /// The reason for which its certificate is not renewed.
    certificate_failure: Option<String>,
    /// The time since it lags behind the current generation. `None` if it does not.
    pub(crate) lagging_since: Option<jiff::Timestamp>,
}

/// A failed resource without which a proxy does not serve the routes that need it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BlockingResource {
    /// The type of the resource: a plugin or a listener.
    pub(crate) resource_type: ResourceType,
    /// The name of the resource.
    pub(crate) name: String,
}

/// The status of one proxy in the API.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyStatus {
    /// The node id.
    pub node: String,
    /// The Gateway that it serves; absent if it serves every Gateway.
    pub gateway: Option<String>,
    /// The SPIFFE ID of its certificate; absent for a proxy on loopback.
    pub identity: Option<String>,
    /// The user agent: `weir-proxy`, `envoy`, …
    pub program: String,
    /// `delta` or `state of the world`.
    pub protocol: &'static str,
    /// The time when it opened its stream.
    #[schemars(with = "String")]
    pub connected: jiff::Timestamp,
    /// The current generation of the control plane.
    pub newest: u64,
    /// The last generation that it has acknowledged completely.
    pub accepted: u64,
    /// The last generation that it has reported as serving; absent for programs that do not report.
    pub serves: Option<u64>,
    /// The time since it lags behind, in milliseconds; 0 if it does not.
    pub lag_ms: i64,
    /// Resources that it has rejected or failed to apply.
    pub failed: Vec<FailedResource>,
    /// Its last rejection, even if it has accepted the resource since.
    pub last_refusal: Option<String>,
    /// The reason for which its certificate is not renewed; absent if it is. Without a new one the proxy serves no
    /// mutual TLS once the certificate has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_failure: Option<String>,
}

/// A resource that a proxy has rejected or failed to apply.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FailedResource {
    /// The resource type: `Cluster`, `Listener`, …
    pub kind: String,
    /// The resource name.
    pub name: String,
    /// The object that the resource was compiled from.
    pub object: Option<ObjectRef>,
    /// The reason.
    pub reason: String,
}

impl ConnectedProxies {
    /// Returns a register without proxies.
    pub fn new() -> Arc<Self> {
        let (changed, _) = watch::channel(0);
        Arc::new(Self { proxies: Mutex::default(), last_id: Mutex::new(0), changed })
    }

    /// Adds a stream. Returns its id and state, or `None` at [`MAX_STREAMS`].
    pub(crate) fn open(&self, entry: ProxyState) -> Option<(u64, Arc<Mutex<ProxyState>>)> {
        let mut proxies = self.proxies.lock();
        if proxies.len() >= MAX_STREAMS {
            return None;
        }
        let mut last_id = self.last_id.lock();
        *last_id += 1;
        let entry = Arc::new(Mutex::new(entry));
        proxies.insert(*last_id, Arc::clone(&entry));
        Some((*last_id, entry))
    }

    /// Removes a stream.
    pub(crate) fn close(&self, id: u64) {
        self.proxies.lock().remove(&id);
        self.notify_watchers();
    }

    /// Notifies the subscribers of a change.
    pub(crate) fn notify_watchers(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Returns a receiver that is notified when the state of any proxy changes.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Returns a copy of the state of every proxy.
    pub fn all(&self) -> Vec<ProxyState> {
        self.proxies.lock().values().map(|entry| entry.lock().clone()).collect()
    }
}

impl ProxyState {
    /// Returns the state of a proxy that has acknowledged nothing yet.
    pub(crate) fn new(
        node: String,
        scope: Scope,
        client_type: ClientType,
        user_agent: String,
        protocol: &'static str,
    ) -> Self {
        Self {
            node,
            scope,
            client_type,
            identity: None,
            user_agent,
            protocol,
            connected: jiff::Timestamp::now(),
            acked_generation: 0,
            serving_generation: None,
            rejected: BTreeMap::new(),
            blocking: BTreeMap::new(),
            last_rejection: None,
            certificate_failure: None,
            lagging_since: None,
        }
    }

    /// Sets the SPIFFE ID of its certificate.
    pub(crate) fn with_identity(self, identity: Option<SpiffeId>) -> Self {
        Self { identity, ..self }
    }

    /// Records that resources were accepted.
    pub(crate) fn record_accepted(&mut self, resource_type: ResourceType, names: &[Arc<str>]) {
        if !self.rejected.is_empty() {
            names.iter().for_each(|name| drop(self.rejected.remove(&(resource_type, name.as_ref().to_owned()))));
        }
    }

    /// Records that resources were rejected.
    pub(crate) fn record_rejection(&mut self, resource_type: ResourceType, names: &[Arc<str>], text: &str) {
        let text: String = text.chars().take(MAX_SHOWN_REJECTION_CHARACTERS).collect();
        for name in names {
            if self.rejected.len() < MAX_SHOWN_REJECTIONS {
                self.rejected.insert((resource_type, name.as_ref().to_owned()), text.clone());
            }
        }
        self.last_rejection = Some((jiff::Timestamp::now(), text));
    }

    /// Records a report: the resources that failed, and the generation that serves, if it is new.
    pub(crate) fn record_report(&mut self, report: Report, serving: Option<u64>) {
        if let Some(generation) = serving {
            self.record_serving(generation);
        }
        self.rejected.clear(); // Rejected resources are in the report, or were sent again since.
        let shorten = |text: String| text.chars().take(MAX_SHOWN_REJECTION_CHARACTERS).collect();
        self.certificate_failure = report.certificate_failure.map(shorten);
        self.blocking.clear();
        for ReportedFailure { resource_type, name, reason, is_blocking } in report.failed {
            let reason: String = reason.chars().take(MAX_SHOWN_REJECTION_CHARACTERS).collect();
            self.last_rejection = Some((jiff::Timestamp::now(), format!("{resource_type:?} {name}: {reason}")));
            if is_blocking {
                self.blocking.insert(BlockingResource { resource_type, name: name.clone() }, reason.clone());
            }
            self.rejected.insert((resource_type, name), reason);
        }
    }

    /// Records that a generation was acknowledged completely.
    pub(crate) fn record_ack(&mut self, generation: u64) {
        self.acked_generation = generation;
        if self.client_type != ClientType::Weir {
            self.lagging_since = None;
        }
    }

    /// Records that a generation serves.
    pub(crate) fn record_serving(&mut self, generation: u64) {
        self.serving_generation = Some(generation);
        self.lagging_since = None;
    }

    /// Returns the last generation that serves, for `weir-proxy`, else the last one that was acknowledged.
    pub fn effective_generation(&self) -> u64 {
        match self.client_type {
            ClientType::Weir => self.serving_generation.unwrap_or(0),
            ClientType::Envoy | ClientType::Grpc => self.acked_generation,
        }
    }

    /// Returns whether the proxy has a generation completely and rejects nothing.
    pub fn is_synced(&self, generation: u64) -> bool {
        self.effective_generation() == generation && self.rejected.is_empty()
    }

    /// Returns whether the proxy rejects or fails to apply a resource.
    pub fn is_rejecting(&self) -> bool {
        !self.rejected.is_empty()
    }

    /// Returns the reason that an object does not work on this proxy, with its node id. `None` if no failure is known.
    pub fn rejection_reason(&self, object: &ObjectId) -> Option<String> {
        let is_of_object = |(resource_type, name): &(ResourceType, String)| {
            source_object(&resource(*resource_type, name)).as_ref() == Some(object)
        };
        let (_, reason) = self.rejected.iter().find(|(key, _)| is_of_object(key))?;
        Some(format!("{}: {reason}", self.node))
    }

    /// Returns the failed resources without which it does not serve the routes that need them.
    pub(crate) fn blocking_resources(&self) -> BTreeSet<BlockingResource> {
        self.blocking.keys().cloned().collect()
    }

    /// Returns the reason that routes do not work which need a failed resource, with its node id. `None` if the resource
    /// has not failed.
    pub(crate) fn blocking_reason(&self, failed: &BlockingResource) -> Option<String> {
        let BlockingResource { resource_type, name } = failed;
        let what = match resource_type {
            ResourceType::Plugin => "the filter",
            _ => "the listener",
        };
        Some(format!("{}: {what} {name} is not loaded: {}", self.node, self.blocking.get(failed)?))
    }

    /// Returns the status for the API. `newest` is the current generation.
    pub fn status(&self, newest: u64) -> ProxyStatus {
        let failed = self.rejected.iter().map(|((resource_type, name), reason)| FailedResource {
            kind: format!("{resource_type:?}"),
            name: name.clone(),
            object: source_object(&resource(*resource_type, name)).as_ref().map(ObjectRef::from),
            reason: reason.clone(),
        });
        let lag_ms =
            self.lagging_since.map(|since| (jiff::Timestamp::now().as_millisecond() - since.as_millisecond()).max(0));
        ProxyStatus {
            node: self.node.clone(),
            gateway: match &self.scope {
                Scope::Everything => None,
                Scope::Gateway(name) => Some(name.clone()),
            },
            identity: self.identity.as_ref().map(ToString::to_string),
            program: self.user_agent.clone(),
            protocol: self.protocol,
            connected: self.connected,
            newest,
            accepted: self.acked_generation,
            serves: self.serving_generation,
            lag_ms: if self.effective_generation() < newest { lag_ms.unwrap_or(0) } else { 0 },
            failed: failed.collect(),
            last_refusal: self.last_rejection.as_ref().map(|(time, text)| format!("{time}: {text}")),
            certificate_failure: self.certificate_failure.clone(),
        }
    }
}

fn resource(resource_type: ResourceType, name: &str) -> ResourceId {
    ResourceId { kind: resource_type.resource_kind(), name: name.to_owned() }
}
