//! A stream as its filters know it: the exchange and, for each filter of the chain, its VM's place on this worker and
//! its context there. Shared by the handler, the body adapters and the worker's tables; borrowed in synchronous
//! sections only (`docs/decisions/001`).

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use weir_host_abi::abi::stream::PeerKind;
use weir_host_abi::{ContextId, Exports};

use crate::filter::call::{Caller, end_of_request};
use crate::filter::chain::Chain;
use crate::filter::driver::ChainDriver;
use crate::filter::event::{Event, Side};
use crate::filter::exchange::Exchange;
use crate::filter::facts::Facts;
use crate::filter::network;
use crate::filter::slot::Slot;
use crate::head::RequestHead;

/// A stream, shared within its worker.
pub(crate) type StreamCell = RefCell<FilterStream>;

/// One filter of a stream's chain.
pub(super) struct FilterPlace {
    /// The plugin's place on this worker.
    pub(super) slot: Rc<Slot>,
    /// Its context, once it has one, and the generation of the VM that holds it.
    pub(super) context: Option<(u64, ContextId)>,
}

impl FilterPlace {
    fn new(slot: Rc<Slot>) -> Self {
        slot.places.set(slot.places.get() + 1);
        Self { slot, context: None }
    }
}

impl Drop for FilterPlace {
    fn drop(&mut self) {
        self.slot.places.set(self.slot.places.get().saturating_sub(1));
    }
}

/// What any filter of a chain exports.
fn of_any(chain: &[Rc<Slot>]) -> Exports {
    chain.iter().fold(Exports::default(), |exports, slot| exports.or(slot.exports()))
}

/// A stream and its filters.
pub(crate) struct FilterStream {
    /// What filters see and change.
    pub(crate) exchange: Exchange,
    pub(super) places: Vec<FilterPlace>,
    /// What any of them exports.
    exports: Exports,
    /// Itself, for the tables of contexts.
    pub(super) cell: Weak<StreamCell>,
}

impl FilterStream {
    /// A stream before its first event.
    pub(crate) fn new(request: RequestHead, facts: Facts, chain: &[Rc<Slot>]) -> Rc<StreamCell> {
        let room = |filter: usize| chain[filter].body_room;
        let exports = of_any(chain);
        let sees_responses = exports.response_headers() || exports.response_body() || exports.response_trailers();
        let way = if sees_responses { Chain::new(chain.len(), room) } else { Chain::of_requests(chain.len(), room) };
        Self::of(Exchange::new(request, way, facts), chain, exports)
    }

    /// A TCP connection before its first event.
    pub(crate) fn of_connection(facts: Facts, chain: &[Rc<Slot>]) -> Rc<StreamCell> {
        let way = Chain::new(chain.len(), |filter| chain[filter].body_room);
        Self::of(Exchange::of_connection(way, facts), chain, of_any(chain))
    }

    fn of(exchange: Exchange, chain: &[Rc<Slot>], exports: Exports) -> Rc<StreamCell> {
        let place = |slot: &Rc<Slot>| FilterPlace::new(slot.for_stream());
        let places = chain.iter().map(place).collect();
        // `Rc::new_cyclic` would copy the exchange twice more.
        let stream = Rc::new(RefCell::new(Self { exchange, places, exports, cell: Weak::new() }));
        stream.borrow_mut().cell = Rc::downgrade(&stream);
        stream
    }

    /// Takes an event in; what may go on is at the outlets.
    pub(crate) fn on_event(&mut self, event: Event) {
        if self.places.is_empty() && matches!(event, Event::Asked) {
            return;
        }
        let mut caller = Caller { places: &mut self.places, cell: &self.cell, is_tcp: self.exchange.is_tcp };
        ChainDriver { exchange: &mut self.exchange, guests: &mut caller }.on_event(event);
    }

    /// True when a filter wants to see the body of a side: else it goes by untouched.
    pub(crate) fn wants_body(&self, side: Side) -> bool {
        match side {
            Side::Request => self.exports.request_body() || self.exports.request_trailers(),
            Side::Response => self.exports.response_body() || self.exports.response_trailers(),
        }
    }

    /// True when a filter may look at the head of a side after it has gone on: then a copy of it has to stay.
    pub(crate) fn keeps_head(&self, side: Side) -> bool {
        let exports = self.exports;
        let outside_messages = exports.log() || exports.done() || exports.tick() || exports.queue_ready();
        let after_calls = exports.http_call_response() || exports.grpc_receive() || exports.grpc_close();
        let in_response = side == Side::Request && (exports.response_headers() || self.wants_body(Side::Response));
        outside_messages || after_calls || in_response || self.wants_body(side)
    }

    /// The stream has ended: every filter logs and forgets it.
    pub(crate) fn finish(&mut self) {
        let mut caller = Caller { places: &mut self.places, cell: &self.cell, is_tcp: false };
        caller.finish(&mut self.exchange, end_of_request);
    }

    /// The TCP connection has ended, by whom: every filter is told, logs and forgets it.
    pub(crate) fn finish_connection(&mut self, closed_by: PeerKind) {
        let mut caller = Caller { places: &mut self.places, cell: &self.cell, is_tcp: true };
        caller.finish(&mut self.exchange, |vm, host, context| network::end(vm, host, context, closed_by));
    }
}
