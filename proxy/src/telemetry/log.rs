//! The process log: lines for people or JSON for machines, on standard error, with a level that `/logging` changes.
//! Started once by `app`, before anything else can want to say something.

use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;

use tracing::level_filters::LevelFilter;
use tracing::{Subscriber, error};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, fmt, registry, reload};

use crate::telemetry::log_writer::LogWriter;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Changes the level of the running log.
#[derive(Clone)]
pub(crate) struct LogLevel {
    change: std::sync::Arc<dyn Fn(LevelFilter) -> Result<(), String> + Send + Sync>,
}

impl LogLevel {
    /// From now on, say what is at least this important.
    ///
    /// # Errors
    /// There is no log any more.
    pub(crate) fn set(&self, level: LevelFilter) -> Result<(), String> {
        (self.change)(level)
    }
}

/// The log of this process. When this is dropped, what has been said is written: the process ends.
pub(crate) struct Log {
    level: Option<LogLevel>,
    writer: LogWriter,
}

impl Log {
    /// Starts the log and makes panics go to it.
    ///
    /// # Errors
    /// There is no thread for it.
    pub(crate) fn start(format: LogFormat) -> io::Result<Self> {
        let writer = LogWriter::start(io::stderr())?;
        let (filter, handle) = reload::Layer::new(LevelFilter::INFO);
        let subscriber = registry().with(lines(format, writer.clone()).with_filter(filter));
        let level = tracing::subscriber::set_global_default(subscriber).ok().map(|()| {
            std::panic::set_hook(Box::new(log_panic));
            let change = move |level| handle.reload(level).map_err(|error| error.to_string());
            LogLevel { change: std::sync::Arc::new(change) }
        });
        Ok(Self { level, writer })
    }

    /// What changes its level. `None` when this process had a log already (as in tests).
    pub(crate) fn level(&self) -> Option<LogLevel> {
        self.level.clone()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.writer.close();
    }
}

fn lines<S>(format: LogFormat, writer: LogWriter) -> Box<dyn Layer<S> + Send + Sync>
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
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    error!(thread = thread.name().unwrap_or("unnamed"), place, message, "a panic: this is a bug of the proxy");
}
