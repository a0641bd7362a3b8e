//! Random bytes near valid messages, against a naive parser written from the grammar of RFC 9112, and against the codec
//! itself with the bytes split elsewhere. `WEIR_FUZZ_EXECUTIONS=10000000` is the long form; `WEIR_SEED` repeats a run.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking and prints")]

use bytes::BytesMut;
use http::Method;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use weir_http1::encode::{self, BodyEncoder};
use weir_http1::{BodyDecoder, BodyEvent, BodyLength, HeadDecoder, Limits, Rejection};

const SEEDS: &[&[u8]] = &[
    b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    b"GET /x?y=1 HTTP/1.0\r\nHost: a.com:80\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.1\r\nhost: b\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nhost: b\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 5\r\ncontent-length: 5\r\n\r\nhello",
    b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: Chunked\r\n\r\n5;a=\"b\" ;c\r\nhello\r\n00\r\nx: 1\r\ny:2 \r\n\r\nPUT * HTTP/1.1\r\n\r\n",
    b"\r\n\r\nOPTIONS * HTTP/1.1\r\nhost: a\r\nx: \t1 2\t\r\nx:\r\n\r\n",
    b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n\x16\x03\x01",
    b"GET http://a/b HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\nhi",
];

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
    b"05",
    b"+5",
    b"0x5",
    b"ffffffffffffffff",
    b"\0",
    b"\x0b",
    b"\x7f",
    b"\x80",
    b"\xff",
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
];

fn mutated(random: &mut SmallRng) -> Vec<u8> {
    let mut bytes = SEEDS[random.random_range(0..SEEDS.len())].to_vec();
    for _ in 0..random.random_range(0..4) {
        let at = random.random_range(0..=bytes.len());
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

/// A message as it was decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Message {
    method: String,
    target: Vec<u8>,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
    trailers: Vec<(String, Vec<u8>)>,
    keep_alive: bool,
}

fn fields(headers: &http::HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect()
}

/// Decodes requests until an error or the end; also returns the error.
fn decode(pieces: &[&[u8]]) -> (Vec<Message>, Option<Rejection>) {
    let (mut input, mut messages) = (BytesMut::new(), Vec::new());
    let (mut heads, mut body) = (HeadDecoder::new(Limits::default()), None::<BodyDecoder>);
    let mut current = None::<Message>;
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            if let Some(decoder) = &mut body {
                let message = current.as_mut().unwrap();
                match decoder.decode(&mut input) {
                    Ok(Some(BodyEvent::Data(data))) => message.body.extend_from_slice(&data),
                    Ok(Some(BodyEvent::Trailers(trailers))) => message.trailers = fields(&trailers),
                    Ok(Some(BodyEvent::End)) => {
                        messages.extend(current.take());
                        body = None;
                    }
                    Ok(None) => break,
                    Err(rejection) => return (messages, Some(rejection)),
                }
            } else {
                match heads.decode_request(&mut input) {
                    Ok(Some(head)) => {
                        body = Some(BodyDecoder::new(head.body, Limits::default()));
                        current = Some(Message {
                            method: head.method.to_string(),
                            target: head.target.to_vec(),
                            fields: fields(&head.headers),
                            body: Vec::new(),
                            trailers: Vec::new(),
                            keep_alive: head.keep_alive,
                        });
                    }
                    Ok(None) => break,
                    Err(rejection) => return (messages, Some(rejection)),
                }
            }
        }
    }
    (messages, None)
}

/// A request head as the naive parser reads it.
struct NaiveHead {
    method: Vec<u8>,
    target: Vec<u8>,
    fields: Vec<(String, Vec<u8>)>,
}

/// Parses a request head by the grammar of RFC 9112 §2 to §5. `None` if it is not valid or not complete.
fn naive_head(bytes: &[u8]) -> Option<NaiveHead> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let text = &bytes[..end];
    if text.iter().enumerate().any(|(at, byte)| match byte {
        b'\n' => at == 0 || text[at - 1] != b'\r',
        b'\r' => text.get(at + 1) != Some(&b'\n'),
        _ => false,
    }) {
        return None;
    }
    let is_token = |text: &[u8]| {
        !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
    };
    let mut lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let line: Vec<&[u8]> = lines.next()?.split(|byte| *byte == b' ').collect();
    let &[method, target, version] = &line[..] else { return None };
    let is_target = !target.is_empty() && target.iter().all(u8::is_ascii_graphic);
    if !is_token(method) || !is_target || !matches!(version, b"HTTP/1.0" | b"HTTP/1.1") {
        return None;
    }
    let mut fields = Vec::new();
    for line in lines {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        let is_value = value.iter().all(|byte| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f));
        if !is_token(name) || !is_value {
            return None;
        }
        let trimmed = value.iter().position(|byte| !b" \t".contains(byte)).map_or(&b""[..], |start| {
            let last = value.iter().rposition(|byte| !b" \t".contains(byte)).unwrap();
            &value[start..=last]
        });
        fields.push((String::from_utf8(name.to_ascii_lowercase()).unwrap(), trimmed.to_vec()));
    }
    Some(NaiveHead { method: method.to_vec(), target: target.to_vec(), fields })
}

fn check(bytes: &[u8], random: &mut SmallRng) {
    let whole = decode(&[bytes]);
    let cut = random.random_range(0..=bytes.len());
    let second = random.random_range(cut..=bytes.len());
    let split = decode(&[&bytes[..cut], &bytes[cut..second], &bytes[second..]]);
    assert_eq!(split, whole, "{} split at {cut} and {second}", bytes.escape_ascii());
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(decode(&single), whole, "{} byte by byte", bytes.escape_ascii());

    let mut after = bytes;
    for _ in 0..4 {
        after = after.strip_prefix(b"\r\n").unwrap_or(after);
    }
    if let Some(first) = whole.0.first() {
        let NaiveHead { method, target, fields: mut naive } =
            naive_head(after).unwrap_or_else(|| panic!("not by the grammar: {}", bytes.escape_ascii()));
        assert_eq!((first.method.as_bytes(), &first.target), (&method[..], &target), "{}", bytes.escape_ascii());
        let mut ours = first.fields.clone();
        ours.sort();
        naive.sort();
        assert_eq!(ours, naive, "{}", bytes.escape_ascii());
    } else if let (Some(NaiveHead { fields, .. }), Some(rejection)) = (naive_head(after), whole.1) {
        // Valid by the grammar: only framing or a bound may have been the reason.
        let is_framed = fields.iter().any(|(name, _)| name == "content-length" || name == "transfer-encoding");
        assert!(is_framed, "{rejection:?}: {}", bytes.escape_ascii());
    }
    for message in &whole.0 {
        assert_eq!(round_trip(message, random.random()), *message, "{}", bytes.escape_ascii());
    }
}

/// Encodes a message and decodes it again.
fn round_trip(message: &Message, chunked: bool) -> Message {
    let mut headers = http::HeaderMap::new();
    for (name, value) in &message.fields {
        headers.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value[..].try_into().unwrap());
    }
    let chunked = chunked || !message.trailers.is_empty();
    headers.remove("transfer-encoding");
    headers.remove("content-length");
    headers
        .insert("connection", http::HeaderValue::from_static(if message.keep_alive { "keep-alive" } else { "close" }));
    let length = match chunked {
        true => {
            headers.insert("transfer-encoding", http::HeaderValue::from_static("chunked"));
            BodyLength::Chunked
        }
        false => {
            headers.insert("content-length", message.body.len().into());
            BodyLength::Exact(message.body.len() as u64)
        }
    };
    let (mut bytes, mut encoder) = (Vec::new(), BodyEncoder::new(length));
    encode::request_head(
        &mut bytes,
        &Method::from_bytes(message.method.as_bytes()).unwrap(),
        &message.target,
        &headers,
    );
    for chunk in message.body.chunks(3) {
        let suffix = encoder.data_frame(chunk.len(), &mut bytes).unwrap();
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(suffix);
    }
    let mut trailers = http::HeaderMap::new();
    for (name, value) in &message.trailers {
        trailers.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value[..].try_into().unwrap());
    }
    encoder.end(Some(&trailers), &mut bytes).unwrap();
    let (mut decoded, rejection) = decode(&[&bytes]);
    assert_eq!((decoded.len(), rejection), (1, None), "{}", bytes.escape_ascii());
    let decoded = decoded.remove(0);
    assert_eq!(decoded.fields, fields(&headers));
    Message { fields: message.fields.clone(), ..decoded }
}

#[test]
fn random_requests_have_one_reading() {
    let executions: u64 =
        std::env::var("WEIR_FUZZ_EXECUTIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(100_000);
    let seed = std::env::var("WEIR_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(|| SmallRng::from_os_rng().random());
    println!("WEIR_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    for _ in 0..executions {
        let bytes = mutated(&mut random);
        check(&bytes, &mut random);
    }
}

#[test]
fn random_responses_have_one_reading() {
    const SEEDS: &[&[u8]] = &[
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 \r\n\r\n",
        b"HTTP/1.0 200 Fine\r\n\r\nto the end",
        b"HTTP/1.1 200\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx: 1\r\n\r\n",
    ];
    let mut random = SmallRng::seed_from_u64(7);
    for _ in 0..50_000 {
        let mut bytes = SEEDS[random.random_range(0..SEEDS.len())].to_vec();
        for _ in 0..random.random_range(0..3) {
            let at = random.random_range(0..=bytes.len());
            bytes.splice(at..at, WORDS[random.random_range(0..WORDS.len())].iter().copied());
        }
        let cut = random.random_range(0..=bytes.len());
        let read = |pieces: &[&[u8]]| {
            let (mut input, mut decoder) = (BytesMut::new(), HeadDecoder::new(Limits::default()));
            let mut outcome = Ok(None);
            for piece in pieces {
                input.extend_from_slice(piece);
                outcome = decoder.decode_response(&mut input, &Method::GET);
                if !matches!(outcome, Ok(None)) {
                    break;
                }
            }
            outcome.map(|head| head.map(|head| format!("{head:?}")))
        };
        assert_eq!(read(&[&bytes[..cut], &bytes[cut..]]), read(&[&bytes]), "{} at {cut}", bytes.escape_ascii());
    }
}
