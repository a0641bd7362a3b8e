//! One stream of a filter: its value of the filter, its calls in flight, and its pauses.
//!
//! The stream context (`crate::dispatch`) owns it and passes the callbacks of its messages. [`PausedStreams`] refers to it
//! while it waits.
//!
//! ```text
//!             PauseFor                   the time has passed
//!  ─ running ──────────► waiting ────────────────────────────► on_pause_end ─► continue, reply, pause
//!                         │   ▲ Pause, Continue of other callbacks: set or clear `is_prolonged`
//!                         └───┘
//! ```

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use proxy_wasm::hostcalls;
use proxy_wasm::types::Action as WasmAction;

use crate::callout::{self, CallResponse, Callback};
use crate::filter::{Action, HttpFilter};
use crate::pauses::{PausedStream, PausedStreams, Pauses};
use crate::reply::Reply;
use crate::timer::{Deadline, Direction};

/// A stream, shared by its context and, while it waits, by [`PausedStreams`].
pub(crate) type SharedStream<F> = RefCell<Stream<F>>;

/// One stream of a filter.
pub(crate) struct Stream<F: HttpFilter> {
    /// The id of the stream context.
    id: u32,
    /// `None` when the host starts a stream before the configuration is accepted.
    filter: Option<F>,
    calls: Vec<InFlightCall<F>>,
    pauses: Pauses,
    this: Weak<SharedStream<F>>,
}

/// A call that awaits its response.
struct InFlightCall<F> {
    token: u32,
    sent_in: Direction,
    callback: Callback<F>,
}

impl<F: HttpFilter> Stream<F> {
    /// Creates a stream with the id of its context.
    pub(crate) fn new(id: u32, filter: Option<F>, paused: &Rc<PausedStreams>) -> Rc<SharedStream<F>> {
        Rc::new_cyclic(|this| {
            let (pauses, this) = (Pauses::new(paused), Weak::clone(this));
            RefCell::new(Self { id, filter, calls: Vec::new(), pauses, this })
        })
    }

    /// Returns the filter.
    pub(crate) fn filter(&mut self) -> Option<&mut F> {
        self.filter.as_mut()
    }

    /// Calls the filter about a message, and returns the host's action on it.
    pub(crate) fn run(&mut self, direction: Direction, callback: impl FnOnce(&mut F) -> Action) -> WasmAction {
        let action = match &mut self.filter {
            Some(filter) => callback(filter),
            None => Reply::new(503).details("filter_not_configured").into(),
        };
        self.apply(direction, action)
    }

    /// Returns the host's action for the result of a callback.
    fn apply(&mut self, direction: Direction, action: Action) -> WasmAction {
        self.store_sent_calls(direction);
        match action {
            Action::Continue if !self.pauses.prolong(direction, false) => return WasmAction::Continue,
            Action::Continue => {}
            Action::Pause => {
                self.pauses.prolong(direction, true);
            }
            Action::PauseFor(time) => {
                let deadline = Deadline { at: 0, stream: self.id, direction };
                self.pauses.begin(Weak::<SharedStream<F>>::clone(&self.this), deadline, time);
            }
            Action::Reply(reply) => {
                self.pauses.cancel();
                reply.send();
            }
        }
        WasmAction::Pause
    }

    /// Calls the callback of a call with its response.
    pub(crate) fn on_call_response(&mut self, token: u32, body_len: usize) {
        let Some(index) = self.calls.iter().position(|call| call.token == token) else { return };
        let call = self.calls.swap_remove(index);
        let callback = |filter: &mut F| (call.callback)(filter, &mut CallResponse::new(body_len));
        if self.run(call.sent_in, callback) == WasmAction::Continue {
            resume(call.sent_in);
        }
    }

    fn store_sent_calls(&mut self, sent_in: Direction) {
        for pending in callout::take_pending() {
            let token = pending.token;
            match pending.callback.downcast::<Callback<F>>() {
                Ok(callback) => self.calls.push(InFlightCall { token, sent_in, callback: *callback }),
                Err(_) => log::error!("the callback of a call expects another filter type; its response is dropped"),
            }
        }
    }
}

impl<F: HttpFilter> PausedStream for SharedStream<F> {
    fn end_pause(&self, deadline: Deadline) -> Vec<u32> {
        let mut stream = self.borrow_mut();
        if !stream.pauses.end(deadline) || hostcalls::set_effective_context(stream.id).is_err() {
            return Vec::new();
        }
        let before = stream.calls.len();
        if stream.run(deadline.direction, F::on_pause_end) == WasmAction::Continue {
            resume(deadline.direction);
        }
        stream.calls.iter().skip(before).map(|call| call.token).collect()
    }

    fn on_call_response(&self, token: u32, body_len: usize) {
        let mut stream = self.borrow_mut();
        if hostcalls::set_effective_context(stream.id).is_ok() {
            stream.on_call_response(token, body_len);
        }
    }
}

fn resume(direction: Direction) {
    let result = match direction {
        Direction::Request => hostcalls::resume_http_request(),
        Direction::Response => hostcalls::resume_http_response(),
    };
    if let Err(status) = result {
        log::error!("the {direction:?} was not resumed: {status:?}");
    }
}
