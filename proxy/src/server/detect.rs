//! Detects TLS and the HTTP codec of a connection from its first bytes, without reading them. HTTP/2 with prior
//! knowledge begins with a preface (RFC 9113 §3.4); everything else is HTTP/1.

use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;

/// Time before the second peek at an incomplete preface. Real clients send it in one packet.
const MIN_PEEK_PAUSE: Duration = Duration::from_millis(5);

/// Longest time between two peeks, which bounds the cost of a client that never completes the preface.
const MAX_PEEK_PAUSE: Duration = Duration::from_millis(320);

const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The HTTP codec of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Http1,
    Http2,
}

/// The first byte of a TLS connection: a handshake record (RFC 8446 §5.1). No HTTP method begins with it.
const TLS_HANDSHAKE_RECORD: u8 = 22;

/// Returns true if the first byte begins a TLS handshake; `None` when the peer closes before sending one.
pub(super) async fn is_tls(socket: &TcpStream) -> Option<bool> {
    let mut byte = [0];
    let length = socket.peek(&mut byte).await.ok()?;
    (length > 0).then_some(byte[0] == TLS_HANDSHAKE_RECORD)
}

/// Returns the codec of the first bytes; `None` when the peer closes before sending any.
pub(super) async fn detect_codec(socket: &TcpStream) -> Option<Codec> {
    let mut bytes = [0; HTTP2_PREFACE.len()];
    let mut pause = MIN_PEEK_PAUSE;
    loop {
        let length = socket.peek(&mut bytes).await.ok()?;
        match codec_for_prefix(&bytes[..length]) {
            Some(codec) => return Some(codec),
            None if length == 0 => return None,
            // A socket with unread bytes stays readable. The end of the peer's side ends the wait: HTTP/1 rejects what
            // is there.
            None if socket.ready(Interest::READABLE).await.ok()?.is_read_closed() => return Some(Codec::Http1),
            None => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(MAX_PEEK_PAUSE);
    }
}

/// Returns the codec of a connection that begins with `bytes`; `None` while both are possible.
fn codec_for_prefix(bytes: &[u8]) -> Option<Codec> {
    if bytes.len() >= HTTP2_PREFACE.len() && bytes.starts_with(HTTP2_PREFACE) {
        Some(Codec::Http2)
    } else if HTTP2_PREFACE.starts_with(bytes) {
        None
    } else {
        Some(Codec::Http1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codec_is_chosen_by_first_bytes() {
        for (bytes, expected) in [
            (&b""[..], None),
            (b"P", None),
            (b"PRI * HTTP", None),
            (b"POST / HTTP/1.1", Some(Codec::Http1)),
            (b"PRI / HTTP/1.1\r\n", Some(Codec::Http1)),
            (b"GET", Some(Codec::Http1)),
            (b"\x16\x03", Some(Codec::Http1)),
            (HTTP2_PREFACE, Some(Codec::Http2)),
        ] {
            assert_eq!(codec_for_prefix(bytes), expected, "{bytes:?}");
        }
    }
}
