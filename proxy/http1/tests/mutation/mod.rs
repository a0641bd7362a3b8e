//! Random bytes near valid messages: mutations of seeds.

use rand::Rng;
use rand::rngs::SmallRng;

use crate::messages::Sender;

/// Valid requests, of which random ones are made.
const REQUESTS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /x?y=1 HTTP/1.0\r\nHost: a.com:80\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.1\r\nhost: b\r\n\r\n",
    b"POST / HTTP/1.0\r\nhost: a\r\nconnection: x, Keep-Alive\r\n\r\nGET / HTTP/1.1\r\nconnection: x, Close\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nhost: b\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 5\r\ncontent-length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=\"b\" ;c\r\nhello\r\n00\r\nx: 1\r\ny:2 \r\n\r\nPUT * HTTP/1.1\r\n\r\n",
    b"\r\n\r\nOPTIONS * HTTP/1.1\r\nhost: a\r\nx: \t1 2\t\r\nx:\r\n\r\n",
    b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n\x16\x03\x01",
    b"GET http://a/b HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nhi",
];

/// Valid responses, of which random ones are made.
const RESPONSES: &[&[u8]] = &[
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x, Close\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 \r\n\r\nHTTP/1.1 200\r\n\r\nend",
    b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\netag: \"a\"\r\n\r\nHTTP/1.1 404 Not  Found\r\ncontent-length: 1\r\n\r\n!",
    b"HTTP/1.0 200 Fine\r\n\r\nto the end",
    b"HTTP/1.0 500 \xe9\r\nconnection: keep-alive\r\ncontent-length: 5, 5\r\n\r\nhelloHTTP/1.0 999 \r\ncontent-length: 00\r\n\r\n",
    b"HTTP/1.1 200\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: 1\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nx: \t1 2\t\r\n\r\n5 ; a=\"b\"\r\nhello\r\n000\r\nx: 1\r\ny:2 \r\nhost: a\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
];

/// Bytes that are inserted into messages.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\r\n\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0",
    b"5",
    b"05",
    b"+5",
    b"0x5",
    b"ffffffffffffffff",
    b"\0",
    b"\x0b",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xcb\x98",
    b"chunked",
    b"gzip, chunked",
    b"transfer-encoding: chunked\r\n",
    b"content-length: 5\r\n",
    b"content-length: 0\r\n",
    b"HTTP/1.1",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"connection: close\r\n",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.0 304\r\n\r\n",
    b"HTTP/1.1 103 \r\n\r\n",
    b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    b"x: 1\r\ny: 2\r\nx: 3\r\n",
    b"content-type: a\r\n",
];

/// Returns random bytes of this sender.
pub(crate) fn mutated(sender: Sender<'_>, random: &mut SmallRng) -> Vec<u8> {
    let seeds = match sender {
        Sender::Client => REQUESTS,
        Sender::Server(_) => RESPONSES,
    };
    let mut bytes = seeds[random.random_range(0..seeds.len())].to_vec();
    if random.random_ratio(1, 8) {
        bytes.extend_from_slice(seeds[random.random_range(0..seeds.len())]);
    }
    for _ in 0..random.random_range(0..4) {
        let at = position(&bytes, random);
        let end = (at + random.random_range(0..8)).min(bytes.len());
        match random.random_range(0..4) {
            0 => drop(bytes.splice(at..at, WORDS[random.random_range(0..WORDS.len())].iter().copied())),
            1 => drop(bytes.splice(at..end, WORDS[random.random_range(0..WORDS.len())].iter().copied())),
            2 => drop(bytes.drain(at..end)),
            _ if at < bytes.len() => bytes[at] = random.random(),
            _ => {}
        }
    }
    bytes
}

/// Returns a random position: one in three begins a line.
fn position(bytes: &[u8], random: &mut SmallRng) -> usize {
    let at = random.random_range(0..=bytes.len());
    if random.random_ratio(2, 3) {
        return at;
    }
    bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |line_feed| line_feed + 1)
}
