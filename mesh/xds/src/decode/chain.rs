//! The parts of a filter chain that HTTP and TCP listeners share: filters, plugins, and the source of routes.

use weir_model::{Plugin, PluginName, RouteTableName};

use super::field_cursor::{FieldCursor, unsupported};
use super::route::DecodedRouteTable;
use super::value::config_source;
use crate::proto::core;

/// One filter of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilterEntry {
    /// The name by which routes refer to the filter.
    pub(crate) name: String,
    /// The plugin that runs.
    pub(crate) plugin: PluginName,
    /// True when the filter runs only on routes that enable it.
    pub(crate) disabled: bool,
}

/// The source of a listener's routes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RouteSource {
    /// A route table of its own (RDS).
    Named(RouteTableName),
    /// The listener.
    Inline(DecodedRouteTable),
}

/// The decoded filters of a filter chain.
pub(super) struct ChainParts {
    /// All filters before the router or TCP proxy.
    pub(super) filters: Vec<FilterEntry>,
    /// The name of the CORS filter, which is the first.
    pub(super) cors_filter: Option<String>,
    /// Plugins that are inline.
    pub(super) plugins: Vec<Plugin>,
    /// The source of the routes.
    pub(super) routes: RouteSource,
}

/// Accepts an ECDS reference whose resource comes on the ADS stream.
pub(super) fn check_discovery(source: core::ExtensionConfigSource, cursor: &FieldCursor<'_>) {
    let core::ExtensionConfigSource {
        config_source: source,
        default_config,
        apply_default_config_without_warming: _, // Without a default there is nothing to apply.
        type_urls: _,                            // Checked when the plugin is received.
    } = source;
    unsupported!(cursor; default_config);
    config_source(source, &cursor.field("config_source"));
}
