//! Random exchanges: requests of one downstream connection, and the response of the origin to each. They are valid
//! messages, or ones of `tests/http1_corpus`, with random changes.

use std::fmt::Write as _;

use rand::Rng;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

use super::strict::{self, SentRequests};

/// The text that stands for a request's token in a seed.
pub(super) const PLACEHOLDER: &[u8] = b"TOKEN";

/// Start of a token's text.
const TOKEN_PREFIX: &[u8] = b"xm";

/// Length of a token's text.
const TOKEN_LENGTH: usize = 18;

/// Valid requests. `hex-TOKEN` and `len-TOKEN` are the length of a token.
const REQUESTS: &[&str] = &[
    "GET /TOKEN HTTP/1.1\r\nhost: a\r\n\r\n",
    "GET /TOKEN?x=y HTTP/1.1\r\nHost: a.example:80\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n",
    "HEAD /TOKEN HTTP/1.1\r\nhost: a\r\n\r\n",
    "POST /TOKEN HTTP/1.1\r\nhost: a\r\ncontent-length: len-TOKEN\r\n\r\nTOKEN",
    "POST /TOKEN HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\nhex-TOKEN\r\nTOKEN\r\n0\r\n\r\n",
    "PUT /TOKEN HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nhex-TOKEN;a=b\r\nTOKEN\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n",
    "PUT /TOKEN HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: len-TOKEN\r\n\r\nTOKEN",
    "POST /TOKEN HTTP/1.1\r\nhost: a\r\ncontent-length: 39\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: other\r\n\r\n",
    "GET /TOKEN HTTP/1.0\r\n\r\n",
    "POST /TOKEN HTTP/1.0\r\nconnection: keep-alive\r\nhost: a\r\ncontent-length: len-TOKEN\r\n\r\nTOKEN",
    "GET http://a/TOKEN HTTP/1.1\r\nhost: a\r\n\r\n",
    "DELETE /TOKEN HTTP/1.1\r\nhost: a\r\nte: trailers\r\ncookie: a=b\r\nconnection: close\r\n\r\n",
    "OPTIONS /TOKEN HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
];

/// Valid responses.
const RESPONSES: &[&str] = &[
    "HTTP/1.1 200 OK\r\nx-marker: TOKEN\r\ncontent-length: len-TOKEN\r\n\r\nTOKEN",
    "HTTP/1.1 200 OK\r\nx-marker: TOKEN\r\ncontent-length: len-TOKEN\r\n\r\nTOKEN",
    "HTTP/1.1 200 OK\r\nx-marker: TOKEN\r\ntransfer-encoding: chunked\r\n\r\nhex-TOKEN\r\nTOKEN\r\n0\r\nx-sum: TOKEN\r\n\r\n",
    "HTTP/1.1 200 OK\r\nx-marker: TOKEN\r\n\r\nTOKEN to the end",
    "HTTP/1.1 103 Early Hints\r\nlink: </TOKEN>\r\n\r\nHTTP/1.1 200 Fine\r\nx-marker: TOKEN\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 204 No Content\r\nx-marker: TOKEN\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\nx-marker: TOKEN\r\ncontent-length: 7\r\n\r\n",
    "HTTP/1.1 500 Internal Server Error\r\nx-marker: TOKEN\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno",
    "HTTP/1.0 200 OK\r\nx-marker: TOKEN\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 200 OK\r\nx-marker: TOKEN\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nx-marker: TOKEN\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nx-marker: TOKEN\r\ncontent-length: len-TOKEN\r\n\r\nTOKEN",
];

/// Bytes that are inserted into messages.
const WORDS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0",
    b"5",
    b"+5",
    b"0x5",
    b"ffffffffffffffff",
    b"\0",
    b"\x7f",
    b"\xff",
    b"chunked",
    b"transfer-encoding: chunked\r\n",
    b"content-length: 5\r\n",
    b"content-length: 0\r\n",
    b"connection: close\r\n",
    b"connection: host, x-marker\r\n",
    b"HTTP/1.0",
    b"0\r\n\r\n",
    b"5\r\nhello\r\n",
    b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\n",
    b"HTTP/1.1 103 \r\n\r\n",
    b"x: 1\r\nx: 2\r\n",
];

/// Messages of a corpus, of which random ones are made. The text `TOKEN` stands for the token of a request.
pub(super) struct Seeds {
    pub(super) requests: Vec<Vec<u8>>,
    pub(super) responses: Vec<Vec<u8>>,
}

/// The random number that connects a request with its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Token(pub(super) u64);

impl Token {
    /// Returns the text of the token.
    pub(super) fn text(self) -> String {
        format!("xm{:016x}", self.0)
    }

    /// Returns every token in `bytes`, in order.
    pub(super) fn all_in(bytes: &[u8]) -> Vec<Self> {
        let parse = |window: &[u8]| {
            let digits = std::str::from_utf8(window.strip_prefix(TOKEN_PREFIX)?).ok()?;
            let is_number = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            u64::from_str_radix(digits, 16).ok().filter(|_| is_number).map(Self)
        };
        bytes.windows(TOKEN_LENGTH).filter_map(parse).collect()
    }
}

/// The response of the origin to one request.
#[derive(Debug, Clone)]
pub(super) struct PlannedResponse {
    /// The token of the request.
    pub(super) token: Token,
    pub(super) bytes: Vec<u8>,
    /// True if it is sent before the request's body is read.
    pub(super) is_early: bool,
    /// The position at which the bytes are written in two parts.
    pub(super) cut: Option<usize>,
    pub(super) end: OriginEnd,
}

/// The state of a connection of the origin after a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OriginEnd {
    Open,
    Closed,
    Reset,
}

/// The end of a client's connection after its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientEnd {
    /// The client ends its side, and reads to the end.
    Finish,
    /// The client reads to the end.
    Wait,
    /// The client resets the connection.
    Reset,
}

/// One downstream connection.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    /// The bytes of the client.
    pub(super) request: Vec<u8>,
    /// The position at which they are written in two parts.
    pub(super) cut: Option<usize>,
    pub(super) responses: Vec<PlannedResponse>,
    pub(super) end: ClientEnd,
}

impl Exchange {
    /// Returns a random exchange.
    pub(super) fn random(seeds: &Seeds, random: &mut SmallRng) -> Self {
        let (mut request, mut responses) = (Vec::new(), Vec::new());
        for _ in 0..*[1, 1, 1, 2, 3].choose(random).unwrap() {
            let token = Token(random.random());
            request.extend(with_token(seed(REQUESTS, &seeds.requests, random), token));
            responses.push(PlannedResponse::random(seeds, token, random));
        }
        mutate(&mut request, random);
        let end = match random.random_range(0..32) {
            0 => ClientEnd::Reset,
            1..4 => ClientEnd::Wait, // Rare, since it ends with a timeout of the proxy.
            _ => ClientEnd::Finish,
        };
        let cut = random.random_ratio(1, 4).then(|| random.random_range(0..=request.len()));
        Self { request, cut, responses, end }
    }

    /// Returns the properties of the requests that decide how their responses are read.
    pub(super) fn sent(&self) -> SentRequests {
        let has = |word: &[u8]| self.request.windows(word.len()).any(|window| window == word);
        SentRequests { may_be_head: has(b"HEAD"), may_be_http10: has(b"HTTP/1.0") }
    }

    /// Returns the position of a token among the requests; `None` for one of another exchange.
    pub(super) fn position(&self, token: Token) -> Option<usize> {
        self.responses.iter().position(|response| response.token == token)
    }

    /// Returns the exchange as a file of `tests/under_load/exchange_corpus/`.
    pub(super) fn file(&self) -> String {
        let mut text = format!("request {}\n", escaped(&self.request));
        for response in &self.responses {
            writeln!(text, "response {} {}", response.token.text(), escaped(&response.bytes)).unwrap();
        }
        text
    }
}

impl PlannedResponse {
    fn random(seeds: &Seeds, token: Token, random: &mut SmallRng) -> Self {
        let mut bytes = with_token(seed(RESPONSES, &seeds.responses, random), token);
        mutate(&mut bytes, random);
        let mut planned = Self { is_early: random.random_ratio(1, 8), ..Self::new(token, bytes) };
        // Bytes that follow a response leave with it: a proxy cannot recognize those that come later.
        if strict::complete_length(&planned.bytes) == Some(planned.bytes.len()) && random.random_ratio(1, 4) {
            planned.cut = Some(random.random_range(0..=planned.bytes.len()));
        }
        if planned.end == OriginEnd::Closed {
            planned.end = match random.random_range(0..64) {
                0 => OriginEnd::Open, // The proxy ends it by a timeout.
                1..8 => OriginEnd::Reset,
                _ => OriginEnd::Closed,
            };
        }
        planned
    }

    /// Returns a response that is written at once, after which the connection closes unless the response is complete.
    pub(super) fn new(token: Token, bytes: Vec<u8>) -> Self {
        let end = if strict::complete_length(&bytes).is_some() { OriginEnd::Open } else { OriginEnd::Closed };
        Self { token, bytes, is_early: false, cut: None, end }
    }
}

/// Escapes bytes as the files of the corpora have them.
pub(super) fn escaped(bytes: &[u8]) -> String {
    bytes.escape_ascii().to_string().replace('{', "\\x7b")
}

/// Returns a random seed: one of the corpus as often as a valid one.
fn seed<'a>(valid: &'a [&str], corpus: &'a [Vec<u8>], random: &mut SmallRng) -> &'a [u8] {
    match corpus.choose(random).filter(|_| random.random()) {
        Some(seed) => seed,
        None => valid.choose(random).unwrap().as_bytes(),
    }
}

/// Returns a seed with the text of a token, and its length, in the places of their names.
pub(super) fn with_token(seed: &[u8], token: Token) -> Vec<u8> {
    let replacements: [(&[u8], String); 3] = [
        (b"hex-TOKEN", format!("{TOKEN_LENGTH:x}")),
        (b"len-TOKEN", TOKEN_LENGTH.to_string()),
        (PLACEHOLDER, token.text()),
    ];
    let (mut bytes, mut rest) = (Vec::new(), seed);
    while let Some(first) = rest.first() {
        match replacements.iter().find(|(name, _)| rest.starts_with(name)) {
            Some((name, text)) => {
                bytes.extend_from_slice(text.as_bytes());
                rest = &rest[name.len()..];
            }
            None => {
                bytes.push(*first);
                rest = &rest[1..];
            }
        }
    }
    bytes
}

/// Changes up to three places, or none.
fn mutate(bytes: &mut Vec<u8>, random: &mut SmallRng) {
    for _ in 0..*[0, 0, 0, 1, 1, 2, 3].choose(random).unwrap() {
        let at = position(bytes, random);
        let end = (at + random.random_range(0..8)).min(bytes.len());
        let word = WORDS.choose(random).unwrap().iter().copied();
        match random.random_range(0..5) {
            0 => drop(bytes.splice(at..at, word)),
            1 => drop(bytes.splice(at..end, word)),
            2 => drop(bytes.drain(at..end)),
            3 if random.random_ratio(1, 4) => bytes.truncate(at),
            _ if at < bytes.len() => bytes[at] = random.random(),
            _ => {}
        }
    }
}

/// Returns a random position: one in three begins a line.
fn position(bytes: &[u8], random: &mut SmallRng) -> usize {
    let at = random.random_range(0..=bytes.len());
    if random.random_ratio(2, 3) {
        return at;
    }
    bytes[..at].iter().rposition(|byte| *byte == b'\n').map_or(0, |line_feed| line_feed + 1)
}
