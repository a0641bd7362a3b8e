//! Where a request shows its token, and that it shows one only: nobody can say which of two the upstream would
//! believe.

use std::borrow::Cow;

use super::{Jwt, Reason};
use crate::path;
use crate::request::Request;

/// The token that the request shows.
pub(super) fn token<'r>(jwt: &Jwt, request: &Request<'r>) -> Result<Option<Cow<'r, [u8]>>, Reason> {
    let mut lines = 0;
    let mut in_header = None;
    for value in request.values(&jwt.header) {
        lines += 1;
        in_header = in_header.or(after_prefix(value, &jwt.prefix));
    }
    let mut in_query = Vec::new();
    if let Some(name) = &jwt.query {
        in_query = path::query_values(path::query(request.path), name);
    }
    let shown: Cow<'_, [u8]> = match (in_header, in_query.len()) {
        (None, 0) => return Ok(None),
        (None, 1) => Cow::Owned(in_query.swap_remove(0)),
        (Some(token), 0) if lines == 1 => Cow::Borrowed(token),
        _ => return Err("auth_jwt_ambiguous"),
    };
    // RFC 9110 §5.3: two lines that somebody on the way has joined.
    if shown.contains(&b',') { Err("auth_jwt_ambiguous") } else { Ok(Some(shown)) }
}

/// What stands after the prefix; `None` if the value has another one. A prefix with nothing or a tab after it shows a
/// token too, a wrong one.
pub(super) fn after_prefix<'v>(value: &'v [u8], prefix: &str) -> Option<&'v [u8]> {
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
