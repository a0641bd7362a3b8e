//! `/stats/prometheus`: what the data plane counts, what clusters count, and what plugins count themselves.
//!
//! The Proxy-Wasm ABI knows plain names only, so a plugin writes labels into the name, the way Prometheus prints them:
//! `requests_total{route="shop/web",class="2xx"}` becomes
//! `filter_custom_requests_total{plugin="shop/telemetry",class="2xx",route="shop/web"}`. A name that only looks like
//! that is exported without labels, every odd character replaced.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::Ordering;

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

    /// Adds what was counted under another name that reads the same here.
    fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Counter(value), Self::Counter(more)) | (Self::Gauge(value), Self::Gauge(more)) => {
                *value = value.wrapping_add(*more);
            }
            (Self::Histogram(counts, sum), Self::Histogram(more_counts, more_sum)) => {
                counts.iter_mut().zip(more_counts).for_each(|(count, more)| *count = count.wrapping_add(*more));
                *sum = sum.wrapping_add(*more_sum);
            }
            _ => {} // A family is of one kind.
        }
    }
}

/// The samples of one family: by plugin, then labels.
type Samples = BTreeMap<(String, Vec<Label>), Reading>;

/// Metrics that plugins define, each family once however many plugins and labels it has.
#[derive(Default)]
struct CustomFamilies(BTreeMap<(String, &'static str), Samples>);

impl CustomFamilies {
    fn add(&mut self, plugin: &str, name: &str, reading: Reading) {
        let MetricName { family, labels } = MetricName::of(name);
        let samples = self.0.entry((family, reading.kind())).or_default();
        match samples.entry((plugin.to_owned(), labels)) {
            Entry::Vacant(place) => {
                place.insert(reading);
            }
            Entry::Occupied(mut place) => place.get_mut().add(&reading),
        }
    }

    fn write(&self, exposition: &mut Exposition) {
        let mut before = None;
        for ((family, kind), samples) in &self.0 {
            // A name may have one type only; the first one of the alphabet keeps the name for itself.
            let renamed = (before == Some(family)).then(|| format!("{family}_{kind}"));
            before = Some(family);
            let name = renamed.as_ref().unwrap_or(family);
            exposition.family(name, kind, "Counted by a plugin.");
            for ((plugin, labels), reading) in samples {
                let labels = labels.iter().map(|(label, value)| (label.as_str(), value.as_str()));
                let labels: Vec<(&str, &str)> = std::iter::once(("plugin", plugin.as_str())).chain(labels).collect();
                write_reading(exposition, name, &labels, reading);
            }
        }
    }
}

fn plugins(state: &PluginState, exposition: &mut Exposition) {
    let about = "VMs of plugins that run on workers, of configurations that end, too.";
    exposition.single("filter_vms", "gauge", about, state.vms.load(Ordering::Relaxed));
    let mut families = CustomFamilies::default();
    state.visit_metrics(|plugin, name, metric| families.add(plugin, name, Reading::of(metric)));
    families.write(exposition);
}

fn write_reading(exposition: &mut Exposition, name: &str, labels: &[(&str, &str)], reading: &Reading) {
    let (counts, sum) = match reading {
        Reading::Counter(value) | Reading::Gauge(value) => return exposition.sample(name, labels, value),
        Reading::Histogram(counts, sum) => (counts, sum),
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
        // Bucket n holds what is below 2^n.
        let bound = 1_u64.checked_shl(u32::try_from(power).unwrap_or(u32::MAX)).map_or(u64::MAX, |bound| bound - 1);
        write_bucket(&bound.to_string(), cumulative);
    }
    write_bucket("+Inf", cumulative);
    exposition.sample(&format!("{name}_sum"), labels, sum);
    exposition.sample(&format!("{name}_count"), labels, cumulative);
}

/// A label's name and its value, unescaped.
type Label = (String, String);

/// What a plugin's name for a metric says.
#[derive(Debug, PartialEq, Eq)]
struct MetricName {
    family: String,
    /// In alphabetical order.
    labels: Vec<Label>,
}

impl MetricName {
    fn of(name: &str) -> Self {
        let labelled = name.strip_suffix('}').and_then(|name| name.split_once('{'));
        if let Some((family, labels)) = labelled
            && is_name(family)
            && let Some(labels) = read_labels(labels)
        {
            return Self { family: custom_name(family), labels };
        }
        Self { family: custom_name(name), labels: Vec::new() }
    }
}

/// A plugin may call its metric anything; Prometheus allows letters, digits and `_`.
fn custom_name(name: &str) -> String {
    let allowed = |character: char| if character.is_ascii_alphanumeric() { character } else { '_' };
    format!("filter_custom_{}", name.chars().map(allowed).collect::<String>())
}

/// `label="value",label="value"` in order of the labels, or `None` if it is anything else.
fn read_labels(mut text: &str) -> Option<Vec<Label>> {
    let mut labels: Vec<Label> = Vec::new();
    loop {
        let (name, quoted) = text.split_once("=\"")?;
        let (value, rest) = read_value(quoted)?;
        // Ours are `plugin` and `le`; those that begin with two underscores are Prometheus' own.
        let is_free = is_name(name) && !name.starts_with("__") && name != "plugin" && name != "le";
        if !is_free || labels.iter().any(|(known, _)| known == name) {
            return None;
        }
        labels.push((name.to_owned(), value));
        match rest.strip_prefix(',') {
            Some(more) => text = more,
            None if rest.is_empty() => break,
            None => return None,
        }
    }
    labels.sort_unstable();
    Some(labels)
}

/// A value up to its closing quote, and what follows that.
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

/// A name of a family or a label: a letter or `_`, then letters, digits and `_`.
fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|character| character.is_ascii_alphanumeric() || character == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, family: &str, labels: &[(&str, &str)]) {
        let labels = labels.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
        assert_eq!(MetricName::of(name), MetricName { family: format!("filter_custom_{family}"), labels }, "{name}");
    }

    #[test]
    fn labels_are_read_from_a_name() {
        check("requests_total", "requests_total", &[]);
        check(r#"r{route="shop/web",class="2xx"}"#, "r", &[("class", "2xx"), ("route", "shop/web")]);
        check(r#"r{a=""}"#, "r", &[("a", "")]);
        check(r#"r{a="b\"c\\d\ne"}"#, "r", &[("a", "b\"c\\d\ne")]);
        check(r#"r{a="},x=",b="{"}"#, "r", &[("a", "},x="), ("b", "{")]);
        check("_r1{_a1=\"gr\u{fc}n\"}", "_r1", &[("_a1", "gr\u{fc}n")]);
    }

    #[test]
    fn what_only_looks_like_labels_is_a_plain_name() {
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
            r#"r{plugin="b"}"#,
            r#"r{le="1"}"#,
            r#"r{a="b",a="c"}"#,
            r#"1{a="b"}"#,
            r#"r s{a="b"}"#,
        ] {
            let plain: String = name.chars().map(|it| if it.is_ascii_alphanumeric() { it } else { '_' }).collect();
            check(name, &plain, &[]);
        }
    }

    #[test]
    fn a_family_is_written_once() {
        let mut families = CustomFamilies::default();
        families.add("b", r#"r{route="x\"y",class="2xx"}"#, Reading::Counter(1));
        families.add("b", r#"r{class="2xx",route="x\"y"}"#, Reading::Counter(2));
        families.add("a", "r", Reading::Counter(4));
        families.add("a", "r", Reading::Gauge(8));
        families.add("a", r#"d{class="2xx"}"#, Reading::Histogram(vec![1, 0, 2, 0], 7));
        let mut exposition = Exposition::default();
        families.write(&mut exposition);
        let expected = r#"# HELP filter_custom_d Counted by a plugin.
# TYPE filter_custom_d histogram
filter_custom_d_bucket{plugin="a",class="2xx",le="0"} 1
filter_custom_d_bucket{plugin="a",class="2xx",le="1"} 1
filter_custom_d_bucket{plugin="a",class="2xx",le="3"} 3
filter_custom_d_bucket{plugin="a",class="2xx",le="+Inf"} 3
filter_custom_d_sum{plugin="a",class="2xx"} 7
filter_custom_d_count{plugin="a",class="2xx"} 3
# HELP filter_custom_r Counted by a plugin.
# TYPE filter_custom_r counter
filter_custom_r{plugin="a"} 4
filter_custom_r{plugin="b",class="2xx",route="x\"y"} 3
# HELP filter_custom_r_gauge Counted by a plugin.
# TYPE filter_custom_r_gauge gauge
filter_custom_r_gauge{plugin="a"} 8
"#;
        assert_eq!(exposition.finish(), expected);
    }
}
