//! State of both directions of a stream: their filters, their outputs, and commands that guests have queued. Changed
//! by `driver.rs` only, except that hostcalls queue commands.

use std::collections::VecDeque;

use bytes::BytesMut;
use weir_model::limits::MAX_CHAIN_PLUGINS;

use super::event::{Direction, StreamCommand};
use super::filter_state::{FilterState, NextCallback, Pause, Progress};
use super::output::OutputBuffer;
use crate::limits::OUTPUT_HIGH_WATERMARK_BYTES;

/// A set of filters of one chain, as a bit per filter.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FilterSet(u32);

const _: () = assert!(MAX_CHAIN_PLUGINS <= u32::BITS as usize, "each filter of a chain has a bit");

impl FilterSet {
    pub(crate) fn contains(self, filter: usize) -> bool {
        self.0 & (1 << filter) != 0
    }

    pub(crate) fn insert(&mut self, filter: usize) {
        self.0 |= 1 << filter;
    }
}

/// State of one direction: its filters and its output.
#[derive(Debug, Default)]
pub(crate) struct DirectionState {
    /// In the order in which the direction passes them. Empty where no filter reads the direction, and after a
    /// response was replaced, so that nothing stops it.
    pub(crate) filters: Vec<FilterState>,
    /// Number of leading filters that are known to have no callback to run.
    idle_filters: usize,
    pub(crate) output: OutputBuffer,
    /// True once the direction is finished or reset.
    pub(crate) closed: bool,
}

impl DirectionState {
    /// Returns a filter's state for a change, and marks the filter as ready.
    pub(crate) fn filter_mut(&mut self, position: usize) -> Option<&mut FilterState> {
        self.mark_ready(position);
        self.filters.get_mut(position)
    }

    /// Notes that the filter may have a callback to run.
    pub(crate) fn mark_ready(&mut self, position: usize) {
        self.idle_filters = self.idle_filters.min(position);
    }

    /// Returns the first filter that has a callback to run, by position.
    pub(crate) fn next_callback(&mut self) -> Option<(usize, NextCallback)> {
        if self.closed {
            return None;
        }
        debug_assert!(
            self.filters.iter().take(self.idle_filters).all(|filter_state| filter_state.next_callback().is_none()),
            "{self:?}"
        );
        let mut rest = self.filters.iter().enumerate().skip(self.idle_filters);
        let found = rest.find_map(|(position, filter_state)| Some((position, filter_state.next_callback()?)));
        self.idle_filters = found.map_or(self.filters.len(), |(position, _)| position);
        found
    }
}

/// State of both directions of a stream.
#[derive(Debug, Default)]
pub(crate) struct ChainState {
    /// Number of filters in the chain.
    filter_count: usize,
    pub(crate) request: DirectionState,
    pub(crate) response: DirectionState,
    /// Commands of guests, in order, each with its filter. Bounded: at most one of each kind per filter.
    pub(crate) commands: VecDeque<(usize, StreamCommand)>,
    /// Filters that have failed. The stream continues without them if their failure policy is Open.
    pub(crate) bypassed: FilterSet,
    /// Filters that have sent a local reply. A second reply of a filter replaces the first until that has left the filters.
    pub(crate) replied: FilterSet,
    /// True once the proxy or a filter has sent a local reply.
    pub(crate) has_reply: bool,
}

impl ChainState {
    /// Returns the state before the first event. `buffer_limit` is the body buffer limit of each filter, in bytes.
    pub(crate) fn new(filters: usize, buffer_limit: impl Fn(usize) -> usize) -> Self {
        let response =
            DirectionState { filters: filter_states((0..filters).rev(), &buffer_limit), ..DirectionState::default() };
        Self { response, ..Self::request_only(filters, buffer_limit) }
    }

    /// Returns the state of a chain in which no filter reads responses, so that they bypass it.
    pub(crate) fn request_only(filters: usize, buffer_limit: impl Fn(usize) -> usize) -> Self {
        let request = DirectionState { filters: filter_states(0..filters, buffer_limit), ..DirectionState::default() };
        Self { filter_count: filters, request, ..Self::default() }
    }

    /// Returns the output of a direction.
    pub(crate) fn output(&mut self, direction: Direction) -> &mut OutputBuffer {
        &mut self.direction_mut(direction).output
    }

    /// Returns true if a local reply of a filter is sent. As in Envoy, a filter may replace its own reply when it sees it in
    /// the response's callbacks, and not once that has passed the filters.
    pub(crate) fn accepts_reply(&self, filter: usize) -> bool {
        !(self.replied.contains(filter) && self.response.output.headers().is_some())
    }

    /// Returns true once the proxy or a filter has replied instead of the upstream.
    pub(crate) fn has_local_reply(&self) -> bool {
        self.has_reply
    }

    /// Returns true once the direction is finished or reset.
    pub(crate) fn is_closed(&self, direction: Direction) -> bool {
        self.direction(direction).closed
    }

    /// Returns true while the source of a direction may be read. Otherwise the source waits, which is the backpressure
    /// on its peer.
    pub(crate) fn can_read(&self, direction: Direction) -> bool {
        let state = self.direction(direction);
        // A filter that buffers the body gets data until its limit rejects it. All other filters stop the source at
        // their limit.
        let blocks = |filter_state: &FilterState| match filter_state.pause {
            Some(Pause::BufferBody) => false,
            Some(Pause::All | Pause::Headers | Pause::WatermarkBody | Pause::TcpData | Pause::Trailers) | None => {
                filter_state.buffered_bytes() >= filter_state.buffer_limit_bytes.max(1)
            }
        };
        !state.closed
            && state.output.buffered_bytes() < OUTPUT_HIGH_WATERMARK_BYTES
            && !state.filters.iter().any(blocks)
    }

    /// Returns true if a filter has paused the headers of a direction but still reads its body.
    pub(crate) fn wants_body_before_headers(&self, direction: Direction) -> bool {
        let state = self.direction(direction);
        let blocks = |filter_state: &FilterState| {
            filter_state.forwarded == Progress::Nothing
                && filter_state.delivered > Progress::Nothing
                && filter_state.pause != Some(Pause::All)
        };
        !state.closed && state.output.headers().is_none() && state.filters.iter().any(blocks)
    }

    /// Queues a command of a guest, to be applied by the next event, for example
    /// [`Event::Resume`](super::Event::Resume).
    ///
    /// A duplicate of a waiting command of the same filter is dropped: it would change nothing, and the queue stays
    /// bounded.
    pub(crate) fn queue_command(&mut self, filter: usize, command: StreamCommand) {
        if !self.commands.iter().any(|(other, waiting)| *other == filter && waiting.is_duplicate_of(&command)) {
            self.commands.push_back((filter, command));
        }
    }

    /// Returns true while a local reply is queued.
    pub(crate) fn has_queued_reply(&self) -> bool {
        self.commands.iter().any(|(_, command)| matches!(command, StreamCommand::LocalReply(_)))
    }

    /// Returns true while commands are queued.
    pub(crate) fn has_commands(&self) -> bool {
        !self.commands.is_empty()
    }

    /// Returns the body bytes that a filter may read now. `None` before its headers arrive and while it pauses
    /// everything.
    pub(crate) fn readable_body(&self, direction: Direction, filter: usize) -> Option<&BytesMut> {
        let filter_state = self.direction(direction).filters.get(self.position(direction, filter))?;
        (filter_state.received > Progress::Nothing && filter_state.pause != Some(Pause::All))
            .then_some(&filter_state.visible)
    }

    /// Returns the body bytes that a filter may change now, and the filter's buffer limit in bytes.
    pub(crate) fn writable_body(&mut self, direction: Direction, filter: usize) -> Option<(&mut BytesMut, usize)> {
        let position = self.position(direction, filter);
        let filter_state = self.direction_mut(direction).filter_mut(position)?;
        filter_state.is_writable().then_some((&mut filter_state.visible, filter_state.buffer_limit_bytes))
    }

    /// Returns true if a filter is paused in either direction.
    pub(crate) fn is_paused_at(&self, filter: usize) -> bool {
        [Direction::Request, Direction::Response].into_iter().any(|direction| {
            let state = self.direction(direction);
            let filter_state = state.filters.get(self.position(direction, filter));
            !state.closed && filter_state.is_some_and(|filter_state| filter_state.pause.is_some())
        })
    }

    pub(crate) fn direction(&self, direction: Direction) -> &DirectionState {
        match direction {
            Direction::Request => &self.request,
            Direction::Response => &self.response,
        }
    }

    pub(crate) fn direction_mut(&mut self, direction: Direction) -> &mut DirectionState {
        match direction {
            Direction::Request => &mut self.request,
            Direction::Response => &mut self.response,
        }
    }

    /// Returns the position of a filter in a direction: chain order for requests, reverse order for responses.
    pub(crate) fn position(&self, direction: Direction, filter: usize) -> usize {
        match direction {
            Direction::Request => filter,
            Direction::Response => self.filter_count - 1 - filter,
        }
    }

    /// Stops both directions. What has left the filters is still sent, followed by the end.
    pub(crate) fn finish(&mut self) {
        for state in [&mut self.request, &mut self.response] {
            state.closed = true;
            state.output.end();
        }
    }

    /// Resets both directions and drops buffered data.
    pub(crate) fn reset(&mut self) {
        for state in [&mut self.request, &mut self.response] {
            state.closed = true;
            state.output.reset();
        }
    }
}

/// Returns the initial states of filters, in the order of `filters`.
fn filter_states(filters: impl Iterator<Item = usize>, buffer_limit: impl Fn(usize) -> usize) -> Vec<FilterState> {
    filters.map(|filter| FilterState { buffer_limit_bytes: buffer_limit(filter), ..FilterState::default() }).collect()
}
