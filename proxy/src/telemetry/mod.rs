//! Telemetry of the proxy: metrics, the access log, the process log.
//!
//! On the request path workers share none of it: each has its own counters ([`WorkerMetrics`]) and its own access log
//! buffer ([`AccessLog`]). The page `/stats/prometheus` sums the counters. Each log has a thread that writes its lines.

mod access_log;
mod access_log_entry;
mod prometheus;
mod metrics;
mod counter;
mod process;
mod log;
mod log_writer;
mod timestamp;

pub(crate) use access_log::{AccessLog, AccessLogTarget, AccessLogWriter};
pub(crate) use access_log_entry::{AccessLogEntry, AttemptResult, FailedAttempt, HttpLogFields, StreamProperty};
pub(crate) use counter::{Counter, Gauge};
pub use log::LogFormat;
pub(crate) use log::{Log, LogLevelHandle, guest_log_level};
pub(crate) use metrics::{ListenerMetrics, Metrics, PluginMetrics, WorkerMetrics};
pub(crate) use prometheus::{Exposition, Family};
pub(crate) use timestamp::rfc3339;
