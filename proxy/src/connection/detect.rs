//! Which codec a connection speaks: HTTP/2 with prior knowledge begins with a preface (RFC 9113 §3.4), everything else
//! is HTTP/1.

use tokio::net::TcpStream;

/// How long to wait between two looks at a preface that is not whole: it comes in one packet from any real client.
const LOOK_AGAIN: std::time::Duration = std::time::Duration::from_millis(5);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The codec of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    Http1,
    Http2,
}

/// The first byte of a TLS connection: a record of the handshake (RFC 8446 §5.1). No method begins with it.
const HANDSHAKE: u8 = 22;

/// Looks at the first byte without taking it. `None` when there is none: the peer has closed.
pub(super) async fn is_tls(socket: &TcpStream) -> Option<bool> {
    let mut byte = [0];
    let length = socket.peek(&mut byte).await.ok()?;
    (length > 0).then_some(byte[0] == HANDSHAKE)
}

/// Looks at the first bytes without taking them. `None` when there are none: the peer has closed.
pub(super) async fn detect(socket: &TcpStream) -> Option<Codec> {
    let mut bytes = [0; PREFACE.len()];
    loop {
        let length = socket.peek(&mut bytes).await.ok()?;
        match verdict(&bytes[..length]) {
            Some(codec) => return Some(codec),
            None if length == 0 => return None,
            None => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// What the first bytes tell; `None` while they could still be either.
fn verdict(bytes: &[u8]) -> Option<Codec> {
    if bytes.len() >= PREFACE.len() && bytes.starts_with(PREFACE) {
        Some(Codec::Http2)
    } else if PREFACE.starts_with(bytes) {
        None
    } else {
        Some(Codec::Http1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        for (bytes, expected) in [
            (&b""[..], None),
            (b"P", None),
            (b"PRI * HTTP", None),
            (b"POST / HTTP/1.1", Some(Codec::Http1)),
            (b"PRI / HTTP/1.1\r\n", Some(Codec::Http1)),
            (b"GET", Some(Codec::Http1)),
            (b"\x16\x03", Some(Codec::Http1)),
            (PREFACE, Some(Codec::Http2)),
        ] {
            assert_eq!(verdict(bytes), expected, "{bytes:?}");
        }
    }
}
