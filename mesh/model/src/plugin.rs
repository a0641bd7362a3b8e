//! Plugins: Wasm modules with their configuration, as put in filter chains.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::hex;
use crate::limits::{
    DEFAULT_PLUGIN_BODY_BYTES, DEFAULT_PLUGIN_CALL_TIME, DEFAULT_PLUGIN_CALLOUTS, DEFAULT_PLUGIN_CPU,
    DEFAULT_PLUGIN_HEAD_BYTES, DEFAULT_PLUGIN_LOG_BYTES, DEFAULT_PLUGIN_MEMORY_BYTES, DEFAULT_PLUGIN_METRICS,
    DEFAULT_PLUGIN_SHARED_BYTES, DEFAULT_PLUGIN_START_TIME, DEFAULT_PLUGIN_TABLE_ELEMENTS, MAX_CHAIN_PLUGINS,
};
use crate::name::{ClusterName, PluginName};
use crate::units::{ByteSize, UnitError};

/// The source of a module's bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ModuleSource {
    /// A file on the proxy's disk, watched.
    File(PathBuf),
    /// A module shipped with the proxy, by name: `auth`.
    Builtin(Arc<str>),
    /// A module identified by its hash, and its URL.
    Remote(RemoteModule),
    /// A bundle stored in the control plane, which replaces it with the [`RemoteModule`] that proxies fetch.
    Bundle(BundleName),
}

/// The name and version of a filter bundle. Equal name and version always mean equal bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct BundleName {
    /// The name, such as `header-stamp`.
    pub name: Arc<str>,
    /// The version, such as `1.2.0`.
    pub version: Arc<str>,
}

impl fmt::Display for BundleName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.name, self.version)
    }
}

impl ModuleSource {
    /// Returns the local file of the module; shipped modules are in the folder `builtins`. `None` for remote modules
    /// and bundles.
    pub fn path(&self, builtins: &Path) -> Option<PathBuf> {
        match self {
            Self::File(path) => Some(path.clone()),
            Self::Builtin(name) => Some(builtins.join(format!("{name}.wasm"))),
            Self::Remote(_) | Self::Bundle(_) => None,
        }
    }
}

/// A module identified by its hash, and its URL.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct RemoteModule {
    /// The `http://` URL of its bytes.
    pub url: Arc<str>,
    /// The expected SHA-256 of the bytes.
    pub sha256: ModuleHash,
}

/// The SHA-256 of a module's bytes; printed and parsed as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModuleHash(pub [u8; 32]);

impl fmt::Display for ModuleHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(formatter, &self.0)
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

/// The treatment of a stream whose plugin failed (`FailurePolicy` in Envoy).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum FailurePolicy {
    /// The stream fails: 503, or a reset if the response has started.
    #[default]
    Closed,
    /// The stream continues without the plugin.
    Open,
}

/// The scope of a `Pause` from a headers callback (`allow_on_headers_stop_iteration` in Envoy).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum HeaderPause {
    /// Headers, body and trailers wait.
    #[default]
    #[serde(rename = "HoldAll")]
    All,
    /// Only the headers wait: the plugin's body callbacks continue.
    #[serde(rename = "HoldHeaders")]
    HeadersOnly,
}

/// The number of streams that share a VM of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum Isolation {
    /// All streams of a worker share one VM.
    #[default]
    Worker,
    /// Each stream has its own VM, so no guest state survives the request.
    Stream,
    /// The process has one VM, which no stream enters (Envoy's `WasmService` singleton): it has timers, queues and
    /// callouts.
    #[serde(rename = "Process")]
    Singleton,
}

/// The part that a plugin has in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
pub enum PluginRole {
    /// An HTTP or network filter: all callbacks of a stream.
    #[default]
    #[serde(rename = "Whole")]
    Filter,
    /// An access logger: only `proxy_on_log`, at the end of a stream.
    #[serde(rename = "End")]
    AccessLog,
}

/// Limits on the resources of a plugin. Times are CPU time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginLimits {
    /// Linear memory of a VM.
    pub memory: ByteSize,
    /// CPU time of one call. The wall clock limit is five times as long.
    pub call_time: Duration,
    /// CPU time to start and configure a VM.
    pub start_time: Duration,
    /// CPU time of all calls in one second, on each worker.
    pub cpu_per_second: Duration,
    /// Elements of all tables of a VM.
    pub table_elements: u32,
    /// Bytes of log messages of a VM in one second.
    pub log_per_second: ByteSize,
    /// Names and values of a header map that the plugin changed.
    pub head: ByteSize,
    /// A body that the plugin buffers or replaces.
    pub body: ByteSize,
    /// Concurrent callouts, on each worker.
    pub callouts: u32,
    /// Shared data of all plugins with the same VM id.
    pub shared_data: ByteSize,
    /// Metrics of all plugins with the same VM id.
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

/// Limits after which a VM is replaced: the next stream gets a new VM, and the old one stops with its last stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecyclePolicy {
    /// Streams that one VM serves.
    pub requests: Option<u64>,
    /// Time since the VM started.
    pub age: Option<Duration>,
    /// Size of the VM's memory.
    pub memory: Option<ByteSize>,
}

/// Settings of a plugin's VMs (`VmConfig` in Envoy).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VmConfig {
    /// The VM id: plugins of a namespace with the same id share data, queues and metrics. If empty, the plugin shares
    /// with no other.
    pub id: Arc<str>,
    /// The VM configuration that `proxy_on_vm_start` reads. Left out of dumps, because it may contain secrets.
    #[serde(skip)]
    pub configuration: Arc<[u8]>,
    /// Environment variables: names and values. Left out of dumps, because they may contain secrets.
    #[serde(skip)]
    pub environment: Arc<[(Arc<str>, Arc<str>)]>,
}

/// Restrictions on a plugin (`CapabilityRestrictionConfig` in Envoy); `None` = unrestricted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginCapabilities {
    /// The names of permitted hostcalls and callbacks (Envoy's `allowed_capabilities`).
    #[serde(rename = "capabilities")]
    pub functions: Option<Arc<[Arc<str>]>>,
    /// The names of the clusters that callouts may use.
    #[serde(rename = "services")]
    pub callout_clusters: Option<Arc<[Arc<str>]>>,
}

/// The clusters that a plugin's callouts reach by names of the module's own, by that name. Envoy has clusters of any name.
pub type ClusterAliases = BTreeMap<Arc<str>, ClusterName>;

/// A Wasm module with its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Plugin {
    /// The name of the plugin.
    pub name: PluginName,
    /// The source of its module.
    pub module: ModuleSource,
    /// The plugin configuration that `proxy_on_configure` reads: JSON text, or empty. Left out of dumps, because it may
    /// contain secrets.
    #[serde(skip)]
    pub configuration: Arc<[u8]>,
    /// Selects one of several filters in the module; empty if the module has one.
    pub root_id: Arc<str>,
    /// Settings of its VMs.
    pub vm: VmConfig,
    /// The treatment of streams when the plugin fails.
    pub failure: FailurePolicy,
    /// The scope of a `Pause` from a headers callback.
    pub header_pause: HeaderPause,
    /// The part that the plugin has in a stream.
    #[serde(rename = "sight")]
    pub role: PluginRole,
    /// The number of streams that share a VM.
    pub isolation: Isolation,
    /// Limits after which a VM is replaced.
    pub recycling: RecyclePolicy,
    /// Limits on the resources of the plugin.
    pub limits: PluginLimits,
    /// Restrictions on hostcalls, callbacks and callouts.
    #[serde(rename = "allow")]
    pub capabilities: PluginCapabilities,
    /// Other names of clusters for its callouts.
    #[serde(rename = "clusters")]
    pub cluster_aliases: ClusterAliases,
}

/// The prefix of the plugin names of AuthorizationPolicies, after the namespace: `shop/access:reviews`. No Filter can have
/// such a name, since `:` is not valid in an object name.
pub const ACCESS_POLICY_PREFIX: &str = "access:";

impl Plugin {
    /// Returns true if the plugin is an AuthorizationPolicy.
    pub fn is_access_policy(&self) -> bool {
        let name = self.name.as_str().split_once('/').map_or("", |(_, name)| name);
        name.starts_with(ACCESS_POLICY_PREFIX)
    }

    /// Returns a plugin with this module and configuration; every other setting has its default.
    pub fn new(name: PluginName, module: ModuleSource, configuration: Arc<[u8]>) -> Self {
        Self {
            name,
            module,
            configuration,
            root_id: Arc::default(),
            vm: VmConfig::default(),
            failure: FailurePolicy::default(),
            header_pause: HeaderPause::default(),
            role: PluginRole::default(),
            isolation: Isolation::default(),
            recycling: RecyclePolicy::default(),
            limits: PluginLimits::default(),
            capabilities: PluginCapabilities::default(),
            cluster_aliases: ClusterAliases::default(),
        }
    }

    /// Returns the id under which the plugin shares data, queues and metrics: `namespace/plugin`, or
    /// `namespace/vm:id` if a VM id is configured.
    pub fn vm_id(&self) -> String {
        if self.vm.id.is_empty() {
            return self.name.to_string();
        }
        format!("{}/vm:{}", self.name.namespace(), self.vm.id)
    }
}

/// A plugin whose newest version does not load: its module cannot be fetched or compiled, its VM does not start, or it
/// rejects its configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FailedPlugin {
    /// The failure policy of that version.
    pub failure: FailurePolicy,
    /// The reason of the failure.
    pub reason: Arc<str>,
}

/// The plugins of a route: requests pass them in this order, responses in reverse.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(transparent)]
pub struct FilterChain(Vec<PluginName>);

impl FilterChain {
    /// Returns a chain of at most [`MAX_CHAIN_PLUGINS`] plugins.
    ///
    /// # Errors
    /// The number of plugins, if there are more.
    pub fn new(plugins: Vec<PluginName>) -> Result<Self, usize> {
        if plugins.len() > MAX_CHAIN_PLUGINS { Err(plugins.len()) } else { Ok(Self(plugins)) }
    }

    /// Returns the plugins in request order.
    pub fn plugins(&self) -> &[PluginName] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_hash_parses_its_printed_form_only() {
        let text = "0123456789abcdef".repeat(4);
        assert_eq!(text.parse::<ModuleHash>().unwrap().to_string(), text);
        for wrong in ["", "00", &text[1..], &format!("{text}0"), &text.replace('f', "g"), &"ä".repeat(32)] {
            assert!(wrong.parse::<ModuleHash>().is_err(), "{wrong}");
        }
    }
}
