//! What a route matches: host, path, method, headers, query. Regexes are compiled once and bounded in size.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::limits::{MAX_REGEX_BYTES, MAX_REGEX_COMPILED_BYTES};

/// A compiled regular expression that matches a whole text, compared by its pattern.
#[derive(Debug, Clone)]
pub struct Regex {
    pattern: Arc<str>,
    compiled: regex::bytes::Regex,
}

impl Regex {
    /// Compiles a pattern (RE2 syntax, as the `regex` crate has it). The whole text must match, as in Envoy.
    ///
    /// # Errors
    /// Why the pattern is refused, in one line.
    pub fn new(pattern: &str) -> Result<Self, String> {
        if pattern.len() > MAX_REGEX_BYTES {
            return Err(format!("has {} bytes, at most {MAX_REGEX_BYTES} are allowed", pattern.len()));
        }
        // The bare pattern is compiled first: wrapped, an unbalanced `a)|(b` would become another, valid pattern.
        bounded(pattern)?;
        let compiled = bounded(&format!("^(?:{pattern})$"))?;
        Ok(Self { pattern: Arc::from(pattern), compiled })
    }

    /// True when the whole text matches.
    pub fn matches(&self, text: &[u8]) -> bool {
        self.compiled.is_match(text)
    }

    /// The pattern as written.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }
}

fn bounded(pattern: &str) -> Result<regex::bytes::Regex, String> {
    regex::bytes::RegexBuilder::new(pattern)
        .size_limit(MAX_REGEX_COMPILED_BYTES)
        .dfa_size_limit(MAX_REGEX_COMPILED_BYTES)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(limit) => format!("needs more than {limit} bytes when compiled"),
            // The message is a picture of several lines; its last line says what is wrong.
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

/// Which hosts a virtual host serves. Always lower case, without port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum HostMatch {
    /// One name.
    Exact(Arc<str>),
    /// `*.example.com` is held as `.example.com`; any number of labels may stand before it (Gateway API).
    Suffix(Arc<str>),
    /// Every host, and none at all.
    Any,
}

/// How a path (without query) matches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PathMatch {
    /// The whole path.
    Exact(Arc<str>),
    /// By segments: `/a` (held without a trailing slash; `/` is held as the empty text) matches `/a` and `/a/b`.
    Prefix(Arc<str>),
    /// The whole path by a regular expression.
    Regex(Regex),
}

/// How a text matches.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum TextMatch {
    /// The whole text, case sensitive.
    Exact(Arc<str>),
    /// The whole text by a regular expression.
    Regex(Regex),
}

impl TextMatch {
    /// True when the whole text matches.
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
    /// What its value must be.
    pub value: TextMatch,
}

/// A match on one query parameter; of a repeated one the first counts.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct QueryMatch {
    /// The parameter's name, percent-decoded, case sensitive.
    pub name: Arc<str>,
    /// What its value, percent-decoded, must be.
    pub value: TextMatch,
}

/// What one route matches: every part must match.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct RouteMatch {
    /// The path.
    pub path: PathMatch,
    /// The method, when only one will do.
    pub method: Option<Arc<str>>,
    /// All of these.
    pub headers: Vec<HeaderMatch>,
    /// And all of these.
    pub query: Vec<QueryMatch>,
}

impl RouteMatch {
    /// Every request, and every connection.
    pub fn anything() -> Self {
        Self { path: PathMatch::Prefix(Arc::from("/")), method: None, headers: Vec::new(), query: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_regex_matches_the_whole_text() {
        for (pattern, text, expected) in
            [("a+", "aaa", true), ("a+", "baaa", false), ("a|b", "ab", false), ("/v[0-9]+/.*", "/v2/x", true)]
        {
            assert_eq!(Regex::new(pattern).unwrap().matches(text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn a_bad_regex_is_refused_in_one_line() {
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
