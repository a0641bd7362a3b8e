//! The resource types of xDS, their type URLs, and the order in which they are sent.
//!
//! A resource is sent before those that refer to it, and removed after them (make-before-break). So a client never
//! routes to a cluster that it has not received. Listeners are the exception of the first half: a client requests a
//! route table only when it has the listener that names it.

use weir_model::ResourceKind;

use crate::proto::{cluster, core, endpoint, listener, route, tls, type_url};

/// A resource type. Variants are ordered as they are sent; [`ResourceType::removal_rank`] has the order of removals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    /// `Cluster` (CDS).
    Cluster,
    /// `ClusterLoadAssignment` (EDS): the endpoints of a cluster.
    Endpoints,
    /// `TypedExtensionConfig` (ECDS): a plugin and its configuration.
    Plugin,
    /// `Secret` (SDS): a certificate with its key, or CA certificates.
    Secret,
    /// `Listener` (LDS).
    Listener,
    /// `RouteConfiguration` (RDS).
    RouteTable,
}

impl ResourceType {
    /// Every resource type, in the order in which new resources are sent.
    pub const ALL: [Self; 6] =
        [Self::Cluster, Self::Endpoints, Self::Plugin, Self::Secret, Self::Listener, Self::RouteTable];

    /// Returns the position in the order in which removals are sent: each type after those that refer to it. A listener
    /// that is about to be removed does not lose its routes first.
    pub const fn removal_rank(self) -> u8 {
        match self {
            Self::Listener => 0,
            Self::RouteTable => 1,
            Self::Plugin => 2,
            Self::Endpoints => 3,
            Self::Cluster => 4,
            Self::Secret => 5,
        }
    }

    /// Returns the type URL, `type.googleapis.com/envoy…`.
    pub fn type_url(self) -> String {
        match self {
            Self::Cluster => type_url::<cluster::Cluster>(),
            Self::Endpoints => type_url::<endpoint::ClusterLoadAssignment>(),
            Self::Plugin => type_url::<core::TypedExtensionConfig>(),
            Self::Secret => type_url::<tls::Secret>(),
            Self::Listener => type_url::<listener::Listener>(),
            Self::RouteTable => type_url::<route::RouteConfiguration>(),
        }
    }

    /// Returns the resource type of a type URL; `None` when it is not supported.
    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource_type| resource_type.type_url() == url)
    }

    /// Returns the resource type that carries a resource of the model.
    pub const fn from_resource_kind(kind: ResourceKind) -> Self {
        match kind {
            ResourceKind::Listener => Self::Listener,
            ResourceKind::RouteTable => Self::RouteTable,
            ResourceKind::Cluster => Self::Cluster,
            ResourceKind::Plugin => Self::Plugin,
            ResourceKind::Secret => Self::Secret,
        }
    }

    /// Returns the kind of model resource that this type carries. Endpoints are a part of their cluster.
    pub const fn resource_kind(self) -> ResourceKind {
        match self {
            Self::Listener => ResourceKind::Listener,
            Self::RouteTable => ResourceKind::RouteTable,
            Self::Cluster | Self::Endpoints => ResourceKind::Cluster,
            Self::Plugin => ResourceKind::Plugin,
            Self::Secret => ResourceKind::Secret,
        }
    }

    /// True for a type to which clients subscribe by wildcard (`*`). All others are subscribed to by name.
    pub const fn is_wildcard(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_urls_are_those_of_envoy() {
        let urls = ResourceType::ALL.map(ResourceType::type_url);
        assert_eq!(
            urls.map(|url| url.replace("type.googleapis.com/envoy.config.", "")),
            [
                "cluster.v3.Cluster",
                "endpoint.v3.ClusterLoadAssignment",
                "core.v3.TypedExtensionConfig",
                "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
                "listener.v3.Listener",
                "route.v3.RouteConfiguration"
            ]
        );
        assert!(
            ResourceType::ALL
                .into_iter()
                .all(|resource_type| ResourceType::from_type_url(&resource_type.type_url()) == Some(resource_type))
        );
        assert_eq!(ResourceType::from_type_url("type.googleapis.com/google.protobuf.Any"), None);
    }
}
