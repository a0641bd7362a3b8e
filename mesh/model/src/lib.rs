//! What one proxy can be told, checked: the types between whoever decides (files, a control plane) and the data plane.
//!
//! ```text
//! Listener ─► RouteTable ─► VirtualHost ─► Route ─► RouteAction::Forward ─► Cluster ─► Endpoint
//!    └─► Secret                              └─► FilterChain ─► Plugin ─► ModuleSource
//! ```
//!
//! A value that exists is valid (invariant I3): names are bounded, regexes are compiled, weights add up. There is no
//! `validate()` here; constructors refuse with a [`Rejection`] or a plain reason instead. A [`Snapshot`] is the closed
//! set: no name in it dangles, it never changes, and its [`Version`] is the hash of its content.

pub mod scope;
pub mod builder;
pub mod snapshot;
pub mod listener;
pub mod route;
pub mod rewrite;
pub mod plugin;
pub mod secret;
pub mod cluster;
pub mod tls;
pub mod endpoint;
pub mod matcher;
pub mod identity;
pub mod rejection;
pub mod metadata;
pub mod name;
pub mod units;
pub mod limits;

pub use builder::SnapshotBuilder;
pub use cluster::{Balancing, Cluster, Discovery, UpstreamProtocol};
pub use endpoint::{Endpoint, ServiceVersion, Weight};
pub use identity::{NoIdentity, SpiffeId, TrustDomain, Workload};
pub use listener::{Listener, ListenerProtocol};
pub use matcher::{HeaderMatch, HostMatch, PathMatch, QueryMatch, RouteMatch, TextMatch};
pub use metadata::{Group as MetadataGroup, Metadata};
pub use name::{ClusterName, ListenerName, NameError, PluginName, RouteName, RouteTableName, SecretName};
pub use plugin::{
    BundleName, FailurePolicy, FilterChain, HeaderPause, Isolation, ModuleHash, ModuleSource, Plugin, PluginAllowance,
    PluginLimits, PluginVm, Recycling, RemoteModule, StreamSight,
};
pub use rejection::{Rejection, ResourceId, ResourceKind};
pub use rewrite::{HeaderEdits, HostRewrite, PathRewrite, Rewrite};
pub use route::{
    DirectResponse, Forward, Mirror, Redirect, Route, RouteAction, RouteTable, TargetVersion, Timeouts, VirtualHost,
    WeightedCluster,
};
pub use secret::{Secret, SecretText};
pub use snapshot::{Snapshot, Version};
pub use tls::{DownstreamTls, HostCertificate, UpstreamTls};
pub use units::{ByteSize, Fraction, HumanDuration, UnitError};
