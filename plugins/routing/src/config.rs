//! What the configuration says: JSON to checked values, every error reported. The fields are described in the README.

use serde_json::Value;
use weir_sdk::config::{Fields, Refusal};
use weir_sdk::matching::is_token;

use crate::bucket::BUCKETS;

/// How long a cookie that the filter sets lives, unless the configuration says otherwise: thirty days.
const DEFAULT_MAX_AGE_SECONDS: u64 = 30 * 24 * 3600;

/// Browsers cap a cookie's life at 400 days.
const MAX_MAX_AGE_SECONDS: u64 = 400 * 24 * 3600;

/// The most rules; each is looked at for each request.
const MAX_RULES: usize = 64;

/// How the proxy is told. It takes the header from nobody outside and shows it to no upstream; where another proxy runs
/// this filter, the first half is done here: no rule can ask for it, and it is replaced or removed.
pub const MARK: &str = "x-weir-target";

/// A checked configuration.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct Config {
    /// The rules, in order.
    pub rules: Vec<Rule>,
}

/// Which requests go where.
#[derive(Debug)]
pub struct Rule {
    /// Its name; users are divided anew for each name.
    pub name: String,
    /// All of these headers.
    pub headers: Vec<ValueMatch>,
    /// All of these cookies.
    pub cookies: Vec<ValueMatch>,
    /// Where they go.
    pub split: Split,
}

/// Where the requests of a rule go.
#[derive(Debug)]
pub enum Split {
    /// All of them to one target.
    All(String),
    /// Some users here, some there, the rest on to the next rule.
    Shares {
        /// Who is the same user.
        sticky: Sticky,
        /// How many buckets of users, and their target.
        shares: Vec<(u32, String)>,
    },
}

/// Who is the same user.
#[derive(Debug)]
pub struct Sticky {
    /// What tells users apart.
    pub by: Source,
    /// How long a cookie that the filter sets lives.
    pub max_age_seconds: u64,
}

/// What tells users apart.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    /// A cookie; set by the filter for a user without one.
    Cookie(String),
    /// A header; without it the rule is passed over.
    Header(String),
    /// The address of the downstream.
    Address,
}

/// A header or cookie with a value.
#[derive(Debug)]
pub struct ValueMatch {
    /// Its name; a header's in lower case.
    pub name: String,
    /// Exactly this; `None` is any value.
    pub exact: Option<String>,
}

impl ValueMatch {
    /// Whether a value is as wanted.
    pub fn accepts(&self, value: &[u8]) -> bool {
        self.exact.as_ref().is_none_or(|exact| exact.as_bytes() == value)
    }
}

impl TryFrom<Value> for Config {
    type Error = Refusal;

    fn try_from(json: Value) -> Result<Self, Refusal> {
        let mut root = Fields::root(json);
        let mut rules: Vec<Rule> = Vec::new();
        for mut fields in root.objects("rules") {
            let rule = read_rule(&mut fields);
            if !rule.name.is_empty() && rules.iter().any(|earlier| earlier.name == rule.name) {
                fields.report("name", "is the name of an earlier rule");
            }
            fields.close();
            rules.push(rule);
        }
        match rules.len() {
            0 => root.report("rules", "needs at least one rule; without one the filter does nothing"),
            1..=MAX_RULES => {}
            _ => root.report("rules", &format!("has more than {MAX_RULES} rules")),
        }
        root.finish()?;
        Ok(Self { rules })
    }
}

fn read_rule(fields: &mut Fields) -> Rule {
    let name = fields.required_text("name");
    let headers = fields.objects("headers").into_iter().map(|it| read_match(it, true)).collect();
    let cookies = fields.objects("cookies").into_iter().map(|it| read_match(it, false)).collect();
    let (to, sticky, split) = (fields.text("to"), fields.object("sticky"), fields.objects("split"));
    if let Some(to) = &to {
        check_target(fields, to);
    }
    let split = match (to, sticky, split.is_empty()) {
        (Some(to), None, true) => Split::All(to),
        (None, Some(sticky), false) => {
            Split::Shares { sticky: read_sticky(sticky), shares: read_shares(fields, split) }
        }
        _ => {
            fields.report_self("needs either `to`, or `sticky` and `split`");
            Split::All(String::new())
        }
    };
    Rule { name, headers, cookies, split }
}

fn read_match(mut fields: Fields, is_header: bool) -> ValueMatch {
    let name = fields.required_text("name");
    check_token(&fields, "name", &name);
    let exact = fields.text("exact");
    if fields.flag("present") == exact.is_some() {
        fields.report_self("needs exactly one of exact, present: true");
    }
    fields.close();
    ValueMatch { name: if is_header { name.to_ascii_lowercase() } else { name }, exact }
}

fn read_sticky(mut fields: Fields) -> Sticky {
    let (cookie, header, address) = (fields.text("cookie"), fields.text("header"), fields.flag("address"));
    let max_age = fields.number("maxAgeSeconds");
    if max_age.is_some() && cookie.is_none() {
        fields.report("maxAgeSeconds", "is for cookies");
    }
    if max_age.is_some_and(|seconds| seconds == 0 || seconds > MAX_MAX_AGE_SECONDS) {
        fields.report("maxAgeSeconds", &format!("must be 1 to {MAX_MAX_AGE_SECONDS}"));
    }
    let by = match (cookie, header, address) {
        (Some(cookie), None, false) => {
            check_token(&fields, "cookie", &cookie);
            Source::Cookie(cookie)
        }
        (None, Some(header), false) => {
            check_token(&fields, "header", &header);
            Source::Header(header.to_ascii_lowercase())
        }
        (None, None, true) => Source::Address,
        _ => {
            fields.report_self("needs exactly one of cookie, header, address: true");
            Source::Address
        }
    };
    fields.close();
    Sticky { by, max_age_seconds: max_age.unwrap_or(DEFAULT_MAX_AGE_SECONDS) }
}

fn read_shares(rule: &Fields, entries: Vec<Fields>) -> Vec<(u32, String)> {
    let mut shares = Vec::with_capacity(entries.len());
    for mut fields in entries {
        let percent = fields.required_decimal("percent");
        let to = fields.required_text("to");
        if !to.is_empty() {
            check_target(&fields, &to);
        }
        match percent.map(buckets) {
            Some(Some(share)) => shares.push((share, to)),
            Some(None) => fields.report("percent", "must be 0 to 100, with at most four decimals"),
            None => {} // Reported already.
        }
        fields.close();
    }
    if shares.iter().map(|(share, _)| u64::from(*share)).sum::<u64>() > u64::from(BUCKETS) {
        rule.report("split", "comes to more than 100 percent");
    }
    shares
}

/// A percentage as a number of buckets.
fn buckets(percent: f64) -> Option<u32> {
    let exact = percent * f64::from(BUCKETS) / 100.0;
    let is_whole = (exact - exact.round()).abs() < 1e-3;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "used in range and whole only")]
    let whole = exact.round() as u32;
    ((0.0..=100.0).contains(&percent) && is_whole).then_some(whole)
}

/// `namespace/service:port`, `namespace/service:port@version` or `@version`: what the route has is known to the proxy
/// alone, and it refuses what the route has not.
fn check_target(fields: &Fields, target: &str) {
    let (backend, version) = match target.split_once('@') {
        Some((backend, version)) => (backend, Some(version)),
        None => (target, None),
    };
    let legal = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let name = |text: &str| !text.is_empty() && legal(text);
    let is_backend = || {
        let (namespace, rest) = backend.split_once('/')?;
        let (service, port) = rest.split_once(':')?;
        Some(name(namespace) && name(service) && port.parse::<u16>().is_ok_and(|port| port != 0))
    };
    let good_backend = if backend.is_empty() { version.is_some() } else { is_backend() == Some(true) };
    if !good_backend || !version.is_none_or(name) {
        fields.report("to", "must be namespace/service:port, namespace/service:port@version or @version");
    }
}

fn check_token(fields: &Fields, name: &str, value: &str) {
    if !is_token(value) {
        fields.report(name, "is not a legal name");
    }
    if value.eq_ignore_ascii_case(MARK) {
        fields.report(name, "is how this filter tells the proxy; from outside it says nothing");
    }
}
