//! A host in memory: shared data with the semantics of Weir and Envoy, a clock that the test sets, and a request.

use std::cell::Cell;
use std::collections::HashMap;

use parking_lot::Mutex;
use weir_plugin_rate_limit::config::Config;
use weir_plugin_rate_limit::decide::{Decision, RejectReason, Verdict, decide};
use weir_plugin_rate_limit::host::{CasResult, Host, Unavailable};
use weir_plugin_rate_limit::limit_table::LimitTable;
use weir_plugin_rate_limit::seed;

pub(crate) const SECOND: u64 = 1_000_000_000;

/// A realistic time, in nanoseconds since 1970.
pub(crate) const START: u64 = 1_800_000_000 * SECOND;

/// Shared data, for hosts on several threads.
#[derive(Debug, Default)]
pub(crate) struct Data(Mutex<HashMap<String, (Vec<u8>, u32)>>);

impl Data {
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }

    /// Returns the size as Weir counts it: names, values, and 128 bytes for each.
    pub(crate) fn bytes(&self) -> usize {
        let data = self.0.lock();
        data.iter().map(|(name, (value, _))| name.len() + value.len() + 128).sum()
    }
}

/// A host with one request on one worker.
#[derive(Debug)]
pub(crate) struct Fake<'d> {
    pub(crate) data: &'d Data,
    pub(crate) now: u64,
    pub(crate) address: Option<&'d str>,
    pub(crate) headers: Vec<(&'d str, &'d str)>,
    /// The number of writes that fail with a conflict.
    pub(crate) conflicts: Cell<usize>,
    pub(crate) is_broken: bool,
}

impl<'d> Fake<'d> {
    pub(crate) fn new(data: &'d Data) -> Self {
        let headers = vec![(":method", "GET"), (":path", "/")];
        Self { data, now: START, address: Some("192.0.2.7:1234"), headers, conflicts: Cell::new(0), is_broken: false }
    }

    pub(crate) fn at(mut self, since_start: u64) -> Self {
        self.now = START + since_start;
        self
    }

    pub(crate) fn with(mut self, name: &'d str, value: &'d str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value));
        self
    }

    pub(crate) fn from(mut self, address: &'d str) -> Self {
        self.address = Some(address);
        self
    }

    pub(crate) fn decide<'c>(&self, config: &'c Config) -> Decision<'c> {
        let seed = seed::find(&Fake::new(self.data), &[]).expect("the seed is found while the host works");
        decide(config, &LimitTable::new(seed, b"default/limits", config), self)
    }

    /// Returns `REMAINING of LIMIT, reset RESET`, `free`, or `NAME REASON`.
    pub(crate) fn outcome(&self, config: &Config) -> String {
        match self.decide(config).verdict {
            Verdict::Allowed(None) => "free".to_owned(),
            Verdict::Allowed(Some(quota)) => {
                format!("{} of {}, reset {}", quota.remaining, quota.limit, quota.reset_s)
            }
            Verdict::Rejected(limit, RejectReason::Limited { wait_s, .. }) => format!("{} wait {wait_s}", limit.name),
            Verdict::Rejected(limit, reason) => format!("{} {reason:?}", limit.name),
        }
    }

    pub(crate) fn passes(&self, config: &Config) -> bool {
        matches!(self.decide(config).verdict, Verdict::Allowed(_))
    }
}

impl Host for Fake<'_> {
    type Version = u32;

    fn now(&self) -> u64 {
        self.now
    }

    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_bytes().to_vec())
    }

    fn address(&self) -> Option<Vec<u8>> {
        self.address.map(|address| address.as_bytes().to_vec())
    }

    fn read(&self, name: &str) -> Result<(Vec<u8>, u32), Unavailable> {
        if self.is_broken {
            return Err(Unavailable);
        }
        let data = self.data.0.lock();
        Ok(data.get(name).cloned().unwrap_or((Vec::new(), u32::MAX)))
    }

    fn write(&self, name: &str, value: &[u8], version: u32) -> Result<CasResult, Unavailable> {
        if self.conflicts.get() > 0 {
            self.conflicts.set(self.conflicts.get() - 1);
            return Ok(CasResult::Conflict);
        }
        let mut data = self.data.0.lock();
        let current = data.get(name).map(|(_, version)| *version);
        if current.is_some_and(|current| current != version) {
            return Ok(CasResult::Conflict);
        }
        data.insert(name.to_owned(), (value.to_vec(), current.map_or(1, |current| current + 1)));
        Ok(CasResult::Stored)
    }
}

pub(crate) fn config(json: &str) -> Config {
    weir_sdk::config::parse(json.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
}
