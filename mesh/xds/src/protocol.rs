//! The variants of the xDS protocol, and the outcome of a client's request.

use std::sync::Arc;

use crate::report::Report;
use crate::resource_type::ResourceType;

/// The variant of the xDS protocol that a stream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Incremental xDS: each response lists the resources that changed or were removed.
    Delta,
    /// SotW: each response lists all subscribed resources of its type.
    StateOfTheWorld,
}

/// The outcome of a request, as far as the caller of `ServerState` has to log or record it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestOutcome {
    /// A subscription without an ACK or NACK.
    Subscribe,
    /// An ACK of the last response of the type, with the names of the resources in that response.
    Ack(ResourceType, Vec<Arc<str>>),
    /// A NACK of the last response of the type: the rejected resources, and the message of `error_detail`.
    Nack(ResourceType, Vec<Arc<str>>, String),
    /// A [`Report`] of `weir-proxy` on the resources that it accepted.
    Report(Report),
    /// The nonce is not that of the last response, so the request is neither an ACK nor a NACK.
    StaleNonce,
    /// A type URL that is not supported.
    UnknownType(String),
    /// A subscription to more than [`MAX_RESOURCES`](crate::limits::MAX_RESOURCES) names. The caller closes the stream.
    TooManyResources(ResourceType),
}
