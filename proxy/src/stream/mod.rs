//! One HTTP request and its response: the spine. `handle.rs` has the request walk; read it first.
//!
//! ```text
//! handle ─► sanitize ─► route ─► filters ▼ ─► forward ─► upstream
//!    └────────── finish ◄─ response body ◄─ filters ▲ ◄──────┘
//! ```

mod handle; // The request walk.
mod forward; // Sends the request to a cluster.
mod response_body; // The response body that the codec sends downstream.
mod await_head; // Waits until a head has left its filters.
mod read_ahead; // Reads the arrived part of a body before its head is sent.
mod body; // The body of one direction.
mod http_stream; // State of a request in flight, and its end.
mod access; // Access of a request in flight, after a change.
mod response_source; // The body and the upstream connection of a response.
mod body_source; // The incoming body of one direction.
mod timeouts; // Timeouts of a stream, and the side that is waited for.
mod grpc_timeout; // The deadline of a gRPC request.
mod received; // A request as the codec has read it.
mod sanitize; // Removes ambiguity from heads.
mod normalize; // One spelling for each path.

pub(crate) use handle::handle;
pub(crate) use received::{Expectation, ReceivedRequest, RejectedRequest, ValidRequest};
pub(crate) use sanitize::informational as sanitize_informational;
