//! What filters ask of a request, read from a configuration and compared: methods, paths, header names.

use crate::config::Fields;

/// A path without its query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    /// This path.
    Exact(String),
    /// This path and all below it: `/admin` and `/admin/x`, not `/administrator`.
    Prefix(String),
}

impl PathMatch {
    /// Reads `{exact: /a}` or `{prefix: /a}`. Close the fields afterwards.
    pub fn read(fields: &mut Fields) -> Option<Self> {
        let path = match (fields.text("exact"), fields.text("prefix")) {
            (Some(exact), None) => Some(Self::Exact(exact)),
            (None, Some(prefix)) => Some(Self::Prefix(prefix)),
            _ => {
                fields.report_self("needs exactly one of exact, prefix");
                None
            }
        };
        if let Some(text) = path.as_ref().map(Self::as_str) {
            if !text.starts_with('/') {
                fields.report_self("must begin with /");
            }
            if text.contains(['?', '#']) {
                fields.report_self("is compared without the query, so it must not hold ? or #");
            }
        }
        path
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        let (Self::Exact(text) | Self::Prefix(text)) = self;
        text
    }

    /// Whether a path, given without its query, is meant.
    pub fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => path == exact.as_bytes(),
            Self::Prefix(prefix) => {
                let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
                path.strip_prefix(prefix.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
            }
        }
    }
}

/// The path up to its query.
pub fn without_query(path: &[u8]) -> &[u8] {
    let end = path.iter().position(|byte| b"?#".contains(byte)).unwrap_or(path.len());
    &path[..end]
}

/// Reads the list `methods`.
pub fn methods(fields: &mut Fields) -> Vec<String> {
    let methods = fields.texts("methods");
    for (index, method) in methods.iter().enumerate() {
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
            fields.report(&format!("methods[{index}]"), "must be a method in capital letters, like GET");
        }
    }
    methods
}

/// Whether a text has only what the name of a header or cookie may have (RFC 9110 §5.6.2, `token`). An empty text has.
pub fn is_token(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
