//! A Wasm module with its configuration, as put in a filter chain.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::limits::{
    DEFAULT_PLUGIN_CALL_TIME, DEFAULT_PLUGIN_MEMORY_BYTES, DEFAULT_PLUGIN_START_TIME, MAX_CHAIN_PLUGINS,
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
