//! The `auth` filter: who is it (JSON Web Token, API key or HTTP basic), and may they do that (allow and deny rules)?
//!
//! ```text
//!  request ─► strip x-auth-consumer ─► decide::decide ─┬► allowed: set x-auth-consumer ─► next filter
//!             and headers of claims                    │           and headers of claims
//!                                                      └► refused: 401 or 403 that names the rule
//! ```
//!
//! This file is all that talks to the host. The decision is made in `decide` from plain values and tested without one.
//! What the configuration may say is in `config`, and in the README.

pub mod decide;

pub mod config;

pub mod credentials;
pub mod known;
pub mod rules;
pub mod who;

pub mod jwt;

pub mod request;

pub mod peer;

pub mod base64;
pub mod json;
pub mod path;

use std::time::UNIX_EPOCH;

use weir_sdk::matching::without_query;
use weir_sdk::metrics::Counter;
use weir_sdk::property::Path;
use weir_sdk::{Action, HttpFilter, Rc, Reply, RequestHeaders, clock, log};

use config::{CONSUMER_HEADER, Config};
use decide::{Decision, Refusal};
use peer::Peer;
use request::Request;

/// So many fit before memory is asked for again.
const USUAL_HEADERS: usize = 24;

static REFUSED: Counter = Counter::new("auth_refused_total");
static SHADOW_REFUSED: Counter = Counter::new("auth_shadow_refused_total");

/// Whom an `auth` before this one in the same chain has let in: its header stays.
const LET_IN: Path = Path::joined("weir_auth_consumer");

/// The field of the access log that says what would have been refused.
const SHADOW: Path = Path::joined("access_log.auth_shadow");

/// Who is at the other end of the connection.
const PEER_ID: Path = Path::joined("connection\0uri_san_peer_certificate");
const PEER_ADDRESS: Path = Path::joined("source\0address");

/// The filter.
#[derive(Debug)]
pub struct Auth {
    config: Rc<Config>,
    /// Whether the workload, and whether the address of the peer is asked for.
    asks: (bool, bool),
}

weir_sdk::register!(Auth);

impl HttpFilter for Auth {
    type Config = Config;

    fn new(config: &Rc<Config>) -> Self {
        Self { config: Rc::clone(config), asks: config.asks_for_peer() }
    }

    fn on_request_headers(&mut self, headers: &mut RequestHeaders) -> Action {
        let list = headers.list();
        let mut pairs = Vec::with_capacity(USUAL_HEADERS);
        for (name, value) in list.iter() {
            if self.config.removes_header(name) && !is_of_another_auth(name, value) {
                headers.remove(&String::from_utf8_lossy(name)); // A header's name is a token, so nothing is lost.
            } else {
                pairs.push((name, value));
            }
        }
        let now = if self.config.credentials.jwt.is_some() { seconds_since_1970() } else { 0 };
        let request = Request::new(pairs, now).from_peer(self.peer());
        if self.config.shadow {
            if let Decision::Refuse(refusal) = decide::decide(&self.config, &request) {
                tell_of(&request, &refusal);
            }
            return Action::Continue;
        }
        match decide::decide(&self.config, &request) {
            Decision::Allow { identity, removed_header } => {
                if let Some(name) = removed_header {
                    headers.remove(name);
                }
                if let Some(identity) = identity {
                    headers.set(CONSUMER_HEADER, identity.consumer());
                    if let Err(error) = LET_IN.set(identity.consumer().as_bytes()) {
                        log::debug!("an `auth` after this one takes the consumer out: {error}");
                    }
                    for (name, value) in identity.token().iter().flat_map(|token| &token.headers) {
                        headers.set(name, value);
                    }
                }
                Action::Continue
            }
            Decision::Refuse(refusal) => refuse(&request, &refusal),
        }
    }
}

impl Auth {
    /// The other end of the connection, as far as a rule asks.
    fn peer(&self) -> Peer {
        let (workload, address) = self.asks;
        let (id, address) = (workload.then(|| PEER_ID.text()), address.then(|| PEER_ADDRESS.text()));
        Peer::new(id.flatten(), address.flatten().as_deref())
    }
}

/// Whether an `auth` before this one has set the consumer.
fn is_of_another_auth(name: &[u8], value: &[u8]) -> bool {
    name == CONSUMER_HEADER.as_bytes() && LET_IN.bytes().is_some_and(|let_in| let_in == value)
}

/// What a policy in shadow would have refused.
fn tell_of(request: &Request<'_>, refusal: &Refusal) {
    SHADOW_REFUSED.add(1);
    let _ = SHADOW.set(refusal.details.as_bytes()); // Only the line would tell, and the counter does.
    let path = without_query(request.path);
    log::info!("would refuse with {}: {} for {}", refusal.status, refusal.details, path.escape_ascii());
}

fn seconds_since_1970() -> u64 {
    clock::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn refuse(request: &Request<'_>, refusal: &Refusal) -> Action {
    REFUSED.add(1);
    let path = without_query(request.path); // A query may hold an API key.
    log::info!(
        "refused with {}: {} for {} {}",
        refusal.status,
        refusal.details,
        request.method.escape_ascii(),
        path.escape_ascii()
    );
    let reply = Reply::new(refusal.status).details(&refusal.details).text(&refusal.text);
    refusal.challenges.iter().fold(reply, |reply, challenge| reply.header("www-authenticate", challenge)).into()
}
