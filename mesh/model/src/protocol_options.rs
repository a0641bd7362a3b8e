//! Bounds and timeouts of HTTP connections: those of a listener, and those of a cluster.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::limits::{
    DEFAULT_DOWNSTREAM_IDLE_TIMEOUT, DEFAULT_HEAD_BYTES, DEFAULT_HEAD_TIMEOUT, DEFAULT_HEADERS,
    DEFAULT_STREAM_IDLE_TIMEOUT, DEFAULT_TARGET_BYTES, DEFAULT_UPSTREAM_IDLE_TIMEOUT, MAX_UPGRADE_BYTES,
};

/// Bounds and timeouts of a listener's HTTP connections (Envoy's `HttpConnectionManager`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DownstreamProtocolOptions {
    /// Bounds of a request's head.
    pub head: HeadLimits,
    /// Bytes of the target of an HTTP/1 request. Envoy has no such bound.
    pub target_bytes: u32,
    /// True if HTTP/1 requests are forwarded with the upper and lower case of their header names (`header_key_format`).
    pub preserve_header_case: bool,
    /// Requests of one connection; `None` = no limit.
    pub max_requests: Option<NonZeroU32>,
    /// Time from the first byte of a request's head to its last (`request_headers_timeout`).
    pub head_timeout: Duration,
    /// Time in which no byte of a request or response passes, after which it is aborted; `None` = no limit.
    pub stream_idle_timeout: Option<Duration>,
    /// Time without a request, after which a connection is closed; `None` = no limit.
    pub idle_timeout: Option<Duration>,
    /// Age of a connection, after which it accepts no further request (`max_connection_duration`); `None` = no limit.
    pub max_age: Option<Duration>,
    /// The protocols that a request may switch to (`upgrade_configs`).
    pub upgrades: Arc<[UpgradeProtocol]>,
}

impl DownstreamProtocolOptions {
    /// Returns true if a request may switch to a protocol, in any case of letters.
    pub fn allows_upgrade(&self, protocol: &[u8]) -> bool {
        self.upgrades.iter().any(|allowed| allowed.as_str().as_bytes().eq_ignore_ascii_case(protocol))
    }
}

impl Default for DownstreamProtocolOptions {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            target_bytes: DEFAULT_TARGET_BYTES,
            preserve_header_case: false,
            max_requests: None,
            head_timeout: DEFAULT_HEAD_TIMEOUT,
            stream_idle_timeout: Some(DEFAULT_STREAM_IDLE_TIMEOUT),
            idle_timeout: Some(DEFAULT_DOWNSTREAM_IDLE_TIMEOUT),
            max_age: None,
            upgrades: [UpgradeProtocol::websocket()].into(),
        }
    }
}

/// A protocol that a request may switch to (RFC 9110 §7.8), such as `websocket`: a token in lower case, of at most
/// [`MAX_UPGRADE_BYTES`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct UpgradeProtocol(Arc<str>);

impl UpgradeProtocol {
    /// Returns a protocol; `None` if it is not a token, or is a version of HTTP: `h2c` and `tls` would leave the proxy
    /// without the requests that follow.
    pub fn new(name: &str) -> Option<Self> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~/".contains(&byte);
        let is_valid = (1..=MAX_UPGRADE_BYTES).contains(&name.len()) && name.bytes().all(is_token);
        let name = name.to_ascii_lowercase();
        let is_http = name == "h2c" || name.starts_with("http/") || name.starts_with("tls/") || name == "connect";
        (is_valid && !is_http).then(|| Self(name.into()))
    }

    /// Returns `websocket` (RFC 6455).
    pub fn websocket() -> Self {
        Self("websocket".into())
    }

    /// Returns the name, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Bounds and timeouts of a cluster's HTTP connections (Envoy's `HttpProtocolOptions`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamProtocolOptions {
    /// Bounds of a response's head.
    pub head: HeadLimits,
    /// True if HTTP/1 responses are forwarded with the upper and lower case of their header names
    /// (`header_key_format`).
    pub preserve_header_case: bool,
    /// Requests of one connection; `None` = no limit.
    pub max_requests: Option<NonZeroU32>,
    /// Time without a request, after which a connection is closed; `None` = no limit.
    pub idle_timeout: Option<Duration>,
    /// Age of a connection, after which it is sent no further request; `None` = no limit.
    pub max_age: Option<Duration>,
}

impl Default for UpstreamProtocolOptions {
    fn default() -> Self {
        Self {
            head: HeadLimits::default(),
            preserve_header_case: false,
            max_requests: None,
            idle_timeout: Some(DEFAULT_UPSTREAM_IDLE_TIMEOUT),
            max_age: None,
        }
    }
}

/// Bounds of a message's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeadLimits {
    /// Bytes of the head: a multiple of 1 KiB, from 1 KiB to [`MAX_HEAD_BYTES`](crate::limits::MAX_HEAD_BYTES).
    pub bytes: u32,
    /// Headers of the head: 1 to [`MAX_HEADERS`](crate::limits::MAX_HEADERS).
    pub headers: u32,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes: DEFAULT_HEAD_BYTES, headers: DEFAULT_HEADERS }
    }
}
