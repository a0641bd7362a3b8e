//! A byte stream with the buffers of one connection. A buffer is taken from the thread's pool when there is something to
//! read or write, and returned when it is empty: an idle connection holds none.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::{poll_read_buf, poll_write_buf};

use crate::body::{BodyDecoder, BodyEvent};
use crate::rejection::Rejection;

/// Bytes of one buffer, and of the largest single read. HAProxy's `tune.bufsize`.
pub const BUFFER_BYTES: usize = 16 * 1024;

/// Buffers of each kind that a thread keeps for reuse: 1 MiB.
const MAX_POOLED_BUFFERS: usize = 64;

/// Data up to this length is copied behind its head, so that both leave in one buffer.
const MAX_COPIED_BYTES: usize = 4 * 1024;

#[derive(Default)]
struct BufferPool {
    reading: Vec<BytesMut>,
    writing: Vec<Vec<u8>>,
}

thread_local! {
    static POOL: RefCell<BufferPool> = RefCell::default();
}

/// Returns a read buffer to the pool, unless data of it is in use.
fn give_back(mut buffer: BytesMut) {
    buffer.clear();
    if buffer.try_reclaim(BUFFER_BYTES) {
        POOL.with_borrow_mut(|pool| {
            if pool.reading.len() < MAX_POOLED_BUFFERS {
                pool.reading.push(buffer);
            }
        });
    }
}

/// The failure of reading a message.
#[derive(Debug)]
pub enum ReadError {
    /// The byte stream failed.
    Io(io::Error),
    /// The bytes are not a valid message.
    Rejected(Rejection),
}

impl fmt::Display for ReadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => error.fmt(formatter),
            Self::Rejected(rejection) => rejection.fmt(formatter),
        }
    }
}

impl std::error::Error for ReadError {}

/// A byte stream with its buffers.
#[derive(Debug)]
pub struct MessageIo<T> {
    io: T,
    /// Bytes that were read and not decoded.
    input: BytesMut,
    output: Output,
    /// True when bytes were written that the stream may hold back: TLS has a buffer of its own.
    needs_flush: bool,
    is_eof: bool,
}

/// Bytes to write: encoded ones, then data that was not copied, then what follows it.
#[derive(Debug, Default)]
struct Output {
    encoded: Vec<u8>,
    written: usize,
    data: Bytes,
    suffix: &'static [u8],
}

impl<T: AsyncRead + AsyncWrite + Unpin> MessageIo<T> {
    /// Wraps a byte stream.
    pub fn new(io: T) -> Self {
        Self { io, input: BytesMut::new(), output: Output::default(), needs_flush: false, is_eof: false }
    }

    /// Returns the byte stream, and the bytes that were read from it and not used: for an upgraded connection.
    pub fn into_parts(mut self) -> (T, Bytes) {
        let rest = self.input.split().freeze();
        (self.io, rest)
    }

    /// Returns the byte stream.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.io
    }

    /// Returns the bytes that were read and not decoded.
    pub fn input(&mut self) -> &mut BytesMut {
        &mut self.input
    }

    /// Returns true once the peer has closed its side.
    pub fn is_eof(&self) -> bool {
        self.is_eof
    }

    /// Reads once. Returns the number of bytes; 0 when the peer has closed its side.
    pub fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.is_eof {
            return Poll::Ready(Ok(0));
        }
        let mut buffer = self.take_buffer();
        let polled = poll_read_buf(Pin::new(&mut self.io), context, &mut buffer);
        if self.input.is_empty() && !buffer.is_empty() {
            self.input = buffer;
        } else {
            self.input.extend_from_slice(&buffer);
            give_back(buffer);
        }
        match &polled {
            Poll::Ready(Ok(0)) => self.is_eof = true,
            Poll::Ready(_) => {}
            Poll::Pending => self.shrink_input(),
        }
        polled
    }

    /// Returns an empty buffer to read into: the last one of this connection if its data is no longer used, or one of
    /// the pool.
    fn take_buffer(&mut self) -> BytesMut {
        if self.input.is_empty() {
            let mut last = std::mem::take(&mut self.input);
            if last.try_reclaim(BUFFER_BYTES) {
                return last;
            }
        }
        POOL.with_borrow_mut(|pool| pool.reading.pop()).unwrap_or_else(|| BytesMut::with_capacity(BUFFER_BYTES))
    }

    /// Moves a small incomplete message out of its large buffer, since the rest of it may be long in coming.
    fn shrink_input(&mut self) {
        if !self.input.is_empty() && self.input.capacity() > 2 * self.input.len() {
            let small = BytesMut::from(&self.input[..]);
            give_back(std::mem::replace(&mut self.input, small));
        }
    }

    /// Reads the next event of a body. After [`BodyEvent::End`] no bytes are read.
    ///
    /// # Errors
    /// The stream failed, or its bytes are not a valid body.
    pub fn poll_body(
        &mut self,
        decoder: &mut BodyDecoder,
        context: &mut Context<'_>,
    ) -> Poll<Result<BodyEvent, ReadError>> {
        loop {
            if let Some(event) = decoder.decode(&mut self.input).map_err(ReadError::Rejected)? {
                if decoder.is_end() {
                    self.release_input();
                }
                return Poll::Ready(Ok(event));
            }
            if ready!(self.poll_fill(context)).map_err(ReadError::Io)? == 0 {
                decoder.decode_eof().map_err(ReadError::Rejected)?;
            }
        }
    }

    /// Returns the read buffer to the pool if it is empty: after a message.
    pub fn release_input(&mut self) {
        if self.input.is_empty() {
            give_back(std::mem::take(&mut self.input));
        }
    }

    /// Returns the buffer to encode into. Requires that no data waits: see [`MessageIo::can_encode`].
    pub fn encoded(&mut self) -> &mut Vec<u8> {
        debug_assert!(self.output.data.is_empty() && self.output.suffix.is_empty(), "it would stand before the data");
        if self.output.encoded.capacity() == 0 {
            self.output.encoded =
                POOL.with_borrow_mut(|pool| pool.writing.pop()).unwrap_or_else(|| Vec::with_capacity(BUFFER_BYTES));
        }
        &mut self.output.encoded
    }

    /// Returns true if more can be encoded: no data waits behind the encoded bytes, and these fit one buffer.
    pub fn can_encode(&self) -> bool {
        self.output.data.is_empty() && self.output.suffix.is_empty() && self.output.encoded.len() < BUFFER_BYTES
    }

    /// Appends data behind the encoded bytes, and `suffix` behind the data.
    pub fn push_data(&mut self, data: Bytes, suffix: &'static [u8]) {
        if data.len() <= MAX_COPIED_BYTES {
            let encoded = self.encoded();
            encoded.extend_from_slice(&data);
            encoded.extend_from_slice(suffix);
        } else {
            self.output.data = data;
            self.output.suffix = suffix;
        }
    }

    /// Returns true if every encoded byte was written.
    pub fn is_flushed(&self) -> bool {
        !self.output.has_remaining()
    }

    /// Returns the number of bytes that were encoded and not written.
    pub fn unflushed(&self) -> usize {
        self.output.remaining()
    }

    /// Writes what was encoded.
    pub fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.output.has_remaining() {
            let written = ready!(poll_write_buf(Pin::new(&mut self.io), context, &mut self.output))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.needs_flush = true;
        }
        if self.output.encoded.capacity() > 0 {
            self.output.release();
        }
        if self.needs_flush {
            ready!(Pin::new(&mut self.io).poll_flush(context))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Shuts the write side down, after everything was flushed.
    pub fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

impl Output {
    fn release(&mut self) {
        let mut buffer = std::mem::take(&mut self.encoded);
        buffer.clear();
        self.written = 0;
        if buffer.capacity() <= 2 * BUFFER_BYTES {
            POOL.with_borrow_mut(|pool| {
                if pool.writing.len() < MAX_POOLED_BUFFERS {
                    pool.writing.push(buffer);
                }
            });
        }
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.encoded.len() - self.written + self.data.len() + self.suffix.len()
    }

    fn chunk(&self) -> &[u8] {
        let encoded = &self.encoded[self.written..];
        if !encoded.is_empty() {
            encoded
        } else if !self.data.is_empty() {
            &self.data
        } else {
            self.suffix
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [io::IoSlice<'a>]) -> usize {
        let parts = [&self.encoded[self.written..], &self.data, self.suffix];
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        slices.iter_mut().zip(parts).map(|(slice, part)| *slice = io::IoSlice::new(part)).count()
    }

    fn advance(&mut self, mut count: usize) {
        let encoded = count.min(self.encoded.len() - self.written);
        self.written += encoded;
        count -= encoded;
        let data = count.min(self.data.len());
        self.data.advance(data);
        self.suffix = &self.suffix[count - data..];
    }
}
