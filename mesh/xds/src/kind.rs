//! Kinds of resources, their type URLs, and the order in which they are sent: what is referred to comes before what
//! refers to it, so that nothing is ever told to go where there is nothing yet ("make before break").

use weir_model::ResourceKind;

use crate::proto::{cluster, core, endpoint, listener, route, tls, type_url};

/// A kind of resource. The order is the one in which new resources are sent; old ones go in reverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `Cluster` (CDS).
    Cluster,
    /// `ClusterLoadAssignment` (EDS): the endpoints of a cluster.
    Endpoints,
    /// `TypedExtensionConfig` (ECDS): a plugin.
    Plugin,
    /// `Secret` (SDS): a certificate that listeners show.
    Secret,
    /// `Listener` (LDS).
    Listener,
    /// `RouteConfiguration` (RDS).
    RouteTable,
}

impl Kind {
    /// Every kind, in the order of sending.
    pub const ALL: [Self; 6] =
        [Self::Cluster, Self::Endpoints, Self::Plugin, Self::Secret, Self::Listener, Self::RouteTable];

    /// Its type URL.
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

    /// The kind of a type URL; `None` for one that we do not know.
    pub fn of_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// The kind that a resource of the model is told as.
    pub const fn of_resource(kind: ResourceKind) -> Self {
        match kind {
            ResourceKind::Listener => Self::Listener,
            ResourceKind::RouteTable => Self::RouteTable,
            ResourceKind::Cluster => Self::Cluster,
            ResourceKind::Plugin => Self::Plugin,
            ResourceKind::Secret => Self::Secret,
        }
    }

    /// The kind of the model that this tells of.
    pub const fn resource(self) -> ResourceKind {
        match self {
            Self::Listener => ResourceKind::Listener,
            Self::RouteTable => ResourceKind::RouteTable,
            Self::Cluster | Self::Endpoints => ResourceKind::Cluster,
            Self::Plugin => ResourceKind::Plugin,
            Self::Secret => ResourceKind::Secret,
        }
    }

    /// True for a kind that a peer asks for without naming what it wants (`*`); the others are asked for by name.
    pub const fn is_wildcard(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_envoys() {
        let urls = Kind::ALL.map(Kind::type_url);
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
        assert!(Kind::ALL.into_iter().all(|kind| Kind::of_url(&kind.type_url()) == Some(kind)));
        assert_eq!(Kind::of_url("type.googleapis.com/google.protobuf.Any"), None);
    }
}
