//! Names of resources: one type per kind of resource, non-empty, bounded, cheap to clone. The builders of snapshots
//! create them; the data plane only compares and prints them.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::limits::MAX_NAME_BYTES;

/// The rule that a text breaks to be a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name must not be empty")]
    Empty,
    /// The text is longer than [`MAX_NAME_BYTES`].
    #[error("a name has at most {MAX_NAME_BYTES} bytes, this one has {0}")]
    TooLong(usize),
    /// The text contains a control character or white space.
    #[error("a name must not contain white space or control characters")]
    BadCharacter,
}

fn check_name(text: &str) -> Result<Arc<str>, NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > MAX_NAME_BYTES {
        return Err(NameError::TooLong(text.len()));
    }
    if text.chars().any(|character| character.is_control() || character.is_whitespace()) {
        return Err(NameError::BadCharacter);
    }
    Ok(Arc::from(text))
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(#[serde(serialize_with = "as_text")] Arc<str>);

        impl $name {
            /// Returns the name: not empty, at most [`MAX_NAME_BYTES`] bytes, no white space or control characters.
            ///
            /// # Errors
            /// The first rule that the text breaks.
            pub fn new(text: &str) -> Result<Self, NameError> {
                check_name(text).map(Self)
            }

            /// Returns the name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    )*};
}

names! {
    /// Name of a listener: `namespace/gateway/listener`.
    ListenerName;
    /// Name of a route table: that of its listener.
    RouteTableName;
    /// Name of a route: `namespace/route/rule/match`.
    RouteName;
    /// Name of a cluster: `namespace/service:port`; `namespace/service:port@version` has the endpoints of one version.
    ClusterName;
    /// Name of a plugin: `namespace/filter`.
    PluginName;
    /// Name of a secret: `namespace/secret`.
    SecretName;
}

impl PluginName {
    /// Returns the namespace: the text before the first `/`.
    pub fn namespace(&self) -> &str {
        self.as_str().split('/').next().unwrap_or_default()
    }
}

fn as_text<S: serde::Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_names_are_rejected() {
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        for (text, expected) in [
            ("shop/reviews:80", Ok(())),
            ("", Err(NameError::Empty)),
            ("a b", Err(NameError::BadCharacter)),
            ("a\nb", Err(NameError::BadCharacter)),
            (long.as_str(), Err(NameError::TooLong(MAX_NAME_BYTES + 1))),
        ] {
            assert_eq!(ClusterName::new(text).map(|_| ()), expected, "{text}");
        }
    }
}
