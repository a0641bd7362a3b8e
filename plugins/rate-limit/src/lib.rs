//! The `rate-limit` filter: at most so many requests a second, a minute or an hour, for each key.
//!
//! ```text
//!  request ─► decide::decide ─┬► allowed: next filter; the response tells where it stands
//!                 │           └► refused: 429 that names the limit
//!                 └─ shared data: the buckets of all workers, changed by compare-and-swap
//! ```
//!
//! This file is all that talks to the host. The decision is made in `decide` on a `host::Host`, and tested without a
//! real one. What the configuration may say is in `config`, and in the README.

pub mod refusal;

pub mod decide;

pub mod scope;

pub mod config;

pub mod matching;
pub mod key;
pub mod seed;

pub mod store;
pub mod digits;
pub mod slot;
pub mod bucket;

pub mod host;
pub mod limits;

use std::cell::OnceCell;
use std::time::UNIX_EPOCH;

use weir_sdk::metrics::Counter;
use weir_sdk::property::Path;
use weir_sdk::{
    Action, HostError, HttpFilter, Rc, Reply, RequestHeaders, ResponseHeaders, clock, log, property, shared,
};

use bucket::Standing;
use config::{Config, OnError};
use decide::{Decision, Verdict};
use digits::Decimal;
use host::{Host, Unavailable, Written};
use refusal::Refusal;
use scope::Scope;

/// The downstream's address and port.
const ADDRESS: Path = Path::joined("source\0address");

static ALLOWED: Counter = Counter::new("rate_limit_allowed_total");
static REFUSED: Counter = Counter::new("rate_limit_refused_total");
static EVICTED: Counter = Counter::new("rate_limit_evicted_total");
static FAILED: Counter = Counter::new("rate_limit_errors_total");

/// What the streams of a VM share.
#[derive(Debug, serde::Deserialize)]
#[serde(transparent)]
pub struct Shared {
    config: Config,
    #[serde(skip)]
    scope: OnceCell<Scope>,
}

/// The filter.
#[derive(Debug)]
pub struct RateLimit {
    shared: Rc<Shared>,
    /// Where the request stands, until the response tells it.
    standing: Option<Standing>,
}

weir_sdk::register!(RateLimit);

impl HttpFilter for RateLimit {
    type Config = Shared;

    fn new(shared: &Rc<Shared>) -> Self {
        Self { shared: Rc::clone(shared), standing: None }
    }

    fn on_request_headers(&mut self, headers: &mut RequestHeaders) -> Action {
        let host = Live { headers };
        let config = &self.shared.config;
        let Ok(scope) = self.shared.scope(&host) else {
            return without_scope(config);
        };
        let Decision { verdict, evicted, failed } = decide::decide(config, scope, &host);
        EVICTED.add(evicted);
        FAILED.add(failed);
        match verdict {
            Verdict::Allowed(standing) => {
                ALLOWED.add(1);
                self.standing = standing.filter(|_| config.tell);
                Action::Continue
            }
            Verdict::Refused(limit, reason) => {
                REFUSED.add(1);
                reply(config, &refusal::answer(limit, reason)).into()
            }
        }
    }

    fn on_response_headers(&mut self, response: &mut ResponseHeaders) -> Action {
        // A filter behind this one, or the upstream, may have told of a stricter limit.
        let told = response.text("ratelimit-remaining").and_then(|text| text.parse().ok());
        if let Some(standing) = self.standing.take()
            && told.is_none_or(|told: u64| told >= standing.remaining)
        {
            for (name, value) in headers_of(&standing) {
                response.set(name, value.as_bytes());
            }
        }
        Action::Continue
    }
}

impl Shared {
    /// The scope, found at the first request: before that, shared data need not be there.
    fn scope(&self, host: &Live<'_>) -> Result<&Scope, Unavailable> {
        if let Some(scope) = self.scope.get() {
            return Ok(scope);
        }
        let name = property::bytes(&["plugin_name"]).unwrap_or_default();
        let seed = seed::find(host, &host.chance())?;
        Ok(self.scope.get_or_init(|| Scope::new(seed, &name, &self.config)))
    }
}

/// There is no shared data at all.
fn without_scope(config: &Config) -> Action {
    FAILED.add(1);
    log::error!("the host keeps no shared data, so no limit can be asked");
    match (config.on_error, config.limits.first()) {
        (OnError::Refuse, Some(limit)) => {
            REFUSED.add(1);
            reply(config, &refusal::answer(limit, decide::Reason::Unavailable)).into()
        }
        _ => Action::Continue,
    }
}

fn reply(config: &Config, refusal: &Refusal) -> Reply {
    let mut reply = Reply::new(refusal.status).details(&refusal.details).text(&refusal.text);
    if let Some(seconds) = refusal.retry_after_s {
        reply = reply.header("retry-after", &seconds.to_string());
    }
    for standing in refusal.standing.iter().filter(|_| config.tell) {
        for (name, value) in headers_of(standing) {
            reply = reply.header(name, &value.to_string());
        }
    }
    reply
}

fn headers_of(standing: &Standing) -> [(&'static str, Decimal); 3] {
    [
        ("ratelimit-limit", Decimal::of(standing.limit)),
        ("ratelimit-remaining", Decimal::of(standing.remaining)),
        ("ratelimit-reset", Decimal::of(standing.reset_s)),
    ]
}

/// The real host.
struct Live<'a> {
    headers: &'a RequestHeaders,
}

impl Live<'_> {
    /// What nobody can know beforehand of a request.
    fn chance(&self) -> [Vec<u8>; 4] {
        let value = |path: &[&str]| property::bytes(path).unwrap_or_default();
        [
            value(&["request", "id"]),
            value(&["connection", "id"]),
            value(&["source", "address"]),
            self.header("x-request-id").unwrap_or_default(),
        ]
    }
}

impl Host for Live<'_> {
    type Version = shared::Version;

    fn now(&self) -> u64 {
        let since_1970 = clock::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX)
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.headers.first(name)
    }

    fn address(&self) -> Option<Vec<u8>> {
        ADDRESS.bytes()
    }

    fn read(&self, name: &str) -> Result<(Vec<u8>, shared::Version), Unavailable> {
        let (value, version) = shared::look(name).map_err(|_| Unavailable)?;
        Ok((value.unwrap_or_default(), version))
    }

    fn write(&self, name: &str, value: &[u8], version: shared::Version) -> Result<Written, Unavailable> {
        match shared::write_if_unchanged(name, value, version) {
            Ok(()) => Ok(Written::Done),
            Err(HostError::Conflict) => Ok(Written::Conflict),
            Err(_) => Err(Unavailable),
        }
    }
}
