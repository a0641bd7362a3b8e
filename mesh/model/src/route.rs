//! Where requests go: a listener's route table, its virtual hosts, their routes.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::endpoint::Weight;
use crate::matcher::{HostMatch, RouteMatch};
use crate::metadata::Metadata;
use crate::name::{ClusterName, RouteName, RouteTableName};
use crate::plugin::FilterChain;
use crate::rewrite::{HeaderEdits, PathRewrite, Rewrite};
use crate::units::Fraction;

/// The routes of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteTable {
    /// Its name.
    pub name: RouteTableName,
    /// The hosts it serves; no two have the same match.
    pub virtual_hosts: Vec<VirtualHost>,
}

/// The routes of one host or family of hosts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct VirtualHost {
    /// Which hosts.
    pub host: HostMatch,
    /// The routes, the first match wins: ordered by the Gateway API's precedence when the table is built.
    pub routes: Vec<Arc<Route>>,
}

/// What a request matches and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Its name: `namespace/route/rule/match`; of a TCP listener's `namespace/route/rule`.
    pub name: RouteName,
    /// What it matches.
    #[serde(rename = "match")]
    pub matches: RouteMatch,
    /// The plugins its requests go through.
    pub chain: FilterChain,
    /// Changes to the request's headers before it is forwarded.
    pub request_headers: HeaderEdits,
    /// Changes to the response's headers before it is sent down.
    pub response_headers: HeaderEdits,
    /// What becomes of the request.
    pub action: RouteAction,
    /// What filters can read about it.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

impl Route {
    /// The one route of a TCP listener: every connection goes to one of the targets.
    pub fn of_connections(name: RouteName, chain: FilterChain, targets: Vec<WeightedCluster>) -> Self {
        let forward = Forward {
            targets,
            versions: Vec::new(),
            rewrite: Rewrite::default(),
            mirrors: Vec::new(),
            timeouts: Timeouts { request: None, backend_request: None },
        };
        Self {
            name,
            matches: RouteMatch::anything(),
            chain,
            request_headers: HeaderEdits::default(),
            response_headers: HeaderEdits::default(),
            action: RouteAction::Forward(forward),
            metadata: Metadata::default(),
        }
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum RouteAction {
    /// It goes to a cluster.
    Forward(Forward),
    /// The downstream is sent elsewhere.
    Redirect(Redirect),
    /// The proxy answers itself.
    Respond(DirectResponse),
}

/// Which clusters a request may go to, and how.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forward {
    /// One is chosen by weight for each request; at least one weight is above 0.
    pub targets: Vec<WeightedCluster>,
    /// The versions of the targets, which only a routing mark may choose.
    pub versions: Vec<TargetVersion>,
    /// What the upstream sees instead.
    pub rewrite: Rewrite,
    /// Who else gets a copy of the request.
    pub mirrors: Vec<Mirror>,
    /// How long it may take.
    pub timeouts: Timeouts,
}

/// One possible cluster of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct WeightedCluster {
    /// The cluster.
    pub cluster: ClusterName,
    /// Its share.
    pub weight: Weight,
}

/// A part of a target's endpoints: those of one version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct TargetVersion {
    /// The target's cluster.
    pub of: ClusterName,
    /// The version.
    pub version: Arc<str>,
    /// The cluster of its endpoints: `namespace/service:port@version`.
    pub cluster: ClusterName,
}

/// A cluster that gets a copy of a share of the requests; its answers are dropped.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Mirror {
    /// The cluster.
    pub cluster: ClusterName,
    /// Which share.
    pub fraction: Fraction,
}

/// How long a request may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Timeouts {
    /// From the request's head received to the response's last byte: `None` = the cluster's, or the default;
    /// `Some(ZERO)` = no limit (Gateway API `timeouts.request`).
    pub request: Option<Duration>,
    /// For one attempt at one endpoint, until its response's head (Gateway API `timeouts.backendRequest`).
    pub backend_request: Option<Duration>,
}

/// Where the downstream is sent. What is `None` stays as the request had it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Redirect {
    /// `http` or `https`.
    pub scheme: Option<Arc<str>>,
    /// The host.
    pub host: Option<Arc<str>>,
    /// The port; the scheme's own is left out of the `location`.
    pub port: Option<u16>,
    /// The path.
    pub path: Option<PathRewrite>,
    /// 301 or 302 (Gateway API), 303, 307 or 308.
    pub status: u16,
}

/// An answer of the proxy's own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct DirectResponse {
    /// 200 to 599.
    pub status: u16,
    /// Why, in snake case, for the access log.
    pub detail: Arc<str>,
}
