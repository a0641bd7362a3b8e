//! The validated configuration of one proxy: the types between its sources (files, a control plane) and the data plane.
//!
//! ```text
//! Listener ─► RouteTable ─► VirtualHost ─► Route ─► RouteAction::Forward ─► Cluster ─► Endpoint
//!    └─► Secret                              └─► FilterChain ─► Plugin         └─► Secret
//! ```
//!
//! A value that exists is valid (invariant I3): names are bounded, regexes are compiled, weights add up. There is no
//! `validate()` here; constructors return a [`Rejection`] or a plain reason instead. A [`Snapshot`] is closed and
//! immutable: every name in it resolves, and its version is the [`ContentHash`] of its content.
//!
//! The last modules are small things that several crates share: hexadecimal text, printable text, atomic file writes, the loopback
//! check and the default state folder.

pub mod scope;
pub mod builder;
pub mod snapshot;
pub mod listener;
pub mod route;
pub mod cors;
pub mod rewrite;
pub mod plugin;
pub mod secret;
pub mod cluster;
pub mod tcp_keepalive;
pub mod retry;
pub mod outlier;
pub mod protocol_options;
pub mod tls;
pub mod endpoint;
pub mod endpoint_address;
pub mod matcher;
pub mod identity;
pub mod rejection;
pub mod metadata;
pub mod name;
pub mod units;
pub mod limits;
pub mod hex;
pub mod printable;
pub mod atomic_file;
pub mod net;
pub mod state_dir;

pub use atomic_file::{write_atomic, write_private, write_private_with};
pub use builder::SnapshotBuilder;
pub use cluster::{Cluster, Discovery, LbPolicy, UpstreamProtocol};
pub use cors::CorsPolicy;
pub use endpoint::{Endpoint, ServiceVersion, Weight};
pub use endpoint_address::{EndpointAddress, UnixPath, UnixPathError};
pub use identity::{ParseIdentityError, SpiffeId, TrustDomain, Workload};
pub use listener::{Listener, ListenerProtocol};
pub use matcher::{HeaderMatch, HostMatch, PathMatch, QueryMatch, RouteMatch, StringMatch};
pub use metadata::{Metadata, MetadataGroup};
pub use name::{ClusterName, ListenerName, NameError, PluginName, RouteName, RouteTableName, SecretName};
pub use net::is_loopback_host;
pub use outlier::{OutlierDetection, SuccessRate};
pub use plugin::{
    ACCESS_POLICY_PREFIX, BundleName, ClusterAliases, FailedPlugin, FailurePolicy, FilterChain, HeaderPause, Isolation,
    ModuleHash, ModuleSource, Plugin, PluginCapabilities, PluginLimits, PluginRole, RecyclePolicy, RemoteModule,
    VmConfig,
};
pub use printable::{is_unprintable, printable, printable_lines};
pub use protocol_options::{DownstreamProtocolOptions, HeadLimits, UpgradeProtocol, UpstreamProtocolOptions};
pub use rejection::{Rejection, ResourceId, ResourceKind};
pub use retry::{GrpcStatusSet, RetryBackoff, RetryBudget, RetryPolicy, StatusSet};
pub use rewrite::{HeaderEdits, HeaderModifier, HostRewrite, PathRewrite, Rewrite};
pub use route::{
    DirectResponse, Forward, Mirror, Redirect, Route, RouteAction, RouteTable, TargetVersion, Timeouts, VirtualHost,
    WeightedCluster,
};
pub use secret::{CertificateWithKey, Secret, SecretContent, SecretString};
pub use snapshot::{ContentHash, Snapshot};
pub use state_dir::state_dir;
pub use tcp_keepalive::TcpKeepalive;
pub use tls::{DownstreamTls, HostCertificate, ServerTls, ServerTrust, SubjectAltName, TlsVersion, UpstreamTls};
pub use units::{ByteSize, Fraction, GatewayDuration, UnitError};
