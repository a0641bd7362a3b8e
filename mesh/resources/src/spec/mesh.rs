//! `Mesh`: settings of the whole mesh.

use schemars::JsonSchema;
use serde::Deserialize;

/// Settings of the whole mesh. The only Mesh is named `default`; without it every setting has its default.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MeshSpec {
    /// Mutual TLS on listeners with the protocol `weir.dev/MTLS`.
    pub(crate) mtls: Option<MtlsSpec>,
}

/// Mutual TLS between workloads.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MtlsSpec {
    /// The mutual TLS mode.
    pub(crate) mode: MtlsMode,
    /// The end of `Permissive`, which then becomes `Strict`; in UTC, as in `2026-12-31T00:00:00Z`. Each proxy uses its
    /// own clock.
    pub(crate) until: Option<String>,
}

/// A mutual TLS mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub(crate) enum MtlsMode {
    /// A connection without a certificate of the mesh is rejected. The default.
    Strict,
    /// Plaintext is accepted until `until`, by which every workload must have an identity. A plaintext peer is
    /// unauthenticated: rules with principals do not match it.
    Permissive,
}
