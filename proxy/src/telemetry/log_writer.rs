//! Where lines of the process log go: through a bounded queue to a thread of its own. Whoever logs, a worker above all,
//! never waits for whoever reads: past the bound, lines are dropped and counted, and the log says so when it goes on.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use tracing::warn;
use tracing_subscriber::fmt::MakeWriter;

use crate::limits::{LOG_CLOSE_TIMEOUT, LOG_LINE_BYTES, LOG_QUEUE_BYTES};

/// Lines that this process has dropped; it has one log.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Lines of the process log that were dropped since the process started.
pub(crate) fn log_lines_dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

enum Message {
    Line(Vec<u8>),
    Close(SyncSender<()>),
}

/// The way to the thread that writes.
#[derive(Clone)]
pub(super) struct LogWriter {
    sender: SyncSender<Message>,
    /// Bytes in the queue, as [`size`] counts them.
    waiting: Arc<AtomicUsize>,
}

impl LogWriter {
    /// Starts the thread. It ends with the process, or when [`LogWriter::close`] says so.
    ///
    /// # Errors
    /// There is no thread.
    pub(super) fn start(output: impl Write + Send + 'static) -> io::Result<Self> {
        // Room for all lines that fit, and for the end.
        let (sender, messages) = sync_channel(LOG_QUEUE_BYTES / LOG_LINE_BYTES + 1);
        let writer = Self { sender, waiting: Arc::default() };
        let waiting = Arc::clone(&writer.waiting);
        std::thread::Builder::new().name("log".to_owned()).spawn(move || write_lines(output, &messages, &waiting))?;
        Ok(writer)
    }

    fn hand_over(&self, line: &[u8]) {
        let size = size(line);
        let fits = self.waiting.fetch_add(size, Ordering::Relaxed) + size <= LOG_QUEUE_BYTES;
        if !fits || self.sender.try_send(Message::Line(line.to_vec())).is_err() {
            self.waiting.fetch_sub(size, Ordering::Relaxed);
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until every line handed over is written, for at most [`LOG_CLOSE_TIMEOUT`]. Blocks.
    pub(super) fn close(&self) {
        let (sender, written) = sync_channel(1);
        if self.sender.try_send(Message::Close(sender)).is_ok() {
            let _ = written.recv_timeout(LOG_CLOSE_TIMEOUT); // Nobody reads: then nobody misses a line.
        }
    }
}

/// What a line takes of the queue.
fn size(line: &[u8]) -> usize {
    line.len().max(LOG_LINE_BYTES)
}

/// An event arrives as one write.
impl Write for &LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.hand_over(line);
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

fn write_lines(mut output: impl Write, messages: &Receiver<Message>, waiting: &AtomicUsize) {
    let mut told = 0;
    while let Ok(message) = messages.recv() {
        let line = match message {
            Message::Line(line) => line,
            Message::Close(done) => {
                let _ = done.try_send(()); // Nobody waits any more: then nobody needs to know.
                return;
            }
        };
        waiting.fetch_sub(size(&line), Ordering::Relaxed);
        let written = output.write_all(&line).and_then(|()| output.flush());
        if written.is_err() {
            DROPPED.fetch_add(1, Ordering::Relaxed); // Closed, or full; the next one may get through.
            continue;
        }
        let dropped = log_lines_dropped();
        // Once the queue is empty: a notice among lines that wait would take the room of one of them.
        if dropped > told && waiting.load(Ordering::Relaxed) == 0 {
            told = dropped;
            warn!(dropped, "lines of this log were dropped: whoever reads it is too slow, or there are too many");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Sender;

    use super::*;

    /// Tells how many bytes each write has, and waits for its turn when there are turns.
    struct Reader {
        seen: Sender<usize>,
        turns: Option<Receiver<()>>,
    }

    impl Write for Reader {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            if let Some(turns) = &self.turns {
                turns.recv().unwrap();
            }
            self.seen.send(line.len()).unwrap();
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_is_written_before_close_returns() {
        let (seen, lines) = std::sync::mpsc::channel();
        let writer = LogWriter::start(Reader { seen, turns: None }).unwrap();
        for length in 1..=1_000 {
            writer.hand_over(&vec![b'x'; length]);
        }
        writer.close();
        assert_eq!(lines.try_iter().collect::<Vec<_>>(), (1..=1_000).collect::<Vec<_>>());
    }

    #[test]
    fn nobody_waits_for_a_reader_and_what_waits_has_a_bound() {
        let (seen, lines) = std::sync::mpsc::channel();
        let (turn, turns) = std::sync::mpsc::channel();
        let writer = LogWriter::start(Reader { seen, turns: Some(turns) }).unwrap();
        let line = vec![b'x'; LOG_QUEUE_BYTES / 16];
        let before = log_lines_dropped();
        for _ in 0..100 {
            writer.hand_over(&line);
        }
        // Sixteen wait; another one may be with the writer already.
        let dropped = log_lines_dropped() - before;
        assert!((83..=84).contains(&dropped), "{dropped} of 100 were dropped");
        for _ in 0..100 {
            turn.send(()).unwrap();
        }
        writer.close();
        assert_eq!(lines.try_iter().count() as u64, 100 - dropped);
        writer.hand_over(b"after the end");
        assert_eq!(log_lines_dropped(), before + dropped + 1);
    }
}
