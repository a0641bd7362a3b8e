//! The manifest of a bundle: `plugin.yaml`.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::spec::filter::{LimitsSpec, Phase};

/// The manifest of a bundle: `plugin.yaml` in the folder of the module's source.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ManifestSpec {
    /// The bundle's name in Filters: lower-case letters, digits, `-` and `.`.
    pub(crate) name: String,
    /// The bundle's version: `1.2.0`. A name and version always identify the same bytes.
    pub(crate) version: String,
    /// The purpose, in a sentence.
    pub(crate) description: Option<String>,
    /// The Proxy-Wasm version that the module was built for: `0.2.1`. Default: the version that the module exports.
    pub(crate) abi: Option<String>,
    /// The default phase of its Filters. Default: `Transform`.
    pub(crate) phase: Option<Phase>,
    /// The default limits of its Filters.
    pub(crate) limits: Option<LimitsSpec>,
    /// A JSON Schema of the configuration. Filters are validated with it: types, required and unknown fields, and enum
    /// values.
    pub(crate) config_schema: Option<serde_json::Map<String, serde_json::Value>>,
    /// A valid configuration. `weir bundle push` starts the module with it. Default: none.
    pub(crate) example: Option<serde_json::Map<String, serde_json::Value>>,
}
