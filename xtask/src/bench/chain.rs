//! The filter chains that are measured: modules, order, configuration. Each proxy runs the same modules.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::filter::Filter;
use super::micro_filters;
use crate::workspace::root;

/// The filter chain between listener and endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chain {
    Empty,
    /// Runs `xtask/bench/three_headers.wat`: reads, sets and removes a request header.
    ThreeHeaders,
    Telemetry,
    Auth,
    RateLimit,
    Routing,
    /// All shipped filters, in the order of their phases.
    Four,
    /// One hostcall, repeated; the value is its index in the list of micro benchmarks.
    Micro(usize),
    /// One small filter, repeated until its cost exceeds the noise; the value is its index in the list of micro
    /// benchmarks.
    Sixteen(usize),
    /// `auth` with this many rules and this isolation of its VMs.
    Isolated(usize, &'static str),
}

impl Chain {
    /// Returns the chains whose instructions are counted.
    pub(super) fn counted() -> impl Iterator<Item = Self> {
        [Self::Empty, Self::ThreeHeaders].into_iter().chain(Self::ALONE).chain([Self::Four])
    }
}

/// Counts requests by route and status, propagates traces, samples a tenth of them.
const TELEMETRY: Filter = Filter {
    name: "telemetry",
    phase: "Stats",
    config: r#"{"metrics":{},"tracing":{"sampleRatio":0.1}}"#,
    isolation: "Worker",
};

/// Checks an API key and two rules.
const AUTH: Filter = Filter {
    name: "auth",
    phase: "Authn",
    config: r#"{"apiKeys":{"keys":[{"id":"bench","key":"bench-key"}]},"rules":[{"name":"deny-admin","action":"deny","paths":[{"prefix":"/admin"}]},{"name":"all","action":"allow"}]}"#,
    isolation: "Worker",
};

/// Limits each consumer; the limit is never reached.
const RATE_LIMIT: Filter = Filter {
    name: "rate-limit",
    phase: "Limit",
    config: r#"{"limits":[{"name":"bench","requests":1000000,"per":"second","key":[{"header":"x-api-key"}]}]}"#,
    isolation: "Worker",
};

/// Matches a header that no request has, then a share of all users.
const ROUTING: Filter = Filter {
    name: "routing",
    phase: "Route",
    config: r#"{"rules":[{"name":"beta","headers":[{"name":"x-beta","exact":"yes"}],"to":"@v2"},{"name":"canary","sticky":{"header":"x-api-key"},"split":[{"percent":100,"to":"@v1"}]}]}"#,
    isolation: "Worker",
};

const THREE_HEADERS: Filter = Filter { name: "three_headers", phase: "Transform", config: "{}", isolation: "Worker" };

impl Chain {
    /// Chains with one shipped filter each.
    pub(super) const ALONE: [Self; 4] = [Self::Telemetry, Self::Auth, Self::RateLimit, Self::Routing];

    /// Returns the filters of the chain, in order.
    pub(super) fn filters(self) -> &'static [Filter] {
        match self {
            Self::Empty => &[],
            Self::ThreeHeaders => &[THREE_HEADERS],
            Self::Telemetry => &[TELEMETRY],
            Self::Auth => &[AUTH],
            Self::RateLimit => &[RATE_LIMIT],
            Self::Routing => &[ROUTING],
            Self::Four => &[TELEMETRY, AUTH, RATE_LIMIT, ROUTING],
            Self::Micro(index) => micro_filters::filter(index),
            Self::Sixteen(index) => micro_filters::sixteen(index),
            Self::Isolated(rules, isolation) => micro_filters::isolated(rules, isolation),
        }
    }

    /// Returns the name that the tables print.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Empty => "no filters",
            Self::ThreeHeaders => "three header operations",
            Self::Telemetry => "telemetry",
            Self::Auth => "auth",
            Self::RateLimit => "rate-limit",
            Self::Routing => "routing",
            Self::Four => "four filters",
            Self::Micro(_) => "a hostcall",
            Self::Sixteen(_) => "sixteen filters",
            Self::Isolated(..) => "auth",
        }
    }

    /// Returns the budget of resident memory with two workers, in MiB.
    pub(super) const fn memory_budget(self) -> u32 {
        match self {
            Self::Empty => 20,
            Self::Four => 40,
            _ => 30,
        }
    }
}

impl Filter {
    /// Reads the module; shipped modules are in the folder `plugins`.
    pub(super) fn module(&self, plugins: &Path) -> Result<Vec<u8>> {
        if self.name.starts_with(THREE_HEADERS.name) {
            return Ok(wat::parse_file(root()?.join("xtask/bench/three_headers.wat"))?);
        }
        if let Some(text) = micro_filters::module(self.name) {
            return Ok(wat::parse_str(text)?);
        }
        let path = plugins.join(format!("{}.wasm", self.name));
        fs::read(&path).with_context(|| path.display().to_string())
    }
}
