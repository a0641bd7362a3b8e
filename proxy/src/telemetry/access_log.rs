//! The access log: a line of JSON for each request, from the workers to a file or to standard output.
//!
//! ```text
//! worker 0: AccessLog (buffer) ──┐ bounded queue
//! worker 1: AccessLog (buffer) ──┼────────────► writer thread ──► file or standard output
//! ```
//!
//! A worker appends to its own buffer and hands it over when it is full or 100 ms old. A disk that is stuck blocks the
//! writer thread only: then buffers are dropped, and counted in lines.

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
use crate::telemetry::access_record::AccessRecord;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::timestamp::Timestamps;

/// Where the access log goes.
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

enum Message {
    Lines(Vec<u8>),
    Reopen,
    Close(SyncSender<()>),
}

/// One worker's end of the access log.
pub(crate) struct AccessLog {
    pending: RefCell<Pending>,
    sender: SyncSender<Message>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Pending {
    lines: Vec<u8>,
    count: u64,
    timestamps: Timestamps,
}

impl AccessLog {
    /// Appends a request's line.
    pub(crate) fn record(&self, record: &AccessRecord<'_>) {
        let mut pending = self.pending.borrow_mut();
        let Pending { lines, count, timestamps } = &mut *pending;
        record.write(timestamps, lines);
        *count += 1;
        if lines.len() >= ACCESS_LOG_BUFFER_BYTES {
            self.hand_over(&mut pending);
        }
    }

    /// Hands over what is kept back.
    pub(crate) fn flush(&self) {
        self.hand_over(&mut self.pending.borrow_mut());
    }

    /// Hands over what is kept back, again and again. Ends with the worker.
    pub(crate) async fn flush_forever(self: Rc<Self>) {
        loop {
            tokio::time::sleep(ACCESS_LOG_FLUSH_INTERVAL).await;
            self.flush();
        }
    }

    fn hand_over(&self, pending: &mut Pending) {
        if pending.lines.is_empty() {
            return;
        }
        // The next buffer is as large as this one was: an idle worker keeps none.
        let next = Vec::with_capacity(pending.lines.len().min(ACCESS_LOG_BUFFER_BYTES + 1024));
        let lines = std::mem::replace(&mut pending.lines, next);
        let count = std::mem::take(&mut pending.count);
        match self.sender.try_send(Message::Lines(lines)) {
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

/// The thread that writes, and how to reach it.
pub(crate) struct AccessLogWriter {
    sender: SyncSender<Message>,
    metrics: Arc<Metrics>,
    thread: JoinHandle<()>,
}

impl AccessLogWriter {
    /// Opens the target and starts the thread.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or there is no thread.
    pub(crate) fn start(target: AccessLogTarget, metrics: Arc<Metrics>) -> io::Result<Self> {
        let output = target.open()?;
        let (sender, receiver) = sync_channel(ACCESS_LOG_QUEUE);
        let counted = Arc::clone(&metrics);
        let thread = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_lines(output, &target, &receiver, &counted))?;
        Ok(Self { sender, metrics, thread })
    }

    /// A worker's end. Made on the main thread, moved to its worker.
    pub(crate) fn worker_end(&self) -> AccessLog {
        AccessLog { pending: RefCell::default(), sender: self.sender.clone(), metrics: Arc::clone(&self.metrics) }
    }

    /// Opens the file anew, after whoever rotates logs has moved it away.
    pub(crate) fn reopen(&self) {
        if self.sender.try_send(Message::Reopen).is_err() {
            warn!("the access log is not opened anew: its writer is stuck; check the disk and send the signal again");
        }
    }

    /// Waits until every line handed over is written, for at most [`ACCESS_LOG_CLOSE_TIMEOUT`]. Blocks.
    pub(crate) fn close(self) {
        let (sender, written) = sync_channel(1);
        if self.sender.try_send(Message::Close(sender)).is_ok()
            && written.recv_timeout(ACCESS_LOG_CLOSE_TIMEOUT).is_ok()
        {
            drop(self.thread.join()); // It ends after its answer; a panic in it has been logged.
        }
    }
}

fn write_lines(
    mut output: Box<dyn Write + Send>,
    target: &AccessLogTarget,
    messages: &Receiver<Message>,
    metrics: &Metrics,
) {
    let mut failing = false;
    while let Ok(message) = messages.recv() {
        let outcome = match message {
            Message::Lines(lines) => output.write_all(&lines).and_then(|()| output.flush()).inspect_err(|_| {
                let count = lines.split(|byte| *byte == b'\n').count().saturating_sub(1) as u64;
                metrics.process.access_log_dropped.fetch_add(count, Ordering::Relaxed);
            }),
            Message::Reopen => target.open().map(|opened| output = opened),
            Message::Close(done) => {
                let _ = done.try_send(()); // Nobody waits any more: then nobody needs to know.
                return;
            }
        };
        match &outcome {
            Ok(()) if failing => info!("the access log is written again"),
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
    use crate::telemetry::access_record::RequestRecord;

    fn record(log: &AccessLog, path: &str) {
        log.record(&AccessRecord {
            started: SystemTime::UNIX_EPOCH,
            duration: Duration::ZERO,
            listener: "",
            peer: SocketAddr::from(([127, 0, 0, 1], 1)),
            peer_identity: None,
            request: Some(RequestRecord {
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
            bytes_in: 0,
            bytes_out: 0,
            failure: None,
            details: "",
            plugin: "",
            values: &[],
        });
    }

    #[test]
    fn every_line_arrives_before_close_returns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let metrics = Arc::new(Metrics::new(1));
        let writer = AccessLogWriter::start(AccessLogTarget::File(path.clone()), Arc::clone(&metrics)).unwrap();
        let log = writer.worker_end();
        for index in 0..1_000 {
            record(&log, &format!("/{index}"));
        }
        drop(log);
        writer.close();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 1_000);
        assert!(text.lines().last().unwrap().contains("\"path\":\"/999\""));
        assert_eq!(metrics.process.access_log_dropped.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_stuck_disk_drops_lines_and_counts_them() {
        let (sender, messages) = sync_channel(1); // Nobody receives: a writer that is stuck.
        let metrics = Arc::new(Metrics::new(1));
        let log = AccessLog { pending: RefCell::default(), sender, metrics: Arc::clone(&metrics) };
        for _ in 0..3 {
            record(&log, "/");
            record(&log, "/");
            log.flush();
        }
        assert_eq!(metrics.process.access_log_dropped.load(Ordering::Relaxed), 4);
        drop(messages);
    }

    #[test]
    fn a_moved_file_is_opened_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let writer = AccessLogWriter::start(AccessLogTarget::File(path.clone()), Arc::new(Metrics::new(1))).unwrap();
        let log = writer.worker_end();
        record(&log, "/old");
        log.flush();
        let moved = folder.path().join("access.log.1");
        std::fs::rename(&path, &moved).unwrap();
        writer.reopen();
        record(&log, "/new");
        drop(log);
        writer.close();
        assert!(std::fs::read_to_string(&path).unwrap().contains("/new"));
        assert!(std::fs::read_to_string(&moved).unwrap().contains("/old"));
    }
}
