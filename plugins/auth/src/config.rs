//! What the configuration says: JSON to checked values, every error reported.
//!
//! The fields are described in the README. Secrets given in plain are hashed here and forgotten.

use serde_json::Value;
use weir_sdk::config::{Fields, Refusal};

use crate::credentials::{self, ApiKey, ApiKeys, Basic, Credentials, Sha256Digest, User};
use crate::rules::{HeaderMatch, PathMatch, Rule, ValueMatch};

const DEFAULT_REALM: &str = "weir";
const DEFAULT_API_KEY_HEADER: &str = "x-api-key";

/// The longest name of a rule, in bytes: it stands in every refusal's log line.
const MAX_RULE_NAME: usize = 63;

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
}

impl TryFrom<Value> for Config {
    type Error = Refusal;

    fn try_from(json: Value) -> Result<Self, Refusal> {
        let mut root = Fields::root(json);
        let realm = root.text("realm").unwrap_or_else(|| DEFAULT_REALM.to_owned());
        if !realm.bytes().all(|byte| matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~')) {
            root.report("realm", "may hold visible ASCII without quotes and backslashes only");
        }
        let api_keys = root.object("apiKeys").map(read_api_keys);
        let basic = root.object("basic").map(read_basic);
        let mut config = Self { credentials: Credentials { realm, api_keys, basic }, ..Self::default() };
        let mut names: Vec<String> = Vec::new();
        for mut fields in root.objects("rules") {
            let (effect, rule) = read_rule(&mut fields, &names);
            names.push(rule.name.clone());
            match effect {
                Effect::Allow => config.allow.push(rule),
                Effect::Deny => config.deny.push(rule),
            }
        }
        if config.credentials.api_keys.is_none() && config.credentials.basic.is_none() && names.is_empty() {
            root.report_self("needs at least one of apiKeys, basic, rules; without them everything would pass");
        }
        root.finish()?;
        Ok(config)
    }
}

fn read_api_keys(mut fields: Fields) -> ApiKeys {
    let header = fields.text("header").unwrap_or_else(|| DEFAULT_API_KEY_HEADER.to_owned()).to_ascii_lowercase();
    check_header_name(&fields, "header", &header);
    let query = fields.text("query");
    let keys: Vec<ApiKey> = fields.objects("keys").into_iter().map(read_api_key).collect();
    if keys.is_empty() {
        fields.report("keys", "needs at least one key; without one nobody could pass");
    }
    for (index, key) in keys.iter().enumerate() {
        if keys[..index].iter().any(|earlier| earlier.digest == key.digest && key.digest != Sha256Digest::default()) {
            fields.report(&format!("keys[{index}]"), "is the same key as an earlier one");
        }
    }
    fields.close();
    ApiKeys { header, query, keys }
}

fn read_api_key(mut fields: Fields) -> ApiKey {
    let id = fields.required_text("id");
    check_consumer(&fields, "id", &id);
    let digest = match (fields.text("key"), fields.text("sha256")) {
        (Some(key), None) if key.is_empty() => report_secret(&fields, "key", "must not be empty"),
        (Some(key), None) => credentials::digest(b"", key.as_bytes()),
        (None, Some(hex)) => credentials::digest_from_hex(&hex)
            .unwrap_or_else(|| report_secret(&fields, "sha256", "must be 64 hexadecimal digits")),
        (None, None) => report_secret(&fields, "key", "is required, or sha256 in its place"),
        (Some(_), Some(_)) => report_secret(&fields, "key", "stands beside sha256; give one of them"),
    };
    fields.close();
    ApiKey { id, digest }
}

fn read_basic(mut fields: Fields) -> Basic {
    let users: Vec<User> = fields.objects("users").into_iter().map(read_user).collect();
    if users.is_empty() {
        fields.report("users", "needs at least one user; without one nobody could pass");
    }
    for (index, user) in users.iter().enumerate() {
        if users[..index].iter().any(|earlier| earlier.name == user.name && !user.name.is_empty()) {
            fields.report(&format!("users[{index}].name"), "is the name of an earlier user");
        }
    }
    fields.close();
    Basic { users }
}

fn read_user(mut fields: Fields) -> User {
    let name = fields.required_text("name");
    check_consumer(&fields, "name", &name);
    if name.contains(':') {
        fields.report("name", "must not hold a colon, which ends the name in HTTP basic");
    }
    let password = fields.required_text("password");
    let mut parts = password.splitn(3, ':');
    let (scheme, salt, hex) = (parts.next(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let digest = match credentials::digest_from_hex(hex) {
        Some(digest) if scheme == Some("sha256") && !salt.is_empty() => digest,
        _ if password.is_empty() => Sha256Digest::default(),
        _ => {
            report_secret(&fields, "password", "must be sha256:SALT:HEX, where HEX is the SHA-256 of SALT and password")
        }
    };
    fields.close();
    User { name, salt: salt.as_bytes().to_vec(), digest }
}

#[derive(Clone, Copy)]
enum Effect {
    Allow,
    Deny,
}

fn read_rule(fields: &mut Fields, earlier_names: &[String]) -> (Effect, Rule) {
    let name = fields.required_text("name");
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !name.is_empty() && (name.len() > MAX_RULE_NAME || !name.bytes().all(legal)) {
        fields.report("name", "may hold at most 63 of a-z, 0-9 and -");
    }
    if earlier_names.contains(&name) && !name.is_empty() {
        fields.report("name", "is the name of an earlier rule");
    }
    let effect = match fields.required_text("action").as_str() {
        "allow" => Effect::Allow,
        "deny" => Effect::Deny,
        "" => Effect::Deny, // Already reported.
        _ => {
            fields.report("action", "must be allow or deny");
            Effect::Deny
        }
    };
    let anonymous = fields.flag("anonymous");
    if anonymous && matches!(effect, Effect::Deny) {
        fields.report("anonymous", "is for allow rules; a deny rule is against everybody");
    }
    let methods = fields.texts("methods");
    for (index, method) in methods.iter().enumerate() {
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') {
            fields.report(&format!("methods[{index}]"), "must be a method in capital letters, like GET");
        }
    }
    let paths = fields.objects("paths").into_iter().filter_map(read_path).collect();
    let headers = fields.objects("headers").into_iter().filter_map(read_header).collect();
    fields.close();
    (effect, Rule { name, anonymous, methods, paths, headers })
}

fn read_path(mut fields: Fields) -> Option<PathMatch> {
    let path = match (fields.text("exact"), fields.text("prefix")) {
        (Some(exact), None) => Some(PathMatch::Exact(exact)),
        (None, Some(prefix)) => Some(PathMatch::Prefix(prefix)),
        _ => {
            fields.report_self("needs exactly one of exact, prefix");
            None
        }
    };
    if let Some(PathMatch::Exact(text) | PathMatch::Prefix(text)) = &path {
        if !text.starts_with('/') {
            fields.report_self("must begin with /");
        }
        if text.contains(['?', '#']) {
            fields.report_self("is compared without the query, so it must not hold ? or #");
        } else if crate::path::readings(text.as_bytes()).len() > 1 {
            fields.report_self("must be written plainly: without %XX, //, /./, /../, ; and \\");
        }
    }
    fields.close();
    path
}

fn read_header(mut fields: Fields) -> Option<HeaderMatch> {
    let name = fields.required_text("name").to_ascii_lowercase();
    check_header_name(&fields, "name", &name);
    let value = match (fields.text("exact"), fields.text("prefix"), fields.flag("present")) {
        (Some(exact), None, false) => Some(ValueMatch::Exact(exact)),
        (None, Some(prefix), false) => Some(ValueMatch::Prefix(prefix)),
        (None, None, true) => Some(ValueMatch::Present),
        _ => {
            fields.report_self("needs exactly one of exact, prefix, present: true");
            None
        }
    };
    fields.close();
    Some(HeaderMatch { name, value: value? })
}

fn check_consumer(fields: &Fields, name: &str, value: &str) {
    if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        fields.report(name, "is sent upstream as a header, so it may hold visible ASCII only");
    }
}

fn check_header_name(fields: &Fields, name: &str, value: &str) {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if !value.bytes().all(legal) {
        fields.report(name, "is not a legal header name");
    }
}

/// Reports an error and answers a digest that no secret has.
fn report_secret(fields: &Fields, name: &str, error: &str) -> Sha256Digest {
    fields.report(name, error);
    Sha256Digest::default()
}
