//! What the configuration says: JSON to checked values, every error reported.
//!
//! The fields are described in the README. Secrets given in plain are hashed here and forgotten.

mod credentials;
mod jwt;
mod rules;

use serde_json::Value;
use weir_sdk::config::{Fields, Refusal};
use weir_sdk::matching::is_token;

use crate::credentials::Credentials;
use crate::rules::Rule;
use rules::Effect;

/// Tells the upstream who was let in. Never let through from outside.
pub const CONSUMER_HEADER: &str = "x-auth-consumer";

const DEFAULT_REALM: &str = "weir";

/// A checked configuration.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct Config {
    /// Ways to prove who you are.
    pub credentials: Credentials,
    /// Rules that forbid.
    pub deny: Vec<Rule>,
    /// Rules that permit; if there is one, everything else is forbidden.
    pub allow: Vec<Rule>,
    /// What would be refused is only told.
    pub shadow: bool,
    /// Headers that only this filter may set, in lower case.
    own_headers: Vec<String>,
}

impl Config {
    /// Whether a rule asks which workload is at the other end, and whether one asks for its address.
    pub fn asks_for_peer(&self) -> (bool, bool) {
        let mut rules = self.deny.iter().chain(&self.allow);
        let workload = rules.clone().any(|rule| !rule.workloads.is_empty());
        (workload, rules.any(|rule| !rule.networks.is_empty()))
    }

    /// Whether a header that comes from outside is taken out, because the upstream would take it for ours.
    pub fn removes_header(&self, name: &[u8]) -> bool {
        // Another spelling of the token's header is nobody's, but an upstream might read it in the token's place.
        let is_mistakable = |header: &str| {
            header.contains('-') && is_same_name(header, name) && !header.as_bytes().eq_ignore_ascii_case(name)
        };
        self.own_headers.iter().any(|own| is_same_name(own, name))
            || self.credentials.jwt.as_ref().is_some_and(|jwt| is_mistakable(&jwt.header))
    }
}

impl TryFrom<Value> for Config {
    type Error = Refusal;

    fn try_from(json: Value) -> Result<Self, Refusal> {
        let mut root = Fields::root(json);
        let realm = root.text("realm").unwrap_or_else(|| DEFAULT_REALM.to_owned());
        if !realm.bytes().all(|byte| matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~')) {
            root.report("realm", "may hold visible ASCII without quotes and backslashes only");
        }
        let shadow = root.flag("shadow");
        let jwt = root.object("jwt").map(jwt::read_jwt);
        let api_keys = root.object("apiKeys").map(credentials::read_api_keys);
        let basic = root.object("basic").map(credentials::read_basic);
        let credentials = Credentials { realm, jwt, api_keys, basic };
        let own_headers = own_headers(&credentials);
        let mut config = Self { credentials, own_headers, shadow, ..Self::default() };
        let mut names: Vec<String> = Vec::new();
        for mut fields in root.objects("rules") {
            let (effect, rule) = rules::read_rule(&mut fields, &names);
            config.check_rule(&rule, &fields);
            names.push(rule.name.clone());
            match effect {
                Effect::Allow => config.allow.push(rule),
                Effect::Deny => config.deny.push(rule),
            }
        }
        if !config.credentials.are_asked() && names.is_empty() {
            root.report_self("needs at least one of jwt, apiKeys, basic, rules; without them everything would pass");
        }
        let key_header = config.credentials.api_keys.as_ref().map(|keys| keys.header.as_str());
        if key_header.is_some_and(|header| config.removes_header(header.as_bytes())) {
            root.report("apiKeys.header", "is removed from every request, because this filter sets it");
        }
        root.finish()?;
        Ok(config)
    }
}

impl Config {
    /// What a rule says that can never be.
    fn check_rule(&self, rule: &Rule, fields: &Fields) {
        for (index, header) in rule.headers.iter().enumerate() {
            if self.removes_header(header.name.as_bytes()) {
                let field = format!("headers[{index}].name");
                fields.report(&field, "is removed from every request; ask for consumers or claims in its place");
            }
        }
        if !rule.who.is_anybody() && !self.credentials.are_asked() {
            fields.report_self("asks who it is, which needs jwt, apiKeys or basic");
        }
        let providers = self.credentials.jwt.as_ref().map(|jwt| jwt.providers.as_slice()).unwrap_or_default();
        if !rule.who.claims.is_empty() && providers.is_empty() {
            fields.report("claims", "needs jwt");
        }
        for (index, issuer) in rule.who.issuers.iter().enumerate() {
            if !providers.iter().any(|provider| provider.issuer == *issuer) {
                fields.report(&format!("issuers[{index}]"), "is the issuer of no provider");
            }
        }
    }
}

fn own_headers(credentials: &Credentials) -> Vec<String> {
    let mut own = vec![CONSUMER_HEADER.to_owned()];
    for provider in credentials.jwt.iter().flat_map(|jwt| &jwt.providers) {
        own.extend(provider.headers.iter().map(|claim| claim.header.clone()));
    }
    own
}

/// Upstreams that turn header names into variables cannot tell `x_auth_consumer` from `x-auth-consumer`.
fn is_same_name(left: &str, right: &[u8]) -> bool {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    left.len() == right.len() && left.bytes().map(plain).eq(right.iter().copied().map(plain))
}

fn check_consumer(fields: &Fields, name: &str, value: &str) {
    if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        fields.report(name, "is sent upstream as a header, so it may hold visible ASCII only");
    }
}

fn check_header_name(fields: &Fields, name: &str, value: &str) {
    if !is_token(value) {
        fields.report(name, "is not a legal header name");
    }
}
