//! The `auth` filter: who is it (API key or HTTP basic), and may they do that (allow and deny rules)?
//!
//! ```text
//!  request ─► strip x-auth-consumer ─► decide::decide ─┬► allowed: set x-auth-consumer ─► next filter
//!                                                      └► refused: 401 or 403 that names the rule
//! ```
//!
//! This file is all that talks to the host. The decision is made in `decide` from plain values and tested without one.
//! What the configuration may say is in `config`, and in the README.

pub mod decide;

pub mod config;

pub mod credentials;
pub mod rules;

pub mod request;

pub mod base64;
pub mod path;

use weir_sdk::metrics::Counter;
use weir_sdk::{Action, HttpFilter, Rc, Reply, RequestHeaders, log};

use config::Config;
use decide::{Decision, Refusal};
use request::Request;

/// Tells the upstream who was let in. Never let through from outside.
const CONSUMER_HEADER: &str = "x-auth-consumer";

static REFUSED: Counter = Counter::new("auth_refused_total");

/// The filter.
#[derive(Debug)]
pub struct Auth {
    config: Rc<Config>,
}

weir_sdk::register!(Auth);

impl HttpFilter for Auth {
    type Config = Config;

    fn new(config: &Rc<Config>) -> Self {
        Self { config: Rc::clone(config) }
    }

    fn on_request_headers(&mut self, headers: &mut RequestHeaders) -> Action {
        let pairs = headers.pairs();
        for (name, _) in pairs.iter().filter(|(name, _)| is_consumer_header(name)) {
            headers.remove(name);
        }
        let request = Request::of(&pairs);
        match decide::decide(&self.config, &request) {
            Decision::Allow { consumer } => {
                if let Some(consumer) = consumer {
                    headers.set(CONSUMER_HEADER, consumer);
                }
                Action::Continue
            }
            Decision::Refuse(refusal) => refuse(&request, &refusal),
        }
    }
}

/// Upstreams that turn header names into variables cannot tell `x_auth_consumer` from `x-auth-consumer`.
fn is_consumer_header(name: &str) -> bool {
    name.replace('_', "-").eq_ignore_ascii_case(CONSUMER_HEADER)
}

fn refuse(request: &Request<'_>, refusal: &Refusal) -> Action {
    REFUSED.add(1);
    let path = path::without_query(request.path); // A query may hold an API key.
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
