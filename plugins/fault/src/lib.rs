//! The `fault` filter: delays and aborts a percentage of the requests, to test how clients react.
//!
//! ```text
//!  request ─► decide::decide ─┬► nothing: next filter
//!                             ├► delay: PauseFor ─► on_pause_end ─► next filter, or abort
//!                             └► abort: local reply, `fault_abort`
//! ```
//!
//! Only this file calls the host. `config` reads the configuration; the README documents its fields.

pub mod decide;

pub mod config;

pub mod matching;
pub mod percentage;
pub mod duration;
pub mod grpc;
pub mod active;
pub mod request;
pub mod limits;

use std::cell::OnceCell;
use std::time::Duration;

use weir_sdk::metrics::{Counter, Gauge};
use weir_sdk::{
    Action, HostError, HttpFilter, Rc, Reply, RequestHeaders, access_log, clock, log, property, random, shared,
};

use config::Config;
use decide::{AbortReply, Decision};
use limits::MAX_ATTEMPTS;
use request::Request;

static DELAYS: Counter = Counter::new("fault_delays_total");
static ABORTS: Counter = Counter::new("fault_aborts_total");
static OVERFLOWS: Counter = Counter::new("fault_overflows_total");
static IGNORED_HEADERS: Counter = Counter::new("fault_ignored_headers_total");
static ACTIVE: Gauge = Gauge::new("fault_active");

/// The state that the streams of a VM share.
#[derive(Debug, serde::Deserialize)]
#[serde(transparent)]
pub struct Shared {
    config: Config,
    /// The name of the active delays in shared data.
    #[serde(skip)]
    name: OnceCell<String>,
}

/// The filter.
#[derive(Debug)]
pub struct Fault {
    shared: Rc<Shared>,
    /// The delay, while it lasts.
    delay: Option<ActiveDelay>,
    /// The abort after the delay.
    abort: Option<AbortReply>,
}

/// A delay that has begun and not ended.
#[derive(Debug)]
struct ActiveDelay {
    /// The entry in shared data; `None` without `maxActiveFaults`.
    expires_at: Option<u64>,
}

weir_sdk::register!(Fault);

impl HttpFilter for Fault {
    type Config = Shared;

    fn new(shared: &Rc<Shared>) -> Self {
        Self { shared: Rc::clone(shared), delay: None, abort: None }
    }

    fn on_request_headers(&mut self, headers: &mut RequestHeaders) -> Action {
        let Decision { delay, abort, ignored_headers } =
            decide::decide(&self.shared.config, &SdkRequest(headers), random::number);
        IGNORED_HEADERS.add(ignored_headers);
        self.abort = abort;
        match delay {
            Some(delay) if self.begin_delay(delay) => Action::PauseFor(delay),
            _ => self.apply_abort(),
        }
    }

    fn on_pause_end(&mut self) -> Action {
        self.end_delay();
        self.apply_abort()
    }
}

impl Fault {
    /// Counts a delay. Returns false if too many requests are delayed already.
    fn begin_delay(&mut self, delay: Duration) -> bool {
        let Ok(expires_at) = self.shared.config.max_active.map(|max| self.shared.add(delay, max)).transpose() else {
            OVERFLOWS.add(1);
            return false;
        };
        self.delay = Some(ActiveDelay { expires_at });
        DELAYS.add(1);
        ACTIVE.add(1);
        access_log::field("fault_delay_ms", delay.as_millis().to_string());
        true
    }

    fn end_delay(&mut self) {
        let Some(ActiveDelay { expires_at }) = self.delay.take() else { return };
        ACTIVE.add(-1);
        if let Some(expires_at) = expires_at {
            self.shared.remove(expires_at);
        }
    }

    fn apply_abort(&mut self) -> Action {
        let Some(AbortReply { http_status, grpc_status }) = self.abort.take() else { return Action::Continue };
        ABORTS.add(1);
        let reply = Reply::new(http_status).details("fault_abort").text("aborted by the fault filter\n");
        match grpc_status {
            Some(status) => reply.grpc_status(status).into(),
            None => reply.into(),
        }
    }
}

impl Drop for Fault {
    /// Ends the delay of a request that has ended before it.
    fn drop(&mut self) {
        self.end_delay();
    }
}

/// The result when a delay cannot begin: too many requests are delayed, or the host cannot count them.
struct Overflow;

impl Shared {
    /// Adds a delay to the active ones, and returns its entry.
    fn add(&self, delay: Duration, max: usize) -> Result<u64, Overflow> {
        let now = clock::monotonic();
        let expires_at = active::expiry(now, delay);
        self.change(|entries| active::add(entries, expires_at, now, max))?;
        Ok(expires_at)
    }

    fn remove(&self, expires_at: u64) {
        let now = clock::monotonic();
        if self.change(|entries| Some(active::remove(entries, expires_at, now))).is_err() {
            log::warn!("a delay that has ended counts as active until its time has passed");
        }
    }

    fn change(&self, edit: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Result<(), Overflow> {
        let name = self.name.get_or_init(|| {
            let plugin = property::text(&["plugin_name"]).unwrap_or_default();
            format!("fault-active-{plugin}")
        });
        for _attempt in 0..MAX_ATTEMPTS {
            let (entries, version) = shared::get_with_version(name).map_err(|_| Overflow)?;
            let entries = edit(&entries.unwrap_or_default()).ok_or(Overflow)?;
            match shared::compare_and_set(name, &entries, version) {
                Ok(()) => return Ok(()),
                Err(HostError::Conflict) => {}
                Err(_) => return Err(Overflow),
            }
        }
        Err(Overflow)
    }
}

/// The request of the SDK.
struct SdkRequest<'a>(&'a RequestHeaders);

impl Request for SdkRequest<'_> {
    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.0.first(name)
    }
}
