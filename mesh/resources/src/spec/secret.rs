//! `Secret`: a certificate with its private key, or other values, in Kubernetes' format.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::spec::metadata::Metadata;

/// A certificate with its private key, for listeners with `protocol: HTTPS` and as the client certificate of a Gateway:
/// `tls.crt` and `tls.key` as PEM, plain in `stringData` or in base64 in `data`. With `ca.crt`, also CA certificates for
/// BackendTLSPolicies. Or, with the type `Opaque`, texts that Filters and AuthorizationPolicies of the
/// same namespace refer to by `secretRef`. No output of Weir contains the key or the texts. Anyone with the key can
/// impersonate the server, so only the proxy's user should be able to read the file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(dead_code, reason = "what every document has is read elsewhere")]
pub(crate) struct SecretDocument {
    /// `v1`
    pub(crate) api_version: String,
    /// `Secret`
    pub(crate) kind: String,
    /// The object's identity.
    pub(crate) metadata: Metadata,
    /// `kubernetes.io/tls` or `Opaque`. Default: `kubernetes.io/tls` with one of its keys, else `Opaque`.
    #[serde(rename = "type")]
    pub(crate) r#type: Option<String>,
    /// `tls.crt` and `tls.key` as PEM, or other texts, in base64.
    pub(crate) data: Option<BTreeMap<String, String>>,
    /// `tls.crt` and `tls.key` as PEM, or other texts. Overrides `data`.
    pub(crate) string_data: Option<BTreeMap<String, String>>,
    /// Accepted for compatibility with Kubernetes; ignored.
    pub(crate) immutable: Option<bool>,
}
