//! Relays bytes between a downstream and an endpoint, through network filters. Each direction is read only while its
//! output has capacity, so that a slow reader slows its writer down.
//!
//! ```text
//! downstream ─ read ─► event ─► filters ─► output ─ write ─► upstream
//! downstream ◄─ write ─ output ◄─ filters ◄─ event ◄─ read ─ upstream
//! ```

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::time::Instant;
use weir_host_abi::abi::stream::PeerKind;

use crate::error::ProxyError;
use crate::filter::{Direction, EndOfStream, Event, OutputFrame, SharedStream};
use crate::limits::TCP_READ_BYTES;
use crate::tls::Transport;

/// The relay of one downstream connection.
pub(super) struct TcpRelay<'a> {
    cell: &'a Rc<SharedStream>,
    downstream: RelayPeer,
    /// `None` until the filters have admitted the downstream and an endpoint is connected.
    upstream: Option<RelayPeer>,
    upstream_requested: bool,
    /// The peer that closed the downstream connection, as far as is known.
    closed_by: PeerKind,
}

/// A step that the relay's owner must take.
pub(super) enum RelayEvent {
    /// The filters have admitted the downstream, which needs an upstream. Occurs once.
    ConnectUpstream,
    /// Both directions have ended, or a connection was reset. Has the peer that closed the downstream connection.
    Closed(PeerKind),
}

/// One of the relay's two connections.
struct RelayPeer {
    socket: Transport,
    buffer: BytesMut,
    /// Bytes that are not yet written.
    pending: Bytes,
    /// Written bytes may still be buffered in the TLS session.
    needs_flush: bool,
    read_state: ReadState,
    /// Its write direction is closed.
    is_write_closed: bool,
}

/// The read direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReadState {
    Open,
    /// Not read any more: nothing uses its bytes.
    Discarding,
    /// The peer has closed its write direction.
    Eof,
}

/// A connection was reset, and the other one with it. Has the peer that closed the downstream connection.
struct RelayAborted(PeerKind);

impl<'a> TcpRelay<'a> {
    pub(super) fn new(cell: &'a Rc<SharedStream>, downstream: Transport) -> Self {
        let downstream = RelayPeer::new(downstream);
        Self { cell, downstream, upstream: None, upstream_requested: false, closed_by: PeerKind::Local }
    }

    /// Sets the connection to the endpoint.
    pub(super) fn set_upstream(&mut self, upstream: Transport) {
        self.upstream = Some(RelayPeer::new(upstream));
    }

    /// Moves bytes in both directions until neither can progress. Sets `last_activity` when bytes moved.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, last_activity: &Cell<Instant>) -> Poll<RelayEvent> {
        let mut has_moved = false;
        loop {
            let moves = match self.step(context) {
                Ok(moves) => moves,
                Err(RelayAborted(closed_by)) => return Poll::Ready(RelayEvent::Closed(closed_by)),
            };
            if self.is_complete() {
                return Poll::Ready(RelayEvent::Closed(self.closed_by));
            }
            if !self.upstream_requested
                && self.cell.borrow_mut().exchange.chain.output(Direction::Request).take_headers().is_some()
            {
                self.upstream_requested = true;
                return Poll::Ready(RelayEvent::ConnectUpstream);
            }
            has_moved |= moves;
            if !moves {
                break;
            }
        }
        if has_moved {
            last_activity.set(Instant::now());
        }
        // Filters may resume a direction or close the connection at any time.
        let mut stream = self.cell.borrow_mut();
        for direction in [Direction::Request, Direction::Response] {
            stream.exchange.chain.output(direction).register_waker(context);
        }
        Poll::Pending
    }

    /// Returns the downstream if it may not have read everything that it was sent.
    ///
    /// Closing a socket with unread incoming bytes makes the kernel send a reset, which discards sent bytes.
    pub(super) fn into_lingering_downstream(self) -> Option<Transport> {
        (self.downstream.is_write_closed && self.downstream.read_state != ReadState::Eof)
            .then_some(self.downstream.socket)
    }

    /// Returns true if both directions are written to their end. Without an upstream, only the downstream's counts.
    fn is_complete(&self) -> bool {
        self.downstream.is_write_closed && self.upstream.as_ref().is_none_or(|upstream| upstream.is_write_closed)
    }

    /// Makes one step in each direction, writing before reading. Returns whether bytes moved.
    fn step(&mut self, context: &mut Context<'_>) -> Result<bool, RelayAborted> {
        let to_upstream = self.write_upstream(context)?;
        let from_downstream = self.read_downstream(context)?;
        let to_downstream = self.write_downstream(context)?;
        let from_upstream = self.read_upstream(context)?;
        Ok(to_upstream | from_downstream | to_downstream | from_upstream)
    }

    fn write_upstream(&mut self, context: &mut Context<'_>) -> Result<bool, RelayAborted> {
        let Some(upstream) = &mut self.upstream else { return Ok(false) };
        match upstream.poll_write(context, |context| next_output_frame(self.cell, Direction::Request, context)) {
            Poll::Pending => Ok(false),
            Poll::Ready(WriteOutcome::Bytes(_) | WriteOutcome::Closed) => Ok(true),
            Poll::Ready(WriteOutcome::Reset) => Err(RelayAborted(PeerKind::Local)),
            // The upstream accepts no more bytes. Its own bytes are still read to their end.
            Poll::Ready(WriteOutcome::Failed) => {
                (upstream.is_write_closed, upstream.pending) = (true, Bytes::new());
                self.downstream.discard_reads();
                Ok(true)
            }
        }
    }

    fn write_downstream(&mut self, context: &mut Context<'_>) -> Result<bool, RelayAborted> {
        match self.downstream.poll_write(context, |context| next_output_frame(self.cell, Direction::Response, context))
        {
            Poll::Pending => Ok(false),
            Poll::Ready(WriteOutcome::Bytes(length)) => {
                self.cell.borrow_mut().exchange.stream_info.response_bytes += length as u64;
                Ok(true)
            }
            Poll::Ready(WriteOutcome::Closed) => {
                self.closed_by = PeerKind::Local;
                Ok(true)
            }
            Poll::Ready(WriteOutcome::Reset) => Err(RelayAborted(PeerKind::Local)),
            Poll::Ready(WriteOutcome::Failed) => {
                self.fail(ProxyError::DownstreamGone);
                self.reset_upstream();
                Err(RelayAborted(PeerKind::Remote))
            }
        }
    }

    fn read_downstream(&mut self, context: &mut Context<'_>) -> Result<bool, RelayAborted> {
        let mut stream = self.cell.borrow_mut();
        if stream.exchange.chain.is_closed(Direction::Request) {
            self.downstream.discard_reads();
        }
        // As in Envoy, the downstream is not read while the upstream is being connected.
        let is_connecting = self.upstream_requested && self.upstream.is_none();
        if self.downstream.read_state != ReadState::Open
            || is_connecting
            || !stream.exchange.chain.can_read(Direction::Request)
        {
            return Ok(false);
        }
        match self.downstream.poll_read(context) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(chunk)) => {
                if chunk.end_of_stream {
                    (self.downstream.read_state, self.closed_by) = (ReadState::Eof, PeerKind::Remote);
                }
                stream.exchange.stream_info.request_bytes += chunk.bytes.len() as u64;
                stream.on_event(chunk.into_event(Direction::Request));
                Ok(true)
            }
            Poll::Ready(Err(_)) => {
                stream.exchange.fail(ProxyError::DownstreamGone);
                drop(stream);
                self.reset_upstream();
                Err(RelayAborted(PeerKind::Remote))
            }
        }
    }

    fn read_upstream(&mut self, context: &mut Context<'_>) -> Result<bool, RelayAborted> {
        let Some(upstream) = &mut self.upstream else { return Ok(false) };
        let mut stream = self.cell.borrow_mut();
        if upstream.read_state != ReadState::Open || !stream.exchange.chain.can_read(Direction::Response) {
            return Ok(false);
        }
        match upstream.poll_read(context) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(chunk)) => {
                if chunk.end_of_stream {
                    upstream.read_state = ReadState::Eof;
                }
                stream.on_event(chunk.into_event(Direction::Response));
            }
            Poll::Ready(Err(error)) => {
                stream.exchange.fail(ProxyError::UpstreamReset(error.to_string()));
                self.downstream.socket.reset();
                return Err(RelayAborted(PeerKind::Local));
            }
        }
        Ok(true)
    }

    /// Resets the connection to the endpoint, as the downstream reset its own.
    fn reset_upstream(&self) {
        self.upstream.iter().for_each(|upstream| upstream.socket.reset());
    }

    fn fail(&self, error: ProxyError) {
        self.cell.borrow_mut().exchange.fail(error);
    }
}

/// Polls for the next frame that leaves the filters.
fn next_output_frame(cell: &SharedStream, direction: Direction, context: &Context<'_>) -> Poll<OutputFrame> {
    cell.borrow_mut().exchange.chain.output(direction).poll_frame(context)
}

/// Bytes that were read at once.
struct Chunk {
    bytes: Bytes,
    end_of_stream: bool,
}

impl Chunk {
    /// Returns the event for the filters.
    fn into_event(self, direction: Direction) -> Event {
        if self.end_of_stream && self.bytes.is_empty() {
            return Event::EndOfStream(direction);
        }
        Event::Data(direction, self.bytes, EndOfStream::from(self.end_of_stream))
    }
}

/// The result of one write.
enum WriteOutcome {
    /// This many bytes were written.
    Bytes(usize),
    /// The write direction was closed.
    Closed,
    /// The filters reset the stream.
    Reset,
    /// The peer accepts no more bytes.
    Failed,
}

impl RelayPeer {
    fn new(socket: Transport) -> Self {
        let (buffer, pending) = (BytesMut::new(), Bytes::new());
        Self { socket, buffer, pending, needs_flush: false, read_state: ReadState::Open, is_write_closed: false }
    }

    /// Stops reading, unless the peer has already closed its write direction.
    fn discard_reads(&mut self) {
        if self.read_state == ReadState::Open {
            self.read_state = ReadState::Discarding;
        }
    }

    /// Reads available bytes, up to [`TCP_READ_BYTES`], and detects the end of the stream.
    ///
    /// As in Envoy, filters see the end together with the bytes before it when both have arrived. No buffer is retained
    /// while there is nothing to read.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        self.buffer.reserve(TCP_READ_BYTES);
        let mut is_last = false;
        while !is_last && self.buffer.len() < TCP_READ_BYTES {
            match pin!(self.socket.read_buf(&mut self.buffer)).poll(context) {
                Poll::Ready(Ok(length)) => is_last = length == 0,
                // The bytes before the error are delivered; the next read returns the error again.
                Poll::Ready(Err(_)) if !self.buffer.is_empty() => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if self.buffer.is_empty() => {
                    self.buffer = BytesMut::new();
                    return Poll::Pending;
                }
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(Chunk { bytes: self.buffer.split().freeze(), end_of_stream: is_last }))
    }

    /// Writes pending bytes, then the next frame. Ready when there was progress.
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        next: impl FnOnce(&Context<'_>) -> Poll<OutputFrame>,
    ) -> Poll<WriteOutcome> {
        if self.is_write_closed {
            return Poll::Pending;
        }
        if self.pending.is_empty() {
            match next(context) {
                Poll::Ready(OutputFrame::Data(bytes)) => self.pending = bytes,
                Poll::Ready(OutputFrame::End | OutputFrame::Trailers) => return self.poll_shutdown(context),
                Poll::Ready(OutputFrame::Reset) => return Poll::Ready(WriteOutcome::Reset),
                Poll::Pending => return self.poll_flush(context),
            }
        }
        match ready!(Pin::new(&mut self.socket).poll_write(context, &self.pending)) {
            Ok(0) | Err(_) => Poll::Ready(WriteOutcome::Failed),
            Ok(length) => {
                self.pending.advance(length);
                self.needs_flush = true;
                Poll::Ready(WriteOutcome::Bytes(length))
            }
        }
    }

    /// Flushes the bytes that the TLS session buffers. Always pending, since no task waits for a flush.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<WriteOutcome> {
        if self.needs_flush {
            self.needs_flush = false;
            match Pin::new(&mut self.socket).poll_flush(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(WriteOutcome::Failed),
                Poll::Pending => self.needs_flush = true,
            }
        }
        Poll::Pending
    }

    fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<WriteOutcome> {
        let shut = ready!(Pin::new(&mut self.socket).poll_shutdown(context));
        self.is_write_closed = true;
        Poll::Ready(match shut {
            Ok(()) => WriteOutcome::Closed,
            Err(_) => WriteOutcome::Failed,
        })
    }
}
