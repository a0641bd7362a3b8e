//! The access log: one line of JSON per request, from the workers to a file or to standard output.
//!
//! ```text
//! worker 0: AccessLog (buffer) ──┐ bounded queue
//! worker 1: AccessLog (buffer) ──┼────────────► writer thread ──► file or standard output
//! ```
//!
//! A worker appends to its own buffer and sends it to the writer when it is full or 100 ms old. A blocked disk blocks
//! the writer thread only: workers then drop buffers and count the lines.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use tracing::{info, warn};

use crate::limits::{ACCESS_LOG_BUFFER_BYTES, ACCESS_LOG_CLOSE_TIMEOUT, ACCESS_LOG_FLUSH_INTERVAL, ACCESS_LOG_QUEUE};
use crate::telemetry::access_log_entry::AccessLogEntry;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::timestamp::TimestampFormatter;

/// The target of the access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AccessLogTarget {
    /// Standard output.
    Stdout,
    /// Appended to a file.
    File(PathBuf),
}

impl AccessLogTarget {
    fn open(&self) -> io::Result<Box<dyn Write + Send>> {
        Ok(match self {
            Self::Stdout => Box::new(io::stdout()),
            Self::File(path) => Box::new(open_file(path)?),
        })
    }
}

fn open_file(path: &PathBuf) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// A command to the writer thread.
enum WriterCommand {
    Lines(Vec<u8>),
    Reopen,
    Close(SyncSender<()>),
}

/// The access log of one worker.
pub(crate) struct AccessLog {
    buffer: RefCell<LineBuffer>,
    sender: SyncSender<WriterCommand>,
    metrics: Arc<Metrics>,
}

/// Lines that are not sent to the writer yet.
#[derive(Default)]
struct LineBuffer {
    lines: Vec<u8>,
    count: u64,
    timestamps: TimestampFormatter,
}

impl AccessLog {
    /// Appends the line of a request or a connection.
    pub(crate) fn record(&self, entry: &AccessLogEntry<'_>) {
        let mut buffer = self.buffer.borrow_mut();
        let LineBuffer { lines, count, timestamps } = &mut *buffer;
        entry.write(timestamps, lines);
        *count += 1;
        if lines.len() >= ACCESS_LOG_BUFFER_BYTES {
            self.flush_to_writer(&mut buffer);
        }
    }

    /// Sends buffered lines to the writer.
    pub(crate) fn flush(&self) {
        self.flush_to_writer(&mut self.buffer.borrow_mut());
    }

    /// Sends buffered lines to the writer every [`ACCESS_LOG_FLUSH_INTERVAL`]. Never returns.
    pub(crate) async fn flush_forever(self: Rc<Self>) {
        loop {
            tokio::time::sleep(ACCESS_LOG_FLUSH_INTERVAL).await;
            self.flush();
        }
    }

    fn flush_to_writer(&self, buffer: &mut LineBuffer) {
        if buffer.lines.is_empty() {
            return;
        }
        // The next buffer has the size of this one, so an idle worker holds no memory.
        let next = Vec::with_capacity(buffer.lines.len().min(ACCESS_LOG_BUFFER_BYTES + 1024));
        let lines = std::mem::replace(&mut buffer.lines, next);
        let count = std::mem::take(&mut buffer.count);
        match self.sender.try_send(WriterCommand::Lines(lines)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.metrics.process.access_log_dropped.fetch_add(count, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.flush();
    }
}

/// The writer thread and its queue.
pub(crate) struct AccessLogWriter {
    sender: SyncSender<WriterCommand>,
    metrics: Arc<Metrics>,
    thread: JoinHandle<()>,
}

impl AccessLogWriter {
    /// Opens the target and starts the thread.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or the thread cannot be started.
    pub(crate) fn start(target: AccessLogTarget, metrics: Arc<Metrics>) -> io::Result<Self> {
        let output = target.open()?;
        let (sender, receiver) = sync_channel(ACCESS_LOG_QUEUE);
        let counted = Arc::clone(&metrics);
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_lines(output, &target, &receiver, &counted))?;
        Ok(Self { sender, metrics, thread })
    }

    /// Returns the access log for one worker.
    pub(crate) fn for_worker(&self) -> AccessLog {
        AccessLog { buffer: RefCell::default(), sender: self.sender.clone(), metrics: Arc::clone(&self.metrics) }
    }

    /// Reopens the file, after log rotation has moved it.
    pub(crate) fn reopen(&self) {
        if self.sender.try_send(WriterCommand::Reopen).is_err() {
            warn!("the access log is not reopened: its writer is blocked; check the disk and send the signal again");
        }
    }

    /// Blocks until every line in the queue is written, for at most [`ACCESS_LOG_CLOSE_TIMEOUT`].
    pub(crate) fn close(self) {
        let (sender, written) = sync_channel(1);
        if self.sender.try_send(WriterCommand::Close(sender)).is_ok()
            && written.recv_timeout(ACCESS_LOG_CLOSE_TIMEOUT).is_ok()
        {
            drop(self.thread.join()); // The thread exits after the notification; a panic in it has been logged.
        }
    }
}

fn write_lines(
    mut output: Box<dyn Write + Send>,
    target: &AccessLogTarget,
    commands: &Receiver<WriterCommand>,
    metrics: &Metrics,
) {
    let mut failing = false;
    while let Ok(command) = commands.recv() {
        let outcome = match command {
            WriterCommand::Lines(lines) => output.write_all(&lines).and_then(|()| output.flush()).inspect_err(|_| {
                let count = lines.split(|byte| *byte == b'\n').count().saturating_sub(1) as u64;
                metrics.process.access_log_dropped.fetch_add(count, Ordering::Relaxed);
            }),
            WriterCommand::Reopen => target.open().map(|opened| output = opened),
            WriterCommand::Close(done) => {
                let _ = done.try_send(()); // Fails only if `close` has timed out.
                return;
            }
        };
        match &outcome {
            Ok(()) if failing => info!("the access log can be written again"),
            Err(error) if !failing => warn!(%error, "the access log cannot be written; lines are dropped and counted"),
            Ok(()) | Err(_) => {}
        }
        failing = outcome.is_err();
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::{Duration, SystemTime};

    use http::{Method, Version};

    use super::*;
    use crate::telemetry::access_log_entry::HttpLogFields;

    fn record_request(log: &AccessLog, path: &str) {
        log.record(&AccessLogEntry {
            started: SystemTime::UNIX_EPOCH,
            duration: Duration::ZERO,
            listener: "",
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
            peer_identity: None,
            http: Some(HttpLogFields {
                request_id: b"",
                method: &Method::GET,
                authority: None,
                path,
                version: Version::HTTP_11,
                status: 200,
            }),
            route: "",
            cluster: "",
            endpoint: None,
            attempts: 0,
            failed_attempts: &[],
            bytes_in: 0,
            bytes_out: 0,
            failure: None,
            details: "",
            plugin: "",
            properties: &[],
        });
    }

    #[test]
    fn close_waits_until_every_line_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let metrics = Arc::new(Metrics::new(1));
        let writer = AccessLogWriter::start(AccessLogTarget::File(path.clone()), Arc::clone(&metrics)).unwrap();
        let log = writer.for_worker();
        for index in 0..1_000 {
            record_request(&log, &format!("/{index}"));
        }
        drop(log);
        writer.close();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1_000);
        assert!(text.lines().last().unwrap().contains("\"path\":\"/999\""));
        assert_eq!(metrics.process.access_log_dropped.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn blocked_writer_drops_and_counts_lines() {
        let (sender, commands) = sync_channel(1); // Without a receiver: a blocked writer.
        let metrics = Arc::new(Metrics::new(1));
        let log = AccessLog { buffer: RefCell::default(), sender, metrics: Arc::clone(&metrics) };
        for _ in 0..3 {
            record_request(&log, "/");
            record_request(&log, "/");
            log.flush();
        }
        assert_eq!(metrics.process.access_log_dropped.load(Ordering::Relaxed), 4);
        drop(commands);
    }

    #[test]
    fn moved_file_is_reopened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let writer = AccessLogWriter::start(AccessLogTarget::File(path.clone()), Arc::new(Metrics::new(1))).unwrap();
        let log = writer.for_worker();
        record_request(&log, "/old");
        log.flush();
        let moved = folder.path().join("access.log.1");
        std::fs::rename(&path, &moved).unwrap();
        writer.reopen();
        record_request(&log, "/new");
        drop(log);
        writer.close();
        assert!(std::fs::read_to_string(&path).unwrap().contains("/new"));
        assert!(std::fs::read_to_string(&moved).unwrap().contains("/old"));
    }
}
