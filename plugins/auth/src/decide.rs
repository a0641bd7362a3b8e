//! The decision on one request, from plain values. It calls neither the host nor the SDK.
//!
//! ```text
//!  a deny rule matches ─────────────────────────────────► 403 auth_rule_NAME
//!  an allow rule with `anonymous` matches ──────────────► allowed
//!  credentials are configured, the request has none ────► 401 auth_missing_credentials
//!                       the request has invalid ones ───► 401 auth_jwt_… auth_invalid_…
//!  a deny rule on the identity matches ─────────────────► 403 auth_rule_NAME
//!  there are allow rules and none matches ──────────────► 403 auth_no_allow_rule
//!  otherwise ───────────────────────────────────────────► allowed
//! ```

use crate::config::Config;
use crate::credentials::AuthOutcome;
use crate::identity_match::Identity;
use crate::jwt::Jwt;
use crate::request::Request;
use crate::rules::Rule;

/// The decision on a request.
#[derive(Debug)]
pub enum Decision<'a> {
    /// The request passes.
    Allow {
        /// The authenticated identity. `None` if no credentials are required.
        identity: Option<Identity<'a>>,
        /// The header to remove, since it has a token that the upstream must not receive.
        removed_header: Option<&'a str>,
    },
    /// The request is denied.
    Deny(Denial),
}

/// The response to a denied request.
#[derive(Debug, PartialEq, Eq)]
pub struct Denial {
    /// 401 or 403.
    pub status: u16,
    /// The reason as one word, for the access log.
    pub details: String,
    /// The body of the response.
    pub text: String,
    /// The `www-authenticate` values of a 401: the accepted credentials.
    pub challenges: Vec<String>,
    /// The limit of the filter that the credentials exceed, with the name of its option.
    pub limit: Option<String>,
}

impl Denial {
    /// Returns the reason for the log, with the exceeded limit.
    pub fn log_reason(&self) -> String {
        self.limit.as_ref().map_or_else(|| self.details.clone(), |limit| format!("{} ({limit})", self.details))
    }
}

/// Decides on one request.
pub fn decide<'a>(config: &'a Config, request: &Request<'_>) -> Decision<'a> {
    // Rules that match on no identity come first, so that a request that they deny costs no signature.
    if let Some(rule) = config.deny.iter().find(|rule| rule.denies(request, None)) {
        return Decision::Deny(forbidden_by(rule));
    }
    let allowed_anonymously = || config.allow.iter().any(|rule| rule.anonymous && rule.allows(request, None));
    let identity = match config.credentials.check(request) {
        AuthOutcome::Valid(identity) => Some(identity),
        AuthOutcome::NotConfigured => None,
        _ if allowed_anonymously() => return allow(config, request, None),
        AuthOutcome::Missing => return Decision::Deny(unauthorized(config, "auth_missing_credentials", request)),
        AuthOutcome::Invalid(reason) => return Decision::Deny(unauthorized(config, reason, request)),
    };
    let needs_identity = |rule: &&Rule| !rule.identity.is_empty();
    if let Some(rule) = config.deny.iter().filter(needs_identity).find(|rule| rule.denies(request, identity.as_ref())) {
        return Decision::Deny(forbidden_by(rule));
    }
    if !config.allow.is_empty() && !config.allow.iter().any(|rule| rule.allows(request, identity.as_ref())) {
        return Decision::Deny(Denial {
            status: 403,
            details: "auth_no_allow_rule".to_owned(),
            text: "forbidden: no rule allows this request\n".to_owned(),
            challenges: Vec::new(),
            limit: None,
        });
    }
    allow(config, request, identity)
}

/// Allows the request. Removes an unverified token, since the upstream might take it for a valid one.
fn allow<'a>(config: &'a Config, request: &Request<'_>, identity: Option<Identity<'a>>) -> Decision<'a> {
    let is_verified = identity.as_ref().is_some_and(|identity| identity.token().is_some());
    let removed = |jwt: &&Jwt| !(is_verified && jwt.forward) && jwt.location.is_in_header(request);
    let removed_header = config.credentials.jwt.as_ref().filter(removed).map(|jwt| jwt.location.header.as_str());
    Decision::Allow { identity, removed_header }
}

fn forbidden_by(rule: &Rule) -> Denial {
    Denial {
        status: 403,
        details: format!("auth_rule_{}", rule.name.replace('-', "_")),
        text: format!("forbidden by rule {}\n", rule.name),
        challenges: Vec::new(),
        limit: None,
    }
}

fn unauthorized(config: &Config, reason: &'static str, request: &Request<'_>) -> Denial {
    let limit = config.credentials.jwt.as_ref().and_then(|jwt| jwt.exceeded_limit(reason, request));
    let words = limit.clone().unwrap_or_else(|| reason.trim_start_matches("auth_").replace('_', " "));
    Denial {
        status: 401,
        details: reason.to_owned(),
        text: format!("unauthorized: {words}\n"),
        challenges: config.credentials.challenges(reason),
        limit,
    }
}
