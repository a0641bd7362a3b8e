//! The writer of the process log: a bounded queue to a thread of its own. Logging never blocks on a slow reader of
//! standard error, which matters for workers. Lines above the bound are dropped and counted, and the log reports their
//! number later.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

use crate::limits::{LOG_CLOSE_TIMEOUT, LOG_LINE_BYTES, LOG_QUEUE_BYTES};

/// The number of dropped lines. Global, because a process has one log.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Returns the number of lines of the process log that were dropped since the process started.
pub(crate) fn log_lines_dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// A command to the writer thread.
enum WriterCommand {
    Line(Vec<u8>),
    Close(SyncSender<()>),
}

/// The queue to the writer thread.
#[derive(Clone)]
pub(super) struct LogWriter {
    sender: SyncSender<WriterCommand>,
    /// Bytes in the queue, as [`size`] counts them.
    queued_bytes: Arc<AtomicUsize>,
}

impl LogWriter {
    /// Starts the thread. It exits at [`LogWriter::close`].
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        // Capacity for all lines within the byte limit, and for `Close`.
        let (sender, commands) = sync_channel(LOG_QUEUE_BYTES / LOG_LINE_BYTES + 1);
        let writer = Self { sender, queued_bytes: Arc::default() };
        let queued_bytes = Arc::clone(&writer.queued_bytes);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(output, commands, &queued_bytes))?;
        Ok(writer)
    }

    fn flush_to_writer(&self, line: &[u8]) {
        let size = size(line);
        let fits = self.queued_bytes.fetch_add(size, Ordering::Relaxed) + size <= LOG_QUEUE_BYTES;
        if !fits || self.sender.try_send(WriterCommand::Line(line.to_vec())).is_err() {
            self.queued_bytes.fetch_sub(size, Ordering::Relaxed);
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Blocks until every queued line is written, for at most [`LOG_CLOSE_TIMEOUT`].
    pub(super) fn close(&self) {
        let (sender, written) = sync_channel(1);
        if self.sender.try_send(WriterCommand::Close(sender)).is_ok() {
            let _ = written.recv_timeout(LOG_CLOSE_TIMEOUT); // On a timeout the remaining lines are lost.
        }
    }
}

/// Returns the share of the queue limit that a line uses, in bytes.
fn size(line: &[u8]) -> usize {
    line.len().max(LOG_LINE_BYTES)
}

/// `tracing_subscriber` passes each event as one write.
impl Write for &LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.flush_to_writer(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = &'a Self;

    fn make_writer(&'a self) -> Self::Writer {
        self
    }
}

fn write_lines(mut output: impl Write, commands: Receiver<WriterCommand>, queued_bytes: &AtomicUsize) {
    let mut reported = 0;
    while let Ok(command) = commands.recv() {
        let line = match command {
            WriterCommand::Line(line) => line,
            WriterCommand::Close(done) => {
                drop(commands); // From here on each line is counted as dropped.
                let _ = done.try_send(()); // Fails only if `close` has timed out.
                return;
            }
        };
        queued_bytes.fetch_sub(size(&line), Ordering::Relaxed);
        let written = output.write_all(&line).and_then(|()| output.flush());
        if written.is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed); // Closed or full; later lines may succeed.
            continue;
        }
        let dropped = log_lines_dropped();
        // Reported once the queue is empty: the report would otherwise displace a queued line.
        if dropped > reported && queued_bytes.load(Ordering::Relaxed) == 0 {
            reported = dropped;
            warn!(dropped, "lines of this log were dropped: its reader is too slow, or there are too many lines");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Sender;

    use super::*;

    /// Reports the length of each write. If `permits` is set, each write waits for a permit.
    struct Reader {
        lengths: Sender<usize>,
        permits: Option<Receiver<()>>,
    }

    impl Write for Reader {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            if let Some(permits) = &self.permits {
                permits.recv().unwrap();
            }
            self.lengths.send(line.len()).unwrap();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn close_waits_until_every_line_is_written() {
        let (lengths, lines) = std::sync::mpsc::channel();
        let writer = LogWriter::start(Reader { lengths, permits: None }).unwrap();
        for length in 1..=1_000 {
            writer.flush_to_writer(&vec![b'x'; length]);
        }
        writer.close();
        assert_eq!(lines.try_iter().collect::<Vec<_>>(), (1..=1_000).collect::<Vec<_>>());
    }

    #[test]
    fn blocked_reader_drops_lines_above_queue_limit() {
        let (lengths, lines) = std::sync::mpsc::channel();
        let (permit, permits) = std::sync::mpsc::channel();
        let writer = LogWriter::start(Reader { lengths, permits: Some(permits) }).unwrap();
        let line = vec![b'x'; LOG_QUEUE_BYTES / 16];
        let before = log_lines_dropped();
        for _ in 0..100 {
            writer.flush_to_writer(&line);
        }
        // The queue has sixteen; the writer may have another one already.
        let dropped = log_lines_dropped() - before;
        assert!((83..=84).contains(&dropped), "{dropped} of 100 were dropped");
        for _ in 0..100 {
            permit.send(()).unwrap();
        }
        writer.close();
        assert_eq!(lines.try_iter().count() as u64, 100 - dropped);
        writer.flush_to_writer(b"after the end");
        assert_eq!(log_lines_dropped(), before + dropped + 1);
    }
}
