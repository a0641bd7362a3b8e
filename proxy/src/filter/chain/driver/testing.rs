//! Exchanges and scripted filters for the tests of the driver.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::super::chain_state::ChainState;
use super::*;
use crate::head::ResponseHead;
use crate::route::testing::request;
use crate::stream_info::StreamInfo;

/// Buffer limit of each filter, in bytes.
pub(super) const BODY_LIMIT_BYTES: usize = 1024 * 1024;

pub(super) fn exchange(filters: usize) -> Exchange {
    exchange_through(ChainState::new(filters, |_| BODY_LIMIT_BYTES))
}

pub(super) fn exchange_through(chain: ChainState) -> Exchange {
    let request = request("POST", "shop.example", "/", &[]);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    Exchange::new(request, chain, StreamInfo::new(address, address, 1))
}

pub(super) fn head(status: u16) -> ResponseHead {
    ResponseHead::new(StatusCode::from_u16(status).unwrap(), HeaderMap::new())
}

pub(super) fn reply(body: &'static str) -> LocalReply {
    LocalReply::new(head(418), Bytes::from_static(body.as_bytes()))
}

pub(super) fn failure(policy: FailurePolicy) -> FilterFailure {
    FilterFailure { policy, error: ProxyError::FilterFailed { plugin: "a/b".to_owned(), detail: "filter_trap" } }
}

/// One scripted call: the commands that it queues, and its result.
#[derive(Debug, Clone)]
pub(super) struct ScriptedCall {
    pub(super) commands: Vec<StreamCommand>,
    pub(super) outcome: Result<FilterStatus, FailurePolicy>,
}

impl ScriptedCall {
    pub(super) fn returning(status: FilterStatus) -> Self {
        Self { commands: Vec::new(), outcome: Ok(status) }
    }
}

/// Filters that run a script of calls and then always continue.
#[derive(Default)]
pub(super) struct ScriptedFilters {
    pub(super) script: VecDeque<ScriptedCall>,
    pub(super) absent: Vec<Callback>,
    pub(super) contexts: Vec<bool>,
    pub(super) calls: Vec<(usize, Callback)>,
    pub(super) dropped: [usize; 2],
    /// Command of the first filter before the response arrives, not applied yet.
    pub(super) waiting: Option<StreamCommand>,
    pub(super) replied_at: Option<usize>,
}

/// Maps a status to one that the callback can return.
pub(super) fn valid_status(callback: Callback, status: FilterStatus) -> FilterStatus {
    match (callback, status) {
        (_, FilterStatus::Continue) => status,
        (Callback::Headers(..), FilterStatus::Pause(Pause::Headers)) => status,
        (Callback::Headers(..), _) => FilterStatus::Pause(Pause::All),
        (Callback::Body(..), FilterStatus::Pause(Pause::All | Pause::Headers | Pause::Trailers)) => {
            FilterStatus::Pause(Pause::BufferBody)
        }
        (Callback::Body(..), _) => status,
        (Callback::Trailers(_), _) => FilterStatus::Pause(Pause::Trailers),
    }
}

pub(super) fn same_kind(one: Callback, other: Callback) -> bool {
    use Callback::{Body, Headers, Trailers};
    match (one, other) {
        (Headers(a, _), Headers(b, _)) | (Body(a, ..), Body(b, ..)) | (Trailers(a), Trailers(b)) => a == b,
        _ => false,
    }
}

impl ChainFilters for ScriptedFilters {
    fn wants_callback(&self, filter: usize, callback: Callback) -> bool {
        let direction = match callback {
            Callback::Headers(direction, _) | Callback::Body(direction, ..) | Callback::Trailers(direction) => {
                direction
            }
        };
        (direction == Direction::Request || self.contexts[filter])
            && !self.absent.iter().any(|other| same_kind(*other, callback))
    }

    fn call(
        &mut self,
        filter: usize,
        callback: Callback,
        exchange: &mut Exchange,
    ) -> Result<FilterStatus, FilterFailure> {
        self.calls.push((filter, callback));
        if exchange.chain.has_reply && self.replied_at.is_none() {
            self.replied_at = Some(self.calls.len() - 1);
        }
        self.contexts[filter] = true;
        let ScriptedCall { commands, outcome } =
            self.script.pop_front().unwrap_or_else(|| ScriptedCall::returning(FilterStatus::Continue));
        commands.into_iter().for_each(|command| exchange.chain.queue_command(filter, command));
        let status = valid_status(callback, outcome.map_err(failure)?);
        if let (Callback::Body(direction, size, _), FilterStatus::DropBody) = (callback, status) {
            self.dropped[direction as usize] += size;
        }
        Ok(status)
    }
}

pub(super) fn drive(exchange: &mut Exchange, scripted: &mut ScriptedFilters, event: Event) {
    ChainDriver { exchange, filters: scripted }.on_event(event);
}

/// Reads all frames that an output has now.
pub(super) fn read(exchange: &mut Exchange, direction: Direction, bytes: &mut Vec<u8>) -> Option<OutputFrame> {
    let context = Context::from_waker(Waker::noop());
    exchange.chain.output(direction).take_headers();
    loop {
        match exchange.chain.output(direction).poll_frame(&context) {
            Poll::Ready(OutputFrame::Data(data)) => bytes.extend_from_slice(&data),
            Poll::Ready(last) => return Some(last),
            Poll::Pending => return None,
        }
    }
}
