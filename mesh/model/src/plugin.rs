//! A Wasm module with its configuration, as put in a filter chain.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::limits::{
    DEFAULT_PLUGIN_BODY_BYTES, DEFAULT_PLUGIN_CALL_TIME, DEFAULT_PLUGIN_CALLOUTS, DEFAULT_PLUGIN_CPU,
    DEFAULT_PLUGIN_HEAD_BYTES, DEFAULT_PLUGIN_LOG_BYTES, DEFAULT_PLUGIN_MEMORY_BYTES, DEFAULT_PLUGIN_METRICS,
    DEFAULT_PLUGIN_SHARED_BYTES, DEFAULT_PLUGIN_START_TIME, DEFAULT_PLUGIN_TABLE_ELEMENTS, MAX_CHAIN_PLUGINS,
};
use crate::name::PluginName;
use crate::units::{ByteSize, UnitError};

/// Where a module's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ModuleSource {
    /// A file on the proxy's disk, watched.
    File(PathBuf),
    /// A module shipped with the proxy, by name: `auth`.
    Builtin(Arc<str>),
    /// A module that is known by its hash, and where it can be had.
    Remote(RemoteModule),
    /// A module that was pushed to the control plane: it says where proxies find it.
    Bundle(BundleName),
}

/// A filter bundle: what it is called, and which one of that name. The same name and version are always the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct BundleName {
    /// As in `header-stamp`.
    pub name: Arc<str>,
    /// As in `1.2.0`.
    pub version: Arc<str>,
}

impl fmt::Display for BundleName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.name, self.version)
    }
}

impl ModuleSource {
    /// The file that somebody else writes it to, if there is one; shipped modules lie in the folder `builtins`.
    pub fn path(&self, builtins: &Path) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Builtin(name) => Some(builtins.join(format!("{name}.wasm"))),
            Self::Remote(_) | Self::Bundle(_) => None,
        }
    }
}

/// A module that is known by its hash, and where it can be had.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct RemoteModule {
    /// `http://` and where: its bytes.
    pub url: Arc<str>,
    /// What the bytes must hash to.
    pub sha256: ModuleHash,
}

/// The SHA-256 of a module's bytes; printed and read as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleHash(pub [u8; 32]);

impl fmt::Display for ModuleHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl FromStr for ModuleHash {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let digit = |character: u8| char::from(character).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let byte = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks_exact(2).map(byte).collect();
        let bytes = bytes.filter(|_| text.len() == 64).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| UnitError {
            reason: format!("`{text}` is not a SHA-256"),
            hint: "write 64 hexadecimal digits".to_owned(),
        })
    }
}

impl Serialize for ModuleHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What happens to a stream whose plugin failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum FailurePolicy {
    /// The stream fails: 503, or a reset when the response has begun.
    #[default]
    Closed,
    /// The stream goes on without the plugin.
    Open,
}

/// What a plugin's Pause in a headers callback holds back (`allow_on_headers_stop_iteration` in Envoy).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum HeaderPause {
    /// Headers, body and trailers.
    #[default]
    HoldAll,
    /// Headers only: the plugin goes on to see the body.
    HoldHeaders,
}

/// How many streams share a VM of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum Isolation {
    /// All streams of a worker.
    #[default]
    Worker,
    /// Each stream has a VM of its own, started for it: nothing survives the request.
    Stream,
    /// There is one VM in the process, and no stream goes through it: a service, with timers, queues and callouts.
    Process,
}

/// What a plugin sees of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum StreamSight {
    /// All of it.
    #[default]
    Whole,
    /// That it has ended (`proxy_on_log`): an access log.
    End,
}

/// What a plugin may use. Times are CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginLimits {
    /// Linear memory of a VM.
    pub memory: ByteSize,
    /// Time of one call; five times that is the limit by the wall clock.
    pub call_time: Duration,
    /// Time to start and configure a VM.
    pub start_time: Duration,
    /// Time of all calls in one second, on each worker.
    pub cpu_per_second: Duration,
    /// Elements of all tables of a VM.
    pub table_elements: u32,
    /// Log messages of a VM in one second.
    pub log_per_second: ByteSize,
    /// Names and values of a head that it has changed.
    pub head: ByteSize,
    /// A body that it holds back or makes.
    pub body: ByteSize,
    /// Callouts under way at once, on each worker.
    pub callouts: u32,
    /// Shared data, of all plugins with its VM id.
    pub shared_data: ByteSize,
    /// Metrics, of all plugins with its VM id.
    pub metrics: u32,
}

impl Default for PluginLimits {
    fn default() -> Self {
        Self {
            memory: ByteSize(DEFAULT_PLUGIN_MEMORY_BYTES),
            call_time: DEFAULT_PLUGIN_CALL_TIME,
            start_time: DEFAULT_PLUGIN_START_TIME,
            cpu_per_second: DEFAULT_PLUGIN_CPU,
            table_elements: DEFAULT_PLUGIN_TABLE_ELEMENTS,
            log_per_second: ByteSize(DEFAULT_PLUGIN_LOG_BYTES),
            head: ByteSize(DEFAULT_PLUGIN_HEAD_BYTES),
            body: ByteSize(DEFAULT_PLUGIN_BODY_BYTES),
            callouts: DEFAULT_PLUGIN_CALLOUTS,
            shared_data: ByteSize(DEFAULT_PLUGIN_SHARED_BYTES),
            metrics: DEFAULT_PLUGIN_METRICS,
        }
    }
}

/// When a VM has served long enough: the next stream has a new one, and the old one ends with its last stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Recycling {
    /// After so many streams.
    pub requests: Option<u64>,
    /// After this time.
    pub age: Option<Duration>,
    /// Once its memory has grown to this.
    pub memory: Option<ByteSize>,
}

/// What the VMs of a plugin are started with.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginVm {
    /// Whose shared data, queues and metrics it has: those of all plugins of its namespace with this id. Empty = its own.
    pub id: Arc<str>,
    /// What `proxy_on_vm_start` reads. Left out of dumps: it may hold secrets.
    #[serde(skip)]
    pub configuration: Arc<[u8]>,
    /// Environment variables: names and values. Left out of dumps, too.
    #[serde(skip)]
    pub environment: Arc<[(Arc<str>, Arc<str>)]>,
}

/// What a plugin may do; `None` = everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginAllowance {
    /// The hostcalls that it may make and the callbacks that are called, by name (Envoy's `allowed_capabilities`).
    pub capabilities: Option<Arc<[Arc<str>]>>,
    /// The clusters that its callouts may go to, by name.
    pub services: Option<Arc<[Arc<str>]>>,
}

/// A Wasm module with its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plugin {
    /// Its name.
    pub name: PluginName,
    /// Where its module comes from.
    pub module: ModuleSource,
    /// What `proxy_on_configure` reads: JSON text; empty when there is none. Left out of dumps: it may hold secrets.
    #[serde(skip)]
    pub configuration: Arc<[u8]>,
    /// Which of the filters in its module it is; empty when there is one.
    pub root_id: Arc<str>,
    /// What its VMs are started with.
    pub vm: PluginVm,
    /// What happens to a stream when it fails.
    pub failure: FailurePolicy,
    /// What its Pause in a headers callback holds.
    pub header_pause: HeaderPause,
    /// What it sees of a stream.
    pub sight: StreamSight,
    /// How many streams share a VM of it.
    pub isolation: Isolation,
    /// When a VM of it has served long enough.
    pub recycling: Recycling,
    /// What it may use.
    pub limits: PluginLimits,
    /// What it may do.
    pub allow: PluginAllowance,
}

impl Plugin {
    /// A module with a configuration, and with everything else as if nothing had been said.
    pub fn new(name: PluginName, module: ModuleSource, configuration: Arc<[u8]>) -> Self {
        Self {
            name,
            module,
            configuration,
            root_id: Arc::default(),
            vm: PluginVm::default(),
            failure: FailurePolicy::default(),
            header_pause: HeaderPause::default(),
            sight: StreamSight::default(),
            isolation: Isolation::default(),
            recycling: Recycling::default(),
            limits: PluginLimits::default(),
            allow: PluginAllowance::default(),
        }
    }

    /// Whose shared data, queues and metrics it has: `namespace/id`.
    pub fn vm_id(&self) -> String {
        if self.vm.id.is_empty() {
            return self.name.to_string();
        }
        format!("{}/vm:{}", self.name.namespace(), self.vm.id)
    }
}

/// The plugins that a request of a route goes through: downwards in this order, upwards in reverse.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct FilterChain(Vec<PluginName>);

impl FilterChain {
    /// A chain, or how long it is when it has more than [`MAX_CHAIN_PLUGINS`].
    ///
    /// # Errors
    /// The number of plugins given.
    pub fn new(plugins: Vec<PluginName>) -> Result<Self, usize> {
        if plugins.len() > MAX_CHAIN_PLUGINS { Err(plugins.len()) } else { Ok(Self(plugins)) }
    }

    /// The plugins, in request order.
    pub fn plugins(&self) -> &[PluginName] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_read_as_printed() {
        let text = "0123456789abcdef".repeat(4);
        assert_eq!(text.parse::<ModuleHash>().unwrap().to_string(), text);
        for wrong in ["", "00", &text[1..], &format!("{text}0"), &text.replace('f', "g"), &"ä".repeat(32)] {
            assert!(wrong.parse::<ModuleHash>().is_err(), "{wrong}");
        }
    }
}
