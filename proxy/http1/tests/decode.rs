//! Heads and bodies from bytes: accepted and rejected messages, and the independence of how the bytes are split.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};
use proptest::prelude::*;
use weir_http1::{BodyDecoder, BodyEvent, BodyLength, HeadDecoder, Limits, Rejection, RequestHead, encode};

fn request(text: &[u8]) -> Result<Option<RequestHead>, Rejection> {
    HeadDecoder::new(Limits::default()).decode_request(&mut BytesMut::from(text))
}

/// The data of a body, its trailers, and the bytes that were left.
type Decoded = (Vec<u8>, Option<HeaderMap>, Vec<u8>);

/// Decodes a body that arrives in these pieces.
fn body(length: BodyLength, pieces: &[&[u8]]) -> Result<Decoded, Rejection> {
    let mut decoder = BodyDecoder::new(length, Limits::default());
    let (mut input, mut data, mut trailers) = (BytesMut::new(), Vec::new(), None);
    for piece in pieces {
        input.extend_from_slice(piece);
        while !decoder.is_end() {
            match decoder.decode(&mut input)? {
                Some(BodyEvent::Data(bytes)) => data.extend_from_slice(&bytes),
                Some(BodyEvent::Trailers(map)) => trailers = Some(map),
                Some(BodyEvent::End) | None => break,
            }
        }
    }
    decoder.decode_eof()?;
    Ok((data, trailers, input.to_vec()))
}

#[test]
fn request_heads_are_decoded() {
    let text = b"\r\nPOST /a?b HTTP/1.1\r\nHost: a.com\r\nX-One: 1\r\ncontent-length: 5\r\nx-one:\t2 \r\n\r\nhello";
    let mut input = BytesMut::from(&text[..]);
    let head = HeadDecoder::new(Limits::default()).decode_request(&mut input).unwrap().unwrap();
    assert_eq!((head.method, &head.target[..], head.version), (Method::POST, &b"/a?b"[..], Version::HTTP_11));
    assert_eq!((head.body, head.keep_alive, &input[..]), (BodyLength::Exact(5), true, &b"hello"[..]));
    let fields: Vec<_> = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    assert_eq!(fields[..2], [("x-one", &b"1"[..]), ("x-one", b"2")]);
    assert_eq!(head.host.unwrap(), "a.com");
    assert_eq!(head.headers.get_all("x-one").iter().collect::<Vec<_>>(), ["1", "2"]);
}

#[test]
fn methods_have_at_most_64_bytes() {
    for (length, expected) in [(64, Ok(64)), (65, Err(Rejection::Method))] {
        let decoded = request(format!("{} / HTTP/1.1\r\nhost: a\r\n\r\n", "M".repeat(length)).as_bytes());
        assert_eq!(decoded.map(|head| head.unwrap().method.as_str().len()), expected);
    }
}

#[test]
fn names_as_sent_are_recorded_and_encoded() {
    let head = |records, fields: &str| {
        let mut decoder = HeadDecoder::new(Limits::default()).with_sent_names(records);
        let text = format!("GET / HTTP/1.1\r\n{fields}\r\n");
        decoder.decode_request(&mut BytesMut::from(&text[..])).unwrap().unwrap()
    };
    let fields = "x-Two: 1\r\nX-TWO: 2\r\nConnection: X-Gone\r\nX-Gone: 1\r\nx-lower: 3\r\n";
    assert_eq!(head(false, fields).sent_names, None);
    assert_eq!(head(true, "x-lower: 3\r\n").sent_names, None);
    let RequestHead { mut headers, sent_names, .. } = head(true, fields);
    headers.append("x-new", HeaderValue::from_static("4"));
    let fields = encode::Fields { headers: &headers, sent_names: sent_names.as_ref() };
    let mut encoded = Vec::new();
    encode::request_head(&mut encoded, &Method::GET, b"/", fields);
    let expected = "GET / HTTP/1.1\r\nx-Two: 1\r\nx-Two: 2\r\nx-lower: 3\r\nx-new: 4\r\n\r\n";
    assert_eq!(String::from_utf8_lossy(&encoded), expected);
}

/// Returns the names of the fields that a request has besides `host`.
fn names(fields: &str) -> Vec<String> {
    let head = request(format!("GET / HTTP/1.1\r\nhost: a\r\n{fields}\r\n").as_bytes()).unwrap().unwrap();
    head.headers.keys().map(ToString::to_string).collect()
}

#[test]
fn fields_of_the_connection_end_at_the_codec() {
    for (fields, expected) in [
        ("a: 1\r\nconnection: close\r\nb: 1\r\nkeep-alive: 5\r\nc: 1\r\nproxy-connection: x\r\nd: 1\r\n", "a b c d"),
        ("x-a: 1\r\nx-b: 1\r\nconnection: keep-alive, X-A\r\n", "x-b"),
        ("connection: x-a\r\nx-a: 1\r\nx-b: 1\r\nconnection: x-b\r\n", ""),
        ("connection: bad name, \"x\", ,\r\nx-a: 1\r\n", "x-a"),
        ("connection: te\r\nte: trailers\r\n", "te"),
        ("connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAM\r\n", "upgrade"),
        ("upgrade: websocket\r\n", ""),
        ("connection: content-length, host\r\ncontent-length: 0\r\n", "content-length"),
        ("connection: cookie, authorization, x-forwarded-for, expect\r\ncookie: a\r\nexpect: b\r\n", "cookie expect"),
        ("host: b\r\n", "host"),
    ] {
        assert_eq!(names(fields).join(" "), expected, "{fields:?}");
    }
    let many = |count: usize| format!("GET / HTTP/1.1\r\nconnection: {}\r\n\r\n", vec!["x"; count].join(","));
    assert!(request(many(32).as_bytes()).is_ok());
    assert_eq!(request(many(33).as_bytes()).unwrap_err(), Rejection::TooManyFields);
}

#[test]
fn heads_of_many_fields_need_a_larger_bound() {
    let text = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(300));
    for (fields, expected) in
        [(100, Err(Rejection::TooManyFields)), (299, Err(Rejection::TooManyFields)), (300, Ok(300))]
    {
        let mut decoder = HeadDecoder::new(Limits { fields, ..Limits::default() });
        let decoded = decoder.decode_request(&mut BytesMut::from(text.as_bytes()));
        assert_eq!(decoded.map(|head| head.unwrap().headers.len()), expected, "{fields}");
    }
}

#[test]
fn persistence_follows_version_and_connection() {
    for (version, connection, expected) in [
        ("1.1", "", true),
        ("1.1", "connection: close\r\n", false),
        ("1.1", "connection: x, Close\r\n", false),
        ("1.1", "connection: x\r\nconnection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "connection: Keep-Alive\r\n", true),
        ("1.0", "connection: keep-alive, close\r\n", false),
    ] {
        let text = format!("GET / HTTP/{version}\r\n{connection}\r\n");
        assert_eq!(request(text.as_bytes()).unwrap().unwrap().keep_alive, expected, "{text:?}");
    }
}

#[test]
fn invalid_request_heads_are_rejected() {
    use Rejection::*;
    for (text, expected) in [
        ("GET / HTTP/1.1\nhost: a\r\n\r\n", BareLineFeed),
        ("GET / HTTP/1.1\r\nhost: a\n\r\n", BareLineFeed),
        ("\nGET / HTTP/1.1\r\n\r\n", Method),
        ("\r\n\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\n\r\n", RequestLine),
        ("\x16\x03\x01", Method),
        ("GET(/ HTTP/1.1\r\n\r\n", Method),
        ("GET /\x01 HTTP/1.1\r\n\r\n", Target),
        ("GET /\u{2d8} HTTP/1.1\r\n\r\n", Target),
        ("GET /a#b HTTP/1.1\r\n\r\n", Target),
        ("GET / \r\n\r\n", RequestLine),
        ("GET /\r\n\r\n", RequestLine),
        ("GET  / HTTP/1.1\r\n\r\n", RequestLine),
        ("GET / HTTP/1.1 \r\n\r\n", RequestLine),
        ("GET /a b HTTP/1.1\r\n\r\n", RequestLine),
        ("GET / http/1.1\r\n\r\n", RequestLine),
        ("GET / HTTP/1.2\r\n\r\n", Version),
        ("GET / HTTP/2.0\r\n\r\n", Version),
        ("GET / HTTP/1.1\r\n: a\r\n\r\n", FieldName),
        ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", FieldName),
        ("GET / HTTP/1.1\r\nhost\r\n\r\n", FieldName),
        ("GET / HTTP/1.1\r\n host: a\r\n\r\n", FoldedField),
        ("GET / HTTP/1.1\r\na: 1\r\n 2\r\n\r\n", FoldedField),
        ("GET / HTTP/1.1\r\na: 1\x002\r\n\r\n", FieldValue),
        ("GET / HTTP/1.1\r\na: 1\r2\r\n\r\n", FieldValue),
        ("GET / HTTP/1.1\r\ncontent-length: +5\r\n\r\n", ContentLength),
        ("GET / HTTP/1.1\r\ncontent-length: \r\n\r\n", ContentLength),
        ("GET / HTTP/1.1\r\ncontent-length: 0x5\r\n\r\n", ContentLength),
        ("GET / HTTP/1.1\r\ncontent-length: 18446744073709551616\r\n\r\n", ContentLength),
        ("GET / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 05\r\n\r\n", ConflictingLengths),
        ("GET / HTTP/1.1\r\ncontent-length: 5, 6\r\n\r\n", ConflictingLengths),
        ("GET / HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n", LengthAndTransferCoding),
        ("GET / HTTP/1.1\r\ntransfer-encoding: gzip\r\n\r\n", TransferCoding),
        ("GET / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n", TransferCoding),
        ("GET / HTTP/1.1\r\ntransfer-encoding: chunked, gzip\r\n\r\n", ChunkedNotLast),
        ("GET / HTTP/1.1\r\ntransfer-encoding: chunked, chunked\r\n\r\n", ChunkedNotLast),
        ("GET / HTTP/1.1\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n", ChunkedNotLast),
        ("GET / HTTP/1.1\r\ntransfer-encoding: \r\n\r\n", TransferCoding),
        ("GET / HTTP/1.1\r\ntransfer-encoding: \x0bchunked\r\n\r\n", FieldValue),
        ("GET / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n", TransferCodingInHttp10),
    ] {
        assert_eq!(request(text.as_bytes()).map(|_| ()), Err(expected), "{text:?}");
    }
}

#[test]
fn heads_are_bounded() {
    let limits = Limits { head_bytes: 100, fields: 3, target_bytes: 20, ..Limits::default() };
    let decode = |text: &str| HeadDecoder::new(limits).decode_request(&mut BytesMut::from(text)).map(|_| ());
    assert_eq!(decode(&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(19))), Ok(()));
    assert_eq!(decode(&format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(20))), Err(Rejection::TargetTooLong));
    assert_eq!(decode(&format!("GET /{}", "x".repeat(95))), Err(Rejection::TargetTooLong), "without an end");
    assert_eq!(decode(&format!("GET / HTTP/1.1\r\na: {}", "x".repeat(81))), Err(Rejection::HeadTooLarge));
    assert_eq!(decode("GET / HTTP/1.1\r\na: 1\r\na: 1\r\na: 1\r\n\r\n"), Ok(()));
    assert_eq!(decode("GET / HTTP/1.1\r\na: 1\r\na: 1\r\na: 1\r\na: 1\r\n\r\n"), Err(Rejection::TooManyFields));
}

#[test]
fn response_length_follows_method_status_and_fields() {
    let decode = |method: &Method, text: &str| {
        HeadDecoder::new(Limits::default()).decode_response(&mut BytesMut::from(text), method).map(Option::unwrap)
    };
    for (method, text, expected) in [
        (Method::GET, "HTTP/1.1 200 OK\r\n\r\n", BodyLength::UntilClose),
        (Method::GET, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", BodyLength::Exact(3)),
        (Method::GET, "HTTP/1.1 200\r\ntransfer-encoding: Chunked\r\n\r\n", BodyLength::Chunked),
        (Method::HEAD, "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", BodyLength::Exact(0)),
        (Method::GET, "HTTP/1.1 304 Not Modified\r\ncontent-length: 3\r\n\r\n", BodyLength::Exact(0)),
        (Method::GET, "HTTP/1.1 204 No Content\r\n\r\n", BodyLength::Exact(0)),
        (Method::GET, "HTTP/1.1 103 Early Hints\r\n\r\n", BodyLength::Exact(0)),
    ] {
        assert_eq!(decode(&method, text).unwrap().body, expected, "{text:?}");
    }
    let odd =
        decode(&Method::GET, "HTTP/1.0 999 All  is \u{e9}ven\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n")
            .unwrap();
    assert_eq!((odd.status.as_u16(), odd.version, odd.keep_alive), (999, Version::HTTP_10, true));
    assert_eq!(&odd.reason[..], "All  is \u{e9}ven".as_bytes());
    let bare = decode(&Method::GET, "HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n").unwrap();
    assert_eq!((bare.status, &bare.reason[..]), (StatusCode::OK, &b""[..]));
    for text in [
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
    ] {
        let rejected = decode(&Method::GET, text).err();
        assert!(matches!(rejected, Some(Rejection::StatusLine | Rejection::Version)), "{text:?}: {rejected:?}");
    }
}

#[test]
fn chunked_bodies_are_decoded() {
    let text = b"5\r\nhello\r\n00A;name=\"v\";x\r\n0123456789\r\n1 ;a\r\n!\r\n0;last\r\nX-Sum: 7\r\ncontent-length: 9\r\n\r\nGET /";
    let (data, trailers, rest) = body(BodyLength::Chunked, &[text]).unwrap();
    assert_eq!((&data[..], &rest[..]), (&b"hello0123456789!"[..], &b"GET /"[..]));
    let trailers = trailers.unwrap();
    assert_eq!((trailers.len(), trailers.get("x-sum").unwrap().as_bytes()), (1, &b"7"[..]));
}

#[test]
fn rejected_body_stays_rejected() {
    for (text, expected) in [
        ("5\r\nhello\n\r\n0\r\n\r\n", Rejection::ChunkEnd),
        ("0\r\nbad name: x\r\n\r\nGET / HTTP/1.1\r\n\r\n", Rejection::FieldName),
    ] {
        let mut input = BytesMut::from(text);
        let mut decoder = BodyDecoder::new(BodyLength::Chunked, Limits::default());
        while let Ok(event) = decoder.decode(&mut input) {
            assert!(event.is_some(), "{text:?}");
        }
        assert_eq!((decoder.decode(&mut input), decoder.is_end()), (Err(expected), false), "{text:?}");
    }
}

#[test]
fn invalid_chunked_bodies_are_rejected() {
    use Rejection::*;
    let long = format!("5;{}\r\n", "x".repeat(20_000));
    let trailers = format!("0\r\na: {}\r\n\r\n", "x".repeat(20_000));
    for (text, expected) in [
        ("0x5\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("+5\r\nhello\r\n0\r\n\r\n", ChunkSize),
        (" 5\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("5 \r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("5g\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("5\nhello\r\n0\r\n\r\n", ChunkSize),
        ("\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("5\r0hello\r\n0\r\n\r\n", ChunkSize),
        ("00000000000000005\r\nhello\r\n0\r\n\r\n", ChunkSize),
        ("5;a\nhello\r\n0\r\n\r\n", BareLineFeed),
        ("5;a\0\r\nhello\r\n0\r\n\r\n", ChunkExtension),
        (&long, ChunkExtensionsTooLarge),
        ("5\r\nhello0\r\n\r\n", ChunkEnd),
        ("5\r\nhello\n0\r\n\r\n", ChunkEnd),
        ("5\r\nhello\r0\r\n\r\n", ChunkEnd),
        ("5\r\nhello\r\n0\r\n\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", BareLineFeed),
        ("0\r\nX: 1\n\n", BareLineFeed),
        ("0\r\ngarbage\r\n\r\n", FieldName),
        ("0\r\nx : 1\r\n\r\n", FieldName),
        (&trailers, TrailersTooLarge),
        ("5\r\nhell", Incomplete),
        ("5\r\nhello\r\n", Incomplete),
        ("0\r\n", Incomplete),
    ] {
        assert_eq!(body(BodyLength::Chunked, &[text.as_bytes()]).err(), Some(expected), "{text:?}");
    }
}

/// A chunked body with odd but valid syntax, and what it carries.
fn chunked() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, bool)> {
    let chunk = (proptest::collection::vec(any::<u8>(), 1..40), "(;[a-z]{1,3}(=[a-z]{0,3})?)?", 0usize..3);
    (proptest::collection::vec(chunk, 0..5), any::<bool>()).prop_map(|(chunks, has_trailers)| {
        let (mut text, mut data) = (Vec::new(), Vec::new());
        for (bytes, extension, zeros) in chunks {
            text.extend_from_slice(format!("{}{:X}{extension}\r\n", "0".repeat(zeros), bytes.len()).as_bytes());
            text.extend_from_slice(&bytes);
            text.extend_from_slice(b"\r\n");
            data.extend_from_slice(&bytes);
        }
        text.extend_from_slice(if has_trailers { b"0\r\nx-a: 1\r\n\r\n" } else { b"0\r\n\r\n" });
        (text, data, has_trailers)
    })
}

proptest! {
    #[test]
    fn any_split_of_a_body_gives_the_same_data((text, data, has_trailers) in chunked(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(text.len() + 1)).collect();
        at.extend([0, text.len()]);
        at.sort_unstable();
        let pieces: Vec<&[u8]> = at.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
        let (decoded, trailers, rest) = body(BodyLength::Chunked, &pieces).unwrap();
        prop_assert_eq!((decoded, trailers.is_some(), rest), (data, has_trailers, Vec::new()));
    }

    #[test]
    fn any_split_of_any_bytes_gives_the_same_head(text in "(GET|P\u{e9}|) ?/[a-z]{0,3}( HTTP/1\\.[01])?(\r\n|\n)([a-zA-Z -]{0,4}:[ a-z,0-9]{0,4}(\r\n|\r|\n)){0,3}(\r\n)?[a-z]{0,3}", cut in any::<prop::sample::Index>()) {
        let (whole, cut) = (text.as_bytes(), cut.index(text.len() + 1));
        let mut input = BytesMut::from(&whole[..cut]);
        let mut decoder = HeadDecoder::new(Limits::default());
        let split = match decoder.decode_request(&mut input) {
            Ok(None) => {
                input.extend_from_slice(&whole[cut..]);
                decoder.decode_request(&mut input)
            }
            ended => ended,
        };
        let view = |outcome: Result<Option<RequestHead>, Rejection>| outcome.map(|head| head.map(|head| format!("{head:?}")));
        prop_assert_eq!(view(split), view(request(whole)));
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), pieces in 1usize..5) {
        let split: Vec<&[u8]> = bytes.chunks(bytes.len() / pieces + 1).collect();
        for length in [BodyLength::Chunked, BodyLength::UntilClose, BodyLength::Exact(7)] {
            drop(body(length, &split));
        }
        drop(request(&bytes));
        drop(HeadDecoder::new(Limits::default()).decode_response(&mut BytesMut::from(&bytes[..]), &Method::GET));
        HeadDecoder::request_line(&bytes);
    }
}
