//! The manifest of a bundle: what a module says of itself.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::written::{LimitsSpec, Phase};

/// What a bundle says of itself: `plugin.yaml` beside its source.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ManifestSpec {
    /// What Filters call it: lower case letters, digits, `-` and `.`.
    pub(crate) name: String,
    /// Which one of that name: `1.2.0`. The same name and version are always the same bytes.
    pub(crate) version: String,
    /// What it is for, in a sentence.
    pub(crate) description: Option<String>,
    /// The version of Proxy-Wasm that it was built for, `0.2.1`; the module itself says it when left out.
    pub(crate) abi: Option<String>,
    /// Where its Filters stand among the filters of a request when they do not say; `Transform` when left out.
    pub(crate) phase: Option<Phase>,
    /// What one VM of it may use when a Filter does not say.
    pub(crate) limits: Option<LimitsSpec>,
    /// A JSON Schema of its configuration: types, required and unknown fields and choices of Filters are checked with it.
    pub(crate) config_schema: Option<serde_json::Map<String, serde_json::Value>>,
    /// A configuration that it accepts: it is started with it when it is pushed, and with none when left out.
    pub(crate) example: Option<serde_json::Map<String, serde_json::Value>>,
}
