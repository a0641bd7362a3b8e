//! `ResponseSource`: where the body of a response comes from, and the upstream connection that it occupies.

use crate::stream::body_source::BodySource;
use crate::upstream::Lease;

/// The source of a response's body.
pub(super) struct ResponseSource {
    /// The upstream's body; empty for a local reply, whose body is in the filter chain.
    pub(super) body: BodySource,
    /// The lease of the upstream connection, until the body has ended.
    pub(super) lease: Option<Lease>,
    /// True if nothing follows the headers that left the filters.
    pub(super) end_of_stream: bool,
}

impl ResponseSource {
    /// Returns the source of an upstream's response.
    pub(super) fn upstream(body: BodySource, lease: Lease) -> Self {
        Self { body, lease: Some(lease), end_of_stream: false }
    }

    /// Returns the source of a local reply.
    pub(super) fn local_reply() -> Self {
        Self { body: BodySource::empty(), lease: None, end_of_stream: false }
    }
}
