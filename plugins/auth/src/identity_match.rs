//! The identity of a request, and the conditions of rules on it.
//!
//! A claim can have more than one reading. A deny rule matches when **any** reading matches, an allow rule when **all**
//! readings match.

use std::rc::Rc;

use serde_json::Value;

use crate::jwt::{Verified, scalar};

/// An authenticated identity.
#[derive(Debug, Clone)]
pub enum Identity<'a> {
    /// The consumer of an API key, or a user of HTTP basic.
    Named(&'a str),
    /// The subject of a token.
    Token(Rc<Verified>),
}

impl Identity<'_> {
    /// Returns the consumer. `None` for a token without a subject.
    pub fn consumer(&self) -> Option<&str> {
        match self {
            Self::Named(name) => Some(name),
            Self::Token(token) => token.consumer.as_deref(),
        }
    }

    /// Returns the consumer as the upstream receives it in `x-auth-consumer`: `%` and all bytes that are not visible ASCII
    /// are percent-encoded (RFC 3986 §2.1), so that different consumers have different headers.
    pub fn consumer_header(&self) -> Option<String> {
        let mut header = String::new();
        for byte in self.consumer()?.bytes() {
            match byte {
                b'%' => header.push_str("%25"),
                _ if byte.is_ascii_graphic() => header.push(char::from(byte)),
                _ => header.push_str(&format!("%{byte:02X}")),
            }
        }
        Some(header)
    }

    /// Returns the token. `None` for other credentials.
    pub fn token(&self) -> Option<&Verified> {
        match self {
            Self::Named(_) => None,
            Self::Token(token) => Some(token),
        }
    }
}

/// The condition of a rule on the identity. An empty field matches every identity.
#[derive(Debug, Default)]
pub struct IdentityMatch {
    /// The consumers, any of which matches.
    pub consumers: Vec<String>,
    /// The issuers of tokens, any of which matches.
    pub issuers: Vec<String>,
    /// The claims of the token, all of which must match.
    pub claims: Vec<ClaimMatch>,
}

/// The condition on one claim.
#[derive(Debug)]
pub struct ClaimMatch {
    /// The claim's name, with dots for claims in claims.
    pub claim: String,
    /// The condition on the claim's value.
    pub value: ClaimValue,
}

/// The condition on the value of a claim.
#[derive(Debug)]
pub enum ClaimValue {
    /// Any value but null.
    Present,
    /// One of these values. Numbers and booleans are compared as text.
    OneOf(Vec<String>),
    /// A list with this element, or a string with this word (the `scope` of RFC 8693 §4.2).
    Contains(String),
}

impl IdentityMatch {
    /// Returns whether the condition matches every identity, and a request without one.
    pub fn is_empty(&self) -> bool {
        self.consumers.is_empty() && self.issuers.is_empty() && self.claims.is_empty()
    }

    /// Returns whether a deny rule with this condition matches.
    pub fn denies(&self, identity: Option<&Identity<'_>>) -> bool {
        self.matches(identity, ClaimMatch::denies)
    }

    /// Returns whether an allow rule with this condition matches.
    pub fn allows(&self, identity: Option<&Identity<'_>>) -> bool {
        self.matches(identity, ClaimMatch::allows)
    }

    fn matches(&self, identity: Option<&Identity<'_>>, claim_matches: fn(&ClaimMatch, &Verified) -> bool) -> bool {
        if self.is_empty() {
            return true;
        }
        let Some(identity) = identity else { return false };
        let is_among = |names: &[String], name: &str| names.iter().any(|listed| listed == name);
        let token = identity.token();
        let is_wanted = |consumer: &str| is_among(&self.consumers, consumer);
        (self.consumers.is_empty() || identity.consumer().is_some_and(is_wanted))
            && (self.issuers.is_empty() || token.is_some_and(|token| is_among(&self.issuers, &token.issuer)))
            && self.claims.iter().all(|claim| token.is_some_and(|token| claim_matches(claim, token)))
    }
}

impl ClaimMatch {
    fn denies(&self, token: &Verified) -> bool {
        token.readings(&self.claim).any(|value| self.value.matches_loosely(value))
    }

    fn allows(&self, token: &Verified) -> bool {
        let mut readings = token.readings(&self.claim).peekable();
        readings.peek().is_some() && readings.all(|value| self.value.matches(value))
    }
}

impl ClaimValue {
    fn matches(&self, value: &Value) -> bool {
        match self {
            Self::Present => true,
            Self::OneOf(wanted) => scalar(value).is_some_and(|text| wanted.contains(&text)),
            Self::Contains(wanted) => match value {
                Value::Array(list) => list.iter().any(|element| scalar(element).as_ref() == Some(wanted)),
                Value::String(text) => text.split(' ').any(|word| word == wanted),
                _ => false,
            },
        }
    }

    /// Compares like [`ClaimValue::matches`], and also each element of a list and each word of a string.
    fn matches_loosely(&self, value: &Value) -> bool {
        let is_wanted = |text: &str| match self {
            Self::Present => true,
            Self::OneOf(wanted) => wanted.iter().any(|wanted| wanted == text),
            Self::Contains(wanted) => wanted == text,
        };
        let has_wanted = |text: &str| {
            let is_end = |c: char| c == ',' || c.is_whitespace();
            is_wanted(text) || text.split(is_end).any(is_wanted)
        };
        match value {
            Value::Array(list) => self.matches(value) || list.iter().any(|element| self.matches_loosely(element)),
            other => self.matches(other) || scalar(other).is_some_and(|text| has_wanted(&text)),
        }
    }
}
