//! `Mesh`: what holds for every workload.

use schemars::JsonSchema;
use serde::Deserialize;

/// What holds for the whole mesh. There is one, named `default`; without it everything is at its default.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MeshSpec {
    /// What listeners with the protocol `weir.dev/MTLS` ask of those that connect.
    pub(crate) mtls: Option<MtlsSpec>,
}

/// Mutual TLS between workloads.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MtlsSpec {
    /// Whether plain text is answered too.
    pub(crate) mode: MtlsMode,
    /// When `Permissive` ends and becomes `Strict`, in UTC, as in `2026-12-31T00:00:00Z`. Each proxy keeps to it by its own
    /// clock.
    pub(crate) until: Option<String>,
}

/// Whether plain text is answered too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum MtlsMode {
    /// Who does not prove to be a workload of the mesh gets no answer. The default.
    Strict,
    /// Plain text is answered until `until`, by which every workload has to have an identity. Those that send it are
    /// nobody: rules for workloads do not allow them.
    Permissive,
}
