//! Certificates with their keys, and certificates of CAs. Resources of their own, so that a renewal does not change the
//! listeners and clusters that use them.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::name::SecretName;

/// A named secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// The name of the secret.
    pub name: SecretName,
    /// The content.
    #[serde(flatten)]
    pub content: SecretContent,
}

/// The content of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase", untagged)]
pub enum SecretContent {
    /// A certificate that the proxy presents, with its private key.
    Certificate(CertificateWithKey),
    /// The certificates of CAs that the proxy trusts.
    #[serde(rename_all = "camelCase")]
    Authorities {
        /// The CA certificates as PEM.
        authorities: Arc<str>,
    },
}

/// A certificate that the proxy presents, with its private key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateWithKey {
    /// The certificate chain as PEM: the certificate first, then the intermediates.
    pub certificates: Arc<str>,
    /// The private key of the first certificate, as PEM. Left out of dumps.
    #[serde(skip)]
    pub key: SecretString,
}

impl Secret {
    /// Returns the certificate with its key; `None` for other contents.
    pub fn certificate(&self) -> Option<&CertificateWithKey> {
        match &self.content {
            SecretContent::Certificate(certificate) => Some(certificate),
            SecretContent::Authorities { .. } => None,
        }
    }

    /// Returns the CA certificates as PEM; `None` for other contents.
    pub fn authorities(&self) -> Option<&str> {
        match &self.content {
            SecretContent::Authorities { authorities } => Some(authorities),
            SecretContent::Certificate(_) => None,
        }
    }
}

/// A text that is never logged: its `Debug` output is `<hidden>`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SecretString(pub Arc<str>);

impl fmt::Debug for SecretString {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("<hidden>")
    }
}
