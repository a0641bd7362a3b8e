//! `StreamKind` and `PeerKind`: the direction that a guest continues or closes, and the peer that closed a connection.

use crate::abi::wire_enum;

wire_enum! {
    /// The direction argument of `proxy_continue_stream` and `proxy_close_stream`.
    StreamKind {
        /// The request direction of an HTTP stream.
        Request = 0,
        /// The response direction of an HTTP stream.
        Response = 1,
        /// The downstream side of a TCP connection.
        Downstream = 2,
        /// The upstream side of a TCP connection.
        Upstream = 3,
    }
}

wire_enum! {
    /// The peer that closed a TCP connection.
    PeerKind {
        /// Unknown.
        Unknown = 0,
        /// The proxy.
        Local = 1,
        /// The remote peer.
        Remote = 2,
    }
}
