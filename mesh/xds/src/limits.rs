//! Every limit of the protocol: the number, its unit and its reason.

use std::time::Duration;

/// Bytes of one message. 5,000 routes take about 3 MiB, a SotW response with 10,000 endpoints about 1 MiB.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;

/// Approximate bytes of one chunk of a response: a few HTTP/2 frames.
pub const RESPONSE_CHUNK_BYTES: usize = 64 * 1024;

/// Resources of one type that a client may subscribe to or store.
pub const MAX_RESOURCES: usize = 100_000;

/// Bytes of a NACK's message. Longer messages are cut, because they go into logs and into the status of objects.
pub const MAX_ERROR_BYTES: usize = 4 * 1024;

/// Time that the server waits for an expected request before it sends the next response. It waits for the endpoints of
/// new clusters before it sends listeners and routes, and for all resource types of a reconnected client before it
/// removes resources. Clients send these requests at once, or never.
pub const MAX_CLIENT_WAIT: Duration = Duration::from_secs(1);

/// Failed resources in one report. The proxy's log has the others.
pub const MAX_REPORTED_FAILURES: usize = 100;
