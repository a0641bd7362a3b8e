//! `/stats/prometheus`: the metrics of the data plane, of clusters, and those that plugins define.
//!
//! The Proxy-Wasm ABI knows plain names only, so a plugin writes labels into the name, the way Prometheus prints them:
//! `requests_total{route="shop/web",class="2xx"}` becomes
//! `weir_filter_custom_requests_total{filter="shop/telemetry",class="2xx",route="shop/web"}`. A name with invalid labels is
//! exported without labels, and every character that Prometheus does not allow becomes `_`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use http::StatusCode;
use weir_host_abi::abi::metric::MetricKind;
use weir_host_abi::shared::Metric;

use crate::admin::response::{AdminResponse, content_of_type};
use crate::admin::state::AdminState;
use crate::filter::SharedPluginState;
use crate::identity::Identity;
use crate::telemetry::{Exposition, Family};
use crate::upstream::ClusterCounts;

/// The media type of version 0.0.4 of Prometheus' text format.
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /stats/prometheus`: all metrics.
pub(super) fn metrics(state: &AdminState, _query: &str) -> AdminResponse {
    let mut exposition = Exposition::default();
    exposition.data_plane(&state.metrics);
    clusters(state, &mut exposition);
    failed_plugins(state, &mut exposition);
    certificate(&state.identity, &mut exposition);
    plugins(&state.plugin_state, &mut exposition);
    content_of_type(StatusCode::OK, CONTENT_TYPE, exposition.finish())
}

/// A metric family with one sample per cluster.
struct ClusterMetric {
    family: Family<'static>,
    read: fn(&ClusterCounts) -> u64,
}

const fn counter(name: &'static str, help: &'static str, read: fn(&ClusterCounts) -> u64) -> ClusterMetric {
    ClusterMetric { family: Family::counter(name, help), read }
}

const fn gauge(name: &'static str, help: &'static str, read: fn(&ClusterCounts) -> u64) -> ClusterMetric {
    ClusterMetric { family: Family::gauge(name, help), read }
}

const CLUSTER_METRICS: [ClusterMetric; 11] = [
    counter("weir_upstream_requests_total", "Requests sent to the cluster.", |counts| counts.requests),
    counter("weir_upstream_failures_total", "Requests that no endpoint answered.", |counts| counts.failures),
    counter("weir_upstream_retries_total", "Attempts beyond a request's first.", |counts| counts.retries),
    gauge("weir_upstream_requests_in_flight", "Requests whose response has not ended.", |counts| counts.in_flight),
    gauge("weir_upstream_connections", "Connections open.", |counts| counts.connections),
    counter("weir_upstream_connections_total", "Connections opened.", |counts| counts.connects),
    counter("weir_upstream_connect_failures_total", "Connections that could not be opened.", |counts| {
        counts.connect_failures
    }),
    counter("weir_upstream_tls_failures_total", "Connections whose TLS handshake failed.", |counts| {
        counts.tls_failures
    }),
    counter("weir_upstream_retries_over_budget_total", "Retries not made: the retry budget was spent.", |counts| {
        counts.retries_over_budget
    }),
    counter("weir_upstream_ejections_total", "Ejections of endpoints by outlier detection.", |counts| counts.ejections),
    counter("weir_upstream_mirrors_dropped_total", "Copies of requests that were dropped.", |counts| {
        counts.mirrors_dropped
    }),
];

fn clusters(state: &AdminState, exposition: &mut Exposition) {
    let active = state.active.load();
    let counts: BTreeMap<_, _> = active.clusters.iter().map(|(name, cluster)| (name, cluster.counts())).collect();
    for ClusterMetric { family, read } in CLUSTER_METRICS {
        exposition.family(&family);
        for (cluster, counts) in &counts {
            exposition.sample(family.name, &[("cluster", cluster.as_str())], read(counts));
        }
    }
}

fn failed_plugins(state: &AdminState, exposition: &mut Exposition) {
    let help = "1 for each filter whose newest version does not load.";
    let family = Family::gauge("weir_filter_not_loaded", help);
    exposition.family(&family);
    for plugin in state.active.load().failed_plugins.keys() {
        exposition.sample(family.name, &[("filter", plugin.as_str())], 1);
    }
}

/// Writes the remaining time of the workload certificate. A proxy that never had one has no sample.
fn certificate(identity: &Identity, exposition: &mut Exposition) {
    let help = "Seconds until the workload certificate ends; negative once it has ended.";
    let family = Family::gauge("weir_certificate_expiry_seconds", help);
    if let Some(not_after) = identity.not_after() {
        let left = match not_after.duration_since(SystemTime::now()) {
            Ok(left) => left.as_secs_f64(),
            Err(ended) => -ended.duration().as_secs_f64(),
        };
        exposition.single(&family, format_args!("{left:.3}"));
        let help = "Failed attempts to obtain the workload certificate.";
        let family = Family::counter("weir_certificate_renewal_failures_total", help);
        exposition.single(&family, identity.renewal_failures());
    }
}

/// The value of a metric of a plugin at the time of the scrape.
enum MetricValue {
    Counter(u64),
    Gauge(u64),
    Histogram { counts: Vec<u64>, sum: u64 },
}

impl MetricValue {
    fn of(metric: &Metric) -> Self {
        match (metric.kind(), metric.histogram()) {
            (MetricKind::Histogram, Some(histogram)) => {
                Self::Histogram { counts: histogram.counts().to_vec(), sum: histogram.sum() }
            }
            (MetricKind::Counter, _) => Self::Counter(metric.value().unwrap_or(0)),
            (MetricKind::Gauge | MetricKind::Histogram, _) => Self::Gauge(metric.value().unwrap_or(0)),
        }
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::Counter(_) => "counter",
            Self::Gauge(_) => "gauge",
            Self::Histogram { .. } => "histogram",
        }
    }

    /// Adds the value of a metric whose name has the same family and labels.
    fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Counter(value), Self::Counter(more)) | (Self::Gauge(value), Self::Gauge(more)) => {
                *value = value.wrapping_add(*more);
            }
            (Self::Histogram { counts, sum }, Self::Histogram { counts: more_counts, sum: more_sum }) => {
                counts.iter_mut().zip(more_counts).for_each(|(count, more)| *count = count.wrapping_add(*more));
                *sum = sum.wrapping_add(*more_sum);
            }
            _ => {} // Not reachable: a family has one kind.
        }
    }
}

/// The family of a metric that plugins define.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct FamilyKey {
    name: String,
    kind: &'static str,
}

/// One sample of a family.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct SampleKey {
    plugin: String,
    labels: Vec<MetricLabel>,
}

/// Metrics that plugins define, grouped by family: Prometheus demands that a family is written once.
#[derive(Default)]
struct CustomFamilies(BTreeMap<FamilyKey, BTreeMap<SampleKey, MetricValue>>);

impl CustomFamilies {
    fn add(&mut self, plugin: &str, name: &str, value: MetricValue) {
        let LabeledName { family, labels } = LabeledName::parse(name);
        let samples = self.0.entry(FamilyKey { name: family, kind: value.kind() }).or_default();
        match samples.entry(SampleKey { plugin: plugin.to_owned(), labels }) {
            Entry::Vacant(entry) => {
                entry.insert(value);
            }
            Entry::Occupied(mut entry) => entry.get_mut().add(&value),
        }
    }

    /// Returns the name and the unit of an exported family. A family keeps its unit if another one has the name with
    /// seconds.
    fn export<'name>(&self, name: &'name str) -> (Cow<'name, str>, Unit) {
        for unit in Unit::CONVERTED {
            if let Some(stem) = name.strip_suffix(unit.suffix) {
                let in_seconds = format!("{stem}_seconds");
                if !self.0.keys().any(|key| key.name == in_seconds) {
                    return (Cow::Owned(in_seconds), unit);
                }
            }
        }
        (Cow::Borrowed(name), Unit::PLAIN)
    }

    fn write(&self, exposition: &mut Exposition) {
        let mut before = None;
        for (FamilyKey { name, kind }, samples) in &self.0 {
            // A name has one type in Prometheus. The first kind in alphabetical order gets the plain name.
            let is_second = before == Some(name);
            before = Some(name);
            let (exported, unit) = self.export(name);
            let name = if is_second { format!("{exported}_{kind}") } else { exported.into_owned() };
            exposition.family(&Family { name: &name, kind, help: "Defined by a filter." });
            for (SampleKey { plugin, labels }, value) in samples {
                let labels = labels.iter().map(|label| (label.name.as_str(), label.value.as_str()));
                let labels: Vec<(&str, &str)> = std::iter::once(("filter", plugin.as_str())).chain(labels).collect();
                write_value(exposition, &name, &labels, &Measure { value, unit });
            }
        }
    }
}

fn plugins(state: &SharedPluginState, exposition: &mut Exposition) {
    let help = "VMs of plugins that run on workers, including those of draining configurations.";
    exposition.single(&Family::gauge("weir_filter_vms", help), state.vms.load(Ordering::Relaxed));
    let mut families = CustomFamilies::default();
    state.visit_metrics(|plugin, name, metric| families.add(plugin, name, MetricValue::of(metric)));
    families.write(exposition);
}

/// A unit of time in the name of a metric.
#[derive(Debug, Clone, Copy)]
struct Unit {
    suffix: &'static str,
    per_second: u64,
}

impl Unit {
    const PLAIN: Self = Self { suffix: "", per_second: 1 };
    /// Units that are exported in seconds.
    const CONVERTED: [Self; 3] = [
        Self { suffix: "_nanoseconds", per_second: 1_000_000_000 },
        Self { suffix: "_microseconds", per_second: 1_000_000 },
        Self { suffix: "_milliseconds", per_second: 1_000 },
    ];

    /// Returns the value in the exported unit, in decimal digits without rounding.
    fn export(self, value: u64) -> String {
        let fraction = value % self.per_second;
        if fraction == 0 {
            return (value / self.per_second).to_string();
        }
        let digits = self.per_second.ilog10() as usize;
        let text = format!("{}.{fraction:0digits$}", value / self.per_second);
        text.trim_end_matches('0').to_owned()
    }
}

/// A value with the unit that it was measured in.
struct Measure<'a> {
    value: &'a MetricValue,
    unit: Unit,
}

fn write_value(exposition: &mut Exposition, name: &str, labels: &[(&str, &str)], measure: &Measure<'_>) {
    let unit = measure.unit;
    let (counts, sum) = match measure.value {
        MetricValue::Counter(value) | MetricValue::Gauge(value) => {
            return exposition.sample(name, labels, unit.export(*value));
        }
        MetricValue::Histogram { counts, sum } => (counts, sum),
    };
    let bucket = format!("{name}_bucket");
    let mut write_bucket = |bound: &str, cumulative: u64| {
        let with_bound: Vec<(&str, &str)> = labels.iter().copied().chain([("le", bound)]).collect();
        exposition.sample(&bucket, &with_bound, cumulative);
    };
    let mut cumulative = 0_u64;
    let last = counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
    for (power, count) in counts.iter().enumerate().take(last) {
        cumulative += count;
        // Bucket n counts values below 2^n.
        let bound = 1_u64.checked_shl(u32::try_from(power).unwrap_or(u32::MAX)).map_or(u64::MAX, |bound| bound - 1);
        write_bucket(&unit.export(bound), cumulative);
    }
    write_bucket("+Inf", cumulative);
    exposition.sample(&format!("{name}_sum"), labels, unit.export(*sum));
    exposition.sample(&format!("{name}_count"), labels, cumulative);
}

/// A label with its unescaped value.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct MetricLabel {
    name: String,
    value: String,
}

/// A metric name of a plugin, split into family and labels.
#[derive(Debug, PartialEq, Eq)]
struct LabeledName {
    family: String,
    /// In alphabetical order.
    labels: Vec<MetricLabel>,
}

impl LabeledName {
    fn parse(name: &str) -> Self {
        let parts = name.strip_suffix('}').and_then(|name| name.split_once('{'));
        if let Some((family, labels)) = parts
            && is_name(family)
            && let Some(labels) = read_labels(labels)
        {
            return Self { family: custom_name(family), labels };
        }
        Self { family: custom_name(name), labels: Vec::new() }
    }
}

/// Returns the exported name of a family: every character except ASCII letters, digits and `_` becomes `_`.
fn custom_name(name: &str) -> String {
    let allowed = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    format!("weir_filter_custom_{}", name.chars().map(allowed).collect::<String>())
}

/// Parses `label="value",label="value"` and sorts the labels; `None` if the text is invalid.
fn read_labels(mut text: &str) -> Option<Vec<MetricLabel>> {
    let mut labels: Vec<MetricLabel> = Vec::new();
    loop {
        let (name, quoted) = text.split_once("=\"")?;
        let (value, rest) = read_value(quoted)?;
        // `filter` and `le` are added here; names with two leading underscores are reserved by Prometheus.
        let is_free = is_name(name) && !name.starts_with("__") && name != "filter" && name != "le";
        if !is_free || labels.iter().any(|known| known.name == name) {
            return None;
        }
        labels.push(MetricLabel { name: name.to_owned(), value });
        match rest.strip_prefix(',') {
            Some(more) => text = more,
            None if rest.is_empty() => break,
            None => return None,
        }
    }
    labels.sort_unstable();
    Some(labels)
}

/// Parses a value up to its closing quote. Returns it with the rest of the text.
fn read_value(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.chars();
    loop {
        match characters.next()? {
            '"' => return Some((value, characters.as_str())),
            '\\' => value.push(match characters.next()? {
                'n' => '\n',
                plain @ ('\\' | '"') => plain,
                _ => return None,
            }),
            '\n' => return None,
            plain => value.push(plain),
        }
    }
}

/// Returns true for a name of a family or label: a letter or `_`, then letters, digits and `_`.
fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, family: &str, labels: &[(&str, &str)]) {
        let label = |(name, value): &(&str, &str)| MetricLabel { name: (*name).to_owned(), value: (*value).to_owned() };
        let labels = labels.iter().map(label).collect();
        assert_eq!(
            LabeledName::parse(name),
            LabeledName { family: format!("weir_filter_custom_{family}"), labels },
            "{name}"
        );
    }

    #[test]
    fn labels_are_parsed_from_metric_name() {
        check("requests_total", "requests_total", &[]);
        check(r#"r{route="shop/web",class="2xx"}"#, "r", &[("class", "2xx"), ("route", "shop/web")]);
        check(r#"r{a=""}"#, "r", &[("a", "")]);
        check(r#"r{a="b\"c\\d\ne"}"#, "r", &[("a", "b\"c\\d\ne")]);
        check(r#"r{a="},x=",b="{"}"#, "r", &[("a", "},x="), ("b", "{")]);
        check("_r1{_a1=\"gr\u{fc}n\"}", "_r1", &[("_a1", "gr\u{fc}n")]);
    }

    #[test]
    fn name_with_invalid_labels_has_none() {
        for name in [
            "",
            "a.b-c",
            "r{}",
            "r{a}",
            r#"r{a="b"#,
            r#"r{a="b}"#,
            r#"r{a="b"} "#,
            r#"r{a="b"x}"#,
            r#"r{a="b",}"#,
            r#"r{a="b", c="d"}"#,
            r#"r{a="b\t"}"#,
            r#"r{a="b\"}"#,
            "r{a=\"b\nc\"}",
            r#"r{1="b"}"#,
            r#"r{="b"}"#,
            r#"r{__a="b"}"#,
            r#"r{filter="b"}"#,
            r#"r{le="1"}"#,
            r#"r{a="b",a="c"}"#,
            r#"1{a="b"}"#,
            r#"r s{a="b"}"#,
        ] {
            let plain: String =
                name.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect();
            check(name, &plain, &[]);
        }
    }

    #[test]
    fn family_is_written_once() {
        let mut families = CustomFamilies::default();
        families.add("b", r#"r{route="x\"y",class="2xx"}"#, MetricValue::Counter(1));
        families.add("b", r#"r{class="2xx",route="x\"y"}"#, MetricValue::Counter(2));
        families.add("a", "r", MetricValue::Counter(4));
        families.add("a", "r", MetricValue::Gauge(8));
        families.add("a", r#"d{class="2xx"}"#, MetricValue::Histogram { counts: vec![1, 0, 2, 0], sum: 7 });
        let mut exposition = Exposition::default();
        families.write(&mut exposition);
        let expected = r#"# HELP weir_filter_custom_d Defined by a filter.
# TYPE weir_filter_custom_d histogram
weir_filter_custom_d_bucket{filter="a",class="2xx",le="0"} 1
weir_filter_custom_d_bucket{filter="a",class="2xx",le="1"} 1
weir_filter_custom_d_bucket{filter="a",class="2xx",le="3"} 3
weir_filter_custom_d_bucket{filter="a",class="2xx",le="+Inf"} 3
weir_filter_custom_d_sum{filter="a",class="2xx"} 7
weir_filter_custom_d_count{filter="a",class="2xx"} 3
# HELP weir_filter_custom_r Defined by a filter.
# TYPE weir_filter_custom_r counter
weir_filter_custom_r{filter="a"} 4
weir_filter_custom_r{filter="b",class="2xx",route="x\"y"} 3
# HELP weir_filter_custom_r_gauge Defined by a filter.
# TYPE weir_filter_custom_r_gauge gauge
weir_filter_custom_r_gauge{filter="a"} 8
"#;
        assert_eq!(exposition.finish(), expected);
    }

    #[test]
    fn time_is_exported_in_seconds() {
        let mut families = CustomFamilies::default();
        families.add("a", "d_microseconds", MetricValue::Histogram { counts: vec![0, 0, 0, 1], sum: 1_500_000 });
        families.add("a", "e_milliseconds", MetricValue::Counter(2_000));
        families.add("a", "f_milliseconds", MetricValue::Gauge(1));
        families.add("a", "f_seconds", MetricValue::Gauge(3));
        let mut exposition = Exposition::default();
        families.write(&mut exposition);
        let text = exposition.finish();
        for line in [
            "# TYPE weir_filter_custom_d_seconds histogram",
            r#"weir_filter_custom_d_seconds_bucket{filter="a",le="0.000007"} 1"#,
            r#"weir_filter_custom_d_seconds_sum{filter="a"} 1.5"#,
            r#"weir_filter_custom_e_seconds{filter="a"} 2"#,
            r#"weir_filter_custom_f_milliseconds{filter="a"} 1"#,
            r#"weir_filter_custom_f_seconds{filter="a"} 3"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
