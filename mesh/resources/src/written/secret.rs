//! `Secret`: a certificate with its key, as Kubernetes has it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::written::Metadata;

/// A certificate with its key, for listeners with `protocol: HTTPS`: `tls.crt` and `tls.key` as PEM, plain in `stringData` or
/// in base64 in `data`. What it holds is shown to nobody. Who holds it can be served in its place, so files with one belong
/// to the proxy's user alone.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "what every document has is read elsewhere")]
pub(crate) struct SecretDocument {
    /// `v1`
    pub(crate) api_version: String,
    /// `Secret`
    pub(crate) kind: String,
    /// Which object this is.
    pub(crate) metadata: Metadata,
    /// `kubernetes.io/tls`; the same when left out.
    #[serde(rename = "type")]
    pub(crate) r#type: Option<String>,
    /// `tls.crt` and `tls.key` as PEM, in base64.
    pub(crate) data: Option<BTreeMap<String, String>>,
    /// `tls.crt` and `tls.key` as PEM.
    pub(crate) string_data: Option<BTreeMap<String, String>>,
    /// For Kubernetes; means nothing here.
    pub(crate) immutable: Option<bool>,
}
