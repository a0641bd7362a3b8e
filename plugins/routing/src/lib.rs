//! The `routing` filter: selects one of the route's targets for a request, by header, cookie or a sticky share.
//!
//! ```text
//!  request ─► decide::decide ─┬► a rule selects a target: set x-weir-target ─► the proxy routes to it
//!                             └► otherwise: remove x-weir-target ─► the route's own weights
//!  response ◄─ set-cookie, for a user with a new id
//! ```
//!
//! Only this file calls the host. `decide` computes the decision from plain values, so its tests need no host.
//! `config` reads the configuration; the README documents its fields.

pub mod decide;

pub mod cookie;

pub mod config;

pub mod bucket;

use weir_sdk::property::Path;
use weir_sdk::{Action, HttpFilter, Rc, RequestHeaders, ResponseHeaders, clock};

use config::{Config, TARGET_HEADER};
use decide::RequestView;

const COOKIES: Path = Path::from_nul_separated("request\0headers\0cookie");
const MTLS: Path = Path::from_nul_separated("connection\0mtls");
const ADDRESS: Path = Path::from_nul_separated("source\0address");

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
        let decision = decide::decide(&config, &SdkRequest { headers });
        match decision.target {
            Some(target) => headers.set(TARGET_HEADER, target),
            None => headers.remove(TARGET_HEADER),
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

/// The properties of the request, from the SDK.
struct SdkRequest<'a> {
    headers: &'a RequestHeaders,
}

impl RequestView for SdkRequest<'_> {
    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.headers.first(name)
    }

    fn cookies(&self) -> Vec<u8> {
        // The property joins all cookie headers. HTTP/2 may send one for each cookie (RFC 9113 §8.2.3).
        COOKIES.bytes().unwrap_or_default()
    }

    fn address(&self) -> Option<String> {
        ADDRESS.text()
    }

    fn is_https(&self) -> bool {
        let is_mesh_peer = MTLS.bytes().is_some_and(|mtls| mtls == [1]);
        !is_mesh_peer && self.headers.first(":scheme").is_some_and(|scheme| scheme == b"https")
    }

    fn nanoseconds(&self) -> u128 {
        clock::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos())
    }
}
