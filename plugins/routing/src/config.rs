//! Reads the configuration: JSON to checked values. All errors are reported at once. The README documents the fields.

use serde_json::Value;
use weir_sdk::config::{ConfigErrors, FieldReader};
use weir_sdk::matching::is_token;

use crate::bucket::BUCKETS;

/// The default lifetime of a cookie that the filter sets: thirty days.
const DEFAULT_MAX_AGE_SECONDS: u64 = 30 * 24 * 3600;

/// The maximum lifetime of a cookie. Browsers cap it at 400 days.
const MAX_MAX_AGE_SECONDS: u64 = 400 * 24 * 3600;

/// The maximum number of rules. A request may check all of them.
const MAX_RULES: usize = 64;

/// The request header that selects the target. Weir removes it from downstream requests, and before the upstream.
/// Another proxy may not, so no rule can match it, and the filter replaces or removes it.
pub const TARGET_HEADER: &str = "x-weir-target";

/// A checked configuration.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(try_from = "Value")]
pub struct Config {
    /// The rules, in order.
    pub rules: Vec<Rule>,
}

/// A rule that selects the target of the requests that it matches.
#[derive(Debug)]
pub struct Rule {
    /// The name, which is the salt of the division of users.
    pub name: String,
    /// The headers, all of which must match.
    pub headers: Vec<ValueMatch>,
    /// The cookies, all of which must match.
    pub cookies: Vec<ValueMatch>,
    /// The targets of the matched requests.
    pub split: Split,
}

/// The targets of a rule.
#[derive(Debug)]
pub enum Split {
    /// One target for all requests.
    All(String),
    /// A target for each share of the users. The rest continue with the next rule.
    Shares {
        /// The identification of a user.
        sticky: Sticky,
        /// The number of buckets of each share, and its target.
        shares: Vec<(u32, String)>,
    },
}

/// The identification of a user.
#[derive(Debug)]
pub struct Sticky {
    /// The source of the user's id.
    pub by: Source,
    /// The attributes of a cookie that the filter sets.
    pub attributes: CookieAttributes,
}

/// The attributes of a cookie that the filter sets (RFC 6265bis §4.1.2).
#[derive(Debug, PartialEq, Eq)]
pub struct CookieAttributes {
    /// The lifetime.
    pub max_age_seconds: u64,
    /// The requests of other sites that have the cookie.
    pub same_site: SameSite,
    /// True for a cookie that browsers send over TLS only. `None` if the request decides.
    pub secure: Option<bool>,
}

/// The attribute `SameSite` of a cookie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SameSite {
    /// Requests of the same site.
    Strict,
    /// Requests of the same site, and navigation from other ones.
    Lax,
    /// All requests. Browsers accept it with `Secure` only.
    None,
}

impl SameSite {
    /// Returns the value of the attribute.
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        }
    }
}

/// The source of a user's id.
#[derive(Debug, PartialEq, Eq)]
pub enum Source {
    /// A cookie, which the filter sets for a user without one.
    Cookie(String),
    /// A header. A request without it skips the rule.
    Header(String),
    /// The address of the downstream.
    Address,
}

/// The condition on a header or cookie.
#[derive(Debug)]
pub struct ValueMatch {
    /// The name; in lower case for a header.
    pub name: String,
    /// The required value; `None` accepts any value.
    pub exact: Option<String>,
}

impl ValueMatch {
    /// Returns whether a value meets the condition.
    pub fn accepts(&self, value: &[u8]) -> bool {
        self.exact.as_ref().is_none_or(|exact| exact.as_bytes() == value)
    }
}

impl TryFrom<Value> for Config {
    type Error = ConfigErrors;

    fn try_from(json: Value) -> Result<Self, ConfigErrors> {
        let mut root = FieldReader::root(json);
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

fn read_rule(fields: &mut FieldReader) -> Rule {
    let name = fields.required_text("name");
    let mut headers: Vec<ValueMatch> = fields.objects("headers").into_iter().map(read_match).collect();
    for header in &mut headers {
        header.name.make_ascii_lowercase();
    }
    let cookies = fields.objects("cookies").into_iter().map(read_match).collect();
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

fn read_match(mut fields: FieldReader) -> ValueMatch {
    let name = fields.required_text("name");
    check_token(&fields, "name", &name);
    let exact = fields.text("exact");
    if fields.flag("present") == exact.is_some() {
        fields.report_self("needs exactly one of exact, present: true");
    }
    fields.close();
    ValueMatch { name, exact }
}

fn read_sticky(mut fields: FieldReader) -> Sticky {
    let (cookie, header, address) = (fields.text("cookie"), fields.text("header"), fields.flag("address"));
    let max_age = fields.number("maxAgeSeconds");
    let (same_site, secure) = (fields.text("sameSite"), fields.optional_flag("secure"));
    let for_cookies =
        [("maxAgeSeconds", max_age.is_some()), ("sameSite", same_site.is_some()), ("secure", secure.is_some())];
    for (field, _) in for_cookies.iter().filter(|(_, is_set)| *is_set && cookie.is_none()) {
        fields.report(field, "is for cookies");
    }
    let same_site = match same_site.as_deref() {
        None | Some("Lax") => SameSite::Lax,
        Some("Strict") => SameSite::Strict,
        Some("None") => SameSite::None,
        Some(_) => {
            fields.report("sameSite", "must be Strict, Lax or None");
            SameSite::Lax
        }
    };
    if same_site == SameSite::None && secure == Some(false) {
        fields.report("secure", "must not be false with sameSite: None, which browsers accept with Secure only");
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
    let max_age_seconds = max_age.unwrap_or(DEFAULT_MAX_AGE_SECONDS);
    // Browsers drop a cookie of `SameSite=None` without `Secure`.
    let secure = if same_site == SameSite::None { Some(true) } else { secure };
    Sticky { by, attributes: CookieAttributes { max_age_seconds, same_site, secure } }
}

fn read_shares(rule: &FieldReader, entries: Vec<FieldReader>) -> Vec<(u32, String)> {
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
            None => {} // The error is already reported.
        }
        fields.close();
    }
    if shares.iter().map(|(share, _)| u64::from(*share)).sum::<u64>() > u64::from(BUCKETS) {
        rule.report("split", "comes to more than 100 percent");
    }
    shares
}

/// Converts a percentage to a number of buckets. Returns `None` if it is out of range, or has more than four decimals.
fn buckets(percent: f64) -> Option<u32> {
    let exact = percent * f64::from(BUCKETS) / 100.0;
    let is_whole = (exact - exact.round()).abs() < 1e-3;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "used in range and whole only")]
    let whole = exact.round() as u32;
    ((0.0..=100.0).contains(&percent) && is_whole).then_some(whole)
}

/// Checks the form `namespace/service:port`, `namespace/service:port@version` or `@version`. Only the proxy knows the
/// targets of the route, and answers a request with another target with 500.
fn check_target(fields: &FieldReader, target: &str) {
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

fn check_token(fields: &FieldReader, name: &str, value: &str) {
    if !is_token(value) {
        fields.report(name, "is not a legal name");
    }
    if value.eq_ignore_ascii_case(TARGET_HEADER) {
        fields.report(name, "is the header that this filter sets; match on another one");
    }
}
