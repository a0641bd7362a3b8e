//! Route tables: the virtual hosts of a listener and their routes.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::cors::CorsPolicy;
use crate::endpoint::Weight;
use crate::matcher::{HostMatch, RouteMatch};
use crate::metadata::Metadata;
use crate::name::{ClusterName, RouteName, RouteTableName};
use crate::plugin::FilterChain;
use crate::retry::RetryPolicy;
use crate::rewrite::{HeaderModifier, PathRewrite, Rewrite};
use crate::units::Fraction;

/// The routes of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteTable {
    /// The name of the table.
    pub name: RouteTableName,
    /// The virtual hosts; no two have the same match.
    pub virtual_hosts: Vec<VirtualHost>,
}

/// The routes of one host, or of all hosts with one suffix.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct VirtualHost {
    /// The match on the host.
    pub host: HostMatch,
    /// The routes. The first match wins; the builder of the table orders them by the Gateway API's precedence.
    pub routes: Vec<Arc<Route>>,
}

/// Match conditions and the action for requests that meet them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// The name: `namespace/route/rule/match`, with `/grpc` for a GRPCRoute, or `namespace/route/rule` on a TCP
    /// listener.
    pub name: RouteName,
    /// The match conditions.
    #[serde(rename = "match")]
    pub matches: RouteMatch,
    /// The filter chain of its requests.
    pub chain: FilterChain,
    /// Changes to the request's headers before forwarding.
    pub request_headers: HeaderModifier,
    /// Changes to the response's headers before it is sent to the downstream.
    pub response_headers: HeaderModifier,
    /// The cross-origin requests that it allows; `None` for a route without CORS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cors: Option<Arc<CorsPolicy>>,
    /// The action for matching requests.
    pub action: RouteAction,
    /// Metadata that filters can read.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

impl Route {
    /// Returns the only route of a TCP listener: every connection goes to one of the targets.
    pub fn tcp(name: RouteName, chain: FilterChain, targets: Vec<WeightedCluster>) -> Self {
        let forward = Forward {
            targets,
            versions: Vec::new(),
            rewrite: Rewrite::default(),
            mirrors: Vec::new(),
            timeouts: Timeouts::default(),
            retry: None,
        };
        Self {
            name,
            matches: RouteMatch::any(),
            chain,
            request_headers: HeaderModifier::default(),
            response_headers: HeaderModifier::default(),
            cors: None,
            action: RouteAction::Forward(forward),
            metadata: Metadata::default(),
        }
    }
}

/// The action of a route.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RouteAction {
    /// Forwards the request to a cluster.
    Forward(Forward),
    /// Redirects the downstream.
    Redirect(Redirect),
    /// Sends a response without an upstream.
    Respond(DirectResponse),
    /// Fails with 500: no backend has a weight above 0 (Gateway API, `HTTPBackendRef.weight`).
    NoBackend,
}

/// The clusters that a request may be forwarded to, and the settings for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forward {
    /// Target clusters. One is chosen by weight for each request; at least one weight is above 0.
    pub targets: Vec<WeightedCluster>,
    /// Subsets of the targets by version, which only a routing mark selects.
    pub versions: Vec<TargetVersion>,
    /// Replacements for host and path.
    pub rewrite: Rewrite,
    /// Clusters that receive a copy of the request.
    pub mirrors: Vec<Mirror>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Retries; `None` for those of requests only on which no endpoint can have acted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry: Option<Arc<RetryPolicy>>,
}

/// One possible cluster of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct WeightedCluster {
    /// The cluster.
    pub cluster: ClusterName,
    /// The share of the requests.
    pub weight: Weight,
    /// Changes to the headers of requests that are forwarded to it, before those of the route.
    #[serde(rename = "requestHeaders", skip_serializing_if = "HeaderModifier::is_empty")]
    pub request_headers: HeaderModifier,
    /// Changes to the headers of its responses, before those of the route.
    #[serde(rename = "responseHeaders", skip_serializing_if = "HeaderModifier::is_empty")]
    pub response_headers: HeaderModifier,
}

impl WeightedCluster {
    /// Returns a target without changes to headers.
    pub fn new(cluster: ClusterName, weight: Weight) -> Self {
        let (request_headers, response_headers) = (HeaderModifier::default(), HeaderModifier::default());
        Self { cluster, weight, request_headers, response_headers }
    }

    /// Returns true if it changes no headers.
    pub fn is_plain(&self) -> bool {
        self.request_headers.is_empty() && self.response_headers.is_empty()
    }
}

/// The subset of a target's endpoints with one version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct TargetVersion {
    /// The cluster of the target.
    #[serde(rename = "of")]
    pub target: ClusterName,
    /// The version of the endpoints.
    pub version: Arc<str>,
    /// The cluster with these endpoints only: `namespace/service:port@version`.
    pub cluster: ClusterName,
}

/// A cluster that receives copies of a share of the requests; its responses are discarded.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Mirror {
    /// The cluster.
    pub cluster: ClusterName,
    /// The share of requests that are copied.
    pub fraction: Fraction,
}

/// Time limits of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timeouts {
    /// From the last byte of the request to the last byte of the response (Gateway API `timeouts.request`). `None` = the
    /// cluster's limit, or the default; `Some(ZERO)` = no limit.
    pub request: Option<Duration>,
    /// For one attempt at one endpoint, until the response head (Gateway API `timeouts.backendRequest`).
    pub backend_request: Option<Duration>,
    /// True if the `grpc-timeout` of a gRPC request is a limit like `request`; the shorter one applies
    /// (`max_grpc_timeout` in Envoy).
    pub grpc_timeout: bool,
}

impl Default for Timeouts {
    /// Returns the time limits of a route without any of its own.
    fn default() -> Self {
        Self { request: None, backend_request: None, grpc_timeout: true }
    }
}

/// A redirect. Parts that are `None` are those of the request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<Arc<str>>,
    /// The host of the `location`.
    pub host: Option<Arc<str>>,
    /// The port of the `location`, which leaves out the scheme's default port.
    pub port: Option<u16>,
    /// The path of the `location`.
    pub path: Option<PathRewrite>,
    /// 301 or 302 (Gateway API), 303, 307 or 308.
    pub status: u16,
}

/// A response without an upstream (`DirectResponseAction` in Envoy).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct DirectResponse {
    /// The status: 200 to 599.
    pub status: u16,
    /// The reason in snake case, for the access log.
    pub detail: Arc<str>,
}
