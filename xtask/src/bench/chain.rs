//! The filter chains that are measured: which modules, in which order, with which configuration. Every host runs the
//! very same modules.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::prices;
use crate::workspace::root;

/// What is in the way of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chain {
    Empty,
    /// `xtask/bench/three_headers.wat`: reads, sets and removes a request header.
    ThreeHeaders,
    Telemetry,
    Auth,
    RateLimit,
    Routing,
    /// All shipped filters, in the order of their phases.
    Four,
    /// One hostcall, many times: its place in the list of prices.
    Price(usize),
    /// The same small filter so many times that its price stands out of the noise: its place in the list of prices.
    Sixteen(usize),
    /// `auth` with so many rules, and how its VMs are isolated.
    Isolated(usize, &'static str),
}

/// One filter of a chain.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) name: &'static str,
    pub(super) phase: &'static str,
    /// The same text for every host.
    pub(super) config: &'static str,
    /// `Worker`, or `Stream`; Envoy has no such thing.
    pub(super) isolation: &'static str,
}

/// Counts by route and status, carries traces on, samples a tenth.
const TELEMETRY: Filter = Filter {
    name: "telemetry",
    phase: "Stats",
    config: r#"{"metrics":{},"tracing":{"sampleRatio":0.1}}"#,
    isolation: "Worker",
};

/// An API key and two rules.
const AUTH: Filter = Filter {
    name: "auth",
    phase: "Authn",
    config: r#"{"apiKeys":{"keys":[{"id":"bench","key":"bench-key"}]},"rules":[{"name":"deny-admin","action":"deny","paths":[{"prefix":"/admin"}]},{"name":"all","action":"allow"}]}"#,
    isolation: "Worker",
};

/// One limit for each consumer, which nobody reaches.
const RATE_LIMIT: Filter = Filter {
    name: "rate-limit",
    phase: "Limit",
    config: r#"{"limits":[{"name":"bench","requests":1000000,"per":"second","key":[{"header":"x-api-key"}]}]}"#,
    isolation: "Worker",
};

/// A rule on a header that is not there, then a share of all users.
const ROUTING: Filter = Filter {
    name: "routing",
    phase: "Route",
    config: r#"{"rules":[{"name":"beta","headers":[{"name":"x-beta","exact":"yes"}],"to":"@v2"},{"name":"canary","sticky":{"header":"x-api-key"},"split":[{"percent":100,"to":"@v1"}]}]}"#,
    isolation: "Worker",
};

const THREE_HEADERS: Filter = Filter { name: "three_headers", phase: "Transform", config: "{}", isolation: "Worker" };

impl Chain {
    /// Each shipped filter alone.
    pub(super) const ALONE: [Self; 4] = [Self::Telemetry, Self::Auth, Self::RateLimit, Self::Routing];

    /// Its filters, in order.
    pub(super) fn filters(self) -> &'static [Filter] {
        match self {
            Self::Empty => &[],
            Self::ThreeHeaders => &[THREE_HEADERS],
            Self::Telemetry => &[TELEMETRY],
            Self::Auth => &[AUTH],
            Self::RateLimit => &[RATE_LIMIT],
            Self::Routing => &[ROUTING],
            Self::Four => &[TELEMETRY, AUTH, RATE_LIMIT, ROUTING],
            Self::Price(place) => prices::filter(place),
            Self::Sixteen(place) => prices::sixteen(place),
            Self::Isolated(rules, isolation) => prices::isolated(rules, isolation),
        }
    }

    /// As the tables say it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Empty => "no filters",
            Self::ThreeHeaders => "three header operations",
            Self::Telemetry => "telemetry",
            Self::Auth => "auth",
            Self::RateLimit => "rate-limit",
            Self::Routing => "routing",
            Self::Four => "four filters",
            Self::Price(_) => "a hostcall",
            Self::Sixteen(_) => "sixteen filters",
            Self::Isolated(..) => "auth",
        }
    }

    /// Budget of resident memory with two workers, in MiB (design, section 6).
    pub(super) const fn memory_budget(self) -> u32 {
        match self {
            Self::Empty => 20,
            Self::Four => 40,
            _ => 30,
        }
    }
}

impl Filter {
    /// The module; shipped ones lie in `plugins`.
    pub(super) fn module(&self, plugins: &Path) -> Result<Vec<u8>> {
        if self.name.starts_with(THREE_HEADERS.name) {
            return Ok(wat::parse_file(root()?.join("xtask/bench/three_headers.wat"))?);
        }
        if let Some(text) = prices::module(self.name) {
            return Ok(wat::parse_str(text)?);
        }
        let path = plugins.join(format!("{}.wasm", self.name));
        fs::read(&path).with_context(|| path.display().to_string())
    }
}
