//! The types of xDS clients, and the options with which a snapshot is encoded for them.

use std::fmt;
use std::hash::{Hash, Hasher};

use weir_model::{ClusterName, ModuleSource, RemoteModule};

/// The type of program at the other end of an ADS stream. It decides how a snapshot is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientType {
    /// `weir-proxy`. Receives limits in `weir.v1.Plugin`, and fetches modules by URL.
    Weir,
    /// Envoy, or another client with Envoy's resources. Fetches modules through a cluster.
    Envoy,
    /// A proxyless gRPC client (gRFC A27).
    Grpc,
}

impl ClientType {
    /// Returns the type for the `user_agent_name` of an xDS `Node`. Unknown names count as Envoy.
    pub fn from_user_agent(user_agent_name: &str) -> Self {
        match user_agent_name {
            "weir-proxy" => Self::Weir,
            name if name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("grpc")) => Self::Grpc,
            _ => Self::Envoy,
        }
    }
}

/// Returns the URL and hash of a module; `None` when its bytes are not available.
pub type ModuleResolver<'a> = &'a dyn Fn(&ModuleSource) -> Option<RemoteModule>;

/// The options with which a snapshot is encoded.
#[derive(Clone, Copy)]
pub struct EncodeOptions<'a> {
    /// The client that receives the resources.
    pub client_type: ClientType,
    /// The cluster through which an Envoy fetches modules. Other clients ignore it.
    pub module_cluster: &'a ClusterName,
    /// Locates the modules of plugins.
    pub resolve_module: ModuleResolver<'a>,
}

/// A part of every resource version: only what changes the encoding is hashed.
impl Hash for EncodeOptions<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.client_type.hash(state);
        if self.client_type == ClientType::Envoy {
            self.module_cluster.hash(state);
        }
    }
}

impl fmt::Debug for EncodeOptions<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client_type, module_cluster, resolve_module: _ } = self;
        let mut options = formatter.debug_struct("EncodeOptions");
        options.field("client_type", client_type).field("module_cluster", module_cluster).finish_non_exhaustive()
    }
}
