//! A certificate that listeners show, with its key. Apart from the listeners, so that it can be renewed without them.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::name::SecretName;

/// A certificate that listeners show, with its key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Secret {
    /// Its name.
    pub name: SecretName,
    /// The certificate and those between it and a root, as PEM.
    pub certificates: Arc<str>,
    /// The key of the first of them, as PEM. Left out of dumps.
    #[serde(skip)]
    pub key: SecretText,
}

/// A text that nothing shows.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SecretText(pub Arc<str>);

impl fmt::Debug for SecretText {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("<hidden>")
    }
}
