//! `/stats/prometheus`: what the data plane counts, what clusters count, and what plugins count themselves.

use std::collections::BTreeMap;

use http::StatusCode;
use weir_host_abi::abi::metric::MetricKind;
use weir_host_abi::shared::Metric;

use crate::admin::Admin;
use crate::admin::server::{Page, page};
use crate::filter::PluginState;
use crate::telemetry::Exposition;
use crate::upstream::ClusterCounts;

/// Prometheus' own name for version 0.0.4 of its text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All metrics.
pub(super) fn prometheus(admin: &Admin) -> Page {
    let mut exposition = Exposition::default();
    exposition.data_plane(&admin.metrics);
    clusters(admin, &mut exposition);
    plugins(&admin.plugin_state, &mut exposition);
    page(StatusCode::OK, CONTENT_TYPE, exposition.finish())
}

/// One number of a cluster: name, kind, help, and how it is read.
type ClusterFamily = (&'static str, &'static str, &'static str, fn(&ClusterCounts) -> u64);

const CLUSTER_FAMILIES: [ClusterFamily; 8] = [
    ("upstream_requests_total", "counter", "Requests sent to the cluster.", |counts| counts.requests),
    ("upstream_failures_total", "counter", "Requests that no endpoint answered.", |counts| counts.failures),
    ("upstream_retries_total", "counter", "Attempts beyond a request's first.", |counts| counts.retries),
    ("upstream_requests_in_flight", "gauge", "Requests whose response has not ended.", |counts| counts.in_flight),
    ("upstream_connections", "gauge", "Connections open.", |counts| counts.connections),
    ("upstream_connections_total", "counter", "Connections opened.", |counts| counts.connects),
    ("upstream_connect_failures_total", "counter", "Connections that could not be opened.", |counts| {
        counts.connect_failures
    }),
    ("upstream_mirrors_dropped_total", "counter", "Copies of requests that were given up.", |counts| {
        counts.mirrors_dropped
    }),
];

fn clusters(admin: &Admin, exposition: &mut Exposition) {
    let active = admin.active.load();
    let counts: BTreeMap<_, _> = active.clusters.iter().map(|(name, cluster)| (name, cluster.counts())).collect();
    for (name, kind, help, read) in CLUSTER_FAMILIES {
        exposition.family(name, kind, help);
        for (cluster, counts) in &counts {
            exposition.sample(name, &[("cluster", cluster.as_str())], read(counts));
        }
    }
}

/// A metric of a plugin as it was when it was read.
enum Reading {
    Counter(u64),
    Gauge(u64),
    Histogram(Vec<u64>, u64),
}

impl Reading {
    fn of(metric: &Metric) -> Self {
        match (metric.kind(), metric.histogram()) {
            (MetricKind::Histogram, Some(histogram)) => Self::Histogram(histogram.counts().to_vec(), histogram.sum()),
            (MetricKind::Counter, _) => Self::Counter(metric.value().unwrap_or(0)),
            (MetricKind::Gauge | MetricKind::Histogram, _) => Self::Gauge(metric.value().unwrap_or(0)),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Counter(_) => "counter",
            Self::Gauge(_) => "gauge",
            Self::Histogram(..) => "histogram",
        }
    }
}

/// Metrics that plugins define, as `filter_custom_<name>{plugin=...}`.
fn plugins(state: &PluginState, exposition: &mut Exposition) {
    let mut families: BTreeMap<(String, &'static str), Vec<(String, Reading)>> = BTreeMap::new();
    state.visit_metrics(|plugin, name, metric| {
        let reading = Reading::of(metric);
        let family = families.entry((prometheus_name(name), reading.kind())).or_default();
        family.push((plugin.to_owned(), reading));
    });
    for ((name, kind), readings) in families {
        exposition.family(&name, kind, "Counted by a plugin.");
        for (plugin, reading) in readings {
            write_reading(exposition, (&name, &plugin), &reading);
        }
    }
}

fn write_reading(exposition: &mut Exposition, (name, plugin): (&str, &str), reading: &Reading) {
    let (counts, sum) = match reading {
        Reading::Counter(value) | Reading::Gauge(value) => {
            return exposition.sample(name, &[("plugin", plugin)], value);
        }
        Reading::Histogram(counts, sum) => (counts, sum),
    };
    let bucket = format!("{name}_bucket");
    let mut cumulative = 0_u64;
    let last = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
    for (power, count) in counts.iter().enumerate().take(last) {
        cumulative += count;
        // Bucket n holds what is below 2^n.
        let bound = 1_u64.checked_shl(u32::try_from(power).unwrap_or(u32::MAX)).map_or(u64::MAX, |bound| bound - 1);
        exposition.sample(&bucket, &[("plugin", plugin), ("le", &bound.to_string())], cumulative);
    }
    exposition.sample(&bucket, &[("plugin", plugin), ("le", "+Inf")], cumulative);
    exposition.sample(&format!("{name}_sum"), &[("plugin", plugin)], sum);
    exposition.sample(&format!("{name}_count"), &[("plugin", plugin)], cumulative);
}

/// A plugin may call its metric anything; Prometheus allows letters, digits and `_`.
fn prometheus_name(name: &str) -> String {
    let allowed = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    format!("filter_custom_{}", name.chars().map(allowed).collect::<String>())
}
