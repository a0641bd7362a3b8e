//! Every bound of the control plane, in one place: the number, its unit, and why it is that number.

use std::time::Duration;

/// Bytes of one module: as large as a proxy takes one.
pub const MAX_MODULE_BYTES: usize = 64 * 1024 * 1024;

/// Responses on their way to one proxy: one is in flight for each kind, so more than a few never wait.
pub const RESPONSE_QUEUE: usize = 8;

/// A stream on which nothing comes is tried with a ping after this time, and ended after as long again.
pub const PROXY_KEEPALIVE: Duration = Duration::from_secs(30);

/// Characters of a proxy's refusal that are logged.
pub const MAX_LOGGED_REFUSAL: usize = 1_000;
