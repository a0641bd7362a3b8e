//! The messages of streams that wait for a time (`Action::PauseFor`), by plugin context and by stream.
//!
//! It does not depend on the type of the filter, so that its code is in a module once.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Duration;

use proxy_wasm::hostcalls;

use crate::clock;
use crate::timer::{Deadline, Direction, TickPeriod, Timer};

/// A stream that can wait.
pub(crate) trait PausedStream {
    /// Ends the pause with this deadline. Returns the tokens of calls that the filter has sent.
    fn end_pause(&self, deadline: Deadline) -> Vec<u32>;

    /// Passes the response of a call that was sent in a tick.
    fn on_call_response(&self, token: u32, body_len: usize);
}

/// The streams of a plugin context that wait, and its ticks. All streams of the plugin context share it.
#[derive(Default)]
pub(crate) struct PausedStreams {
    timer: RefCell<Timer<Weak<dyn PausedStream>>>,
    /// Calls that streams have sent in a tick, by token. `proxy_wasm` passes their responses to the plugin context.
    calls: RefCell<Vec<(u32, Weak<dyn PausedStream>)>>,
}

impl PausedStreams {
    /// Sets the period of the filter's own ticks; `None` disables them.
    pub(crate) fn set_own_period(&self, period: Option<Duration>) {
        set_tick_period(self.timer.borrow_mut().set_own_period(period, clock::monotonic_nanoseconds()));
    }

    /// Handles a tick: calls `on_own_tick` if the filter's own tick is due, and ends the pauses that are due.
    pub(crate) fn on_tick(&self, on_own_tick: &dyn Fn()) {
        let now = clock::monotonic_nanoseconds();
        let is_own = self.timer.borrow_mut().take_own_tick(now);
        if is_own {
            on_own_tick();
        }
        let due = self.timer.borrow_mut().take_due(now);
        for (deadline, waiting) in due {
            if let Some(stream) = waiting.upgrade() {
                let sent = stream.end_pause(deadline).into_iter();
                self.calls.borrow_mut().extend(sent.map(|token| (token, Weak::clone(&waiting))));
            }
        }
        set_tick_period(self.timer.borrow_mut().arm(clock::monotonic_nanoseconds()));
    }

    /// Passes the response of a call that was sent in a tick.
    pub(crate) fn on_call_response(&self, token: u32, body_len: usize) {
        let mut calls = self.calls.borrow_mut();
        let Some(index) = calls.iter().position(|(sent, _)| *sent == token) else { return };
        let (_, stream) = calls.swap_remove(index);
        drop(calls);
        if let Some(stream) = stream.upgrade() {
            stream.on_call_response(token, body_len);
        }
    }
}

/// The messages of one stream that wait: at most one for each direction.
pub(crate) struct Pauses {
    all: Rc<PausedStreams>,
    waiting: Vec<Pause>,
}

/// A message that waits for a deadline.
struct Pause {
    deadline: Deadline,
    /// True if the message is not continued at the deadline: the filter has paused it for another reason.
    is_prolonged: bool,
}

impl Pauses {
    /// Creates the pauses of a stream, of which there are none yet.
    pub(crate) fn new(all: &Rc<PausedStreams>) -> Self {
        Self { all: Rc::clone(all), waiting: Vec::new() }
    }

    /// Returns true if the message of this direction waits. Then its pause ends at its deadline, or is prolonged.
    pub(crate) fn prolong(&mut self, direction: Direction, is_prolonged: bool) -> bool {
        let pause = self.waiting.iter_mut().find(|pause| pause.deadline.direction == direction);
        pause.map(|pause| pause.is_prolonged = is_prolonged).is_some()
    }

    /// Pauses a message for a time. If it waits already, the later of the two deadlines applies.
    pub(crate) fn begin(&mut self, stream: Weak<dyn PausedStream>, mut deadline: Deadline, time: Duration) {
        let now = clock::monotonic_nanoseconds();
        deadline.at = now.saturating_add(clock::nanoseconds(time));
        let mut timer = self.all.timer.borrow_mut();
        if let Some(index) = self.waiting.iter().position(|pause| pause.deadline.direction == deadline.direction) {
            let before = self.waiting.swap_remove(index).deadline;
            timer.remove(before);
            deadline.at = deadline.at.max(before.at);
        }
        self.waiting.push(Pause { deadline, is_prolonged: false });
        set_tick_period(timer.insert(deadline, stream, now));
    }

    /// Ends a pause at its deadline. Returns true if its message is to be continued.
    pub(crate) fn end(&mut self, deadline: Deadline) -> bool {
        let index = self.waiting.iter().position(|pause| pause.deadline == deadline);
        index.is_some_and(|index| !self.waiting.swap_remove(index).is_prolonged)
    }

    /// Ends all pauses before their deadlines.
    pub(crate) fn cancel(&mut self) {
        for pause in self.waiting.drain(..) {
            self.all.timer.borrow_mut().remove(pause.deadline);
        }
    }
}

impl Drop for Pauses {
    /// Removes the deadlines of a stream that has ended.
    fn drop(&mut self) {
        self.cancel();
    }
}

/// Sets the tick period that the timer returned.
fn set_tick_period(period: Option<TickPeriod>) {
    if let Some(period) = period
        && let Err(status) = hostcalls::set_tick_period(Duration::from_millis(period.into()))
    {
        log::error!("the tick period was not set: {status:?}");
    }
}
