//! TCP keepalive: probes of connections on which nothing is received (RFC 9293 §3.8.4).

use std::time::Duration;

use serde::Serialize;

/// The TCP keepalive of connections to endpoints (`UpstreamConnectionOptions.tcp_keepalive` in xDS).
///
/// A peer that has vanished is noticed after [`TcpKeepalive::total`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpKeepalive {
    /// Time without a received byte until the first probe, in seconds: 1 to
    /// [`MAX_KEEPALIVE_SECONDS`](crate::limits::MAX_KEEPALIVE_SECONDS).
    pub idle_seconds: u32,
    /// Time from one probe to the next, in seconds, with the same bounds.
    pub interval_seconds: u32,
    /// Probes without an answer until the connection is closed: 1 to
    /// [`MAX_KEEPALIVE_PROBES`](crate::limits::MAX_KEEPALIVE_PROBES).
    pub probes: u32,
}

impl TcpKeepalive {
    /// Returns the time from the last received byte until the connection is closed.
    pub fn total(self) -> Duration {
        let probing = u64::from(self.interval_seconds) * u64::from(self.probes);
        Duration::from_secs(u64::from(self.idle_seconds) + probing)
    }
}

/// Half a minute in total. The default of Linux is two hours.
impl Default for TcpKeepalive {
    fn default() -> Self {
        Self { idle_seconds: 15, interval_seconds: 5, probes: 3 }
    }
}
