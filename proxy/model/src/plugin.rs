//! A Wasm module with its configuration, as put in a filter chain.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::limits::{
    DEFAULT_PLUGIN_CALL_TIME, DEFAULT_PLUGIN_MEMORY_BYTES, DEFAULT_PLUGIN_START_TIME, MAX_CHAIN_PLUGINS,
};
use crate::name::PluginName;
use crate::units::ByteSize;

/// Where a module's bytes come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ModuleSource {
    /// A file on the proxy's disk, watched.
    File(PathBuf),
    /// A module shipped with the proxy, by name: `auth`.
    Builtin(Arc<str>),
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

/// What one VM of a plugin may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginLimits {
    /// Linear memory of a VM.
    pub memory: ByteSize,
    /// CPU time of one call; five times that is the limit by the wall clock.
    pub call_time: Duration,
    /// Time to start and configure a VM.
    pub start_time: Duration,
}

impl Default for PluginLimits {
    fn default() -> Self {
        Self {
            memory: ByteSize(DEFAULT_PLUGIN_MEMORY_BYTES),
            call_time: DEFAULT_PLUGIN_CALL_TIME,
            start_time: DEFAULT_PLUGIN_START_TIME,
        }
    }
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
    /// What happens to a stream when it fails.
    pub failure: FailurePolicy,
    /// What its Pause in a headers callback holds.
    pub header_pause: HeaderPause,
    /// What a VM of it may use.
    pub limits: PluginLimits,
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
