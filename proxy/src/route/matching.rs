//! Conditions of a route on method, headers and query. `paths` checks them for the routes whose path matches.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::HOST;
use http::{HeaderMap, HeaderName, Method};
use weir_model::{RouteMatch, StringMatch};

use crate::head::RequestHead;

/// The compiled conditions of one route, apart from its path.
pub(super) struct RouteConditions {
    method: Option<Method>,
    headers: Box<[(HeaderName, StringMatch)]>,
    query: Box<[(Arc<str>, StringMatch)]>,
    /// True if the model requires a method or a header that cannot exist.
    is_unsatisfiable: bool,
}

impl RouteConditions {
    pub(super) fn new(model: &RouteMatch) -> Self {
        let mut never = false;
        let method = model.method.as_ref().and_then(|method| {
            let method = Method::from_bytes(method.as_bytes()).ok();
            never |= method.is_none();
            method
        });
        let headers = model.headers.iter().filter_map(|header| {
            let name = HeaderName::from_bytes(header.name.as_bytes()).ok();
            never |= name.is_none();
            Some((name?, header.value.clone()))
        });
        let headers = headers.collect();
        let query = model.query.iter().map(|parameter| (Arc::clone(&parameter.name), parameter.value.clone()));
        Self { method, headers, query: query.collect(), is_unsatisfiable: never }
    }

    /// Returns true if the request satisfies all conditions.
    pub(super) fn matches(&self, request: &RequestHead) -> bool {
        !self.is_unsatisfiable
            && self.method.as_ref().is_none_or(|method| *method == request.method)
            && self.headers.iter().all(|(name, value)| header_matches(request, name, value))
            && self.query.iter().all(|(name, value)| query_matches(request.path.query(), name, value))
    }
}

fn header_matches(request: &RequestHead, name: &HeaderName, expected: &StringMatch) -> bool {
    if *name == HOST {
        return expected.matches(request.authority.as_bytes());
    }
    joined_values(&request.headers, name).is_some_and(|value| expected.matches(&value))
}

/// Returns a header's value. Values of a repeated header are joined (RFC 9110 §5.3), because matching only one of them
/// would let a request bypass rules.
fn joined_values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<Cow<'a, [u8]>> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.as_bytes();
    let mut joined = Cow::Borrowed(first);
    for value in values {
        let joined = joined.to_mut();
        joined.push(b',');
        joined.extend_from_slice(value.as_bytes());
    }
    Some(joined)
}

/// Returns true if the first parameter with this name has the expected value. Without `=` the value is empty.
fn query_matches(query: Option<&str>, name: &str, expected: &StringMatch) -> bool {
    let mut parameters = query.unwrap_or_default().split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let found = parameters.find(|(key, _)| *percent_decoded(key) == *name.as_bytes());
    found.is_some_and(|(_, value)| expected.matches(&percent_decoded(value)))
}

/// Decodes percent escapes. A `%` without two hexadecimal digits remains.
fn percent_decoded(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    let Some(first) = bytes.iter().position(|byte| *byte == b'%') else { return bytes.into() };
    let mut decoded = bytes[..first].to_vec();
    let mut rest = &bytes[first..];
    loop {
        let escaped = match rest {
            [] => break,
            [b'%', high, low, after @ ..] => digit(*high).zip(digit(*low)).map(|(high, low)| (high << 4 | low, after)),
            _ => None,
        };
        let (byte, after) = escaped.unwrap_or((rest[0], &rest[1..]));
        decoded.push(byte);
        rest = after;
    }
    decoded.into()
}

fn digit(character: u8) -> Option<u8> {
    char::from(character).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::testing::{header, request};
    use weir_model::matcher::Regex;

    #[test]
    fn query_parameters_are_decoded() {
        for (query, name, value, expected) in [
            ("a=1&b=2", "b", "2", true),
            ("a=1&a=2", "a", "2", false),
            ("a=1&a=2", "a", "1", true),
            ("%61=%31", "a", "1", true),
            ("a=x%20y%2Fz", "a", "x y/z", true),
            ("a=%c3%a4", "a", "ä", true),
            ("a=100%", "a", "100%", true),
            ("a=%zz%4", "a", "%zz%4", true),
            ("a=b=c", "a", "b=c", true),
            ("a", "a", "", true),
            ("", "a", "", false),
            ("A=1", "a", "1", false),
            ("a=x+y", "a", "x+y", true),
        ] {
            let text = StringMatch::Exact(Arc::from(value));
            assert_eq!(query_matches(Some(query), name, &text), expected, "{query} {name}={value}");
        }
        assert!(!query_matches(None, "a", &StringMatch::Exact(Arc::from(""))));
    }

    #[test]
    fn repeated_headers_are_joined() {
        let head = request("GET", "a.com", "/", &[("x-a", "1"), ("x-a", "2"), ("x-b", "3")]);
        for (name, value, expected) in [
            ("x-a", "1", false),
            ("x-a", "2", false),
            ("x-a", "1,2", true),
            ("x-b", "3", true),
            ("x-c", "", false),
            ("host", "a.com", true),
        ] {
            let name = header(name);
            assert_eq!(header_matches(&head, &name, &StringMatch::Exact(Arc::from(value))), expected, "{name}={value}");
        }
        let regex = StringMatch::Regex(Regex::new("1,[0-9]").unwrap());
        assert!(header_matches(&head, &header("x-a"), &regex));
    }
}
