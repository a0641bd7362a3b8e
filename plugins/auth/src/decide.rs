//! The decision on one request, from plain values: no host, no SDK calls.
//!
//! ```text
//!  a deny rule matches ─────────────────────────────────► 403 auth_rule_NAME
//!  an allow rule with `anonymous` matches ──────────────► allowed
//!  tokens, keys or users are configured, none is shown ─► 401 auth_missing_credentials
//!                                 a wrong one ──────────► 401 auth_jwt_… auth_invalid_…
//!  a deny rule on who it is matches ────────────────────► 403 auth_rule_NAME
//!  there are allow rules and none matches ──────────────► 403 auth_no_allow_rule
//!  otherwise ───────────────────────────────────────────► allowed
//! ```

use crate::config::Config;
use crate::credentials::Proof;
use crate::jwt::Jwt;
use crate::request::Request;
use crate::rules::Rule;
use crate::who::Identity;

/// May it pass?
#[derive(Debug)]
pub enum Decision<'a> {
    /// Yes.
    Allow {
        /// Who it is, if that was asked for.
        identity: Option<Identity<'a>>,
        /// The header to take out: it holds a token that the upstream is not to see.
        removed_header: Option<&'a str>,
    },
    /// No.
    Refuse(Refusal),
}

/// The answer to a request that may not pass.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 401 or 403.
    pub status: u16,
    /// The reason as one word, for the access log.
    pub details: String,
    /// The reason in words, for the downstream.
    pub text: String,
    /// For a 401: how to prove who you are.
    pub challenges: Vec<String>,
}

/// Decides on one request.
pub fn decide<'a>(config: &'a Config, request: &Request<'_>) -> Decision<'a> {
    // Rules that need nobody's identity come first: what they forbid costs no signature.
    if let Some(rule) = config.deny.iter().find(|rule| rule.denies(request, None)) {
        return Decision::Refuse(forbidden_by(rule));
    }
    let allowed_anonymously = || config.allow.iter().any(|rule| rule.anonymous && rule.allows(request, None));
    let identity = match config.credentials.check(request) {
        Proof::Valid(identity) => Some(identity),
        Proof::NotAsked => None,
        _ if allowed_anonymously() => return allow(config, request, None),
        Proof::Missing => return Decision::Refuse(unauthorized(config, "auth_missing_credentials")),
        Proof::Wrong(reason) => return Decision::Refuse(unauthorized(config, reason)),
    };
    let asks_who = |rule: &&Rule| !rule.who.is_anybody();
    if let Some(rule) = config.deny.iter().filter(asks_who).find(|rule| rule.denies(request, identity.as_ref())) {
        return Decision::Refuse(forbidden_by(rule));
    }
    if !config.allow.is_empty() && !config.allow.iter().any(|rule| rule.allows(request, identity.as_ref())) {
        return Decision::Refuse(Refusal {
            status: 403,
            details: "auth_no_allow_rule".to_owned(),
            text: "forbidden: no rule allows this request\n".to_owned(),
            challenges: Vec::new(),
        });
    }
    allow(config, request, identity)
}

/// A token that nobody has verified never reaches the upstream, which might take it for a right one.
fn allow<'a>(config: &'a Config, request: &Request<'_>, identity: Option<Identity<'a>>) -> Decision<'a> {
    let is_verified = identity.as_ref().is_some_and(|identity| identity.token().is_some());
    let removed = |jwt: &&Jwt| !(is_verified && jwt.forward) && jwt.is_shown_in_header(request);
    let removed_header = config.credentials.jwt.as_ref().filter(removed).map(|jwt| jwt.header.as_str());
    Decision::Allow { identity, removed_header }
}

fn forbidden_by(rule: &Rule) -> Refusal {
    Refusal {
        status: 403,
        details: format!("auth_rule_{}", rule.name.replace('-', "_")),
        text: format!("forbidden by rule {}\n", rule.name),
        challenges: Vec::new(),
    }
}

fn unauthorized(config: &Config, reason: &str) -> Refusal {
    let words = reason.trim_start_matches("auth_").replace('_', " ");
    Refusal {
        status: 401,
        details: reason.to_owned(),
        text: format!("unauthorized: {words}\n"),
        challenges: config.credentials.challenges(reason),
    }
}
