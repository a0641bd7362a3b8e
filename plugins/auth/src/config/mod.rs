//! Reads the configuration: JSON to checked values. All errors are reported at once.
//!
//! The README documents the fields. Secrets in plain text are hashed here, and the plain text is dropped.

mod credentials;
mod jwt;
mod names;
mod rules;

use serde_json::Value;
use weir_sdk::config::{ConfigErrors, FieldReader};

pub use names::CONSUMER_HEADER;

use crate::credentials::Credentials;
use crate::peer::PeerFields;
use crate::rules::Rule;
use names::is_same_name;
use rules::Effect;

const DEFAULT_REALM: &str = "weir";

/// A checked configuration.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct Config {
    /// The accepted credentials.
    pub credentials: Credentials,
    /// The deny rules.
    pub deny: Vec<Rule>,
    /// The allow rules. If there is at least one, a request that matches none is denied.
    pub allow: Vec<Rule>,
    /// True if denials are counted and logged, but not enforced.
    pub dry_run: bool,
    /// Headers that only this filter may set, in lower case.
    own_headers: Vec<String>,
}

impl Config {
    /// Returns the properties of the peer that at least one rule matches on.
    pub fn peer_fields(&self) -> PeerFields {
        let mut rules = self.deny.iter().chain(&self.allow);
        let principal = rules.clone().any(|rule| !rule.principals.is_empty());
        PeerFields { principal, address: rules.any(|rule| !rule.ip_blocks.is_empty()) }
    }

    /// Returns whether a header of the downstream is removed, since the upstream would take it for one of this filter.
    pub fn removes_header(&self, name: &[u8]) -> bool {
        // An upstream might read another spelling of the token's header in the place of the header itself.
        let is_mistakable = |header: &str| {
            header.contains('-') && is_same_name(header, name) && !header.as_bytes().eq_ignore_ascii_case(name)
        };
        self.own_headers.iter().any(|own| is_same_name(own, name))
            || self.credentials.jwt.as_ref().is_some_and(|jwt| is_mistakable(&jwt.location.header))
    }
}

impl TryFrom<Value> for Config {
    type Error = ConfigErrors;

    fn try_from(json: Value) -> Result<Self, ConfigErrors> {
        let mut root = FieldReader::root(json);
        let realm = root.text("realm").unwrap_or_else(|| DEFAULT_REALM.to_owned());
        if !realm.bytes().all(|byte| matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~')) {
            root.report("realm", "may hold visible ASCII without quotes and backslashes only");
        }
        let dry_run = root.flag("dryRun");
        let jwt = root.object("jwt").map(jwt::read_jwt);
        let api_keys = root.object("apiKeys").map(credentials::read_api_keys);
        let basic = root.object("basic").map(credentials::read_basic);
        let credentials = Credentials { realm, jwt, api_keys, basic };
        let own_headers = own_headers(&credentials);
        let mut config = Self { credentials, own_headers, dry_run, ..Self::default() };
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
        if !config.credentials.are_configured() && names.is_empty() {
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
    /// Reports conditions of a rule that no request can meet.
    fn check_rule(&self, rule: &Rule, fields: &FieldReader) {
        for (index, header) in rule.headers.iter().enumerate() {
            if self.removes_header(header.name.as_bytes()) {
                let field = format!("headers[{index}].name");
                fields.report(&field, "is removed from every request; match on consumers or claims in its place");
            }
        }
        if !rule.identity.is_empty() && !self.credentials.are_configured() {
            fields.report_self("matches on an identity, which needs jwt, apiKeys or basic");
        }
        let providers = self.credentials.jwt.as_ref().map(|jwt| jwt.providers.as_slice()).unwrap_or_default();
        if !rule.identity.claims.is_empty() && providers.is_empty() {
            fields.report("claims", "needs jwt");
        }
        for (index, issuer) in rule.identity.issuers.iter().enumerate() {
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
