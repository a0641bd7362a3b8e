//! One HTTP request and its response: the spine. `handle.rs` is the request walk, read it first.
//!
//! ```text
//! handle ─► sanitize ─► route ─► filters ▼ ─► forward ─► upstream
//!    └────────── finish ◄─ response body ◄─ filters ▲ ◄──────┘
//! ```

mod handle; // The request walk.
mod forward; // To a cluster, with the changes that a route asks for.
mod wait; // Until a head has left its filters.
mod response_body; // The body that the downstream reads.
mod body; // The body of one side, read by the other.
mod source; // Where a body comes from.
mod http_stream; // What is known of a request in flight, and its end.
mod sanitize; // What the outside may not say.
mod normalise; // One form of a path.

pub(crate) use handle::handle;
