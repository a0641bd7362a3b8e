//! The `auth` filter: authenticates a request (JSON Web Token, API key or HTTP basic) and authorizes it (rules).
//!
//! ```text
//!  request ─► strip x-auth-consumer ─► decide::decide ─┬► allowed: set x-auth-consumer ─► next filter
//!             and headers of claims                    │           and headers of claims
//!                                                      └► denied: 401 or 403 that names the rule
//! ```
//!
//! Only this file calls the host. `decide` computes the decision from plain values, so its tests need no host.
//! `config` reads the configuration; the README documents its fields.

pub mod decide;

pub mod config;

pub mod credentials;
pub mod key_cache;
pub mod rules;
pub mod identity_match;

pub mod jwt;

pub mod request;

pub mod peer;

pub mod base64;
pub mod json;
pub mod query;

use std::time::UNIX_EPOCH;

use weir_sdk::matching::without_query;
use weir_sdk::metrics::Counter;
use weir_sdk::property::Path;
use weir_sdk::{Action, HttpFilter, Rc, Reply, RequestHeaders, clock, log};

use config::{CONSUMER_HEADER, Config};
use decide::{Decision, Denial};
use peer::{Peer, PeerFields};
use request::Request;

/// The number of headers that fit before their list is reallocated.
const USUAL_HEADERS: usize = 24;

static DENIED: Counter = Counter::new("auth_denied_total");
static DRY_RUN_DENIED: Counter = Counter::new("auth_dry_run_denied_total");

/// The consumer that an earlier `auth` filter of the chain has authenticated. Its header is not stripped.
const AUTHENTICATED_CONSUMER: Path = Path::from_nul_separated("weir_auth_consumer");

/// The access log field with the reason of a denial that a dry run did not enforce.
const DRY_RUN_FIELD: Path = Path::from_nul_separated("access_log.auth_dry_run");

/// The SPIFFE ID of the peer, from its certificate.
const PEER_ID: Path = Path::from_nul_separated("connection\0uri_san_peer_certificate");
const PEER_ADDRESS: Path = Path::from_nul_separated("source\0address");

/// The filter.
#[derive(Debug)]
pub struct Auth {
    config: Rc<Config>,
    /// The properties of the peer that the rules read. Others cost no hostcall.
    peer_fields: PeerFields,
}

weir_sdk::register!(Auth);

impl HttpFilter for Auth {
    type Config = Config;

    fn new(config: &Rc<Config>) -> Self {
        Self { config: Rc::clone(config), peer_fields: config.peer_fields() }
    }

    fn on_request_headers(&mut self, headers: &mut RequestHeaders) -> Action {
        let list = headers.list();
        let mut pairs = Vec::with_capacity(USUAL_HEADERS);
        for (name, value) in list.iter() {
            if self.config.removes_header(name) && !is_set_by_earlier_auth(name, value) {
                headers.remove(&String::from_utf8_lossy(name)); // A header's name is a token, so nothing is lost.
            } else {
                pairs.push((name, value));
            }
        }
        let now = if self.config.credentials.jwt.is_some() { unix_seconds() } else { 0 };
        let request = Request::new(pairs, now).from_peer(self.peer());
        if self.config.dry_run {
            if let Decision::Deny(denial) = decide::decide(&self.config, &request) {
                report_dry_run_denial(&request, &denial);
            }
            return Action::Continue;
        }
        match decide::decide(&self.config, &request) {
            Decision::Allow { identity, removed_header } => {
                if let Some(name) = removed_header {
                    headers.remove(name);
                }
                if let Some(identity) = identity {
                    if let Some(consumer) = identity.consumer_header() {
                        headers.set(CONSUMER_HEADER, &consumer);
                        mark_consumer(&consumer);
                    }
                    for (name, value) in identity.token().iter().flat_map(|token| &token.headers) {
                        headers.set(name, value);
                    }
                }
                Action::Continue
            }
            Decision::Deny(denial) => deny(&request, &denial),
        }
    }
}

/// Marks the consumer header as set by an `auth` filter, so that a later one does not remove it.
fn mark_consumer(consumer: &str) {
    if let Err(error) = AUTHENTICATED_CONSUMER.set(consumer.as_bytes()) {
        log::debug!("a later `auth` filter will remove the consumer header: {error}");
    }
}

impl Auth {
    /// Reads the properties of the peer that the rules need.
    fn peer(&self) -> Peer {
        let id = if self.peer_fields.principal { PEER_ID.text() } else { None };
        let address = if self.peer_fields.address { PEER_ADDRESS.text() } else { None };
        Peer::new(id, address.as_deref())
    }
}

/// Returns whether an earlier `auth` filter of the chain has set this consumer header.
fn is_set_by_earlier_auth(name: &[u8], value: &[u8]) -> bool {
    name == CONSUMER_HEADER.as_bytes() && AUTHENTICATED_CONSUMER.bytes().is_some_and(|consumer| consumer == value)
}

/// Counts and logs a denial that a dry run does not enforce.
fn report_dry_run_denial(request: &Request<'_>, denial: &Denial) {
    DRY_RUN_DENIED.add(1);
    let _ = DRY_RUN_FIELD.set(denial.details.as_bytes()); // If it fails, the counter and the log still report it.
    let path = without_query(request.path);
    log::info!("dry run: would deny with {}: {} for {}", denial.status, denial.log_reason(), path.escape_ascii());
}

fn unix_seconds() -> u64 {
    clock::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn deny(request: &Request<'_>, denial: &Denial) -> Action {
    DENIED.add(1);
    let path = without_query(request.path); // A query may contain an API key.
    log::info!(
        "denied with {}: {} for {} {}",
        denial.status,
        denial.log_reason(),
        request.method.escape_ascii(),
        path.escape_ascii()
    );
    let reply = Reply::new(denial.status).details(&denial.details).text(&denial.text);
    denial.challenges.iter().fold(reply, |reply, challenge| reply.header("www-authenticate", challenge)).into()
}
