//! Events of a stream, commands that guests queue for it, and failures of filters. The input and output types of
//! `driver.rs`.

use bytes::Bytes;
use http::HeaderMap;
pub(crate) use weir_host_abi::EndOfStream;
use weir_model::FailurePolicy;

use crate::error::ProxyError;
use crate::head::ResponseHead;

/// A direction of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From downstream to upstream.
    Request,
    /// From upstream to downstream.
    Response,
}

/// An event on a stream.
pub(crate) enum Event {
    /// The request headers may pass the filters. The exchange has had them since its start.
    RequestHeaders(EndOfStream),
    /// The upstream sent response headers.
    ResponseHeaders(ResponseHead, EndOfStream),
    /// A TCP connection has an upstream, which may send bytes.
    UpstreamConnected,
    /// Body bytes, and whether the message ends with them.
    Data(Direction, Bytes, EndOfStream),
    /// The message ended without trailers.
    EndOfStream(Direction),
    /// The message ended with trailers.
    Trailers(Direction, HeaderMap),
    /// The proxy replies locally.
    LocalReply(LocalReply),
    /// The VM of a filter has failed.
    FilterFailed(usize, FilterFailure),
    /// A call about another stream or none, such as a timer or a callout response, has queued commands.
    Resume,
    /// A TCP connection has lost its upstream. What has left the filters is still sent.
    UpstreamClosed,
    /// The downstream or the upstream reset the stream.
    Reset,
}

/// A response that the proxy or a filter makes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalReply {
    /// Status and headers.
    pub(crate) head: ResponseHead,
    /// The body, may be empty. The message of the reply to a gRPC request.
    pub(crate) body: Bytes,
    /// The form of the reply to a gRPC request.
    pub(crate) grpc: GrpcForm,
}

/// The form that a local reply takes when the request is a gRPC request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum GrpcForm {
    /// Trailers only, with the gRPC status that the HTTP status stands for.
    #[default]
    Mapped,
    /// Trailers only, with this gRPC status.
    Status(u32),
    /// The HTTP response that any other request gets.
    Http,
}

/// A command of a guest about one stream. Applied after its callback has returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum StreamCommand {
    /// Resumes a direction that the filter has paused (`proxy_continue_stream`).
    Continue(Direction),
    /// Sends a local reply (`proxy_send_local_response`).
    LocalReply(LocalReply),
    /// Resets the stream (`proxy_close_stream`).
    Close(ProxyError),
    /// Fails the stream: the guest made something that must not be sent.
    Fail(ProxyError),
}

impl StreamCommand {
    /// Returns true if both commands are of one kind and direction. The content is ignored, since the first command
    /// wins.
    pub(crate) fn is_duplicate_of(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Continue(direction), Self::Continue(other)) => direction == other,
            (one, other) => std::mem::discriminant(one) == std::mem::discriminant(other),
        }
    }
}

/// A failure of a filter on one stream.
#[derive(Debug, Clone)]
pub(crate) struct FilterFailure {
    /// The failure policy of the plugin.
    pub(crate) policy: FailurePolicy,
    /// The error that the downstream gets if the policy is Closed.
    pub(crate) error: ProxyError,
}
