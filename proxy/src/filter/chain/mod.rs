//! The filter chain of one stream, as a state machine: the driver takes events, and decides which callback of
//! [`ChainFilters`] runs next and what may leave the chain. No IO, no clock, no type of a guest.
//!
//! ```text
//!  Event ─► ChainDriver ─► ChainFilters::call ─► FilterStatus ─► next filter … ─► OutputBuffer
//!               ▲                 │
//!               └── StreamCommand ┘   queued by hostcalls, applied after the callback
//! ```
//!
//! Each filter has a [`FilterState`](filter_state::FilterState) in each direction: how much of the message it has
//! received, was called with, and has forwarded. A paused filter stops there until a command continues it or replies.
//!
//! A filter that fails, in its own call or by [`Event::FilterFailed`], is bypassed from then on, and its failure policy
//! answers: `Open` forwards what it holds back, `Closed` replies in place of the upstream, or resets the stream if the
//! response has begun. Commands that its own failed call has queued are applied after the policy: a continue has nothing
//! left to continue, and a reply of the guest replaces the policy's, of which nothing has left. Commands of a failed call
//! of `tasks` come before [`Event::FilterFailed`], which is ignored by a filter that does not wait any more.

mod driver; // The state machine.
mod exchange; // One request and its response, as a plain value.
mod chain_state; // State of both directions.
mod filter_state; // State of one filter in one direction.
mod output; // Output of one direction, after its last filter.
mod local_reply; // Local replies of the proxy.
mod event; // Events, commands and failures of a stream.

pub(crate) use chain_state::ChainState;
pub(crate) use driver::{Callback, ChainDriver, ChainFilters};
pub(crate) use event::{Direction, EndOfStream, Event, FilterFailure, GrpcForm, LocalReply, StreamCommand};
pub(crate) use exchange::{Exchange, HeadChange};
pub(crate) use filter_state::{FilterStatus, Pause};
pub(crate) use local_reply::{grpc_status, is_grpc};
pub(crate) use output::OutputFrame;
