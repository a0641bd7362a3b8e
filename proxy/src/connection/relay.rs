//! Bytes between a downstream and an endpoint, through network filters: each direction is read only while there is room
//! for what it brings, so that a slow reader slows its writer down.
//!
//! ```text
//! downstream ─ read ─► event ─► filters ─► outlet ─ write ─► upstream
//! downstream ◄─ write ─ outlet ◄─ filters ◄─ event ◄─ read ─ upstream
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
use crate::filter::{Event, Piece, Side, StreamCell};
use crate::limits::TCP_READ_BYTES;
use crate::tls::Transport;

/// The bytes of one connection on their way.
pub(super) struct Relay<'a> {
    cell: &'a Rc<StreamCell>,
    downstream: End,
    /// `None` until the filters have let the downstream in and an endpoint was reached.
    upstream: Option<End>,
    is_admitted: bool,
    /// Who has ended the downstream connection, as far as is known.
    closed_by: PeerKind,
}

/// What has become of a relay.
pub(super) enum Progress {
    /// The filters have let the downstream in: it wants an upstream. Once.
    Admitted,
    /// Both directions have ended, or a connection is gone.
    Ended(PeerKind),
}

/// One of the two connections.
struct End {
    socket: Transport,
    buffer: BytesMut,
    /// Bytes that it has not taken yet.
    pending: Bytes,
    /// What was written may still wait in the TLS session.
    is_unflushed: bool,
    reading: Reading,
    /// Nothing more is written to it.
    is_shut: bool,
}

/// Whether anything is read from a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    On,
    /// Nobody wants what it says.
    GivenUp,
    /// It has said its last.
    Ended,
}

/// A connection broke off, and with it the other one; who has ended the downstream's.
struct Broken(PeerKind);

impl<'a> Relay<'a> {
    pub(super) fn new(cell: &'a Rc<StreamCell>, downstream: Transport) -> Self {
        let downstream = End::new(downstream);
        Self { cell, downstream, upstream: None, is_admitted: false, closed_by: PeerKind::Local }
    }

    /// There is an endpoint.
    pub(super) fn connect(&mut self, upstream: Transport) {
        self.upstream = Some(End::new(upstream));
    }

    /// Moves what can be moved, and notes the time when something has.
    pub(super) fn poll(&mut self, context: &mut Context<'_>, moved_at: &Cell<Instant>) -> Poll<Progress> {
        let mut has_moved = false;
        loop {
            let moves = match self.step(context) {
                Ok(moves) => moves,
                Err(Broken(closed_by)) => return Poll::Ready(Progress::Ended(closed_by)),
            };
            if self.is_over() {
                return Poll::Ready(Progress::Ended(self.closed_by));
            }
            if !self.is_admitted && self.cell.borrow_mut().exchange.chain.outlet(Side::Request).take_head().is_some() {
                self.is_admitted = true;
                return Poll::Ready(Progress::Admitted);
            }
            has_moved |= moves;
            if !moves {
                break;
            }
        }
        if has_moved {
            moved_at.set(Instant::now());
        }
        // Filters may let something go, or close the connection, at any time.
        let mut stream = self.cell.borrow_mut();
        for side in [Side::Request, Side::Response] {
            stream.exchange.chain.outlet(side).watch(context);
        }
        Poll::Pending
    }

    /// The downstream, if it may not have read all that it was sent: were the connection closed while something of its own
    /// is not read, the kernel would take the rest away from it.
    pub(super) fn into_unread(self) -> Option<Transport> {
        (self.downstream.is_shut && self.downstream.reading != Reading::Ended).then_some(self.downstream.socket)
    }

    /// Both directions have gone out to their end; without an upstream, that to the downstream.
    fn is_over(&self) -> bool {
        self.downstream.is_shut && self.upstream.as_ref().is_none_or(|upstream| upstream.is_shut)
    }

    /// One step in each direction, out before in; says whether anything has moved.
    fn step(&mut self, context: &mut Context<'_>) -> Result<bool, Broken> {
        let to_upstream = self.write_upstream(context)?;
        let from_downstream = self.read_downstream(context)?;
        let to_downstream = self.write_downstream(context)?;
        let from_upstream = self.read_upstream(context)?;
        Ok(to_upstream | from_downstream | to_downstream | from_upstream)
    }

    fn write_upstream(&mut self, context: &mut Context<'_>) -> Result<bool, Broken> {
        let Some(upstream) = &mut self.upstream else { return Ok(false) };
        match upstream.poll_write(context, |context| next_piece(self.cell, Side::Request, context)) {
            Poll::Pending => Ok(false),
            Poll::Ready(Written::Bytes(_) | Written::Shut) => Ok(true),
            Poll::Ready(Written::Reset) => Err(Broken(PeerKind::Local)),
            // It takes nothing more; what it still says is read to its end.
            Poll::Ready(Written::Failed) => {
                (upstream.is_shut, upstream.pending) = (true, Bytes::new());
                self.downstream.give_up();
                Ok(true)
            }
        }
    }

    fn write_downstream(&mut self, context: &mut Context<'_>) -> Result<bool, Broken> {
        match self.downstream.poll_write(context, |context| next_piece(self.cell, Side::Response, context)) {
            Poll::Pending => Ok(false),
            Poll::Ready(Written::Bytes(length)) => {
                self.cell.borrow_mut().exchange.facts.response_bytes += length as u64;
                Ok(true)
            }
            Poll::Ready(Written::Shut) => {
                self.closed_by = PeerKind::Local;
                Ok(true)
            }
            Poll::Ready(Written::Reset) => Err(Broken(PeerKind::Local)),
            Poll::Ready(Written::Failed) => {
                self.fail(ProxyError::DownstreamGone);
                self.reset_upstream();
                Err(Broken(PeerKind::Remote))
            }
        }
    }

    fn read_downstream(&mut self, context: &mut Context<'_>) -> Result<bool, Broken> {
        let mut stream = self.cell.borrow_mut();
        if stream.exchange.chain.is_closed(Side::Request) {
            self.downstream.give_up();
        }
        // As in Envoy, nothing is read while the upstream is being connected.
        let is_connecting = self.is_admitted && self.upstream.is_none();
        if self.downstream.reading != Reading::On || is_connecting || !stream.exchange.chain.accepts(Side::Request) {
            return Ok(false);
        }
        match self.downstream.poll_read(context) {
            Poll::Pending => Ok(false),
            Poll::Ready(Ok(chunk)) => {
                if chunk.is_last {
                    (self.downstream.reading, self.closed_by) = (Reading::Ended, PeerKind::Remote);
                }
                stream.exchange.facts.request_bytes += chunk.bytes.len() as u64;
                stream.on_event(chunk.event(Side::Request));
                Ok(true)
            }
            Poll::Ready(Err(_)) => {
                stream.exchange.fail(ProxyError::DownstreamGone);
                drop(stream);
                self.reset_upstream();
                Err(Broken(PeerKind::Remote))
            }
        }
    }

    fn read_upstream(&mut self, context: &mut Context<'_>) -> Result<bool, Broken> {
        let Some(upstream) = &mut self.upstream else { return Ok(false) };
        let mut stream = self.cell.borrow_mut();
        if upstream.reading != Reading::On || !stream.exchange.chain.accepts(Side::Response) {
            return Ok(false);
        }
        match upstream.poll_read(context) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Ok(chunk)) => {
                if chunk.is_last {
                    upstream.reading = Reading::Ended;
                }
                stream.on_event(chunk.event(Side::Response));
            }
            Poll::Ready(Err(error)) => {
                stream.exchange.fail(ProxyError::UpstreamReset(error.to_string()));
                self.downstream.socket.reset();
                return Err(Broken(PeerKind::Local));
            }
        }
        Ok(true)
    }

    /// The downstream broke off: the endpoint learns it in the same way.
    fn reset_upstream(&self) {
        self.upstream.iter().for_each(|upstream| upstream.socket.reset());
    }

    fn fail(&self, error: ProxyError) {
        self.cell.borrow_mut().exchange.fail(error);
    }
}

/// What leaves the filters next.
fn next_piece(cell: &StreamCell, side: Side, context: &Context<'_>) -> Poll<Piece> {
    cell.borrow_mut().exchange.chain.outlet(side).poll(context)
}

/// What has been read.
struct Chunk {
    bytes: Bytes,
    is_last: bool,
}

impl Chunk {
    /// As an event of its side.
    fn event(self, side: Side) -> Event {
        match (self.is_last, self.bytes.is_empty()) {
            (true, true) => Event::End(side),
            (true, false) => Event::LastData(side, self.bytes),
            (false, _) => Event::Data(side, self.bytes),
        }
    }
}

/// What a step of writing has come to.
enum Written {
    /// So many bytes were taken, or are about to be.
    Bytes(usize),
    /// The end was.
    Shut,
    /// What was to be written was broken off.
    Reset,
    /// Nothing is taken any more.
    Failed,
}

impl End {
    fn new(socket: Transport) -> Self {
        let (buffer, pending) = (BytesMut::new(), Bytes::new());
        Self { socket, buffer, pending, is_unflushed: false, reading: Reading::On, is_shut: false }
    }

    /// Reads nothing more, unless it has ended by itself.
    fn give_up(&mut self) {
        if self.reading == Reading::On {
            self.reading = Reading::GivenUp;
        }
    }

    /// Reads what there is, up to [`TCP_READ_BYTES`], and whether it is the last: as in Envoy, filters see an end with the
    /// bytes before it when both have come. No buffer is kept while there is nothing to read.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Chunk>> {
        self.buffer.reserve(TCP_READ_BYTES);
        let mut is_last = false;
        while !is_last && self.buffer.len() < TCP_READ_BYTES {
            match pin!(self.socket.read_buf(&mut self.buffer)).poll(context) {
                Poll::Ready(Ok(length)) => is_last = length == 0,
                // What came before goes on; the error comes again.
                Poll::Ready(Err(_)) if !self.buffer.is_empty() => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if self.buffer.is_empty() => {
                    self.buffer = BytesMut::new();
                    return Poll::Pending;
                }
                Poll::Pending => break,
            }
        }
        Poll::Ready(Ok(Chunk { bytes: self.buffer.split().freeze(), is_last }))
    }

    /// Writes what waits, then what comes next; ready when something was done.
    fn poll_write(
        &mut self,
        context: &mut Context<'_>,
        next: impl FnOnce(&Context<'_>) -> Poll<Piece>,
    ) -> Poll<Written> {
        if self.is_shut {
            return Poll::Pending;
        }
        if self.pending.is_empty() {
            match next(context) {
                Poll::Ready(Piece::Data(bytes)) => self.pending = bytes,
                Poll::Ready(Piece::End | Piece::Trailers) => return self.poll_shut(context),
                Poll::Ready(Piece::Reset) => return Poll::Ready(Written::Reset),
                Poll::Pending => return self.poll_flush(context),
            }
        }
        match ready!(Pin::new(&mut self.socket).poll_write(context, &self.pending)) {
            Ok(0) | Err(_) => Poll::Ready(Written::Failed),
            Ok(length) => {
                self.pending.advance(length);
                self.is_unflushed = true;
                Poll::Ready(Written::Bytes(length))
            }
        }
    }

    /// Sends on what the TLS session keeps back. Moves nothing that anybody waits for.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Written> {
        if self.is_unflushed {
            self.is_unflushed = false;
            match Pin::new(&mut self.socket).poll_flush(context) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Poll::Ready(Written::Failed),
                Poll::Pending => self.is_unflushed = true,
            }
        }
        Poll::Pending
    }

    fn poll_shut(&mut self, context: &mut Context<'_>) -> Poll<Written> {
        let shut = ready!(Pin::new(&mut self.socket).poll_shutdown(context));
        self.is_shut = true;
        Poll::Ready(match shut {
            Ok(()) => Written::Shut,
            Err(_) => Written::Failed,
        })
    }
}
