//! State machine of a filter chain. [`ChainDriver`] takes an event, calls filters in order, and writes what may leave
//! the chain to the outputs.
//!
//! It does no IO, reads no clock and knows no guest types. [`ChainFilters`] stands for the guests: `invoke/`
//! implements it, and so does the property test. `docs/decisions/001-who-owns-a-stream.md` has the reasons and a
//! drawing.

use bytes::Bytes;
use weir_model::FailurePolicy;

use super::event::{Direction, EndOfStream, Event, FilterFailure, LocalReply, StreamCommand};
use super::exchange::Exchange;
use super::filter_state::{FilterState, FilterStatus, NextCallback, Pause, Progress};
use super::output::OutputFrame;
use crate::error::ProxyError;

/// A callback into one filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Callback {
    /// The headers of a direction, and whether the message ends with them.
    Headers(Direction, EndOfStream),
    /// Body data: the number of readable bytes, and whether the message ends with them.
    Body(Direction, usize, EndOfStream),
    /// The trailers of a direction.
    Trailers(Direction),
}

/// The filters of one chain, as the driver calls them.
pub(crate) trait ChainFilters {
    /// Returns whether the filter wants the callback.
    ///
    /// It does if its module exports the callback and, for the response direction, if it has seen the request. A
    /// filter that does not want a callback counts as if it had returned Continue.
    fn wants_callback(&self, filter: usize, callback: Callback) -> bool;

    /// Calls the filter. Its hostcalls act on `exchange`.
    ///
    /// # Errors
    /// The filter failed during the call, or its VM had failed before.
    fn call(
        &mut self,
        filter: usize,
        callback: Callback,
        exchange: &mut Exchange,
    ) -> Result<FilterStatus, FilterFailure>;
}

/// The exchange and the filters of a stream, for the duration of one event.
pub(crate) struct ChainDriver<'a, G> {
    /// The request and its response.
    pub(crate) exchange: &'a mut Exchange,
    /// The filters of the chain.
    pub(crate) filters: &'a mut G,
}

impl<G: ChainFilters> ChainDriver<'_, G> {
    /// Applies an event, then runs callbacks until none can run.
    pub(crate) fn on_event(&mut self, event: Event) {
        match event {
            // A local reply replaces the upstream's response, so the rest of that is dropped.
            Event::ResponseHeaders(..)
            | Event::Data(Direction::Response, ..)
            | Event::EndOfStream(Direction::Response)
            | Event::Trailers(Direction::Response, _)
                if self.exchange.chain.has_reply => {}
            Event::RequestHeaders(end) => self.deliver_headers(Direction::Request, 0, end),
            Event::ResponseHeaders(head, end) => {
                self.exchange.response = Some(head);
                self.deliver_headers(Direction::Response, 0, end);
            }
            Event::UpstreamConnected => self.deliver_headers(Direction::Response, 0, EndOfStream::No),
            Event::Data(direction, bytes, end) => {
                self.deliver_data(direction, 0, bytes);
                if end == EndOfStream::Yes {
                    self.deliver_end(direction, 0);
                }
            }
            Event::EndOfStream(direction) => self.deliver_end(direction, 0),
            Event::Trailers(direction, trailers) => {
                *self.exchange.trailers(direction) = Some(Box::new(trailers));
                self.deliver_trailers(direction, 0);
            }
            Event::LocalReply(_) if self.exchange.chain.has_reply => {}
            Event::LocalReply(reply) => self.send_local_reply(reply),
            Event::FilterFailed(filter, failure) => {
                if self.exchange.chain.is_paused_at(filter) {
                    self.on_filter_failure(filter, &failure); // The next call detects the failure otherwise.
                }
            }
            Event::Resume => {}
            Event::UpstreamClosed => self.exchange.chain.finish(),
            Event::Reset => self.exchange.chain.reset(),
        }
        self.run_until_blocked();
    }

    /// Applies commands and runs callbacks, one step at a time, until every filter is blocked.
    fn run_until_blocked(&mut self) {
        loop {
            if let Some((filter, command)) = self.exchange.chain.commands.pop_front() {
                self.apply_command(filter, command);
            } else if !self.step(Direction::Request) && !self.step(Direction::Response) {
                return;
            }
        }
    }

    /// Runs the callback of the first filter that has one to run. Returns false if none has.
    fn step(&mut self, direction: Direction) -> bool {
        let Some((position, callback)) = self.exchange.chain.direction_mut(direction).next_callback() else {
            return false;
        };
        match callback {
            NextCallback::Headers => self.call_with_headers(direction, position),
            NextCallback::Body => self.call_with_body(direction, position),
            NextCallback::Trailers => self.call_with_trailers(direction, position),
        }
        true
    }

    fn call_with_headers(&mut self, direction: Direction, position: usize) {
        let filter_state = self.filter_state(direction, position);
        // An end that has come separately has a callback of its own.
        filter_state.delivered = match filter_state.received {
            Progress::EndWithHeaders => Progress::EndWithHeaders,
            _ => Progress::Headers,
        };
        let end = EndOfStream::from(filter_state.delivered == Progress::EndWithHeaders);
        self.call_filter(direction, position, Callback::Headers(direction, end));
    }

    fn call_with_body(&mut self, direction: Direction, position: usize) {
        let filter_state = self.filter_state(direction, position);
        filter_state.has_new_data = false;
        let end = EndOfStream::from(filter_state.received == Progress::EndWithBody);
        if end == EndOfStream::Yes {
            filter_state.delivered = Progress::EndWithBody;
        }
        let size = filter_state.visible.len();
        filter_state.in_body_callback = true;
        self.call_filter(direction, position, Callback::Body(direction, size, end));
    }

    fn call_with_trailers(&mut self, direction: Direction, position: usize) {
        self.filter_state(direction, position).delivered = Progress::EndWithTrailers;
        self.call_filter(direction, position, Callback::Trailers(direction));
    }

    /// Calls the filter and applies the status that it returns.
    fn call_filter(&mut self, direction: Direction, position: usize, callback: Callback) {
        let filter = self.filter_at(direction, position);
        if self.exchange.chain.bypassed.contains(filter) || !self.filters.wants_callback(filter, callback) {
            return self.forward(direction, position);
        }
        let result = self.filters.call(filter, callback, self.exchange);
        if let Some(filter_state) = self.exchange.chain.direction_mut(direction).filter_mut(position) {
            filter_state.in_body_callback = false;
        }
        match result {
            Err(failure) => self.on_filter_failure(filter, &failure),
            // A local reply or a close overrides the returned status. It is applied next.
            Ok(_) if self.has_terminal_command(filter) => {
                self.filter_state(direction, position).pause = Some(Pause::All);
            }
            Ok(FilterStatus::Continue) => self.forward(direction, position),
            Ok(FilterStatus::Pause(pause)) => self.pause(direction, position, pause),
            Ok(FilterStatus::DropBody) => self.drop_body(direction, position),
        }
    }

    fn has_terminal_command(&self, filter: usize) -> bool {
        let is_terminal =
            |(of, command): &(usize, StreamCommand)| *of == filter && !matches!(command, StreamCommand::Continue(_));
        self.exchange.chain.commands.iter().any(is_terminal)
    }

    fn pause(&mut self, direction: Direction, position: usize, pause: Pause) {
        let filter_state = self.filter_state(direction, position);
        filter_state.pause = Some(pause);
        match pause {
            Pause::WatermarkBody => {
                let delivered = filter_state.visible.split();
                filter_state.withheld.unsplit(delivered);
            }
            Pause::All | Pause::Headers | Pause::BufferBody | Pause::TcpData | Pause::Trailers => {}
        }
    }

    fn drop_body(&mut self, direction: Direction, position: usize) {
        let filter_state = self.filter_state(direction, position);
        filter_state.visible.clear();
        filter_state.pause = Some(Pause::BufferBody);
    }

    /// Forwards what the filter at `position` has seen to the next filter: from `forwarded` to `delivered`.
    fn forward(&mut self, direction: Direction, position: usize) {
        // A filter may add trailers in its last body callback.
        let has_trailers = self.exchange.trailers(direction).is_some();
        let filter_state = self.filter_state(direction, position);
        filter_state.pause = None;
        let data = filter_state.drain_delivered();
        let to = filter_state.delivered;
        let from = std::mem::replace(&mut filter_state.forwarded, to);
        let next = position + 1;
        if from == Progress::Nothing {
            self.deliver_headers(direction, next, EndOfStream::from(to == Progress::EndWithHeaders));
        }
        self.deliver_data(direction, next, data);
        if from < to {
            match to {
                Progress::EndWithTrailers => self.deliver_trailers(direction, next),
                Progress::EndWithBody if has_trailers => self.deliver_trailers(direction, next),
                Progress::EndWithBody => self.deliver_end(direction, next),
                Progress::Nothing | Progress::Headers | Progress::EndWithHeaders => {}
            }
        }
    }

    fn deliver_headers(&mut self, direction: Direction, position: usize, end: EndOfStream) {
        let state = self.exchange.chain.direction_mut(direction);
        if state.closed {
            return;
        }
        match state.filter_mut(position) {
            Some(filter_state) => {
                filter_state.received = match end {
                    EndOfStream::Yes => Progress::EndWithHeaders,
                    EndOfStream::No => Progress::Headers,
                };
            }
            None => state.output.push_headers(end),
        }
    }

    /// Appends bytes to the first filter that stops them, or to the output.
    fn deliver_data(&mut self, direction: Direction, mut position: usize, bytes: Bytes) {
        if bytes.is_empty() || self.exchange.chain.direction_mut(direction).closed {
            return;
        }
        while position < self.exchange.chain.direction_mut(direction).filters.len() {
            let filter = self.filter_at(direction, position);
            let callback = Callback::Body(direction, bytes.len(), EndOfStream::No);
            let wants_data =
                !self.exchange.chain.bypassed.contains(filter) && self.filters.wants_callback(filter, callback);
            let filter_state = self.filter_state(direction, position);
            if wants_data || !filter_state.is_passthrough() {
                filter_state.append(bytes);
                if filter_state.pause == Some(Pause::BufferBody)
                    && filter_state.buffered_bytes() > filter_state.buffer_limit_bytes
                {
                    self.reject_oversized_body();
                }
                return;
            }
            position += 1;
        }
        self.exchange.chain.direction_mut(direction).output.push_data(bytes);
    }

    fn deliver_end(&mut self, direction: Direction, position: usize) {
        let state = self.exchange.chain.direction_mut(direction);
        if state.closed {
            return;
        }
        match state.filter_mut(position) {
            Some(filter_state) => filter_state.receive_end(Progress::EndWithBody),
            None => state.output.end(), // Unless the headers had it.
        }
    }

    fn deliver_trailers(&mut self, direction: Direction, position: usize) {
        let state = self.exchange.chain.direction_mut(direction);
        if state.closed {
            return;
        }
        match state.filter_mut(position) {
            Some(filter_state) => filter_state.receive_end(Progress::EndWithTrailers),
            None => state.output.push_end(OutputFrame::Trailers),
        }
    }

    fn apply_command(&mut self, filter: usize, command: StreamCommand) {
        match command {
            StreamCommand::Continue(direction) => {
                let position = self.exchange.chain.position(direction, filter);
                let state = self.exchange.chain.direction_mut(direction);
                let is_paused = state.filters.get(position).is_some_and(|filter_state| filter_state.pause.is_some());
                if is_paused && !state.closed {
                    self.forward(direction, position);
                }
            }
            // A reply that has left the filters stays. A second one of its filter resumes the filter, since its callback
            // counted as paused.
            StreamCommand::LocalReply(_) if !self.exchange.chain.accepts_reply(filter) => self.resume_filter(filter),
            StreamCommand::LocalReply(reply) => {
                self.exchange.chain.replied.insert(filter);
                self.send_local_reply(reply);
            }
            StreamCommand::Close(error) => {
                self.exchange.fail(error);
                match self.exchange.is_tcp {
                    true => self.exchange.chain.finish(),
                    false => self.exchange.chain.reset(),
                }
            }
            StreamCommand::Fail(error) => {
                self.exchange.fail(error.clone());
                self.send_local_reply(LocalReply::from_error(&error));
            }
        }
    }

    /// Sends a local reply instead of the upstream's response. Resets the stream if response headers have been sent.
    /// Closes a TCP connection, which has no replies.
    fn send_local_reply(&mut self, reply: LocalReply) {
        let chain = &mut self.exchange.chain;
        if self.exchange.is_tcp {
            return chain.finish();
        }
        if chain.response.closed {
            return;
        }
        if chain.response.output.headers_taken() {
            return chain.reset();
        }
        chain.response.output.clear_unsent(); // Drops a reply of which nothing has been sent.
        chain.has_reply = true;
        chain.request.closed = true;
        chain.request.output.reset();
        let reply = if self.exchange.is_grpc { reply.into_grpc() } else { reply };
        let LocalReply { head, body, grpc: _ } = reply;
        let end = EndOfStream::from(body.is_empty());
        let replaced = self.exchange.response.replace(head);
        self.exchange.response_trailers = None;
        if replaced.is_some() {
            // The reply replaces a response, so filters do not run again.
            self.exchange.chain.response.filters.clear();
        }
        self.deliver_headers(Direction::Response, 0, end);
        if end == EndOfStream::No {
            self.deliver_data(Direction::Response, 0, body);
            self.deliver_end(Direction::Response, 0);
        }
    }

    /// Rejects a body that exceeds a filter's buffer limit: with 413 before the response, with 500 in place of the
    /// response, or by a reset after its headers.
    fn reject_oversized_body(&mut self) {
        let error = ProxyError::BodyTooLarge;
        self.exchange.fail(error.clone());
        let mut reply = LocalReply::from_error(&error);
        if self.exchange.response.is_some() {
            reply.head.status = http::StatusCode::INTERNAL_SERVER_ERROR;
        }
        self.send_local_reply(reply);
    }

    /// Applies the failure policy of a filter that has failed.
    fn on_filter_failure(&mut self, filter: usize, failure: &FilterFailure) {
        if self.exchange.chain.bypassed.contains(filter) {
            return;
        }
        self.exchange.chain.bypassed.insert(filter);
        match failure.policy {
            FailurePolicy::Open => self.resume_filter(filter),
            FailurePolicy::Closed => {
                self.exchange.fail(failure.error.clone());
                self.send_local_reply(LocalReply::from_error(&failure.error));
            }
        }
    }

    /// Forwards all that a filter has seen and still holds back. The rest follows when the filter is called with it.
    fn resume_filter(&mut self, filter: usize) {
        for direction in [Direction::Request, Direction::Response] {
            let position = self.exchange.chain.position(direction, filter);
            let state = self.exchange.chain.direction(direction);
            let has_seen_headers =
                state.filters.get(position).is_some_and(|filter_state| filter_state.delivered > Progress::Nothing);
            if !state.closed && has_seen_headers {
                self.forward(direction, position);
            }
        }
    }

    fn filter_at(&self, direction: Direction, position: usize) -> usize {
        self.exchange.chain.position(direction, position) // The mapping is its own inverse.
    }

    fn filter_state(&mut self, direction: Direction, position: usize) -> &mut FilterState {
        let state = self.exchange.chain.direction_mut(direction);
        state.mark_ready(position);
        &mut state.filters[position]
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
