//! Matchers of requests that filters read from their configuration: methods, paths, header names.

use crate::config::FieldReader;
use crate::path::{self, lenient, without_end_slash};

pub use crate::path::without_query;

/// A path matcher. The query is ignored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathMatch {
    /// Matches this path only.
    Exact(String),
    /// Matches this path and all below it: `/admin` and `/admin/x`, not `/administrator`.
    Prefix(String),
}

impl PathMatch {
    /// Reads `{exact: /a}` or `{prefix: /a}`. The caller closes the fields afterwards.
    pub fn read(fields: &mut FieldReader) -> Option<Self> {
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
            if text.ends_with('*') {
                fields.report_self("must not end with *: a prefix matches all paths below it");
            }
        }
        path
    }

    /// Returns the configured path.
    pub fn as_str(&self) -> &str {
        let (Self::Exact(text) | Self::Prefix(text)) = self;
        text
    }

    /// True if a path without query matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => path == exact.as_bytes(),
            Self::Prefix(prefix) => {
                let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
                path.strip_prefix(prefix.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
            }
        }
    }

    /// True if a path without query matches, where `/admin/` equals `/admin`, since many upstreams treat them alike.
    pub fn matches_loosely(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => without_end_slash(path) == without_end_slash(exact.as_bytes()),
            Self::Prefix(_) => self.matches(path),
        }
    }

    /// Returns the matcher of the configured path's lenient reading ([`lenient`]). `None` if the configured path has
    /// one reading, or if its lenient reading is not UTF-8.
    pub fn lenient(&self) -> Option<Self> {
        let text = self.as_str();
        if path::has_one_reading(text.as_bytes()) {
            return None;
        }
        let text = String::from_utf8(lenient(text.as_bytes()).into_owned()).ok()?;
        Some(match self {
            Self::Exact(_) => Self::Exact(text),
            Self::Prefix(_) => Self::Prefix(text),
        })
    }
}

/// Reads the list `methods`.
pub fn methods(fields: &mut FieldReader) -> Vec<String> {
    let methods = fields.texts("methods");
    for (index, method) in methods.iter().enumerate() {
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
            fields.report(&format!("methods[{index}]"), "must be a method in capital letters, like GET");
        }
    }
    methods
}

/// True if a text has only the characters of header and cookie names (`token`, RFC 9110 §5.6.2), or is empty.
pub fn is_token(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
