//! Where both directions of a stream stand: their stations, their outlets, and what guests have asked for.
//! Changed by `driver.rs` alone, but for asks, which host calls queue.

use std::collections::VecDeque;

use bytes::BytesMut;
use weir_model::limits::MAX_CHAIN_PLUGINS;

use crate::filter::event::{Ask, Side};
use crate::filter::outlet::Outlet;
use crate::filter::station::{Hold, Station, Work};
use crate::limits::MAX_OUTLET_BYTES;

/// Some filters of a chain.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FilterSet(u32);

const _: () = assert!(MAX_CHAIN_PLUGINS <= u32::BITS as usize, "each filter of a chain has a bit");

impl FilterSet {
    pub(super) fn has(self, filter: usize) -> bool {
        self.0 & (1 << filter) != 0
    }

    pub(super) fn add(&mut self, filter: usize) {
        self.0 |= 1 << filter;
    }
}

/// One direction's way through the filters.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// In the order in which the direction passes them. None where no filter looks at it, and where a response was
    /// replaced: then nothing stops it.
    pub(super) stations: Vec<Station>,
    /// No station before this one has anything to do.
    idle: usize,
    pub(super) outlet: Outlet,
    /// True when nothing moves any more: answered, broken off.
    pub(super) closed: bool,
}

impl Flow {
    /// A station to change.
    pub(super) fn station(&mut self, position: usize) -> Option<&mut Station> {
        self.wake(position);
        self.stations.get_mut(position)
    }

    /// The station may have something to do from now on.
    pub(super) fn wake(&mut self, position: usize) {
        self.idle = self.idle.min(position);
    }

    /// The first station that has something to do.
    pub(super) fn work(&mut self) -> Option<(usize, Work)> {
        if self.closed {
            return None;
        }
        debug_assert!(self.stations.iter().take(self.idle).all(|station| station.work().is_none()), "{self:?}");
        let mut rest = self.stations.iter().enumerate().skip(self.idle);
        let found = rest.find_map(|(position, station)| Some((position, station.work()?)));
        self.idle = found.map_or(self.stations.len(), |(position, _)| position);
        found
    }
}

/// Where both directions of a stream stand.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    /// How many filters there are.
    filters: usize,
    pub(super) request: Flow,
    pub(super) response: Flow,
    /// What guests asked for, in order, with the filter: of each filter at most one of each kind.
    pub(super) asks: VecDeque<(usize, Ask)>,
    /// They failed: a stream goes on without them if their policy is Open.
    pub(super) skipped: FilterSet,
    /// They have answered; a second reply is ignored.
    pub(super) replied: FilterSet,
    /// True once the proxy or a filter has answered.
    pub(super) answered: bool,
}

impl Chain {
    /// Nothing has arrived yet. `room` is how many bytes of a body each filter may hold back or make.
    pub(crate) fn new(filters: usize, room: impl Fn(usize) -> usize) -> Self {
        let response = Flow { stations: row((0..filters).rev(), &room), ..Flow::default() };
        Self { response, ..Self::of_requests(filters, room) }
    }

    /// The same where no filter looks at responses: they go by without a stop.
    pub(crate) fn of_requests(filters: usize, room: impl Fn(usize) -> usize) -> Self {
        let request = Flow { stations: row(0..filters, room), ..Flow::default() };
        Self { filters, request, ..Self::default() }
    }

    /// Where a side leaves the filters.
    pub(crate) fn outlet(&mut self, side: Side) -> &mut Outlet {
        &mut self.flow(side).outlet
    }

    /// True once the proxy or a filter has answered instead of the upstream.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered
    }

    /// True when nothing of the side moves any more.
    pub(crate) fn is_closed(&self, side: Side) -> bool {
        self.peek(side).closed
    }

    /// True while the source of a side may be read: else it waits, and so does its peer.
    pub(crate) fn accepts(&self, side: Side) -> bool {
        let flow = self.peek(side);
        // What is buffered on a filter's wish may come until it overflows; everything else waits at the limit.
        let holds = |station: &Station| match station.hold {
            Some(Hold::Buffer | Hold::Drop) => false,
            Some(Hold::All | Hold::Head | Hold::Watermark | Hold::Bytes | Hold::Trailers) | None => {
                station.held() >= station.room.max(1)
            }
        };
        !flow.closed && flow.outlet.waiting() < MAX_OUTLET_BYTES && !flow.stations.iter().any(holds)
    }

    /// True when a filter holds the side's head but wants its body all the same.
    pub(crate) fn wants_body_before_head(&self, side: Side) -> bool {
        let flow = self.peek(side);
        let holds = |station: &Station| !station.sent.head && station.seen.head && station.hold != Some(Hold::All);
        !flow.closed && flow.outlet.head().is_none() && flow.stations.iter().any(holds)
    }

    /// Queues what a guest asks for. Applied by the next event; [`Event::Asked`] is one. What the filter has asked for
    /// before and waits is not queued twice: it would change nothing, and so nothing that matters finds the queue full.
    pub(crate) fn ask(&mut self, filter: usize, ask: Ask) {
        if !self.asks.iter().any(|(of, waiting)| *of == filter && waiting.is_like(&ask)) {
            self.asks.push_back((filter, ask));
        }
    }

    /// True when a reply waits to be sent.
    pub(super) fn is_replied(&self) -> bool {
        self.asks.iter().any(|(_, ask)| matches!(ask, Ask::Reply(_)))
    }

    /// True when asks wait.
    pub(crate) fn is_asked(&self) -> bool {
        !self.asks.is_empty()
    }

    /// The bytes that a filter may read now.
    pub(super) fn body_at(&self, side: Side, filter: usize) -> Option<&BytesMut> {
        let station = self.peek(side).stations.get(self.position(side, filter))?;
        (station.arrived.head && station.hold != Some(Hold::All)).then_some(&station.body)
    }

    /// The bytes that a filter may change now, and how many it may make of them.
    pub(super) fn writable_body_at(&mut self, side: Side, filter: usize) -> Option<(&mut BytesMut, usize)> {
        let position = self.position(side, filter);
        let station = self.flow(side).station(position)?;
        station.is_writable().then_some((&mut station.body, station.room))
    }

    pub(super) fn is_parked_at(&self, filter: usize) -> bool {
        [Side::Request, Side::Response].into_iter().any(|side| {
            let flow = self.peek(side);
            let station = flow.stations.get(self.position(side, filter));
            !flow.closed && station.is_some_and(|station| station.hold.is_some())
        })
    }

    pub(super) fn peek(&self, side: Side) -> &Flow {
        match side {
            Side::Request => &self.request,
            Side::Response => &self.response,
        }
    }

    pub(super) fn flow(&mut self, side: Side) -> &mut Flow {
        match side {
            Side::Request => &mut self.request,
            Side::Response => &mut self.response,
        }
    }

    /// Request callbacks run in chain order, response callbacks in reverse.
    pub(super) fn position(&self, side: Side, filter: usize) -> usize {
        match side {
            Side::Request => filter,
            Side::Response => self.filters - 1 - filter,
        }
    }

    /// Nothing more moves through the filters; what has left them still goes out, and then the end.
    pub(super) fn shut(&mut self) {
        for flow in [&mut self.request, &mut self.response] {
            flow.closed = true;
            flow.outlet.end();
        }
    }

    pub(super) fn close(&mut self) {
        for flow in [&mut self.request, &mut self.response] {
            flow.closed = true;
            flow.outlet.reset();
        }
    }
}

/// Stations for filters, in this order.
fn row(filters: impl Iterator<Item = usize>, room: impl Fn(usize) -> usize) -> Vec<Station> {
    filters.map(|filter| Station { room: room(filter), ..Station::default() }).collect()
}
