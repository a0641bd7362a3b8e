//! What the configuration says: JSON to checked values, every error reported. The fields are described in the README.

use serde_json::Value;
use weir_sdk::config::{Fields, Refusal};
use weir_sdk::matching::{self, PathMatch, is_token};

use crate::bucket::{MAX_REQUESTS, Rate};
use crate::key::{MissingKey, Part};
use crate::limits::{DEFAULT_KEYS, MAX_KEY_PARTS, MAX_KEYS, MAX_LIMITS, MAX_NAME};
use crate::matching::Match;
use crate::slot::MAX_ENTRIES;

/// The header in which `auth` tells the consumer.
const CONSUMER_HEADER: &str = "x-auth-consumer";

/// The headers in which `auth` is to tell claims begin so, by the convention in the README.
const CLAIM_HEADER_PREFIX: &str = "x-auth-claim-";

const SECOND_NS: u64 = 1_000_000_000;

/// A checked configuration.
#[derive(Debug, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct Config {
    /// All of them hold.
    pub limits: Vec<Limit>,
    /// Values of shared data for each limit.
    pub slots: u64,
    /// Whether allowed requests are told where they stand.
    pub tell: bool,
    /// What becomes of a request that cannot be counted.
    pub on_error: OnError,
}

/// One limit.
#[derive(Debug, PartialEq, Eq)]
pub struct Limit {
    /// Stands in answers and in the access log.
    pub name: String,
    /// How many.
    pub rate: Rate,
    /// What requests are counted by; nothing: all together.
    pub key: Vec<Part>,
    /// What becomes of a request that lacks a value of the key.
    pub missing: MissingKey,
    /// Which requests are counted.
    pub matches: Match,
}

/// What becomes of a request that cannot be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// It is refused.
    Refuse,
    /// The limit that cannot be asked is left out.
    Allow,
}

impl TryFrom<Value> for Config {
    type Error = Refusal;

    fn try_from(mut json: Value) -> Result<Self, Refusal> {
        fill_defaults(&mut json);
        let mut root = Fields::root(json);
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
        let tell = root.flag("headers");
        let on_error = match root.text("onError").as_deref() {
            None | Some("refuse") => OnError::Refuse,
            Some("allow") => OnError::Allow,
            Some(_) => {
                root.report("onError", "must be refuse or allow");
                OnError::Refuse
            }
        };
        root.finish()?;
        Ok(Self { limits, slots: keys.div_ceil(entries), tell, on_error })
    }
}

/// `headers` is true where it is left out, and `requests` 0, which is reported as missing.
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

fn read_limit(fields: &mut Fields, earlier: &[Limit]) -> Limit {
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
    let key: Vec<Part> = objects.into_iter().filter_map(read_part).collect();
    let missing = match fields.text("missingKey").as_deref() {
        None | Some("share") => MissingKey::Share,
        Some("skip") => MissingKey::Skip,
        Some("refuse") => MissingKey::Refuse,
        Some(_) => {
            fields.report("missingKey", "must be share, skip or refuse");
            MissingKey::Share
        }
    };
    let matches = fields.object("match").map(read_match).unwrap_or_default();
    fields.close();
    Limit { name, rate, key, missing, matches }
}

fn read_rate(fields: &mut Fields) -> Rate {
    let legal = 1..=MAX_REQUESTS;
    let requests = fields.number("requests").unwrap_or(1);
    match requests {
        0 => fields.report("requests", &format!("is required, from 1 to {MAX_REQUESTS}")),
        _ if !legal.contains(&requests) => fields.report("requests", &format!("must be from 1 to {MAX_REQUESTS}")),
        _ => {}
    }
    let period_ns = match fields.required_text("per").as_str() {
        "second" | "" => SECOND_NS, // Nothing is reported already.
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

fn read_part(mut fields: Fields) -> Option<Part> {
    let source = fields.text("source");
    let (header, claim) = (fields.text("header"), fields.text("claim"));
    let (consumer, path) = (fields.flag("consumer"), fields.flag("path"));
    let part = match (source, header, claim, consumer, path) {
        (Some(source), None, None, false, false) => {
            if source != "address" {
                fields.report("source", "must be address");
            }
            Some(Part::Address)
        }
        (None, Some(header), None, false, false) => Some(header_part(&fields, "header", &header)),
        (None, None, Some(claim), false, false) => {
            let header = if claim.is_empty() { claim } else { format!("{CLAIM_HEADER_PREFIX}{claim}") };
            Some(header_part(&fields, "claim", &header))
        }
        (None, None, None, true, false) => Some(Part::Header(CONSUMER_HEADER.to_owned())),
        (None, None, None, false, true) => Some(Part::Path),
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

fn header_part(fields: &Fields, field: &str, header: &str) -> Part {
    if header.is_empty() || !is_token(header) {
        fields.report(field, "is not a legal header name");
    }
    Part::Header(header.to_ascii_lowercase())
}

fn read_match(mut fields: Fields) -> Match {
    let methods = matching::methods(&mut fields);
    let objects = fields.objects("paths");
    if methods.is_empty() && objects.is_empty() {
        fields.report_self("needs methods or paths; leave it out for a limit on every request");
    }
    let paths = objects.into_iter().filter_map(read_path).collect();
    fields.close();
    Match { methods, paths }
}

fn read_path(mut fields: Fields) -> Option<PathMatch> {
    let path = PathMatch::read(&mut fields);
    fields.close();
    path
}
