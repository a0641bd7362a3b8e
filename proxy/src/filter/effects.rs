//! Effects of a guest call on other streams of the worker: a timer callback that resumes a stream, or a failed VM that
//! paused streams must be notified of. Pushed during calls, and delivered by one task while no stream is borrowed.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};

use tokio::sync::Notify;

use crate::filter::event::{Event, FilterFailure};
use crate::filter::stream::SharedStream;

/// A notification for a stream.
pub(super) enum Effect {
    /// Commands are queued in the stream's exchange.
    ResumeStream,
    /// The VM of a filter has failed.
    FilterFailed(usize, FilterFailure),
}

/// Pending stream notifications. Bounded: each live stream queues at most one `FilterFailed` per filter and one
/// `ResumeStream`.
#[derive(Default)]
pub(crate) struct EffectQueue {
    effects: RefCell<VecDeque<(Weak<SharedStream>, Effect)>>,
    pushed: Notify,
}

impl EffectQueue {
    /// Queues a notification for a stream.
    pub(super) fn push(&self, stream: Weak<SharedStream>, effect: Effect) {
        self.effects.borrow_mut().push_back((stream, effect));
        self.pushed.notify_one();
    }

    /// Delivers notifications until the worker ends.
    pub(crate) async fn deliver(self: Rc<Self>) {
        loop {
            self.pushed.notified().await;
            self.deliver_all();
        }
    }

    fn deliver_all(&self) {
        loop {
            let Some((stream, effect)) = self.effects.borrow_mut().pop_front() else { return };
            let Some(stream) = stream.upgrade() else { continue };
            let event = match effect {
                Effect::ResumeStream => Event::Resume,
                Effect::FilterFailed(filter, failure) => Event::FilterFailed(filter, failure),
            };
            stream.borrow_mut().on_event(event);
        }
    }
}
