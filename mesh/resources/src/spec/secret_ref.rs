//! References to values of Secrets, as Kubernetes' `secretKeyRef`.

use schemars::JsonSchema;
use serde::Deserialize;

/// A text, or a reference to a value of a Secret.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum SecretText {
    /// The text.
    Text(String),
    /// A value of a Secret in the object's namespace.
    Reference(SecretReference),
}

/// A reference to a value of a Secret.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SecretReference {
    /// In place of a text: a value of a Secret of type `Opaque` in the object's namespace.
    pub(crate) secret_ref: SecretKeyRef,
}

/// The name of a Secret, and a key in it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SecretKeyRef {
    /// The Secret's name.
    pub(crate) name: String,
    /// The key of the value in `data` or `stringData`.
    pub(crate) key: String,
}
