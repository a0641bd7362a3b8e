//! What a process reads at start and never again, checked. Made by `args` from the command line.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use weir_loader::CompileRequest;
use weir_model::ListenerName;

use crate::telemetry::LogFormat;

/// What a proxy is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// Where the configuration comes from.
    pub source: ConfigFrom,
    /// Worker threads.
    pub workers: usize,
    /// Where the admin pages are.
    pub admin: SocketAddr,
    /// Where the real address of the admin pages is written to.
    pub admin_address_path: Option<PathBuf>,
    /// The folder of compiled modules.
    pub cache: PathBuf,
    /// The folder of shipped modules.
    pub plugins: PathBuf,
    /// How the process log looks.
    pub log_style: LogStyle,
    /// The file of the access log; `None` is standard output.
    pub access_log: Option<PathBuf>,
    /// Addresses of listeners in place of those in the resources.
    pub binds: HashMap<ListenerName, SocketAddr>,
    /// How long connections may take to end.
    pub drain_timeout: Duration,
}

/// Where the configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigFrom {
    /// A file or folder of resources.
    Files(PathBuf),
    /// A control plane.
    ControlPlane {
        /// Its replicas, each as `http://` and its address on this machine, or all as `https://` and their addresses for
        /// mutual TLS.
        urls: Vec<String>,
        /// What it knows this proxy by.
        node: String,
        /// The Gateway that it serves, as `namespace/name`; every Gateway when it says none.
        gateway: Option<String>,
        /// The file of the join token, for a proxy that has no identity yet.
        join_token: Option<PathBuf>,
    },
}

impl ConfigFrom {
    /// What the control plane knows this proxy by; empty without one.
    pub(super) fn node(&self) -> &str {
        match self {
            Self::ControlPlane { node, .. } => node,
            Self::Files(_) => "",
        }
    }
}

/// What an agent is started with: it gets an identity for the Envoy beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentOptions {
    /// The replicas of the control plane, all `https://`.
    pub urls: Vec<String>,
    /// What the control plane knows it by.
    pub node: String,
    /// The file of the join token, for one that has no identity yet.
    pub join_token: Option<PathBuf>,
    /// The socket that the identity is given on.
    pub socket: PathBuf,
    /// The folder in which it is kept.
    pub cache: PathBuf,
    /// How the process log looks.
    pub log_style: LogStyle,
}

/// How the process log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStyle {
    /// Lines for people.
    Text,
    /// Lines of JSON.
    Json,
}

impl From<LogStyle> for LogFormat {
    fn from(style: LogStyle) -> Self {
        match style {
            LogStyle::Text => Self::Text,
            LogStyle::Json => Self::Json,
        }
    }
}

/// What `validate` is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidateOptions {
    /// The file or folder of resources.
    pub config: PathBuf,
    /// The folder of compiled modules.
    pub cache: PathBuf,
    /// The folder of shipped modules.
    pub plugins: PathBuf,
}

/// What `compile` is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompileOptions {
    /// The module; `-` is standard input.
    pub module: PathBuf,
    /// The folder of compiled modules.
    pub cache: PathBuf,
}

impl From<CompileOptions> for CompileRequest {
    fn from(options: CompileOptions) -> Self {
        Self { module: options.module, cache: options.cache }
    }
}

/// Writes a file that appears whole: whoever waits for it never reads a half.
pub(super) fn write_whole(path: &Path, content: &str) -> io::Result<()> {
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let mut file = std::fs::File::create(&temporary)?;
    let written = file.write_all(content.as_bytes()).and_then(|()| std::fs::rename(&temporary, path));
    if written.is_err() {
        drop(std::fs::remove_file(&temporary)); // The first error is the one that is told.
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("address");
        write_whole(&path, "127.0.0.1:1\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "127.0.0.1:1\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write_whole(&folder.path().join("missing/address"), "").is_err());
    }
}
