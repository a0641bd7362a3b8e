//! Match conditions of routes: host, path, method, headers, query. Regexes are compiled once and bounded in size.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::limits::{MAX_REGEX_BYTES, MAX_REGEX_COMPILED_BYTES};

/// A compiled regular expression that matches a whole text. Equality and hash are those of its pattern.
#[derive(Debug, Clone)]
pub struct Regex {
    pattern: Arc<str>,
    compiled: regex::bytes::Regex,
}

impl Regex {
    /// Compiles a pattern (RE2 syntax, as in the `regex` crate). The whole text must match, as in Envoy.
    ///
    /// # Errors
    /// The reason in one line: the pattern is invalid, too long, or too large when compiled.
    pub fn new(pattern: &str) -> Result<Self, String> {
        if pattern.len() > MAX_REGEX_BYTES {
            return Err(format!("has {} bytes, at most {MAX_REGEX_BYTES} are allowed", pattern.len()));
        }
        // The bare pattern is compiled first: wrapped, an unbalanced `a)|(b` would become another, valid pattern.
        compile_bounded(pattern)?;
        let compiled = compile_bounded(&format!("^(?:{pattern})$"))?;
        Ok(Self { pattern: Arc::from(pattern), compiled })
    }

    /// Returns true if the whole text matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.compiled.is_match(text)
    }

    /// Returns the pattern, without the anchors that `new` adds.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }
}

fn compile_bounded(pattern: &str) -> Result<regex::bytes::Regex, String> {
    regex::bytes::RegexBuilder::new(pattern)
        .size_limit(MAX_REGEX_COMPILED_BYTES)
        .dfa_size_limit(MAX_REGEX_COMPILED_BYTES)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => format!("needs more than {limit} bytes when compiled"),
            // The message has several lines; the last one has the reason.
            error => {
                let text = error.to_string();
                text.lines().last().unwrap_or(&text).trim_start_matches("error: ").to_owned()
            }
        })
}

impl PartialEq for Regex {
    fn eq(&self, other: &Self) -> bool {
        self.pattern == other.pattern
    }
}

impl Eq for Regex {}

impl Hash for Regex {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.pattern.hash(state);
    }
}

impl Serialize for Regex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.pattern)
    }
}

/// The hosts that a virtual host serves. Always lower case, without port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HostMatch {
    /// One name.
    Exact(Arc<str>),
    /// `*.example.com`, stored as `.example.com`; matches any number of labels before it (Gateway API).
    Suffix(Arc<str>),
    /// Every host, and a missing host.
    Any,
}

/// A match on the path, without the query.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PathMatch {
    /// The whole path.
    Exact(Arc<str>),
    /// Whole segments: `/a` matches `/a` and `/a/b`. Stored without a trailing slash, so `/` is the empty text.
    Prefix(Arc<str>),
    /// The whole path by a regular expression.
    Regex(Regex),
}

/// A match on a text (`StringMatcher` in Envoy).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum StringMatch {
    /// The whole text, case sensitive.
    Exact(Arc<str>),
    /// The whole text by a regular expression.
    Regex(Regex),
}

impl StringMatch {
    /// Returns true if the whole text matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        match self {
            Self::Exact(expected) => expected.as_bytes() == text,
            Self::Regex(regex) => regex.matches(text),
        }
    }
}

/// A match on one request header. Repeated headers are joined with `,` first (RFC 9110 §5.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct HeaderMatch {
    /// The header's name, lower case.
    pub name: Arc<str>,
    /// The match on its value.
    pub value: StringMatch,
}

/// A match on one query parameter; only the first value of a repeated parameter is compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct QueryMatch {
    /// The parameter's name, percent-decoded, case sensitive.
    pub name: Arc<str>,
    /// The match on its percent-decoded value.
    pub value: StringMatch,
}

/// The match conditions of one route; all of them must match.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct RouteMatch {
    /// The match on the path.
    pub path: PathMatch,
    /// The method; `None` matches every method.
    pub method: Option<Arc<str>>,
    /// Matches on headers.
    pub headers: Vec<HeaderMatch>,
    /// Matches on query parameters.
    pub query: Vec<QueryMatch>,
}

impl RouteMatch {
    /// Returns conditions that every request and every connection meets.
    pub fn any() -> Self {
        Self { path: PathMatch::Prefix(Arc::from("/")), method: None, headers: Vec::new(), query: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regex_matches_whole_text_only() {
        for (pattern, text, expected) in
            [("a+", "aaa", true), ("a+", "baaa", false), ("a|b", "ab", false), ("/v[0-9]+/.*", "/v2/x", true)]
        {
            assert_eq!(Regex::new(pattern).unwrap().matches(text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn invalid_regex_is_rejected_with_one_line() {
        for (pattern, expected) in [
            ("a(b", "unclosed group"),
            ("a)|(b", "unopened group"),
            ("[z-a]", "invalid character class range, the start must be <= the end"),
            ("(.{1000}){1000}", "needs more than 262144 bytes when compiled"),
        ] {
            assert_eq!(Regex::new(pattern).unwrap_err(), expected);
        }
        assert!(Regex::new(&"x".repeat(MAX_REGEX_BYTES + 1)).is_err());
    }
}
