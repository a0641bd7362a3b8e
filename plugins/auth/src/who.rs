//! Who a request comes from, and what rules ask about that.
//!
//! As everywhere in rules, a claim that can be read in more than one way counts for a deny rule when **any** reading
//! matches, for an allow rule when **all** do.

use std::rc::Rc;

use serde_json::Value;

use crate::jwt::{Verified, scalar};

/// Who it is, proven.
#[derive(Debug, Clone)]
pub enum Identity<'a> {
    /// The holder of an API key, or a user.
    Named(&'a str),
    /// Whom a token is about.
    Token(Rc<Verified>),
}

impl Identity<'_> {
    /// The name that the upstream sees.
    pub fn consumer(&self) -> &str {
        match self {
            Self::Named(name) => name,
            Self::Token(token) => &token.consumer,
        }
    }

    /// The token, if that was the proof.
    pub fn token(&self) -> Option<&Verified> {
        match self {
            Self::Named(_) => None,
            Self::Token(token) => Some(token),
        }
    }
}

/// What a rule asks about the identity. What it does not mention matches.
#[derive(Debug, Default)]
pub struct Who {
    /// Any of these consumers; empty is every one.
    pub consumers: Vec<String>,
    /// A token of any of these issuers; empty asks for none.
    pub issuers: Vec<String>,
    /// A token with all of these claims.
    pub claims: Vec<ClaimMatch>,
}

/// A claim.
#[derive(Debug)]
pub struct ClaimMatch {
    /// Its name, with dots for claims in claims.
    pub claim: String,
    /// What it must be.
    pub value: ClaimValue,
}

/// The value of a claim.
#[derive(Debug)]
pub enum ClaimValue {
    /// Any value but null.
    Present,
    /// One of these; numbers, true and false by their text.
    OneOf(Vec<String>),
    /// A list with this element, or a text with this word (the `scope` of RFC 8693 §4.2).
    Contains(String),
}

impl Who {
    /// Whether nothing is asked.
    pub fn is_anybody(&self) -> bool {
        self.consumers.is_empty() && self.issuers.is_empty() && self.claims.is_empty()
    }

    /// Whether a deny rule that asks this is against them.
    pub fn denies(&self, identity: Option<&Identity<'_>>) -> bool {
        self.asks_for(identity, ClaimMatch::denies)
    }

    /// Whether an allow rule that asks this is for them.
    pub fn allows(&self, identity: Option<&Identity<'_>>) -> bool {
        self.asks_for(identity, ClaimMatch::allows)
    }

    fn asks_for(&self, identity: Option<&Identity<'_>>, matches: fn(&ClaimMatch, &Verified) -> bool) -> bool {
        if self.is_anybody() {
            return true;
        }
        let Some(identity) = identity else { return false };
        let is_among = |names: &[String], name: &str| names.iter().any(|listed| listed == name);
        let token = identity.token();
        (self.consumers.is_empty() || is_among(&self.consumers, identity.consumer()))
            && (self.issuers.is_empty() || token.is_some_and(|token| is_among(&self.issuers, &token.issuer)))
            && self.claims.iter().all(|claim| token.is_some_and(|token| matches(claim, token)))
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

    /// As [`ClaimValue::matches`], but a list counts for each of its elements, and a text for each of its words.
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
