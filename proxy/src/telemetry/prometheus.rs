//! Metrics as Prometheus reads them: the text format, version 0.0.4. Called by the page `/stats/prometheus`.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::task;
use crate::telemetry::counter::{BUCKETS, Counter, HistogramSum};
use crate::telemetry::log_writer::log_lines_dropped;
use crate::telemetry::metrics::{ListenerMetrics, Metrics, PluginMetrics, WorkerMetrics};
use crate::telemetry::process::ProcessUse;

/// The text of a scrape while it is written.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    text: String,
}

/// The first digit of a status, as the label `status_class` says it.
const STATUS_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

impl Exposition {
    /// Begins a family of series; `kind` is `counter`, `gauge` or `histogram`.
    pub(crate) fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing into a String does not fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// One sample; labels as (name, value).
    pub(crate) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.push_str(name);
        let mut separator = '{';
        for (label, text) in labels {
            self.text.push(separator);
            let _ = write!(self.text, "{label}=\"");
            escaped(&mut self.text, text);
            self.text.push('"');
            separator = ',';
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }

    /// A family of one sample without labels.
    pub(crate) fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// The whole text.
    pub(crate) fn finish(self) -> String {
        self.text
    }

    /// Every metric of the data plane.
    pub(crate) fn data_plane(&mut self, metrics: &Metrics) {
        self.listeners(metrics);
        self.plugins(metrics);
        self.configuration(metrics);
        self.process(metrics);
    }

    fn histogram(&mut self, name: &str, label: (&str, &str), sum: &HistogramSum) {
        let bucket = format!("{name}_bucket");
        let mut cumulative = 0;
        for (count, (_, bound)) in sum.buckets.iter().zip(&BUCKETS) {
            cumulative += count;
            self.sample(&bucket, &[label, ("le", bound)], cumulative);
        }
        cumulative += sum.buckets[BUCKETS.len()];
        self.sample(&bucket, &[label, ("le", "+Inf")], cumulative);
        self.sample(&format!("{name}_sum"), &[label], Seconds(sum.sum_micros));
        self.sample(&format!("{name}_count"), &[label], cumulative);
    }

    fn counters<Handle>(
        &mut self,
        about: (&str, &str, &str),
        of: (&str, &Sums<Handle>),
        read: impl Fn(&Handle) -> u64,
    ) {
        let (name, kind, help) = about;
        let (label, sums) = of;
        self.family(name, kind, help);
        for (owner, handles) in sums {
            self.sample(name, &[(label, owner)], handles.iter().map(|handle| read(handle)).sum::<u64>());
        }
    }

    fn by_status<Handle>(
        &mut self,
        about: (&str, &str),
        of: (&str, &Sums<Handle>),
        read: impl Fn(&Handle) -> &[Counter; 6],
    ) {
        let (name, help) = about;
        let (label, sums) = of;
        self.family(name, "counter", help);
        for (owner, handles) in sums {
            for (class, text) in STATUS_CLASSES.iter().enumerate() {
                let count: u64 = handles.iter().map(|handle| read(handle)[class].value()).sum();
                if count > 0 || class == 2 {
                    self.sample(name, &[(label, owner), ("status_class", text)], count);
                }
            }
        }
    }

    fn listeners(&mut self, metrics: &Metrics) {
        let sums = gathered(metrics, |worker| &worker.listeners);
        let of = ("listener", &sums);
        self.by_status(("downstream_requests_total", "Requests that have ended."), of, |it: &ListenerMetrics| {
            &it.requests
        });
        let name = "downstream_request_seconds";
        self.family(name, "histogram", "From a request's head to the last byte of its response.");
        for (owner, handles) in &sums {
            let mut sum = HistogramSum::default();
            handles.iter().for_each(|handle| sum.add(&handle.duration));
            self.histogram(name, ("listener", owner), &sum);
        }
        self.counters(("downstream_connections", "gauge", "Connections open."), of, |it| it.connections.value());
        let about = ("downstream_connections_total", "counter", "Connections accepted.");
        self.counters(about, of, |it| it.accepted.value());
        let about = ("downstream_connections_refused_total", "counter", "Connections closed at once: too many.");
        self.counters(about, of, |it| it.refused.value());
    }

    fn plugins(&mut self, metrics: &Metrics) {
        let sums = gathered(metrics, |worker| &worker.plugins);
        let of = ("plugin", &sums);
        let about = ("filter_streams_total", "counter", "Streams that went through the plugin.");
        self.counters(about, of, |it: &PluginMetrics| it.streams.value());
        let name = "filter_failures_total";
        self.family(name, "counter", "Failures of the plugin's VM, by what failed.");
        for (owner, handles) in &sums {
            self.kinds(name, (owner, "kind"), handles.iter().flat_map(|handle| handle.failures.values()));
        }
        let about = ("filter_breaker_opened_total", "counter", "Times the breaker stopped calling the plugin.");
        self.counters(about, of, |it| it.breaker_opened.value());
        let about = ("filter_vms_started_total", "counter", "VMs of the plugin taken into use.");
        self.counters(about, of, |it| it.vms_started.value());
        let about = ("filter_calls_total", "counter", "Calls into the plugin; what tells a stream's end is one.");
        self.counters(about, of, |it| it.calls.value());
        let name = "filter_call_seconds_total";
        self.family(name, "counter", "How long they took; estimated, where the plugin has no limit.");
        for (owner, handles) in &sums {
            let nanoseconds: u64 = handles.iter().map(|handle| handle.call_nanoseconds.value()).sum();
            self.sample(name, &[("plugin", owner)], Seconds(nanoseconds / 1_000));
        }
        let about = ("filter_memory_bytes", "gauge", "Memory of the plugin's VMs that run.");
        self.counters(about, of, |it| it.memory.value());
        let about = ("filter_log_dropped_bytes", "gauge", "Log of the VMs that run that was dropped: too much.");
        self.counters(about, of, |it| it.log_dropped.value());
        let name = "filter_limited_total";
        self.family(name, "counter", "What the plugin's limits have stopped, by limit.");
        for (owner, handles) in &sums {
            self.kinds(name, (owner, "limit"), handles.iter().flat_map(|handle| handle.limited.values()));
        }
    }

    /// Counts by kind, added up.
    fn kinds(&mut self, name: &str, (plugin, label): (&str, &str), counts: impl Iterator<Item = (&'static str, u64)>) {
        let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
        for (kind, count) in counts {
            *kinds.entry(kind).or_default() += count;
        }
        for (kind, count) in kinds {
            self.sample(name, &[("plugin", plugin), (label, kind)], count);
        }
    }

    fn configuration(&mut self, metrics: &Metrics) {
        let process = &metrics.process;
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let name = "config_updates_total";
        self.family(name, "counter", "Changes of configuration, by what became of them.");
        self.sample(name, &[("result", "accepted")], load(&process.config_accepted));
        self.sample(name, &[("result", "refused")], load(&process.config_refused));
        let help = "When a change was last accepted, in seconds since 1970; 0 = never.";
        self.single(
            "config_last_accepted_timestamp_seconds",
            "gauge",
            help,
            Millis(load(&process.config_accepted_at_ms)),
        );
        let help = "When a change was last refused, in seconds since 1970; 0 = never.";
        self.single(
            "config_last_refused_timestamp_seconds",
            "gauge",
            help,
            Millis(load(&process.config_refused_at_ms)),
        );
        let help = "1 while what is written was refused and something older serves.";
        self.single("config_out_of_sync", "gauge", help, load(&process.config_out_of_sync));
        let name = "modules_loaded_total";
        self.family(name, "counter", "Modules loaded, by where their machine code came from.");
        self.sample(name, &[("from", "cache")], load(&process.modules_cached));
        self.sample(name, &[("from", "compiler")], load(&process.modules_compiled));
    }

    fn process(&mut self, metrics: &Metrics) {
        let dropped = metrics.process.access_log_dropped.load(Ordering::Relaxed);
        let help = "Lines of the access log that could not be written.";
        self.single("access_log_dropped_total", "counter", help, dropped);
        let help = "Lines of the process log that could not be written.";
        self.single("log_lines_dropped_total", "counter", help, log_lines_dropped());
        let help = "Tasks that panicked; each is a bug of the proxy.";
        self.single("task_panics_total", "counter", help, task::panics());
        let used = ProcessUse::now();
        if let Some(bytes) = used.resident_bytes {
            self.single("process_resident_memory_bytes", "gauge", "Memory in use.", bytes);
        }
        if let Some(seconds) = used.cpu_seconds {
            self.single("process_cpu_seconds_total", "counter", "CPU time used.", seconds);
        }
        if let Some(files) = used.open_files {
            self.single("process_open_fds", "gauge", "Open file descriptors.", files);
        }
        if let Some(threads) = used.threads {
            self.single("process_threads", "gauge", "Threads.", threads);
        }
    }
}

/// The handles of all workers, by the name they are about.
type Sums<Handle> = BTreeMap<String, Vec<Arc<Handle>>>;

fn gathered<Name: ToString, Handle>(
    metrics: &Metrics,
    handles: impl Fn(&WorkerMetrics) -> &Mutex<BTreeMap<Name, Arc<Handle>>>,
) -> Sums<Handle> {
    let mut sums = Sums::new();
    for worker in &metrics.workers {
        for (name, handle) in handles(worker).lock().iter() {
            sums.entry(name.to_string()).or_default().push(Arc::clone(handle));
        }
    }
    sums
}

/// Microseconds, written as seconds.
struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Milliseconds, written as seconds.
struct Millis(u64);

impl std::fmt::Display for Millis {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

fn escaped(text: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            _ => text.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weir_model::{ListenerName, PluginName};

    use super::*;

    #[test]
    fn workers_are_added_up() {
        let metrics = Metrics::new(2);
        let listener = ListenerName::new("default/shop/http").unwrap();
        let plugin = PluginName::new("default/auth").unwrap();
        for worker in &metrics.workers {
            worker.listener(&listener).request_ended(503, Duration::from_millis(2));
            worker.plugin(&plugin).failures.increment("filter_trap");
        }
        let mut exposition = Exposition::default();
        exposition.data_plane(&metrics);
        let text = exposition.finish();
        for line in [
            "# TYPE downstream_requests_total counter",
            r#"downstream_requests_total{listener="default/shop/http",status_class="5xx"} 2"#,
            r#"downstream_request_seconds_bucket{listener="default/shop/http",le="0.001"} 0"#,
            r#"downstream_request_seconds_bucket{listener="default/shop/http",le="0.0025"} 2"#,
            r#"downstream_request_seconds_bucket{listener="default/shop/http",le="+Inf"} 2"#,
            r#"downstream_request_seconds_sum{listener="default/shop/http"} 0.004000"#,
            r#"filter_failures_total{plugin="default/auth",kind="filter_trap"} 2"#,
            r#"config_updates_total{result="refused"} 0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn label_values_are_escaped() {
        let mut exposition = Exposition::default();
        exposition.sample("x", &[("a", "q\"b\\c\nd")], 1);
        assert_eq!(exposition.finish(), "x{a=\"q\\\"b\\\\c\\nd\"} 1\n");
    }
}
