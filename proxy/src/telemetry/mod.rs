//! What the proxy says about itself: metrics, the access log, the process log.
//!
//! On the request path nothing here is shared: each worker writes its own counters ([`WorkerMetrics`]) and its own
//! lines ([`AccessLog`]); the page `/stats/prometheus` adds the counters up, a thread of its own writes the lines.

mod access_log;
mod access_record;
mod counter;
mod log;
mod metrics;
mod process;
mod prometheus;
mod timestamp;

pub(crate) use access_log::{AccessLog, AccessLogTarget, AccessLogWriter};
pub(crate) use access_record::{AccessRecord, RequestRecord};
pub(crate) use log::{LogFormat, LogLevel, start_log};
pub(crate) use metrics::{ListenerMetrics, Metrics, PluginMetrics, WorkerMetrics};
pub(crate) use prometheus::Exposition;
pub(crate) use timestamp::rfc3339;
