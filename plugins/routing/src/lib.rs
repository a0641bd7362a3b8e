//! The `routing` filter: which of its route's targets a request goes to, by header, cookie or a sticky share.
//!
//! ```text
//!  request ─► decide::decide ─┬► a rule says where: set x-weir-target ─► the proxy follows it
//!                             └► none does: drop x-weir-target ─► the route's own weights
//!  response ◄─ set-cookie, for a user who was given an id to stick to
//! ```
//!
//! This file is all that talks to the host. The decision is made in `decide` from plain values and tested without one.
//! What the configuration may say is in `config`, and in the README.

pub mod decide;

pub mod config;

pub mod bucket;
pub mod cookie;

use weir_sdk::property::Path;
use weir_sdk::{Action, HttpFilter, Rc, RequestHeaders, ResponseHeaders, clock};

use config::{Config, MARK};
use decide::Facts;

const COOKIES: Path = Path::joined("request\0headers\0cookie");
const ADDRESS: Path = Path::joined("source\0address");

/// The filter.
#[derive(Debug)]
pub struct Routing {
    config: Rc<Config>,
    set_cookie: Option<String>,
}

weir_sdk::register!(Routing);

impl HttpFilter for Routing {
    type Config = Config;

    fn new(config: &Rc<Config>) -> Self {
        Self { config: Rc::clone(config), set_cookie: None }
    }

    fn on_request_headers(&mut self, headers: &mut RequestHeaders) -> Action {
        let config = Rc::clone(&self.config);
        let decision = decide::decide(&config, &Host { headers });
        match decision.target {
            Some(target) => headers.set(MARK, target),
            None => headers.remove(MARK),
        }
        self.set_cookie = decision.set_cookie;
        Action::Continue
    }

    fn on_response_headers(&mut self, headers: &mut ResponseHeaders) -> Action {
        if let Some(cookie) = &self.set_cookie {
            headers.add("set-cookie", cookie);
        }
        Action::Continue
    }
}

/// What is known of the request, asked for when a rule needs it.
struct Host<'a> {
    headers: &'a RequestHeaders,
}

impl Facts for Host<'_> {
    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.headers.first(name)
    }

    fn cookies(&self) -> Vec<u8> {
        // Every cookie header, joined: HTTP/2 sends one for each cookie (RFC 9113 §8.2.3).
        COOKIES.bytes().unwrap_or_default()
    }

    fn address(&self) -> Option<String> {
        ADDRESS.text()
    }

    fn nanoseconds(&self) -> u128 {
        clock::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos())
    }
}
