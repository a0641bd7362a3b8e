//! Extracts the token of a request. A request with two tokens is denied: the upstream might read the other one.

use std::borrow::Cow;

use super::reason::DenyReason;
use crate::query;
use crate::request::Request;

/// The location of the token in a request.
#[derive(Debug, Default)]
pub struct TokenLocation {
    /// The header with the token.
    pub header: String,
    /// The word before the token, like `Bearer`; empty if the token stands alone.
    pub prefix: String,
    /// The query parameter that may have the token in place of the header.
    pub query: Option<String>,
}

impl TokenLocation {
    /// Returns the token of the request, or `None` if the request has none.
    pub(super) fn token<'r>(&self, request: &Request<'r>) -> Result<Option<Cow<'r, [u8]>>, DenyReason> {
        let mut lines = 0;
        let mut in_header = None;
        for value in request.values(&self.header) {
            lines += 1;
            in_header = in_header.or(after_prefix(value, &self.prefix));
        }
        let mut in_query = Vec::new();
        if let Some(name) = &self.query {
            in_query = query::query_values(query::query(request.path), name);
        }
        let token: Cow<'_, [u8]> = match (in_header, in_query.len()) {
            (None, 0) => return Ok(None),
            (None, 1) => Cow::Owned(in_query.swap_remove(0)),
            (Some(token), 0) if lines == 1 => Cow::Borrowed(token),
            _ => return Err("auth_jwt_ambiguous"),
        };
        // RFC 9110 §5.3: an intermediary may join two header lines with a comma.
        if token.contains(&b',') { Err("auth_jwt_ambiguous") } else { Ok(Some(token)) }
    }

    /// Returns whether the request has a token in the header, valid or not.
    pub fn is_in_header(&self, request: &Request<'_>) -> bool {
        request.values(&self.header).any(|value| after_prefix(value, &self.prefix).is_some())
    }
}

/// Returns the rest of a header value after the prefix, or `None` if the value has another prefix. The prefix alone, or
/// with a tab after it, counts as an invalid token.
fn after_prefix<'v>(value: &'v [u8], prefix: &str) -> Option<&'v [u8]> {
    let value = value.trim_ascii();
    if prefix.is_empty() {
        return Some(value);
    }
    let (start, rest) = value.split_at_checked(prefix.len())?;
    // RFC 9110 §11.1: the scheme in any case, then spaces.
    let is_prefixed = start.eq_ignore_ascii_case(prefix.as_bytes()) && rest.first().is_none_or(u8::is_ascii_whitespace);
    let spaces = rest.iter().take_while(|&&byte| byte == b' ').count();
    is_prefixed.then(|| &rest[spaces..])
}
