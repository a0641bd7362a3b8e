//! `StreamKind` and `PeerKind`: which direction a guest continues or closes, and who closed a connection.

use crate::abi::wire_enum;

wire_enum! {
    /// What `proxy_continue_stream` and `proxy_close_stream` act on.
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
    /// Who closed a TCP connection.
    PeerKind {
        /// Not known.
        Unknown = 0,
        /// The proxy.
        Local = 1,
        /// The other end.
        Remote = 2,
    }
}
