//! Every bound of the data plane, in one place: the number, its unit, and why it is that number.

use std::time::Duration;

/// Headers of one message: Envoy's default.
pub(crate) const MAX_HEADERS: usize = 100;

/// Bytes of one message's head: Envoy's default of 60 KiB, rounded up to hyper's power of two.
pub(crate) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Bytes that one direction of a stream holds back for a paused filter: Envoy's default buffer limit.
pub(crate) const MAX_HELD_BODY_BYTES: usize = 1024 * 1024;

/// Connections of one worker: each costs about 10 KiB when idle.
pub(crate) const MAX_CONNECTIONS_PER_WORKER: usize = 20_000;

/// A downstream connection without a request is closed after this time (Envoy: an hour; nginx: 75 s).
pub(crate) const DOWNSTREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// A request head must be whole in this time from its first byte: the slow-loris bound.
pub(crate) const HEAD_TIMEOUT: Duration = Duration::from_secs(15);

/// Nothing may move on a stream for this long (Envoy's `stream_idle_timeout`).
pub(crate) const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(300);

/// Concurrent streams of one downstream HTTP/2 connection (Envoy's recommendation at the edge).
pub(crate) const MAX_CONCURRENT_STREAMS: u32 = 100;

/// HTTP/2 flow-control window of a stream, in bytes (Envoy's recommendation at the edge).
pub(crate) const STREAM_WINDOW_BYTES: u32 = 64 * 1024;

/// HTTP/2 flow-control window of a connection, in bytes (Envoy's recommendation at the edge).
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// What guests may ask for one stream within one event: a continue, a reply and a close from each of a chain's filters.
pub(crate) const MAX_ASKS: usize = 96;

/// Bytes that wait where a direction leaves its filters before its source is read again: one chunk of hyper's.
pub(crate) const MAX_OUTLET_BYTES: usize = 64 * 1024;

// Telemetry.

/// Access-log lines of one worker that are kept back, in bytes: past it they go to the writer at once.
pub(crate) const ACCESS_LOG_BUFFER_BYTES: usize = 16 * 1024;

/// Access-log lines are kept back for no longer than this: short for whoever watches, long enough to batch.
pub(crate) const ACCESS_LOG_FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// Buffers on their way to the access log's writer, about 4 MiB: past it the disk is stuck and lines are dropped.
pub(crate) const ACCESS_LOG_QUEUE: usize = 256;

/// Time for the access log's last lines to be written when the process ends.
pub(crate) const ACCESS_LOG_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
