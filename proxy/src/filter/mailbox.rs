//! What a call leaves behind for other streams of the worker: a tick that continues a stream, a VM whose death parked
//! streams must learn of. Posted during calls, delivered by one task when no stream is borrowed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use tokio::sync::Notify;

use crate::filter::event::{Event, Failed};
use crate::filter::stream::StreamCell;

/// What a stream is told.
pub(super) enum Note {
    /// Asks wait in its exchange.
    Asked,
    /// A filter's VM is gone.
    Died(usize, Failed),
}

/// Notes on their way. Bounded by the live streams: a stream has at most one `Died` for each of its filters, and an
/// `Asked` is posted when its first ask is queued only.
#[derive(Default)]
pub(crate) struct Mailbox {
    notes: RefCell<VecDeque<(Weak<StreamCell>, Note)>>,
    arrived: Notify,
}

impl Mailbox {
    /// Leaves a note for a stream.
    pub(super) fn post(&self, stream: Weak<StreamCell>, note: Note) {
        self.notes.borrow_mut().push_back((stream, note));
        self.arrived.notify_one();
    }

    /// Delivers notes for ever.
    pub(crate) async fn deliver(self: Rc<Self>) {
        loop {
            self.arrived.notified().await;
            self.deliver_all();
        }
    }

    fn deliver_all(&self) {
        loop {
            let Some((stream, note)) = self.notes.borrow_mut().pop_front() else { return };
            let Some(stream) = stream.upgrade() else { continue };
            let event = match note {
                Note::Asked => Event::Asked,
                Note::Died(filter, failed) => Event::Died(filter, failed),
            };
            stream.borrow_mut().on_event(event);
        }
    }
}
