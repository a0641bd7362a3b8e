//! `ChainDriver`: the only way into guests. An event goes in, filters are called in order, and what may go on lands in
//! an outlet. No IO, no clock, no guest types: `call.rs` stands behind [`Guests`], and a property test too.
//! `docs/decisions/001-who-owns-a-stream.md` tells why; the picture is there.

use bytes::Bytes;
use weir_model::FailurePolicy;

use crate::error::ProxyError;
use crate::filter::event::{Ask, Event, Failed, LocalReply, MessageEnd, Side};
use crate::filter::exchange::Exchange;
use crate::filter::outlet::Piece;
use crate::filter::station::{Action, Hold, Station, Work};

/// A callback into one filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Callback {
    /// The head.
    Head(Side, MessageEnd),
    /// `size` bytes can be seen; whether the message ends with them.
    Body(Side, usize, MessageEnd),
    /// The trailers.
    Trailers(Side),
}

/// The guests of one chain.
pub(crate) trait Guests {
    /// True when the filter wants this callback: its module exports it, its VM lives, and for the response side it has
    /// seen the request. A filter that does not want a callback counts as if it had answered Continue.
    fn wants(&self, filter: usize, callback: Callback) -> bool;

    /// Calls the filter; its host calls act on the exchange.
    ///
    /// # Errors
    /// The filter failed in the call, or its VM was gone before.
    fn call(&mut self, filter: usize, callback: Callback, exchange: &mut Exchange) -> Result<Action, Failed>;
}

/// A stream's exchange and its guests, for the time of one event.
pub(crate) struct ChainDriver<'a, G> {
    /// What moves.
    pub(crate) exchange: &'a mut Exchange,
    /// Who is called.
    pub(crate) guests: &'a mut G,
}

impl<G: Guests> ChainDriver<'_, G> {
    /// Takes an event in and moves everything as far as it goes.
    pub(crate) fn on_event(&mut self, event: Event) {
        match event {
            // Once answered, what the upstream still says is nobody's.
            Event::Response(..)
            | Event::Data(Side::Response, _)
            | Event::LastData(Side::Response, _)
            | Event::End(Side::Response)
                if self.exchange.chain.answered => {}
            Event::Trailers(Side::Response, _) if self.exchange.chain.answered => {}
            Event::Request(end) => self.pass_head(Side::Request, 0, end),
            Event::Response(head, end) => {
                self.exchange.response = Some(head);
                self.pass_head(Side::Response, 0, end);
            }
            Event::Connected => self.pass_head(Side::Response, 0, MessageEnd::Later),
            Event::Data(side, bytes) => self.pass_data(side, 0, bytes),
            Event::LastData(side, bytes) => {
                self.pass_data(side, 0, bytes);
                self.pass_end(side, 0);
            }
            Event::End(side) => self.pass_end(side, 0),
            Event::Trailers(side, trailers) => {
                *self.exchange.trailers(side) = Some(Box::new(trailers));
                self.pass_trailers(side, 0);
            }
            Event::Reply(_) if self.exchange.chain.answered => {}
            Event::Reply(reply) => self.reply(reply),
            Event::Died(filter, failed) => {
                if self.exchange.chain.is_parked_at(filter) {
                    self.fail(filter, &failed); // Others learn of it by their next call.
                }
            }
            Event::Asked => {}
            Event::Shut => self.exchange.chain.shut(),
            Event::Broken => self.exchange.chain.close(),
        }
        self.pump();
    }

    /// Applies asks and lets stations work, one step at a time, until nothing can move.
    fn pump(&mut self) {
        loop {
            if let Some((filter, ask)) = self.exchange.chain.asks.pop_front() {
                self.apply(filter, ask);
            } else if !self.step(Side::Request) && !self.step(Side::Response) {
                return;
            }
        }
    }

    /// Lets the first station that can do something do it. False when none can.
    fn step(&mut self, side: Side) -> bool {
        let Some((position, work)) = self.exchange.chain.flow(side).work() else { return false };
        match work {
            Work::Head => self.show_head(side, position),
            Work::Body => self.show_body(side, position),
            Work::Trailers => self.show_trailers(side, position),
        }
        true
    }

    fn show_head(&mut self, side: Side, position: usize) {
        let station = self.station(side, position);
        station.seen.head = true;
        let end = if station.head_ends { MessageEnd::Here } else { MessageEnd::Later };
        station.seen.end = station.head_ends;
        self.settle(side, position, Callback::Head(side, end));
    }

    fn show_body(&mut self, side: Side, position: usize) {
        let station = self.station(side, position);
        station.fresh = false;
        station.seen.end = station.arrived.end;
        let end = if station.arrived.end { MessageEnd::Here } else { MessageEnd::Later };
        let size = station.body.len();
        station.showing = true;
        self.settle(side, position, Callback::Body(side, size, end));
    }

    fn show_trailers(&mut self, side: Side, position: usize) {
        self.station(side, position).seen.trailers = true;
        self.settle(side, position, Callback::Trailers(side));
    }

    /// Calls the filter and does what it answers.
    fn settle(&mut self, side: Side, position: usize, callback: Callback) {
        let filter = self.filter_at(side, position);
        if self.exchange.chain.skipped.has(filter) || !self.guests.wants(filter, callback) {
            return self.release(side, position);
        }
        let outcome = self.guests.call(filter, callback, self.exchange);
        if let Some(station) = self.exchange.chain.flow(side).station(position) {
            station.showing = false;
        }
        match outcome {
            Err(failed) => self.fail(filter, &failed),
            // A reply or a close overrides what the callback returned; it is applied next.
            Ok(_) if self.ends_by_ask(filter) => self.station(side, position).hold = Some(Hold::All),
            Ok(Action::Continue) => self.release(side, position),
            Ok(Action::Pause(hold)) => self.hold(side, position, hold),
        }
    }

    fn ends_by_ask(&self, filter: usize) -> bool {
        let ends = |(of, ask): &(usize, Ask)| *of == filter && !matches!(ask, Ask::Continue(_));
        self.exchange.chain.asks.iter().any(ends)
    }

    fn hold(&mut self, side: Side, position: usize, hold: Hold) {
        let station = self.station(side, position);
        station.hold = Some(hold);
        match hold {
            Hold::Watermark => {
                let shown = station.body.split();
                station.kept.unsplit(shown);
            }
            Hold::Drop => {
                station.body.clear();
                station.hold = Some(Hold::Buffer);
            }
            Hold::All | Hold::Head | Hold::Buffer | Hold::Bytes | Hold::Trailers => {}
        }
    }

    /// Lets go on what the filter at `position` has seen.
    fn release(&mut self, side: Side, position: usize) {
        let added = self.exchange.trailers(side).is_some();
        let station = self.station(side, position);
        station.hold = None;
        let head = !std::mem::replace(&mut station.sent.head, true);
        let ends = station.head_ends;
        let data = station.give_out();
        let end = station.seen.end && !ends && !std::mem::replace(&mut station.sent.end, station.seen.end);
        let trailers = station.seen.trailers && !std::mem::replace(&mut station.sent.trailers, station.seen.trailers);
        let next = position + 1;
        if head {
            self.pass_head(side, next, if ends { MessageEnd::Here } else { MessageEnd::Later });
        }
        self.pass_data(side, next, data);
        if trailers || (end && added) {
            self.pass_trailers(side, next); // Trailers that a filter added in its last body callback go on too.
        } else if end {
            self.pass_end(side, next);
        }
    }

    fn pass_head(&mut self, side: Side, position: usize, end: MessageEnd) {
        let flow = self.exchange.chain.flow(side);
        if flow.closed {
            return;
        }
        match flow.station(position) {
            Some(station) => {
                station.arrived.head = true;
                station.head_ends = end == MessageEnd::Here;
                station.arrived.end = station.head_ends;
            }
            None => flow.outlet.put_head(end == MessageEnd::Here),
        }
    }

    /// Carries bytes on to the first station that stops them, or out.
    fn pass_data(&mut self, side: Side, mut position: usize, bytes: Bytes) {
        if bytes.is_empty() || self.exchange.chain.flow(side).closed {
            return;
        }
        while position < self.exchange.chain.flow(side).stations.len() {
            let filter = self.filter_at(side, position);
            let asked = Callback::Body(side, bytes.len(), MessageEnd::Later);
            let wanted = !self.exchange.chain.skipped.has(filter) && self.guests.wants(filter, asked);
            let station = self.station(side, position);
            if wanted || !station.is_open() {
                station.take_in(bytes);
                if station.hold == Some(Hold::Buffer) && station.held() > station.room {
                    self.overflow();
                }
                return;
            }
            position += 1;
        }
        self.exchange.chain.flow(side).outlet.put_data(bytes);
    }

    fn pass_end(&mut self, side: Side, position: usize) {
        let flow = self.exchange.chain.flow(side);
        if flow.closed {
            return;
        }
        match flow.station(position) {
            Some(station) => station.arrived.end = true,
            None => flow.outlet.put_last(Piece::End),
        }
    }

    fn pass_trailers(&mut self, side: Side, position: usize) {
        let flow = self.exchange.chain.flow(side);
        if flow.closed {
            return;
        }
        match flow.station(position) {
            Some(station) => station.arrived.trailers = true,
            None => flow.outlet.put_last(Piece::Trailers),
        }
    }

    fn apply(&mut self, filter: usize, ask: Ask) {
        match ask {
            Ask::Continue(side) => {
                let position = self.exchange.chain.position(side, filter);
                let flow = self.exchange.chain.flow(side);
                let holds = flow.stations.get(position).is_some_and(|station| station.hold.is_some());
                if holds && !flow.closed {
                    self.release(side, position);
                }
            }
            // The first reply of a filter wins; after the second it goes on, since its callback counted as paused.
            Ask::Reply(_) if self.exchange.chain.replied.has(filter) => self.let_go(filter),
            Ask::Reply(reply) => {
                self.exchange.chain.replied.add(filter);
                self.reply(reply);
            }
            Ask::Close(error) => {
                self.exchange.fail(error);
                match self.exchange.is_tcp {
                    true => self.exchange.chain.shut(),
                    false => self.exchange.chain.close(),
                }
            }
            Ask::Refuse(error) => {
                self.exchange.fail(error.clone());
                self.reply(LocalReply::of_error(&error));
            }
        }
    }

    /// Answers instead of the upstream, or breaks off when the answer has begun. Who sends bytes can be told nothing.
    fn reply(&mut self, reply: LocalReply) {
        let chain = &mut self.exchange.chain;
        if self.exchange.is_tcp {
            return chain.shut();
        }
        if chain.response.closed {
            return;
        }
        if chain.response.outlet.is_begun() {
            return chain.close();
        }
        chain.response.outlet.take_back(); // An answer that nobody has seen yet gives way to this one.
        chain.answered = true;
        chain.request.closed = true;
        chain.request.outlet.reset();
        let LocalReply { head, body } = reply;
        let end = if body.is_empty() { MessageEnd::Here } else { MessageEnd::Later };
        let replaced = self.exchange.response.replace(head);
        self.exchange.response_trailers = None;
        if replaced.is_some() {
            // A response exists and is replaced; filters do not run again.
            self.exchange.chain.response.stations.clear();
        }
        self.pass_head(Side::Response, 0, end);
        if end == MessageEnd::Later {
            self.pass_data(Side::Response, 0, body);
            self.pass_end(Side::Response, 0);
        }
    }

    /// A body does not fit where a filter holds it back: 413 for a request, 500 for a response, or the end of it.
    fn overflow(&mut self) {
        let error = ProxyError::BodyTooLarge;
        self.exchange.fail(error.clone());
        let mut reply = LocalReply::of_error(&error);
        if self.exchange.response.is_some() {
            reply.head.status = http::StatusCode::INTERNAL_SERVER_ERROR;
        }
        self.reply(reply);
    }

    /// A filter cannot go on: its policy decides.
    fn fail(&mut self, filter: usize, failed: &Failed) {
        if self.exchange.chain.skipped.has(filter) {
            return;
        }
        self.exchange.chain.skipped.add(filter);
        match failed.policy {
            FailurePolicy::Open => self.let_go(filter),
            FailurePolicy::Closed => {
                self.exchange.fail(failed.error.clone());
                self.reply(LocalReply::of_error(&failed.error));
            }
        }
    }

    /// Lets go on whatever a filter still holds that it has seen; what it has not seen follows when it is shown.
    fn let_go(&mut self, filter: usize) {
        for side in [Side::Request, Side::Response] {
            let position = self.exchange.chain.position(side, filter);
            if self.exchange.chain.flow(side).closed {
                continue;
            }
            if self.exchange.chain.flow(side).stations.get(position).is_some_and(|station| station.seen.head) {
                self.release(side, position);
            }
        }
    }

    fn filter_at(&self, side: Side, position: usize) -> usize {
        self.exchange.chain.position(side, position) // The mapping is its own inverse.
    }

    fn station(&mut self, side: Side, position: usize) -> &mut Station {
        let flow = self.exchange.chain.flow(side);
        flow.wake(position);
        &mut flow.stations[position]
    }
}

#[cfg(test)]
mod tests;
