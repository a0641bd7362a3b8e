//! Requests that switch to another protocol. Streams and filters see the form of HTTP/1.1 whatever the codecs: a
//! request with `upgrade` (RFC 9110 §7.8), answered with 101. To an HTTP/2 endpoint it is an extended CONNECT (RFC 8441).

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, TE, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, StatusCode, request, response};
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};

use crate::error::ProxyError;

/// RFC 6455 §1.3.
const WEBSOCKET_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The protocol that a request asks for. An extension of requests to endpoints.
#[derive(Clone)]
pub(super) struct Tunnel {
    protocol: HeaderValue,
    /// The downstream's `sec-websocket-key`, which HTTP/2 does not have.
    websocket_key: Option<HeaderValue>,
}

impl Tunnel {
    /// Returns the tunnel of a request with these headers.
    pub(super) fn new(protocol: HeaderValue, headers: &HeaderMap) -> Self {
        Self { protocol, websocket_key: headers.get(SEC_WEBSOCKET_KEY).cloned() }
    }

    /// Returns true if the head of a 101 response of HTTP/1.1 switches to the requested protocol.
    pub(super) fn is_accepted(&self, headers: &HeaderMap) -> bool {
        headers.get(UPGRADE).is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(self.protocol.as_bytes()))
    }

    fn is_websocket(&self) -> bool {
        self.protocol.as_bytes().eq_ignore_ascii_case(b"websocket")
    }

    /// Sets the headers of an upgrade. A WebSocket of a downstream of HTTP/2 gets a key.
    pub(super) fn set_headers(&self, headers: &mut HeaderMap) {
        let connection = if headers.contains_key(TE) { "upgrade, te" } else { "upgrade" };
        headers.insert(CONNECTION, HeaderValue::from_static(connection));
        headers.insert(UPGRADE, self.protocol.clone());
        if self.is_websocket() && self.websocket_key.is_none() {
            let mut nonce = [0; 16];
            SmallRng::from_os_rng().fill_bytes(&mut nonce);
            headers.insert(SEC_WEBSOCKET_KEY, base64(&nonce));
        }
    }

    /// Makes an extended CONNECT of an upgrade.
    ///
    /// # Errors
    /// The protocol is not a valid `:protocol`.
    pub(super) fn to_extended_connect(&self, parts: &mut request::Parts) -> Result<(), ProxyError> {
        let protocol = self.protocol.to_str().map_err(|_| ProxyError::BadRequest("the protocol is not valid"))?;
        parts.method = Method::CONNECT;
        parts.extensions.insert(h2::ext::Protocol::from(protocol));
        for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_KEY] {
            parts.headers.remove(name);
        }
        Ok(())
    }

    /// Makes the response of an upgrade of an endpoint's response to an extended CONNECT, if it succeeded.
    pub(super) fn accept_extended_connect(&self, parts: &mut response::Parts) {
        if !parts.status.is_success() {
            return;
        }
        parts.status = StatusCode::SWITCHING_PROTOCOLS;
        parts.headers.insert(UPGRADE, self.protocol.clone());
        if let Some(key) = self.websocket_key.as_ref().filter(|_| self.is_websocket()) {
            let accepted =
                digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key.as_bytes(), WEBSOCKET_GUID].concat());
            parts.headers.insert(SEC_WEBSOCKET_ACCEPT, base64(accepted.as_ref()));
        }
    }
}

fn base64(bytes: &[u8]) -> HeaderValue {
    HeaderValue::from_str(&STANDARD.encode(bytes)).expect("base64 is ASCII text")
}
