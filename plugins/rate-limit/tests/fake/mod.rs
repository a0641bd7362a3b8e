//! A host in memory: shared data as Weir and Envoy keep it, a clock that the test sets, a request.

use std::cell::Cell;
use std::collections::HashMap;

use parking_lot::Mutex;
use weir_plugin_rate_limit::config::Config;
use weir_plugin_rate_limit::decide::{Decision, Reason, Verdict, decide};
use weir_plugin_rate_limit::host::{Host, Unavailable, Written};
use weir_plugin_rate_limit::scope::Scope;
use weir_plugin_rate_limit::seed;

pub(crate) const SECOND: u64 = 1_000_000_000;

/// A time like one that a real clock tells.
pub(crate) const START: u64 = 1_800_000_000 * SECOND;

/// Shared data, for hosts on several threads.
#[derive(Debug, Default)]
pub(crate) struct Data(Mutex<HashMap<String, (Vec<u8>, u32)>>);

impl Data {
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }

    /// Bytes as Weir counts them: names, values, 128 for each.
    pub(crate) fn bytes(&self) -> usize {
        let data = self.0.lock();
        data.iter().map(|(name, (value, _))| name.len() + value.len() + 128).sum()
    }
}

/// One request on one worker.
#[derive(Debug)]
pub(crate) struct Fake<'d> {
    pub(crate) data: &'d Data,
    pub(crate) now: u64,
    pub(crate) address: Option<&'d str>,
    pub(crate) headers: Vec<(&'d str, &'d str)>,
    /// Writes that are to be told that somebody else was faster.
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
        decide(config, &Scope::new(seed, b"default/limits", config), self)
    }

    /// `REMAINING of LIMIT, reset RESET`, `free`, or `NAME REASON`.
    pub(crate) fn outcome(&self, config: &Config) -> String {
        match self.decide(config).verdict {
            Verdict::Allowed(None) => "free".to_owned(),
            Verdict::Allowed(Some(standing)) => {
                format!("{} of {}, reset {}", standing.remaining, standing.limit, standing.reset_s)
            }
            Verdict::Refused(limit, Reason::Limited { wait_s, .. }) => format!("{} wait {wait_s}", limit.name),
            Verdict::Refused(limit, reason) => format!("{} {reason:?}", limit.name),
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

    fn write(&self, name: &str, value: &[u8], version: u32) -> Result<Written, Unavailable> {
        if self.conflicts.get() > 0 {
            self.conflicts.set(self.conflicts.get() - 1);
            return Ok(Written::Conflict);
        }
        let mut data = self.data.0.lock();
        let known = data.get(name).map(|(_, version)| *version);
        if known.is_some_and(|known| known != version) {
            return Ok(Written::Conflict);
        }
        data.insert(name.to_owned(), (value.to_vec(), known.map_or(1, |known| known + 1)));
        Ok(Written::Done)
    }
}

pub(crate) fn config(json: &str) -> Config {
    weir_sdk::config::parse(json.as_bytes()).unwrap_or_else(|refusal| panic!("{refusal}"))
}
