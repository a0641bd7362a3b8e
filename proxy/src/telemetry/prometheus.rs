//! The Prometheus text format, version 0.0.4, and the metrics of the data plane in it. Called by the admin page
//! `/stats/prometheus`.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::task;
use crate::telemetry::counter::{BUCKETS, HistogramSum};
use crate::telemetry::log_writer::log_lines_dropped;
use crate::telemetry::metrics::{ListenerMetrics, Metrics, PluginMetrics, WorkerMetrics};
use crate::telemetry::process::ProcessStats;

/// The text of a scrape under construction.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    text: String,
}

/// The values of the label `status_class`, by the first digit of a status.
const STATUS_CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// The name, type and help text of a metric family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Family<'a> {
    pub(crate) name: &'a str,
    /// `counter`, `gauge` or `histogram`.
    pub(crate) kind: &'a str,
    pub(crate) help: &'a str,
}

impl<'a> Family<'a> {
    /// Returns a family of counters.
    pub(crate) const fn counter(name: &'a str, help: &'a str) -> Self {
        Self { name, kind: "counter", help }
    }

    /// Returns a family of gauges.
    pub(crate) const fn gauge(name: &'a str, help: &'a str) -> Self {
        Self { name, kind: "gauge", help }
    }

    /// Returns a family of histograms.
    const fn histogram(name: &'a str, help: &'a str) -> Self {
        Self { name, kind: "histogram", help }
    }
}

/// The handles of all workers for listeners or plugins, by the name of the resource.
struct WorkerTotals<Handle> {
    /// The label for the name.
    label: &'static str,
    handles: BTreeMap<String, Vec<Arc<Handle>>>,
}

impl<Handle> WorkerTotals<Handle> {
    fn collect<Name: ToString>(
        label: &'static str,
        metrics: &Metrics,
        handles: impl Fn(&WorkerMetrics) -> &Mutex<BTreeMap<Name, Arc<Handle>>>,
    ) -> Self {
        let mut totals = Self { label, handles: BTreeMap::new() };
        for worker in &metrics.workers {
            for (name, handle) in handles(worker).lock().iter() {
                totals.handles.entry(name.to_string()).or_default().push(Arc::clone(handle));
            }
        }
        totals
    }
}

impl Exposition {
    /// Starts a family. Its samples follow.
    pub(crate) fn family(&mut self, family: &Family<'_>) {
        let Family { name, kind, help } = family;
        // Writing into a String does not fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Writes one sample; `labels` are names and values.
    pub(crate) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        let mut separator = '{';
        for (label, text) in labels {
            self.text.push(separator);
            let _ = write!(self.text, "{label}=\"");
            escape(&mut self.text, text);
            self.text.push('"');
            separator = ',';
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }

    /// Writes a family with one sample without labels.
    pub(crate) fn single(&mut self, family: &Family<'_>, value: impl Display) {
        self.family(family);
        self.sample(family.name, &[], value);
    }

    /// Returns the text.
    pub(crate) fn finish(self) -> String {
        self.text
    }

    /// Writes all metrics of the data plane.
    pub(crate) fn data_plane(&mut self, metrics: &Metrics) {
        self.listeners(metrics);
        self.plugins(metrics);
        self.configuration(metrics);
        self.process(metrics);
    }

    fn histogram(&mut self, name: &str, listener: &str, sum: &HistogramSum) {
        let label = ("listener", listener);
        let bucket = format!("{name}_bucket");
        let mut cumulative = 0;
        for (count, (_, bound)) in sum.buckets.iter().zip(&BUCKETS) {
            cumulative += count;
            self.sample(&bucket, &[label, ("le", bound)], cumulative);
        }
        cumulative += sum.buckets[BUCKETS.len()];
        self.sample(&bucket, &[label, ("le", "+Inf")], cumulative);
        self.sample(&format!("{name}_sum"), &[label], MicrosAsSeconds(sum.sum_micros));
        self.sample(&format!("{name}_count"), &[label], cumulative);
    }

    /// Writes a family with one sample per resource: the sum over all workers.
    fn totals<Handle>(&mut self, family: &Family<'_>, totals: &WorkerTotals<Handle>, read: impl Fn(&Handle) -> u64) {
        self.family(family);
        for (resource, handles) in &totals.handles {
            let sum: u64 = handles.iter().map(|handle| read(handle)).sum();
            self.sample(family.name, &[(totals.label, resource)], sum);
        }
    }

    /// Writes a family with samples per listener and class of status.
    fn requests_by_status(&mut self, family: &Family<'_>, totals: &WorkerTotals<ListenerMetrics>) {
        self.family(family);
        for (listener, handles) in &totals.handles {
            for (class, text) in STATUS_CLASSES.iter().enumerate() {
                let count: u64 = handles.iter().map(|handle| handle.requests[class].value()).sum();
                if count > 0 || class == 2 {
                    self.sample(family.name, &[(totals.label, listener), ("status_class", text)], count);
                }
            }
        }
    }

    fn listeners(&mut self, metrics: &Metrics) {
        let listeners = WorkerTotals::collect("listener", metrics, |worker| &worker.listeners);
        let family = Family::counter("weir_downstream_requests_total", "Requests that have ended.");
        self.requests_by_status(&family, &listeners);
        let help = "Requests that have failed, by the access log's `response_code_details`.";
        let family = Family::counter("weir_downstream_request_failures_total", help);
        self.family(&family);
        for (listener, handles) in &listeners.handles {
            let counts = handles.iter().flat_map(|handle| handle.failures.values());
            self.kinds(family.name, [listeners.label, listener], "reason", counts);
        }
        let help = "From a request's head to the last byte of its response.";
        let family = Family::histogram("weir_downstream_request_seconds", help);
        self.family(&family);
        for (listener, handles) in &listeners.handles {
            let mut sum = HistogramSum::default();
            handles.iter().for_each(|handle| sum.add(&handle.duration));
            self.histogram(family.name, listener, &sum);
        }
        let family = Family::gauge("weir_downstream_connections", "Connections open.");
        self.totals(&family, &listeners, |listener| listener.connections.value());
        let family = Family::counter("weir_downstream_connections_total", "Connections accepted.");
        self.totals(&family, &listeners, |listener| listener.accepted.value());
        let help = "Connections closed at once: too many.";
        let family = Family::counter("weir_downstream_connections_rejected_total", help);
        self.totals(&family, &listeners, |listener| listener.rejected.value());
    }

    fn plugins(&mut self, metrics: &Metrics) {
        let plugins = WorkerTotals::collect("filter", metrics, |worker| &worker.plugins);
        let counter = Family::counter("weir_filter_streams_total", "Streams that went through the plugin.");
        self.totals(&counter, &plugins, |plugin: &PluginMetrics| plugin.streams.value());
        let help = "Streams that went on without the plugin: it is not loaded, and its failure policy is FailOpen.";
        let counter = Family::counter("weir_filter_skipped_streams_total", help);
        self.totals(&counter, &plugins, |plugin| plugin.skipped.value());
        let counter = Family::counter("weir_filter_failures_total", "Failures of the plugin's VM, by what failed.");
        self.family(&counter);
        for (plugin, handles) in &plugins.handles {
            self.kinds(
                counter.name,
                ["filter", plugin],
                "kind",
                handles.iter().flat_map(|handle| handle.failures.values()),
            );
        }
        let help = "Times the breaker stopped calling the plugin.";
        let counter = Family::counter("weir_filter_breaker_opened_total", help);
        self.totals(&counter, &plugins, |plugin| plugin.breaker_opened.value());
        let counter = Family::counter("weir_filter_vms_started_total", "VMs of the plugin taken into use.");
        self.totals(&counter, &plugins, |plugin| plugin.vms_started.value());
        let help = "Calls into the plugin; the end of a stream is one call.";
        let counter = Family::counter("weir_filter_calls_total", help);
        self.totals(&counter, &plugins, |plugin| plugin.calls.value());
        let help = "Time of these calls; estimated if the plugin has no limit.";
        let counter = Family::counter("weir_filter_call_seconds_total", help);
        self.family(&counter);
        for (plugin, handles) in &plugins.handles {
            let nanoseconds: u64 = handles.iter().map(|handle| handle.call_nanoseconds.value()).sum();
            self.sample(counter.name, &[("filter", plugin)], MicrosAsSeconds(nanoseconds / 1_000));
        }
        let gauge = Family::gauge("weir_filter_memory_bytes", "Memory of the plugin's VMs that run.");
        self.totals(&gauge, &plugins, |plugin| plugin.memory.value());
        let help = "Log output that the plugin's running VMs dropped because of their limit.";
        let gauge = Family::gauge("weir_filter_log_dropped_bytes", help);
        self.totals(&gauge, &plugins, |plugin| plugin.log_dropped.value());
        let counter = Family::counter("weir_filter_limited_total", "Times the plugin exceeded a limit, by limit.");
        self.family(&counter);
        for (plugin, handles) in &plugins.handles {
            self.kinds(
                counter.name,
                ["filter", plugin],
                "limit",
                handles.iter().flat_map(|handle| handle.limited.values()),
            );
        }
    }

    /// Writes one sample per kind: the sum of its counts. `owner` is a label and its value.
    fn kinds(&mut self, name: &str, owner: [&str; 2], label: &str, counts: impl Iterator<Item = (&'static str, u64)>) {
        let [owner_label, owner] = owner;
        let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
        for (kind, count) in counts {
            *kinds.entry(kind).or_default() += count;
        }
        for (kind, count) in kinds {
            self.sample(name, &[(owner_label, owner), (label, kind)], count);
        }
    }

    fn configuration(&mut self, metrics: &Metrics) {
        let process = &metrics.process;
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let updates = Family::counter("weir_config_updates_total", "Changes of configuration, by result.");
        self.family(&updates);
        self.sample(updates.name, &[("result", "accepted")], load(&process.config_accepted));
        self.sample(updates.name, &[("result", "rejected")], load(&process.config_rejected));
        let help = "When a change was last accepted, in seconds since 1970; 0 = never.";
        let gauge = Family::gauge("weir_config_last_accepted_timestamp_seconds", help);
        self.single(&gauge, MillisAsSeconds(load(&process.config_accepted_at_ms)));
        let help = "When a change was last rejected, in seconds since 1970; 0 = never.";
        let gauge = Family::gauge("weir_config_last_rejected_timestamp_seconds", help);
        self.single(&gauge, MillisAsSeconds(load(&process.config_rejected_at_ms)));
        let help = "1 while the newest configuration is rejected and an older one serves.";
        self.single(&Family::gauge("weir_config_out_of_sync", help), load(&process.config_out_of_sync));
        let loaded =
            Family::counter("weir_modules_loaded_total", "Modules loaded, by the source of their machine code.");
        self.family(&loaded);
        self.sample(loaded.name, &[("from", "cache")], load(&process.modules_cached));
        self.sample(loaded.name, &[("from", "compiler")], load(&process.modules_compiled));
    }

    fn process(&mut self, metrics: &Metrics) {
        let dropped = metrics.process.access_log_dropped.load(Ordering::Relaxed);
        let help = "Lines of the access log that could not be written.";
        self.single(&Family::counter("weir_access_log_dropped_total", help), dropped);
        let help = "Lines of the process log that could not be written.";
        self.single(&Family::counter("weir_log_lines_dropped_total", help), log_lines_dropped());
        let help = "Tasks that panicked; each is a bug of the proxy.";
        self.single(&Family::counter("weir_task_panics_total", help), task::panic_count());
        let stats = ProcessStats::now();
        if let Some(bytes) = stats.resident_bytes {
            self.single(&Family::gauge("process_resident_memory_bytes", "Memory in use."), bytes);
        }
        if let Some(seconds) = stats.cpu_seconds {
            self.single(&Family::counter("process_cpu_seconds_total", "CPU time used."), seconds);
        }
        if let Some(files) = stats.open_files {
            self.single(&Family::gauge("process_open_fds", "Open file descriptors."), files);
        }
        if let Some(threads) = stats.threads {
            self.single(&Family::gauge("process_threads", "Threads."), threads);
        }
    }
}

/// Microseconds that print as seconds.
struct MicrosAsSeconds(u64);

impl Display for MicrosAsSeconds {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{:06}", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// Milliseconds that print as seconds.
struct MillisAsSeconds(u64);

impl Display for MillisAsSeconds {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{:03}", self.0 / 1_000, self.0 % 1_000)
    }
}

/// Appends a label value with backslashes, quotes and line breaks escaped.
fn escape(text: &mut String, value: &str) {
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
    fn values_of_all_workers_are_summed() {
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
            "# TYPE weir_downstream_requests_total counter",
            r#"weir_downstream_requests_total{listener="default/shop/http",status_class="5xx"} 2"#,
            r#"weir_downstream_request_seconds_bucket{listener="default/shop/http",le="0.001"} 0"#,
            r#"weir_downstream_request_seconds_bucket{listener="default/shop/http",le="0.0025"} 2"#,
            r#"weir_downstream_request_seconds_bucket{listener="default/shop/http",le="+Inf"} 2"#,
            r#"weir_downstream_request_seconds_sum{listener="default/shop/http"} 0.004000"#,
            r#"weir_filter_failures_total{filter="default/auth",kind="filter_trap"} 2"#,
            r#"weir_config_updates_total{result="rejected"} 0"#,
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
