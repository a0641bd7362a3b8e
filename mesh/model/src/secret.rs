//! Certificates of listeners with their keys. A resource of their own, so that a renewal does not change the listener.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::name::SecretName;

/// A certificate that listeners present, with its private key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// The name of the secret.
    pub name: SecretName,
    /// The certificate chain as PEM: the certificate first, then the intermediates.
    pub certificates: Arc<str>,
    /// The private key of the first certificate, as PEM. Left out of dumps.
    #[serde(skip)]
    pub key: SecretString,
}

/// A text that is never logged: its `Debug` output is `<hidden>`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SecretString(pub Arc<str>);

impl fmt::Debug for SecretString {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("<hidden>")
    }
}
