//! Every bound of the wire, in one place: the number, its unit, and why it is that number.

use std::time::Duration;

/// Bytes of one message of a stream: 5,000 routes are about 3 MiB, a state of the world of 10,000 endpoints about 1 MiB.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of one piece of a response on its way, about: a few of HTTP/2's frames.
pub const RESPONSE_PIECE_BYTES: usize = 64 * 1024;

/// Resources of one kind that a peer may hold or ask for.
pub const MAX_RESOURCES: usize = 100_000;

/// Bytes of a NACK's text: more is cut off, since it goes through logs and into the status of objects.
pub const MAX_ERROR_BYTES: usize = 4 * 1024;

/// How long a peer is waited for: to ask for the endpoints of clusters that it was just given, before it gets routes, and
/// to ask for everything that it holds from another stream, before anything is taken from it. It asks at once, or never.
pub const MAX_PEER_WAIT: Duration = Duration::from_secs(1);

/// Resources that one report names as not working; the rest is in the proxy's own log.
pub const MAX_REPORTED: usize = 100;
