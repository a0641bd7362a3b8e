//! Reads the configuration: JSON to checked values. All errors are reported at once. The README documents the fields.

use serde_json::Value;
use weir_sdk::config::{ConfigErrors, FieldReader};
use weir_sdk::matching::{self, PathMatch, is_token};

use crate::bucket::{MAX_REQUESTS, Rate};
use crate::key::{KeyPart, MissingKey};
use crate::limits::{DEFAULT_KEYS, MAX_KEY_PARTS, MAX_KEYS, MAX_LIMITS, MAX_NAME};
use crate::matching::Match;
use crate::slot::MAX_ENTRIES;

/// The header in which `auth` sends the consumer.
const CONSUMER_HEADER: &str = "x-auth-consumer";

/// The prefix of headers in which `auth` sends claims, by the convention in the README.
const CLAIM_HEADER_PREFIX: &str = "x-auth-claim-";

const SECOND_NS: u64 = 1_000_000_000;

/// A checked configuration.
#[derive(Debug, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct Config {
    /// The limits, all of which a request must pass.
    pub limits: Vec<Limit>,
    /// The number of slots of each limit in shared data.
    pub slots: u64,
    /// True if responses get `ratelimit-…` headers.
    pub emit_headers: bool,
    /// The action on a request that cannot be counted.
    pub on_error: OnError,
}

/// A limit.
#[derive(Debug, PartialEq, Eq)]
pub struct Limit {
    /// The name, which is in responses and in the access log.
    pub name: String,
    /// The rate and the burst.
    pub rate: Rate,
    /// The values that are counted apart. Empty counts all requests together.
    pub key: Vec<KeyPart>,
    /// The action on a request without a value of the key.
    pub missing: MissingKey,
    /// The requests that are counted.
    pub filter: Match,
}

/// The action on a request that cannot be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// The request is rejected.
    Reject,
    /// The limit that cannot count is skipped.
    Allow,
}

impl TryFrom<Value> for Config {
    type Error = ConfigErrors;

    fn try_from(mut json: Value) -> Result<Self, ConfigErrors> {
        fill_defaults(&mut json);
        let mut root = FieldReader::root(json);
        let mut limits: Vec<Limit> = Vec::new();
        for mut fields in root.objects("limits") {
            let limit = read_limit(&mut fields, &limits);
            limits.push(limit);
        }
        if limits.is_empty() && root.is_clean() {
            root.report("limits", "needs at least one limit; without one everything would pass");
        }
        if limits.len() > MAX_LIMITS {
            root.report("limits", &format!("may hold at most {MAX_LIMITS} limits"));
        }
        let keys = root.number("maxKeys").unwrap_or(DEFAULT_KEYS);
        let entries = MAX_ENTRIES as u64;
        let most = MAX_KEYS / (limits.len().clamp(1, MAX_LIMITS) as u64);
        if !(entries..=most).contains(&keys) {
            root.report("maxKeys", &format!("must be from {entries} to {most} for this number of limits"));
        }
        let emit_headers = root.flag("headers");
        let on_error = match root.text("onError").as_deref() {
            None | Some("refuse") => OnError::Reject,
            Some("allow") => OnError::Allow,
            Some(_) => {
                root.report("onError", "must be refuse or allow");
                OnError::Reject
            }
        };
        root.finish()?;
        Ok(Self { limits, slots: keys.div_ceil(entries), emit_headers, on_error })
    }
}

/// Fills in `headers: true`, and `requests: 0`, which is reported as missing.
fn fill_defaults(json: &mut Value) {
    let Value::Object(root) = json else { return };
    if root.get("headers").is_none_or(Value::is_null) {
        root.insert("headers".to_owned(), Value::Bool(true));
    }
    for limit in root.get_mut("limits").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Value::Object(limit) = limit
            && limit.get("requests").is_none_or(Value::is_null)
        {
            limit.insert("requests".to_owned(), Value::from(0));
        }
    }
}

fn read_limit(fields: &mut FieldReader, earlier: &[Limit]) -> Limit {
    let name = fields.required_text("name");
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if !name.is_empty() && (name.len() > MAX_NAME || !name.bytes().all(legal)) {
        fields.report("name", &format!("may hold at most {MAX_NAME} of a-z, 0-9 and -"));
    }
    if !name.is_empty() && earlier.iter().any(|limit| limit.name == name) {
        fields.report("name", "is the name of an earlier limit");
    }
    let rate = read_rate(fields);
    let objects = fields.objects("key");
    if objects.len() > MAX_KEY_PARTS {
        fields.report("key", &format!("may hold at most {MAX_KEY_PARTS} values"));
    }
    let key: Vec<KeyPart> = objects.into_iter().filter_map(read_key_part).collect();
    let missing = match fields.text("missingKey").as_deref() {
        None | Some("share") => MissingKey::Share,
        Some("skip") => MissingKey::Skip,
        Some("refuse") => MissingKey::Reject,
        Some(_) => {
            fields.report("missingKey", "must be share, skip or refuse");
            MissingKey::Share
        }
    };
    let filter = fields.object("match").map(read_match).unwrap_or_default();
    fields.close();
    Limit { name, rate, key, missing, filter }
}

fn read_rate(fields: &mut FieldReader) -> Rate {
    let legal = 1..=MAX_REQUESTS;
    let requests = fields.number("requests").unwrap_or(1);
    match requests {
        0 => fields.report("requests", &format!("is required, from 1 to {MAX_REQUESTS}")),
        _ if !legal.contains(&requests) => fields.report("requests", &format!("must be from 1 to {MAX_REQUESTS}")),
        _ => {}
    }
    let period_ns = match fields.required_text("per").as_str() {
        "second" | "" => SECOND_NS, // An empty value is already reported.
        "minute" => 60 * SECOND_NS,
        "hour" => 3_600 * SECOND_NS,
        _ => {
            fields.report("per", "must be second, minute or hour");
            SECOND_NS
        }
    };
    let burst = fields.number("burst");
    if burst.is_some_and(|burst| !legal.contains(&burst)) {
        fields.report("burst", &format!("must be from 1 to {MAX_REQUESTS}"));
    }
    Rate::new(requests, period_ns, burst.unwrap_or(requests))
}

fn read_key_part(mut fields: FieldReader) -> Option<KeyPart> {
    let source = fields.text("source");
    let (header, claim) = (fields.text("header"), fields.text("claim"));
    let (consumer, path) = (fields.flag("consumer"), fields.flag("path"));
    let part = match (source, header, claim, consumer, path) {
        (Some(source), None, None, false, false) => {
            if source != "address" {
                fields.report("source", "must be address");
            }
            Some(KeyPart::Address)
        }
        (None, Some(header), None, false, false) => Some(header_key_part(&fields, "header", &header)),
        (None, None, Some(claim), false, false) => {
            let header = if claim.is_empty() { claim } else { format!("{CLAIM_HEADER_PREFIX}{claim}") };
            Some(header_key_part(&fields, "claim", &header))
        }
        (None, None, None, true, false) => Some(KeyPart::Header(CONSUMER_HEADER.to_owned())),
        (None, None, None, false, true) => Some(KeyPart::Path),
        _ => {
            fields.report_self(
                "needs exactly one of source: address, header: NAME, path: true, consumer: true, claim: NAME",
            );
            None
        }
    };
    fields.close();
    part
}

fn header_key_part(fields: &FieldReader, field: &str, header: &str) -> KeyPart {
    if header.is_empty() || !is_token(header) {
        fields.report(field, "is not a legal header name");
    }
    KeyPart::Header(header.to_ascii_lowercase())
}

fn read_match(mut fields: FieldReader) -> Match {
    let methods = matching::methods(&mut fields);
    let objects = fields.objects("paths");
    if methods.is_empty() && objects.is_empty() {
        fields.report_self("needs methods or paths; leave it out for a limit on every request");
    }
    let paths = objects.into_iter().flat_map(read_path).collect();
    fields.close();
    Match { methods, paths }
}

/// Reads a path. A path with several readings becomes two: the configured spelling, and the lenient reading, which other
/// spellings have.
fn read_path(mut fields: FieldReader) -> impl Iterator<Item = PathMatch> {
    let path = PathMatch::read(&mut fields);
    fields.close();
    let lenient = path.as_ref().and_then(PathMatch::lenient);
    path.into_iter().chain(lenient)
}
