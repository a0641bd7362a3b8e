//! The `rate-limit` filter: limits the requests of each key per second, minute or hour.
//!
//! ```text
//!  request ─► decide::decide ─┬► allowed: next filter; the response gets ratelimit-… headers
//!                 │           └► rejected: 429 that names the limit
//!                 └─ shared data: the buckets of all workers, changed by compare-and-swap
//! ```
//!
//! Only this file calls the host. `decide` computes the decision on a `host::Host`, so its tests need no real one.
//! `config` reads the configuration; the README documents its fields.

pub mod rejection;

pub mod decide;

pub mod limit_table;

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

use bucket::QuotaStatus;
use config::{Config, OnError};
use decide::{Decision, RejectReason, Verdict};
use digits::Decimal;
use host::{CasResult, Host, Unavailable};
use limit_table::LimitTable;
use rejection::Rejection;

/// The downstream's address and port.
const ADDRESS: Path = Path::from_nul_separated("source\0address");

static ALLOWED: Counter = Counter::new("rate_limit_allowed_total");
static REJECTED: Counter = Counter::new("rate_limit_rejected_total");
static EVICTED: Counter = Counter::new("rate_limit_evicted_total");
static FAILED: Counter = Counter::new("rate_limit_errors_total");

/// The state that the streams of a VM share.
#[derive(Debug, serde::Deserialize)]
#[serde(transparent)]
pub struct Shared {
    config: Config,
    #[serde(skip)]
    table: OnceCell<LimitTable>,
}

/// The filter.
#[derive(Debug)]
pub struct RateLimit {
    shared: Rc<Shared>,
    /// The state of the strictest limit, from the request until the response headers.
    quota: Option<QuotaStatus>,
}

weir_sdk::register!(RateLimit);

impl HttpFilter for RateLimit {
    type Config = Shared;

    fn new(shared: &Rc<Shared>) -> Self {
        Self { shared: Rc::clone(shared), quota: None }
    }

    fn on_request_headers(&mut self, headers: &mut RequestHeaders) -> Action {
        let host = SdkHost { headers };
        let config = &self.shared.config;
        let Ok(table) = self.shared.table(&host) else {
            return on_missing_shared_data(config);
        };
        let Decision { verdict, evicted, failed } = decide::decide(config, table, &host);
        EVICTED.add(evicted);
        FAILED.add(failed);
        match verdict {
            Verdict::Allowed(quota) => {
                ALLOWED.add(1);
                self.quota = quota.filter(|_| config.emit_headers);
                Action::Continue
            }
            Verdict::Rejected(limit, reason) => {
                REJECTED.add(1);
                reply(config, &Rejection::new(limit, reason)).into()
            }
        }
    }

    fn on_response_headers(&mut self, response: &mut ResponseHeaders) -> Action {
        // A later filter or the upstream may have set the headers of a stricter limit.
        let remaining = response.text("ratelimit-remaining").and_then(|text| text.parse().ok());
        if let Some(quota) = self.quota.take()
            && remaining.is_none_or(|remaining: u64| remaining >= quota.remaining)
        {
            for (name, value) in quota_headers(&quota) {
                response.set(name, value.as_bytes());
            }
        }
        Action::Continue
    }
}

impl Shared {
    /// Returns the table of limits. The first request creates it, since shared data may be unavailable before.
    fn table(&self, host: &SdkHost<'_>) -> Result<&LimitTable, Unavailable> {
        if let Some(table) = self.table.get() {
            return Ok(table);
        }
        let name = property::bytes(&["plugin_name"]).unwrap_or_default();
        let seed = seed::find(host, &host.entropy())?;
        Ok(self.table.get_or_init(|| LimitTable::new(seed, &name, &self.config)))
    }
}

/// Applies `onError` when the host has no shared data.
fn on_missing_shared_data(config: &Config) -> Action {
    FAILED.add(1);
    log::error!("shared data is unavailable: no limit is checked");
    match (config.on_error, config.limits.first()) {
        (OnError::Reject, Some(limit)) => {
            REJECTED.add(1);
            reply(config, &Rejection::new(limit, RejectReason::Unavailable)).into()
        }
        _ => Action::Continue,
    }
}

fn reply(config: &Config, rejection: &Rejection) -> Reply {
    let mut reply = Reply::new(rejection.status).details(&rejection.details).text(&rejection.text);
    if let Some(seconds) = rejection.retry_after_s {
        reply = reply.header("retry-after", &seconds.to_string());
    }
    for quota in rejection.quota.iter().filter(|_| config.emit_headers) {
        for (name, value) in quota_headers(quota) {
            reply = reply.header(name, &value.to_string());
        }
    }
    reply
}

fn quota_headers(quota: &QuotaStatus) -> [(&'static str, Decimal); 3] {
    [
        ("ratelimit-limit", Decimal::new(quota.limit)),
        ("ratelimit-remaining", Decimal::new(quota.remaining)),
        ("ratelimit-reset", Decimal::new(quota.reset_s)),
    ]
}

/// The host functions of the SDK.
struct SdkHost<'a> {
    headers: &'a RequestHeaders,
}

impl SdkHost<'_> {
    /// Returns values of the request that a downstream cannot predict.
    fn entropy(&self) -> [Vec<u8>; 4] {
        let value = |path: &[&str]| property::bytes(path).unwrap_or_default();
        [
            value(&["request", "id"]),
            value(&["connection", "id"]),
            value(&["source", "address"]),
            self.header("x-request-id").unwrap_or_default(),
        ]
    }
}

impl Host for SdkHost<'_> {
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
        let (value, version) = shared::get_with_version(name).map_err(|_| Unavailable)?;
        Ok((value.unwrap_or_default(), version))
    }

    fn write(&self, name: &str, value: &[u8], version: shared::Version) -> Result<CasResult, Unavailable> {
        match shared::compare_and_set(name, value, version) {
            Ok(()) => Ok(CasResult::Stored),
            Err(HostError::Conflict) => Ok(CasResult::Conflict),
            Err(_) => Err(Unavailable),
        }
    }
}
