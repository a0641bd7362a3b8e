//! What a right token says: its times, who it is about, and its claims as rules and headers see them.

use serde_json::{Map, Value};

use super::{Provider, Reason};

/// The end of the year 9999. A later time is a mistake, or an attempt to make a token that never ends.
const MAX_SECONDS: u64 = 253_402_300_799;

/// The longest value of a header made of a claim, in bytes.
const MAX_HEADER_BYTES: usize = 2048;

/// A token whose signature, issuer and audience are right.
#[derive(Debug)]
pub struct Verified {
    /// Who signed it.
    pub issuer: String,
    /// Who it is about: `sub`.
    pub consumer: String,
    /// For the upstream: names and values.
    pub headers: Vec<(String, String)>,
    claims: Map<String, Value>,
    times: Times,
}

/// In seconds since 1970.
#[derive(Debug)]
struct Times {
    expires: u64,
    not_before: Option<u64>,
    issued: Option<u64>,
}

impl Verified {
    /// What the claims say, after the signature was found right.
    pub(super) fn of(claims: Map<String, Value>, provider: &Provider) -> Result<Self, Reason> {
        check_audience(&claims, &provider.audiences)?;
        let times = Times {
            expires: seconds(&claims, "exp")?.ok_or("auth_jwt_missing_expiry")?,
            not_before: seconds(&claims, "nbf")?,
            issued: seconds(&claims, "iat")?,
        };
        let consumer = match claims.get("sub") {
            None => return Err("auth_jwt_missing_subject"),
            Some(Value::String(subject)) if is_consumer(subject) => subject.clone(),
            Some(_) => return Err("auth_jwt_wrong_claim"),
        };
        let mut headers = Vec::new();
        for wanted in &provider.headers {
            let mut readings = readings(&claims, &wanted.claim);
            if let Some(value) = readings.next() {
                let text = header_value(value).ok_or("auth_jwt_wrong_claim")?;
                headers.push((wanted.header.clone(), text));
            }
            if readings.next().is_some() {
                return Err("auth_jwt_wrong_claim"); // Nobody can say which of them is meant.
            }
        }
        Ok(Self { issuer: provider.issuer.clone(), consumer, headers, claims, times })
    }

    /// Whether it is valid now. Clocks may differ by `leeway`.
    pub(super) fn check_times(&self, now: u64, leeway: u64) -> Result<(), Reason> {
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

    /// The values that `name` may mean: the claim of that very name, and the one that its dots lead to.
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

/// RFC 7519 §4.1.3: one text or a list of texts. No listed audience means any.
fn check_audience(claims: &Map<String, Value>, accepted: &[String]) -> Result<(), Reason> {
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

/// RFC 7519 §2: a number of seconds, which may have a fraction; that is cut off.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, Reason> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "out of range becomes the nearest")]
    let whole = |number: f64| (number >= 0.0).then_some(number as u64);
    let seconds = value.as_u64().or_else(|| value.as_f64().and_then(whole));
    seconds.filter(|&seconds| seconds <= MAX_SECONDS).map(Some).ok_or("auth_jwt_wrong_claim")
}

/// Whether a header can carry it without a doubt.
fn is_consumer(subject: &str) -> bool {
    !subject.is_empty() && subject.len() <= MAX_HEADER_BYTES && subject.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A claim as a header: texts, numbers, true and false, and lists of them with commas.
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
    // RFC 9110 §5.5. What is not ASCII is `obs-text` there, and reaches the upstream as UTF-8.
    let legal = text.len() <= MAX_HEADER_BYTES && text.trim_ascii() == text && !text.chars().any(char::is_control);
    legal.then_some(text)
}

/// A single value as text. Numbers with a fraction can be written in many ways, so they have none.
pub fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(flag) => Some(flag.to_string()),
        // Written as integers only, so that the code that prints fractions stays out of the module.
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Some(number.to_string()),
            (None, Some(number)) => Some(number.to_string()),
            (None, None) => None,
        },
        _ => None,
    }
}
