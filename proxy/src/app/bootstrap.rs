//! The bootstrap: settings that a process reads at start and never again. Created by `args` from the command line.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use weir_loader::CompileRequest;
use weir_model::ListenerName;

use crate::telemetry::LogFormat;

/// The settings of a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// The source of the configuration.
    pub source: ConfigSourceOptions,
    /// The number of worker threads.
    pub workers: usize,
    /// The address of the admin server.
    pub admin: SocketAddr,
    /// The file that receives the bound address of the admin server.
    pub admin_address_path: Option<PathBuf>,
    /// The folder of compiled modules.
    pub cache: PathBuf,
    /// The folder of shipped modules.
    pub plugins: PathBuf,
    /// The time for compiling one module.
    pub compile_timeout: Duration,
    /// The format of the process log.
    pub log_format: LogFormat,
    /// The file of the access log; `None` is standard output.
    pub access_log: Option<PathBuf>,
    /// Addresses of listeners that override those of the resources.
    pub binds: HashMap<ListenerName, SocketAddr>,
    /// Name servers in place of those of `/etc/resolv.conf`; empty for those.
    pub name_servers: Vec<SocketAddr>,
    /// The time limit for connections to finish during a shutdown.
    pub drain_timeout: Duration,
}

/// The source of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigSourceOptions {
    /// A file or folder of resources.
    Files(PathBuf),
    /// A control plane.
    ControlPlane {
        /// The URLs of its replicas: all `http://` with loopback addresses, or all `https://` for mutual TLS.
        urls: Vec<String>,
        /// The node id of this proxy.
        node: String,
        /// The Gateway that this proxy serves, as `namespace/name`; `None` = every Gateway.
        gateway: Option<String>,
        /// The file of the join token, for a proxy without a stored identity.
        join_token: Option<PathBuf>,
        /// The id of another mesh that the proxy may change to.
        accepted_mesh: Option<String>,
    },
}

impl ConfigSourceOptions {
    /// Returns the node id; empty without a control plane.
    pub(super) fn node(&self) -> &str {
        match self {
            Self::ControlPlane { node, .. } => node,
            Self::Files(_) => "",
        }
    }
}

/// The settings of an agent, which obtains an identity for an Envoy on the same host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentOptions {
    /// The URLs of the control plane's replicas, all `https://`.
    pub urls: Vec<String>,
    /// The node id of the agent.
    pub node: String,
    /// The file of the join token, for an agent without a stored identity.
    pub join_token: Option<PathBuf>,
    /// The Unix socket of the SDS server.
    pub socket: PathBuf,
    /// The folder that stores the identity.
    pub cache: PathBuf,
    /// The format of the process log.
    pub log_format: LogFormat,
}

/// The settings of `validate`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidateOptions {
    /// The file or folder of resources.
    pub config: PathBuf,
    /// The folder of compiled modules.
    pub cache: PathBuf,
    /// The folder of shipped modules.
    pub plugins: PathBuf,
    /// The time for compiling one module.
    pub compile_timeout: Duration,
}

/// The settings of `compile`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileOptions {
    /// The module; `-` is standard input.
    pub module: PathBuf,
    /// The folder of compiled modules.
    pub cache: PathBuf,
    /// The time for compiling it.
    pub compile_timeout: Duration,
}

impl From<CompileOptions> for CompileRequest {
    fn from(options: CompileOptions) -> Self {
        Self { module: options.module, cache: options.cache, timeout: options.compile_timeout }
    }
}
