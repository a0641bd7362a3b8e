//! Where one direction of a stream leaves its filters. The driver writes; the reader (a body adapter, or the walk that
//! waits for the head) is woken and takes. What waits here is bounded: the source is read only while it is short.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

/// What leaves a direction after its head.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Body bytes, never empty.
    Data(Bytes),
    /// The trailers, which are in the exchange; nothing follows.
    Trailers,
    /// The end without trailers; nothing follows.
    End,
    /// The direction broke off; nothing follows.
    Reset,
}

/// Where one direction leaves its filters.
#[derive(Debug, Default)]
pub(crate) struct Outlet {
    head: Option<bool>,
    /// Whether the head has gone on: until then nothing has.
    is_begun: bool,
    data: VecDeque<Bytes>,
    waiting: usize,
    last: Option<Piece>,
    waker: Option<Waker>,
}

impl Outlet {
    /// The head may go on; `ends` = nothing follows it.
    pub(super) fn put_head(&mut self, ends: bool) {
        debug_assert!(self.head.is_none(), "a head leaves once");
        self.head = Some(ends);
        if ends {
            self.last = Some(Piece::End);
        }
        self.wake();
    }

    pub(super) fn put_data(&mut self, bytes: Bytes) {
        debug_assert!(self.last.is_none(), "nothing follows the end");
        self.waiting += bytes.len();
        self.data.push_back(bytes);
        self.wake();
    }

    pub(super) fn put_last(&mut self, last: Piece) {
        debug_assert!(self.last.is_none(), "nothing follows the end");
        self.last = Some(last);
        self.wake();
    }

    /// Nothing follows what waits, unless something else is the last already.
    pub(super) fn end(&mut self) {
        self.last.get_or_insert(Piece::End);
        self.wake();
    }

    /// Breaks off: what waits is dropped. A message that has gone on whole stays what it is.
    pub(super) fn reset(&mut self) {
        if self.is_begun && self.last == Some(Piece::End) && self.data.is_empty() {
            return;
        }
        self.data.clear();
        self.waiting = 0;
        self.last = Some(Piece::Reset);
        self.wake();
    }

    /// Takes back all that waits, so that another message can go on in its place; nothing of it may have gone on yet.
    pub(super) fn take_back(&mut self) {
        debug_assert!(!self.is_begun, "what has gone on does not come back");
        *self = Self { waker: self.waker.take(), ..Self::default() };
    }

    /// Wakes whoever reads.
    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Registers the reader for the next change.
    pub(crate) fn watch(&mut self, context: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
    }

    /// `Some(ends)` once the head may go on.
    pub(super) fn head(&self) -> Option<bool> {
        self.head
    }

    /// As [`Outlet::head`], for whoever goes on with it: from now on it is not replaced by another.
    pub(crate) fn take_head(&mut self) -> Option<bool> {
        self.is_begun |= self.head.is_some();
        self.head
    }

    /// True once the head has gone on.
    pub(super) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// True once the direction broke off.
    pub(crate) fn is_reset(&self) -> bool {
        self.last == Some(Piece::Reset)
    }

    /// Bytes that wait here.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Body bytes still to be taken, once it is known that no more will come.
    pub(crate) fn remaining(&self) -> Option<usize> {
        (self.last == Some(Piece::End)).then_some(self.waiting)
    }

    /// The next piece. After [`Piece::End`], [`Piece::Trailers`] or [`Piece::Reset`] there is none.
    pub(crate) fn poll(&mut self, context: &Context<'_>) -> Poll<Piece> {
        if let Some(bytes) = self.data.pop_front() {
            self.waiting -= bytes.len();
            return Poll::Ready(Piece::Data(bytes));
        }
        match &self.last {
            Some(Piece::Trailers) => Poll::Ready(Piece::Trailers),
            Some(Piece::End) => Poll::Ready(Piece::End),
            Some(_) => Poll::Ready(Piece::Reset),
            None => {
                self.watch(context);
                Poll::Pending
            }
        }
    }
}
