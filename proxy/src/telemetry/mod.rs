//! What the proxy says about itself: metrics, the access log, the process log.
//!
//! On the request path nothing here is shared: each worker writes its own counters ([`WorkerMetrics`]) and its own
//! lines ([`AccessLog`]); the page `/stats/prometheus` adds the counters up, threads of their own write the lines of both
//! logs.

mod access_log;
mod access_record;
mod counter;
mod log;
mod log_writer;
mod metrics;
mod process;
mod prometheus;
mod timestamp;

pub(crate) use access_log::{AccessLog, AccessLogTarget, AccessLogWriter};
pub(crate) use access_record::{AccessRecord, RequestRecord};
pub(crate) use log::{Log, LogFormat, LogLevel};
pub(crate) use metrics::{ListenerMetrics, Metrics, PluginMetrics, WorkerMetrics};
pub(crate) use prometheus::Exposition;
pub(crate) use timestamp::rfc3339;
