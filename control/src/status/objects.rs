//! The status of an object: accepted, references resolved, and programmed on how many proxies.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use weir_resources::{Kind, ObjectId};
use weir_xds::ClientType;

use crate::limits::MAX_WARNINGS;
use crate::snapshot_cache::{ScopedSnapshot, ScopedSnapshots, SnapshotCache};
use crate::status::blocked::BlockedRoutesByFailures;
use crate::status::overridden::overridden_routes;
use crate::status::proxies::{ConnectedProxies, ProxyState};

/// All proxies and their scoped snapshots, at one moment.
pub struct StatusInputs {
    proxies: Vec<ProxyState>,
    snapshots: ScopedSnapshots,
    /// Notes on matches of HTTPRoutes that another route overrides.
    overridden: BTreeMap<ObjectId, Vec<String>>,
    blocked: BlockedRoutesByFailures,
}

impl StatusInputs {
    /// Returns the present proxies and scoped snapshots.
    pub fn now(proxies: &ConnectedProxies, snapshot_cache: &SnapshotCache) -> Self {
        let proxies = proxies.all();
        let snapshots = snapshot_cache.for_clients(proxies.iter().map(|proxy| (&proxy.scope, proxy.client_type)));
        let overridden = overridden_routes(&snapshot_cache.current().snapshot);
        let blocked = BlockedRoutesByFailures::new(&proxies, &snapshot_cache.current().snapshot);
        Self { proxies, snapshots, overridden, blocked }
    }

    /// Returns the reason for which a proxy does not serve an object, with its node id. `None` if no failure is known.
    fn failure(&self, proxy: &ProxyState, object: &ObjectId) -> Option<String> {
        proxy.rejection_reason(object).or_else(|| proxy.blocking_reason(self.blocked.find(proxy, object)?))
    }

    /// Returns the proxies whose scope contains an object. gRPC clients are left out: they subscribe only to what they
    /// call.
    fn proxies_in_scope(&self, object: &ObjectId) -> impl Iterator<Item = &ProxyState> {
        self.proxies.iter().filter(move |proxy| {
            let scoped = self.snapshots.get(&(proxy.scope.clone(), proxy.client_type));
            proxy.client_type != ClientType::Grpc && scoped.is_some_and(|scoped| is_in_scope(object, scoped))
        })
    }
}

/// The conditions of an object.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStatus {
    /// The object is valid and consistent with all others. Always true, because an invalid object is not stored.
    pub accepted: Condition,
    /// Every reference of the object resolves. Always true, as `accepted`.
    pub resolved_refs: Condition,
    /// The proxies that serve the object.
    pub programmed: Programmed,
    /// The compiler's warnings, fields that Envoys in scope cannot apply, and matches that receive no request because
    /// another route precedes.
    #[serde(rename = "notes", skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A condition.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// True if the condition is met.
    pub status: bool,
    /// The reason if it is not met.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The number of proxies that serve an object.
#[derive(Debug, Clone, Serialize, JsonSchema, Default)]
#[serde(rename_all = "camelCase")]
pub struct Programmed {
    /// True if at least one proxy is in scope, and all in scope serve the object.
    pub status: bool,
    /// The proxies in scope.
    pub proxies: usize,
    /// The proxies in scope that serve the object.
    pub programmed: usize,
    /// The proxies in scope that reject the object or fail to apply it. A proxy that has not loaded a filter of a route
    /// fails to apply the route, too.
    #[serde(rename = "refused")]
    pub rejected: usize,
    /// A summary: `41/42 proxies, 1 rejected: edge-7: …`.
    pub message: String,
}

impl ObjectStatus {
    /// Returns the status of an object whose present value was first published in generation `since`.
    pub(crate) fn new(object: &ObjectId, since: u64, value: Option<&Value>, inputs: &StatusInputs) -> Self {
        let met = || Condition { status: true, reason: None };
        let programmed = Programmed::count(object, since, inputs);
        let mut warnings = warnings(object, value, inputs);
        warnings.extend(inputs.overridden.get(object).into_iter().flatten().cloned());
        Self { accepted: met(), resolved_refs: met(), programmed, warnings }
    }
}

/// Returns a warning for each Envoy in scope and each field that Envoy cannot apply.
fn warnings(object: &ObjectId, value: Option<&Value>, inputs: &StatusInputs) -> Vec<String> {
    let field = |pointer: &str| value.and_then(|value| value.pointer(pointer));
    let lacks: Vec<&str> = match object.kind {
        Kind::Filter => {
            let written = |(pointer, lacks): (&str, &'static str)| field(pointer).is_some().then_some(lacks);
            let lacks = NOT_IN_ENVOY.into_iter().filter_map(written);
            std::iter::once("does not enforce limits of filters (`limits`)").chain(lacks).collect()
        }
        Kind::BackendTrafficPolicy if field("/spec/timeouts/request").is_some() => {
            vec!["applies `timeouts.request` of routes alone, not of a BackendTrafficPolicy"]
        }
        Kind::ClientTrafficPolicy if field("/spec/http1/maxTargetBytes").is_some() => {
            vec!["bounds the head of a request alone, not its target (`http1.maxTargetBytes`)"]
        }
        Kind::Mesh if field("/spec/mtls/mode").is_some_and(|mode| mode == "Permissive") => {
            vec!["answers no plain text"]
        }
        _ => return Vec::new(),
    };
    let envoys = inputs.proxies_in_scope(object).filter(|proxy| proxy.client_type == ClientType::Envoy);
    let warnings_for = |proxy: &ProxyState| {
        let node = &proxy.node;
        lacks.iter().map(|lacks| format!("{node} is an Envoy, which {lacks}")).collect::<Vec<_>>()
    };
    envoys.flat_map(warnings_for).take(MAX_WARNINGS).collect()
}

/// Fields of a Filter that Envoy does not receive, and its behavior without them.
const NOT_IN_ENVOY: [(&str, &str); 3] = [
    ("/spec/allow/services", "lets its callouts go to every cluster that it knows (`allow.services`)"),
    ("/spec/isolation", "has one VM on each worker (`isolation`)"),
    ("/spec/recycle", "never replaces its VMs (`recycle`)"),
];

impl Programmed {
    fn count(object: &ObjectId, since: u64, inputs: &StatusInputs) -> Self {
        let mut counts = Self::default();
        let mut text = None;
        for proxy in inputs.proxies_in_scope(object) {
            counts.proxies += 1;
            match inputs.failure(proxy, object) {
                Some(reason) => {
                    counts.rejected += 1;
                    text = Some(reason);
                }
                None if proxy.effective_generation() >= since => counts.programmed += 1,
                None => {}
            }
        }
        counts.status = counts.proxies > 0 && counts.programmed == counts.proxies;
        counts.message = match (counts.proxies, text) {
            (0, _) => "no proxy is connected that needs it".to_owned(),
            (all, None) => format!("{}/{all} proxies", counts.programmed),
            (all, Some(text)) => format!("{}/{all} proxies, {} rejected: {text}", counts.programmed, counts.rejected),
        };
        counts
    }
}

/// Returns whether an object is part of a scoped snapshot. Objects that only modify others are in every scope.
fn is_in_scope(object: &ObjectId, scoped: &ScopedSnapshot) -> bool {
    match object.kind {
        Kind::Gateway
        | Kind::HttpRoute
        | Kind::GrpcRoute
        | Kind::TcpRoute
        | Kind::ServiceEntry
        | Kind::Filter
        | Kind::AuthorizationPolicy
        | Kind::Secret => scoped.objects.contains(object),
        Kind::GatewayClass
        | Kind::ReferenceGrant
        | Kind::BackendTrafficPolicy
        | Kind::BackendTlsPolicy
        | Kind::ConfigMap
        | Kind::ClientTrafficPolicy
        | Kind::Mesh => true,
    }
}
