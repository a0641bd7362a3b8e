//! Where one request goes, from plain values: no host, no SDK calls. The first rule that says a target wins.

use crate::bucket;
use crate::config::{Config, Rule, Source, Split, Sticky, ValueMatch};
use crate::cookie;

/// What is known of a request, asked for when a rule needs it.
pub trait Facts {
    /// The first value of a header.
    fn header(&self, name: &str) -> Option<Vec<u8>>;
    /// All `cookie` headers, joined by commas or semicolons; empty if there are none.
    fn cookies(&self) -> Vec<u8>;
    /// Who sent it: an address with a port.
    fn address(&self) -> Option<String>;
    /// The time, to tell one new user from the next.
    fn nanoseconds(&self) -> u128;
}

/// What becomes of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decision<'a> {
    /// The mark; `None` leaves the choice to the route's weights.
    pub target: Option<&'a str>,
    /// The `set-cookie` for a user who had no id.
    pub set_cookie: Option<String>,
}

/// Decides on one request.
pub fn decide<'a>(config: &'a Config, request: &impl Facts) -> Decision<'a> {
    let mut set_cookie = None;
    for rule in &config.rules {
        if !matches(rule, request) {
            continue;
        }
        let target = match &rule.split {
            Split::All(target) => Some(target.as_str()),
            Split::Shares { sticky, shares } => {
                user(sticky, &rule.name, request, &mut set_cookie).and_then(|user| chosen(&rule.name, shares, &user))
            }
        };
        if target.is_some() {
            return Decision { target, set_cookie };
        }
    }
    Decision { target: None, set_cookie }
}

fn matches(rule: &Rule, request: &impl Facts) -> bool {
    let header = |wanted: &ValueMatch| request.header(&wanted.name).is_some_and(|value| wanted.accepts(&value));
    if !rule.headers.iter().all(header) {
        return false;
    }
    if rule.cookies.is_empty() {
        return true;
    }
    let cookies = request.cookies();
    rule.cookies.iter().all(|wanted| cookie::find(&cookies, &wanted.name).is_some_and(|value| wanted.accepts(value)))
}

/// Shares are laid end to end from bucket 0: a share that grows at its end takes users from what comes after it only.
fn chosen<'a>(salt: &str, shares: &'a [(u32, String)], user: &[u8]) -> Option<&'a str> {
    let bucket = bucket::of(salt, user);
    let mut end = 0;
    shares.iter().find_map(|(share, target)| {
        end += share;
        (bucket < end).then_some(target.as_str())
    })
}

/// Who the user is, as far as the rule asks; `None` when the request does not say.
fn user(sticky: &Sticky, salt: &str, request: &impl Facts, set_cookie: &mut Option<String>) -> Option<Vec<u8>> {
    match &sticky.by {
        Source::Header(name) => request.header(name),
        Source::Address => request.address().map(|address| without_port(&address).into()),
        Source::Cookie(name) => {
            let cookies = request.cookies();
            if let Some(id) = cookie::find(&cookies, name).filter(|id| !id.is_empty()) {
                return Some(id.to_vec());
            }
            let unique = [
                request.header("x-request-id").unwrap_or_default(),
                request.address().unwrap_or_default().into_bytes(),
                request.nanoseconds().to_le_bytes().to_vec(),
            ];
            let id = bucket::hash(salt, &unique.concat());
            *set_cookie = Some(cookie::issue(name, id, sticky.max_age_seconds));
            Some(format!("{id:016x}").into_bytes())
        }
    }
}

/// `10.0.0.1:80` and `[::1]:80` without the port: the next connection of the same user has another.
fn without_port(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}
