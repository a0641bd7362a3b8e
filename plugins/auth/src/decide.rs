//! The decision on one request, from plain values: no host, no SDK calls.
//!
//! ```text
//!  a deny rule matches ────────────────────────────► 403 auth_rule_NAME
//!  an allow rule with `anonymous` matches ─────────► allowed
//!  keys or users are configured and none is shown ─► 401 auth_missing_credentials
//!                                 a wrong one ─────► 401 auth_invalid_…
//!  there are allow rules and none matches ─────────► 403 auth_no_allow_rule
//!  otherwise ──────────────────────────────────────► allowed
//! ```

use crate::config::Config;
use crate::credentials::Proof;
use crate::request::Request;
use crate::rules::Rule;

/// May it pass?
#[derive(Debug, PartialEq, Eq)]
pub enum Decision<'a> {
    /// Yes.
    Allow {
        /// Who it is, if that was asked for.
        consumer: Option<&'a str>,
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
    if let Some(rule) = config.deny.iter().find(|rule| rule.denies(request)) {
        return Decision::Refuse(forbidden_by(rule));
    }
    let proof = config.credentials.check(request);
    let allowed_anonymously = || config.allow.iter().any(|rule| rule.anonymous && rule.allows(request));
    let consumer = match proof {
        Proof::Valid(consumer) => Some(consumer),
        Proof::NotAsked => None,
        _ if allowed_anonymously() => return Decision::Allow { consumer: None },
        Proof::Missing => return Decision::Refuse(unauthorized(config, "auth_missing_credentials")),
        Proof::Wrong(reason) => return Decision::Refuse(unauthorized(config, reason)),
    };
    if !config.allow.is_empty() && !config.allow.iter().any(|rule| rule.allows(request)) {
        return Decision::Refuse(Refusal {
            status: 403,
            details: "auth_no_allow_rule".to_owned(),
            text: "forbidden: no rule allows this request\n".to_owned(),
            challenges: Vec::new(),
        });
    }
    Decision::Allow { consumer }
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
        challenges: config.credentials.challenges(),
    }
}
