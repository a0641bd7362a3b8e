//! Resource types as users write them: the kinds, and the fields of Weir's own kinds. The types of most
//! Gateway API kinds are in the `gateway-api` crate. `docs/configuration.md` is generated from the doc comments. Only types are
//! checked here.

pub(crate) mod authorization_policy;
pub(crate) mod manifest;
pub(crate) mod filter;
pub(crate) mod backend_traffic_policy;
pub(crate) mod client_traffic_policy;
pub(crate) mod config_map;
pub(crate) mod mesh;
pub(crate) mod secret;
pub(crate) mod secret_ref;
pub(crate) mod metadata;
pub(crate) mod service_entry;
pub(crate) mod http_route;
pub(crate) mod tcp_route;

pub(crate) use authorization_policy::{
    AuthorizationAction, AuthorizationPolicySpec, AuthorizationRule, AuthorizationTargetRef, ClaimSpec, HeaderSpec,
    PathSpec, PolicyMode, Principal,
};
pub(crate) use backend_traffic_policy::{
    BackendHttp1Spec, BackendTrafficPolicySpec, LoadBalancerAlgorithm, LoadBalancerSpec, MinRetryRateSpec,
    PolicyTimeouts, RetryBudgetSpec, RetryConstraintSpec, ServiceRef, TcpKeepaliveSpec,
};
pub(crate) use client_traffic_policy::{ClientHttp1Spec, ClientTimeouts, ClientTrafficPolicySpec, GatewayTargetRef};
pub(crate) use config_map::ConfigMapDocument;
pub(crate) use filter::{
    AllowSpec, ClusterRefSpec, FailurePolicySpec, FilterSpec, HeaderPauseSpec, Isolation, LimitsSpec, ModuleSpec,
    Phase, RecycleSpec, TargetRef, VmSpec,
};
pub(crate) use http_route::{HttpRouteRule, HttpRouteSpec, RetrySpec};
pub(crate) use manifest::ManifestSpec;
pub(crate) use mesh::{MeshSpec, MtlsMode, MtlsSpec};
pub(crate) use metadata::Metadata;
pub(crate) use secret::SecretDocument;
pub(crate) use secret_ref::{SecretKeyRef, SecretReference, SecretText};
pub(crate) use service_entry::{DnsSpec, EndpointSpec, IdentitySpec, PortSpec, Protocol, ServiceEntrySpec};
pub(crate) use tcp_route::{TcpBackendSpec, TcpParentSpec, TcpRouteSpec, TcpRuleSpec};

/// The group of the Gateway API kinds.
pub(crate) const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
/// The group of Weir's own kinds.
pub(crate) const WEIR_GROUP: &str = "weir.dev";

/// A kind of resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Listeners of the proxy (Gateway API).
    Gateway,
    /// Routes of requests (Gateway API).
    HttpRoute,
    /// Routes of gRPC requests (Gateway API).
    GrpcRoute,
    /// Routes of TCP connections (Gateway API).
    TcpRoute,
    /// A class of Gateways (Gateway API).
    GatewayClass,
    /// Permission for references across namespaces (Gateway API).
    ReferenceGrant,
    /// A service with its endpoints.
    ServiceEntry,
    /// A Wasm filter.
    Filter,
    /// Load balancing and timeouts of Services.
    BackendTrafficPolicy,
    /// TLS to Services (Gateway API).
    BackendTlsPolicy,
    /// Bounds and timeouts of the connections of Gateways.
    ClientTrafficPolicy,
    /// Rules that allow and deny requests.
    AuthorizationPolicy,
    /// A certificate with its key (Kubernetes core).
    Secret,
    /// Texts by key (Kubernetes core).
    ConfigMap,
    /// Settings of the whole mesh.
    Mesh,
}

impl Kind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 15] = [
        Self::Gateway,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::TcpRoute,
        Self::ServiceEntry,
        Self::Filter,
        Self::AuthorizationPolicy,
        Self::BackendTrafficPolicy,
        Self::BackendTlsPolicy,
        Self::ClientTrafficPolicy,
        Self::Secret,
        Self::ConfigMap,
        Self::ReferenceGrant,
        Self::GatewayClass,
        Self::Mesh,
    ];

    /// Returns the value of `kind:`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "Gateway",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::TcpRoute => "TCPRoute",
            Self::GatewayClass => "GatewayClass",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::ServiceEntry => "ServiceEntry",
            Self::Filter => "Filter",
            Self::BackendTrafficPolicy => "BackendTrafficPolicy",
            Self::BackendTlsPolicy => "BackendTLSPolicy",
            Self::ClientTrafficPolicy => "ClientTrafficPolicy",
            Self::AuthorizationPolicy => "AuthorizationPolicy",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
            Self::Mesh => "Mesh",
        }
    }

    /// Returns the group in `apiVersion:`.
    pub const fn group(self) -> &'static str {
        match self {
            Self::Gateway
            | Self::HttpRoute
            | Self::GrpcRoute
            | Self::TcpRoute
            | Self::GatewayClass
            | Self::ReferenceGrant
            | Self::BackendTlsPolicy => GATEWAY_GROUP,
            Self::ServiceEntry
            | Self::Filter
            | Self::BackendTrafficPolicy
            | Self::ClientTrafficPolicy
            | Self::AuthorizationPolicy
            | Self::Mesh => WEIR_GROUP,
            Self::Secret | Self::ConfigMap => "",
        }
    }

    /// Returns the valid values of `apiVersion:`, the preferred one first.
    pub(crate) const fn api_versions(self) -> &'static [&'static str] {
        match self {
            Self::Gateway | Self::HttpRoute | Self::GrpcRoute | Self::GatewayClass => &["gateway.networking.k8s.io/v1"],
            Self::TcpRoute => &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha2"],
            Self::ReferenceGrant => &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"],
            Self::ServiceEntry
            | Self::Filter
            | Self::BackendTrafficPolicy
            | Self::ClientTrafficPolicy
            | Self::AuthorizationPolicy
            | Self::Mesh => &["weir.dev/v1alpha1"],
            Self::BackendTlsPolicy => &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha3"],
            Self::Secret | Self::ConfigMap => &["v1"],
        }
    }

    /// Returns false for a kind whose objects have no `spec`.
    pub(crate) const fn has_spec(self) -> bool {
        !matches!(self, Self::Secret | Self::ConfigMap)
    }

    /// Returns false for a cluster-scoped kind.
    pub const fn is_namespaced(self) -> bool {
        !matches!(self, Self::GatewayClass | Self::Mesh)
    }
}
