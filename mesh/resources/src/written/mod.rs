//! What people write, as types: the kinds, and the fields of our own. The upstream kinds are the `gateway-api` crate's.
//! The doc comments here are what `docs/configuration.md` says; nothing here is checked beyond its type.

pub(crate) mod access_policy;
pub(crate) mod backend_policy;
pub(crate) mod filter;
pub(crate) mod manifest;
pub(crate) mod mesh;
pub(crate) mod metadata;
pub(crate) mod secret;
pub(crate) mod service;
pub(crate) mod tcp_route;

pub(crate) use access_policy::{
    AccessAction, AccessPolicySpec, AccessRule, ClaimSpec, HeaderSpec, PathSpec, PolicyMode, WorkloadRef,
};
pub(crate) use backend_policy::{BackendPolicySpec, BalancingName, PolicyTimeouts, ServiceRef};
pub(crate) use filter::{
    AllowSpec, FailureName, FilterSpec, HeaderPauseName, Isolation, LimitsSpec, ModuleSpec, Phase, RecycleSpec,
    TargetRef, VmSpec,
};
pub(crate) use manifest::ManifestSpec;
pub(crate) use mesh::{MeshSpec, MtlsMode, MtlsSpec};
pub(crate) use metadata::Metadata;
pub(crate) use secret::SecretDocument;
pub(crate) use service::{DnsSpec, EndpointSpec, IdentitySpec, PortSpec, Protocol, ServiceSpec};
pub(crate) use tcp_route::{TcpBackendSpec, TcpParentSpec, TcpRouteSpec, TcpRuleSpec};

/// The group of the upstream kinds.
pub(crate) const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
/// The group of our own kinds.
pub(crate) const WEIR_GROUP: &str = "weir.dev";

/// A kind of object that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `Gateway`.
    Gateway,
    /// `HTTPRoute`.
    HttpRoute,
    /// `TCPRoute`.
    TcpRoute,
    /// `GatewayClass`.
    GatewayClass,
    /// `ReferenceGrant`.
    ReferenceGrant,
    /// `Service`.
    Service,
    /// `Filter`.
    Filter,
    /// `BackendPolicy`.
    BackendPolicy,
    /// `AccessPolicy`.
    AccessPolicy,
    /// `Secret`.
    Secret,
    /// `Mesh`.
    Mesh,
}

impl Kind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 11] = [
        Self::Gateway,
        Self::HttpRoute,
        Self::TcpRoute,
        Self::Service,
        Self::Filter,
        Self::AccessPolicy,
        Self::BackendPolicy,
        Self::Secret,
        Self::ReferenceGrant,
        Self::GatewayClass,
        Self::Mesh,
    ];

    /// What `kind:` says.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "Gateway",
            Self::HttpRoute => "HTTPRoute",
            Self::TcpRoute => "TCPRoute",
            Self::GatewayClass => "GatewayClass",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::Service => "Service",
            Self::Filter => "Filter",
            Self::BackendPolicy => "BackendPolicy",
            Self::AccessPolicy => "AccessPolicy",
            Self::Secret => "Secret",
            Self::Mesh => "Mesh",
        }
    }

    /// The group of `apiVersion:`.
    pub const fn group(self) -> &'static str {
        match self {
            Self::Gateway | Self::HttpRoute | Self::TcpRoute | Self::GatewayClass | Self::ReferenceGrant => {
                GATEWAY_GROUP
            }
            Self::Service | Self::Filter | Self::BackendPolicy | Self::AccessPolicy | Self::Mesh => WEIR_GROUP,
            Self::Secret => "",
        }
    }

    /// What `apiVersion:` may say, the preferred one first.
    pub(crate) const fn api_versions(self) -> &'static [&'static str] {
        match self {
            Self::Gateway | Self::HttpRoute | Self::GatewayClass => &["gateway.networking.k8s.io/v1"],
            Self::TcpRoute => &["gateway.networking.k8s.io/v1alpha2"],
            Self::ReferenceGrant => &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"],
            Self::Service | Self::Filter | Self::BackendPolicy | Self::AccessPolicy | Self::Mesh => {
                &["weir.dev/v1alpha1"]
            }
            Self::Secret => &["v1"],
        }
    }

    /// False for a kind that belongs to no namespace.
    pub const fn is_namespaced(self) -> bool {
        !matches!(self, Self::GatewayClass | Self::Mesh)
    }
}
