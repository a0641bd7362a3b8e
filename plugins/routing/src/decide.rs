//! Selects the target of one request. It calls neither the host nor the SDK. The first rule with a target wins.

use crate::bucket;
use crate::config::{Config, Rule, Source, Split, Sticky, ValueMatch};
use crate::cookie;

/// The properties of a request. Each is read when a rule needs it.
pub trait RequestView {
    /// Returns the first value of a header.
    fn header(&self, name: &str) -> Option<Vec<u8>>;
    /// Returns all `cookie` headers, joined by commas or semicolons. Empty without cookies.
    fn cookies(&self) -> Vec<u8>;
    /// Returns the address of the downstream, with its port.
    fn address(&self) -> Option<String>;
    /// Returns whether the client has sent the request over TLS. False if another workload of the mesh has forwarded it:
    /// that workload knows how the client is connected.
    fn is_https(&self) -> bool;
    /// Returns the time since 1970, which makes the ids of new users distinct.
    fn nanoseconds(&self) -> u128;
}

/// The decision on a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decision<'a> {
    /// The target; `None` leaves the choice to the route's weights.
    pub target: Option<&'a str>,
    /// The `set-cookie` for a user who had no id.
    pub set_cookie: Option<String>,
}

/// Decides on one request.
pub fn decide<'a>(config: &'a Config, request: &impl RequestView) -> Decision<'a> {
    let mut set_cookie = None;
    for rule in &config.rules {
        if !matches(rule, request) {
            continue;
        }
        let target = match &rule.split {
            Split::All(target) => Some(target.as_str()),
            Split::Shares { sticky, shares } => {
                let user = user_id(sticky, &rule.name, request, &mut set_cookie);
                user.and_then(|user| pick_target(&rule.name, shares, &user))
            }
        };
        if target.is_some() {
            return Decision { target, set_cookie };
        }
    }
    Decision { target: None, set_cookie }
}

fn matches(rule: &Rule, request: &impl RequestView) -> bool {
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

/// Returns the target of the share that the user's bucket is in. Shares are laid end to end from bucket 0, so a share
/// that grows takes users only from the shares after it.
fn pick_target<'a>(salt: &str, shares: &'a [(u32, String)], user: &[u8]) -> Option<&'a str> {
    let bucket = bucket::of(salt, user);
    let mut end = 0;
    shares.iter().find_map(|(share, target)| {
        end += share;
        (bucket < end).then_some(target.as_str())
    })
}

/// Returns the id of the user, or `None` if the request has none. Creates an id if the source is a cookie.
fn user_id(
    sticky: &Sticky,
    salt: &str,
    request: &impl RequestView,
    set_cookie: &mut Option<String>,
) -> Option<Vec<u8>> {
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
            *set_cookie = Some(cookie::set_cookie(name, id, &sticky.attributes, request.is_https()));
            Some(format!("{id:016x}").into_bytes())
        }
    }
}

/// Removes the port from `10.0.0.1:80` or `[::1]:80`, since each connection of a user has another port.
fn without_port(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}
