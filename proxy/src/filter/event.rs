//! The words of the driver: what happens to a stream, what guests ask for, how they fail.

use bytes::Bytes;
use http::HeaderMap;
use weir_model::FailurePolicy;

use crate::error::ProxyError;
use crate::head::ResponseHead;

/// A direction of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// From downstream to upstream.
    Request,
    /// From upstream to downstream.
    Response,
}

/// What happens to a stream.
pub(crate) enum Event {
    /// The request's head may go through the filters; it is in the exchange since its start.
    Request(MessageEnd),
    /// The upstream's response begins.
    Response(ResponseHead, MessageEnd),
    /// A TCP connection has an upstream: bytes may come from there.
    Connected,
    /// Body bytes.
    Data(Side, Bytes),
    /// The last body bytes: the message ends with them.
    LastData(Side, Bytes),
    /// The message ended without trailers.
    End(Side),
    /// The message ended with these.
    Trailers(Side, HeaderMap),
    /// The proxy itself answers.
    Reply(LocalReply),
    /// A filter's VM is gone.
    Died(usize, Failed),
    /// A call elsewhere (a tick, a callout's answer) left asks behind.
    Asked,
    /// A TCP connection has lost its upstream: what has left the filters still goes out.
    Shut,
    /// The downstream or the upstream broke off.
    Broken,
}

/// Whether anything follows a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageEnd {
    /// Nothing does.
    Here,
    /// A body, trailers or both may.
    Later,
}

/// An answer that the proxy or a filter makes itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LocalReply {
    /// Status and headers.
    pub(crate) head: ResponseHead,
    /// The body, may be empty.
    pub(crate) body: Bytes,
}

/// What a guest asks for about one stream; applied after its call has returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Go on with what it held (`proxy_continue_stream`).
    Continue(Side),
    /// Answer (`proxy_send_local_response`).
    Reply(LocalReply),
    /// Break off (`proxy_close_stream`).
    Close(ProxyError),
    /// Answer with this error: what the guest made must not go on the wire.
    Refuse(ProxyError),
}

impl Ask {
    /// True when both are the same wish, however it is to be answered: the first one counts.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Continue(side), Self::Continue(other)) => side == other,
            (one, other) => std::mem::discriminant(one) == std::mem::discriminant(other),
        }
    }
}

/// A filter cannot go on.
#[derive(Debug, Clone)]
pub(crate) struct Failed {
    /// What its plugin's policy says.
    pub(crate) policy: FailurePolicy,
    /// What the downstream is told when the policy is Closed.
    pub(crate) error: ProxyError,
}
