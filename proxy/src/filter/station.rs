//! One filter's place in one direction of a stream: what has arrived, what the filter has seen, what it holds.
//! Only `driver.rs` moves things from one station to the next.

use bytes::{Bytes, BytesMut};

/// What a filter holds back (`proxy-wasm-abi` §3.8; Envoy's `FilterHeadersStatus` and its siblings).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Everything, with back-pressure: no callback until it continues.
    All,
    /// The head only: body callbacks go on.
    Head,
    /// The body: each callback sees all of it.
    Buffer,
    /// The body, with back-pressure: each callback sees only what is new.
    Watermark,
    /// The bytes of a TCP connection, with back-pressure: each callback sees all of them.
    Bytes,
    /// Nothing of this chunk is kept.
    Drop,
    /// The trailers, and what was held before them.
    Trailers,
}

/// What a filter's callback returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Go on.
    Continue,
    /// Hold back.
    Pause(Hold),
}

/// Which parts of a message have passed a point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each part of a message has passed, or not")]
pub(super) struct Parts {
    pub(super) head: bool,
    pub(super) end: bool,
    pub(super) trailers: bool,
}

/// What a station has to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Head,
    Body,
    Trailers,
}

/// One filter's place in one direction.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a question of its own")]
pub(super) struct Station {
    /// What has come here. `end` and `trailers` exclude each other: trailers are an end.
    pub(super) arrived: Parts,
    /// What the filter was shown.
    pub(super) seen: Parts,
    /// What went on.
    pub(super) sent: Parts,
    /// True when the head came with the end of the message.
    pub(super) head_ends: bool,
    /// What the filter holds back.
    pub(super) hold: Option<Hold>,
    /// Held bytes that the next callback does not show ([`Hold::Watermark`]).
    pub(super) kept: BytesMut,
    /// Bytes that the next callback shows.
    pub(super) body: BytesMut,
    /// True when `body` has bytes that the filter has not seen.
    pub(super) fresh: bool,
    /// True while the filter's body callback runs.
    pub(super) showing: bool,
    /// Bytes that may be held here: the filter's own limit.
    pub(super) room: usize,
}

impl Station {
    /// What can be done here now.
    pub(super) fn work(&self) -> Option<Work> {
        if !self.arrived.head {
            None
        } else if !self.seen.head {
            Some(Work::Head)
        } else if matches!(self.hold, Some(Hold::All | Hold::Trailers)) {
            None
        } else if self.fresh || (self.arrived.end && !self.seen.end) {
            Some(Work::Body)
        } else if self.arrived.trailers && !self.seen.trailers {
            Some(Work::Trailers)
        } else {
            None
        }
    }

    /// True when body bytes go by without stopping, if the filter does not ask for them.
    pub(super) fn is_open(&self) -> bool {
        self.sent.head && self.hold.is_none() && self.body.is_empty() && self.kept.is_empty()
    }

    /// True while the filter may change the body: in its body callback, and while it holds back what it has seen.
    pub(super) fn is_writable(&self) -> bool {
        self.showing
            || (!self.body.is_empty() && matches!(self.hold, Some(Hold::Buffer | Hold::Bytes | Hold::Trailers)))
    }

    /// Bytes held here.
    pub(super) fn held(&self) -> usize {
        self.kept.len() + self.body.len()
    }

    /// Takes in a chunk.
    pub(super) fn take_in(&mut self, bytes: Bytes) {
        if self.body.is_empty() {
            self.body = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        } else {
            self.body.extend_from_slice(&bytes);
        }
        self.fresh = true;
    }

    /// Gives out what was shown, in order.
    pub(super) fn give_out(&mut self) -> Bytes {
        if self.body.capacity() == 0 && self.kept.capacity() == 0 {
            return Bytes::new(); // As nearly always: no body came here.
        }
        if self.fresh {
            return self.kept.split().freeze();
        }
        if self.kept.is_empty() {
            return std::mem::take(&mut self.body).freeze();
        }
        self.kept.unsplit(self.body.split());
        std::mem::take(&mut self.kept).freeze()
    }
}
