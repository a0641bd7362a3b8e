//! The process log: text or JSON lines on standard error, with a level that `/logging` changes. Started once by `app`,
//! before any other part of the process.

use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;

use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, error};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, fmt, registry, reload};
use weir_host_abi::abi::log::LogLevel;

use crate::telemetry::log_writer::LogWriter;

/// The format of the process log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for terminals.
    Text,
    /// One JSON object per line.
    Json,
}

/// Changes the level of the running log.
#[derive(Clone)]
pub(crate) struct LogLevelHandle {
    change: std::sync::Arc<dyn Fn(LevelFilter) -> Result<(), String> + Send + Sync>,
}

impl LogLevelHandle {
    /// Sets the level.
    ///
    /// # Errors
    /// The log has been closed.
    pub(crate) fn set(&self, level: LevelFilter) -> Result<(), String> {
        (self.change)(level)
    }
}

/// Returns the log level of the process, as guests number it (`proxy_get_log_level`).
pub(crate) fn guest_log_level() -> LogLevel {
    match LevelFilter::current() {
        LevelFilter::TRACE => LogLevel::Trace,
        LevelFilter::DEBUG => LogLevel::Debug,
        LevelFilter::INFO => LogLevel::Info,
        LevelFilter::WARN => LogLevel::Warn,
        LevelFilter::ERROR => LogLevel::Error,
        _ => LogLevel::Critical,
    }
}

/// The log of this process. Dropping it writes all queued lines, which happens at process exit.
pub(crate) struct Log {
    level: Option<LogLevelHandle>,
    writer: LogWriter,
}

impl Log {
    /// Starts the log, and logs panics in it.
    ///
    /// # Errors
    /// The writer thread cannot be started.
    pub(crate) fn start(format: LogFormat) -> io::Result<Self> {
        let writer = LogWriter::start(io::stderr())?;
        let (filter, handle) = reload::Layer::new(LevelFilter::INFO);
        let subscriber = registry().with(line_layer(format, writer.clone()).with_filter(filter));
        let level = tracing::subscriber::set_global_default(subscriber).ok().map(|()| {
            std::panic::set_hook(Box::new(log_panic));
            let change = move |level| handle.reload(level).map_err(|error| error.to_string());
            LogLevelHandle { change: std::sync::Arc::new(change) }
        });
        Ok(Self { level, writer })
    }

    /// Returns the handle that changes the level; `None` if this process had a log already, as in tests.
    pub(crate) fn level(&self) -> Option<LogLevelHandle> {
        self.level.clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.writer.close();
    }
}

fn line_layer<S>(format: LogFormat, writer: LogWriter) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let layer = fmt::layer().with_writer(writer);
    match format {
        LogFormat::Text => layer.with_ansi(io::stderr().is_terminal()).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    }
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("without a message");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    error!(thread = thread.name().unwrap_or("unnamed"), location, message, "a panic: this is a bug of the proxy");
}
