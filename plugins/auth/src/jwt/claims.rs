//! The claims of a verified token: its times, its subject, and the values for rules and headers.

use serde_json::{Map, Value};

use super::policy::{SubjectPolicy, TokenPolicy};
use super::provider::Provider;
use super::reason::{CLAIM_TOO_LONG, DenyReason};

/// The end of the year 9999, in seconds since 1970. A later time is invalid.
const MAX_SECONDS: u64 = 253_402_300_799;

/// A token with a valid signature, issuer and audience.
#[derive(Debug)]
pub struct Verified {
    /// The issuer: `iss`.
    pub issuer: String,
    /// The subject: `sub`. `None` if the token has none and none is required.
    pub consumer: Option<String>,
    /// Names and values of the headers for the upstream.
    pub headers: Vec<(String, String)>,
    claims: Map<String, Value>,
    times: Times,
}

/// The times of a token, in seconds since 1970.
#[derive(Debug)]
struct Times {
    expires: u64,
    not_before: Option<u64>,
    issued: Option<u64>,
}

impl Verified {
    /// Reads the claims of a token whose signature is verified.
    pub(super) fn from_claims(
        claims: Map<String, Value>,
        provider: &Provider,
        policy: &TokenPolicy,
    ) -> Result<Self, DenyReason> {
        check_audience(&claims, &provider.audiences)?;
        let times = Times {
            expires: seconds(&claims, "exp")?.ok_or("auth_jwt_missing_expiry")?,
            not_before: seconds(&claims, "nbf")?,
            issued: seconds(&claims, "iat")?,
        };
        let max_bytes = policy.header_bytes;
        let consumer = match (claims.get("sub"), policy.subject) {
            (None, SubjectPolicy::Required) => return Err("auth_jwt_missing_subject"),
            (None | Some(Value::Null), SubjectPolicy::Optional) => None,
            (Some(Value::String(subject)), SubjectPolicy::Optional) if subject.is_empty() => None,
            (Some(Value::String(subject)), _) if subject.len() > max_bytes => return Err(CLAIM_TOO_LONG),
            (Some(Value::String(subject)), _) if is_consumer(subject) => Some(subject.clone()),
            (Some(_), _) => return Err("auth_jwt_wrong_claim"),
        };
        let mut headers = Vec::new();
        for wanted in &provider.headers {
            let mut readings = readings(&claims, &wanted.claim);
            if let Some(value) = readings.next() {
                let text = header_value(value).ok_or("auth_jwt_wrong_claim")?;
                if text.len() > max_bytes {
                    return Err(CLAIM_TOO_LONG);
                }
                headers.push((wanted.header.clone(), text));
            }
            if readings.next().is_some() {
                return Err("auth_jwt_wrong_claim"); // Two readings would give two different headers.
            }
        }
        Ok(Self { issuer: provider.issuer.clone(), consumer, headers, claims, times })
    }

    /// Checks that the token is valid at `now`. Clocks may differ by `leeway` seconds.
    pub(super) fn check_times(&self, now: u64, leeway: u64) -> Result<(), DenyReason> {
        if now >= self.times.expires + leeway {
            return Err("auth_jwt_expired");
        }
        if self.times.not_before.is_some_and(|start| start > now + leeway) {
            return Err("auth_jwt_not_yet_valid");
        }
        if self.times.issued.is_some_and(|issued| issued > now + leeway) {
            return Err("auth_jwt_issued_in_future");
        }
        Ok(())
    }

    /// Returns the values that `name` may mean: the claim with exactly this name, and the nested claim of its dots.
    pub fn readings<'v>(&'v self, name: &'v str) -> impl Iterator<Item = &'v Value> {
        readings(&self.claims, name)
    }
}

fn readings<'v>(claims: &'v Map<String, Value>, name: &'v str) -> impl Iterator<Item = &'v Value> {
    let direct = claims.get(name);
    let nested = name.split_once('.').and_then(|(first, rest)| {
        rest.split('.').try_fold(claims.get(first)?, |value, name| value.as_object()?.get(name))
    });
    direct.into_iter().chain(nested).filter(|value| !value.is_null())
}

/// Checks `aud` (RFC 7519 §4.1.3), which is a string or a list of strings. An empty `accepted` accepts any audience.
fn check_audience(claims: &Map<String, Value>, accepted: &[String]) -> Result<(), DenyReason> {
    let is_accepted = |text: &str| accepted.iter().any(|audience| audience == text);
    let found = match claims.get("aud") {
        None => false,
        Some(Value::String(text)) => is_accepted(text),
        Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
            list.iter().filter_map(Value::as_str).any(is_accepted)
        }
        Some(_) => return Err("auth_jwt_wrong_claim"),
    };
    if found || accepted.is_empty() { Ok(()) } else { Err("auth_jwt_wrong_audience") }
}

/// Reads a NumericDate (RFC 7519 §2) in whole seconds, without its fraction.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, DenyReason> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "out of range becomes the nearest")]
    let whole = |number: f64| (number >= 0.0).then_some(number as u64);
    let seconds = value.as_u64().or_else(|| value.as_f64().and_then(whole));
    seconds.filter(|&seconds| seconds <= MAX_SECONDS).map(Some).ok_or("auth_jwt_wrong_claim")
}

/// Returns whether a subject can name a consumer: text without control characters.
fn is_consumer(subject: &str) -> bool {
    !subject.is_empty() && !subject.chars().any(char::is_control)
}

/// Returns a claim as the value of a header: a string, number or boolean, or a list of them joined by commas.
fn header_value(value: &Value) -> Option<String> {
    let text = match value {
        Value::Array(list) => {
            let mut joined = String::new();
            for element in list {
                let text = scalar(element).filter(|text| !text.is_empty() && !text.contains(','))?;
                if !joined.is_empty() {
                    joined.push(',');
                }
                joined.push_str(&text);
            }
            joined
        }
        other => scalar(other)?,
    };
    // RFC 9110 §5.5: text outside ASCII is `obs-text`; it is sent upstream as UTF-8.
    let legal = text.trim_ascii() == text && !text.chars().any(char::is_control);
    legal.then_some(text)
}

/// Returns a string, integer or boolean as text. A number with a fraction has no unique text, so it returns `None`.
pub fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        // Integers only, so that the code that formats fractions stays out of the module.
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Some(number.to_string()),
            (None, Some(number)) => Some(number.to_string()),
            (None, None) => None,
        },
        _ => None,
    }
}
