//! The checks of one input: the codec has one reading of it, the one of the naive parser, however its bytes are split,
//! and reads the same from its own encoding.

use std::fmt;

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{HeaderMap, Method, StatusCode, Version};
use weir_http1::encode::{self, BodyEncoder};
use weir_http1::{BodyLength, Limits, Rejection};

use crate::messages::{Decoded, Fields, Message, Sender, StartLine, decode, end_to_end, fields};
use crate::naive::{self, End};

/// Bounds that short inputs exceed.
pub(crate) const SMALL: Limits =
    Limits { head_bytes: 128, fields: 4, target_bytes: 32, chunk_extension_bytes: 8, trailer_bytes: 32 };

/// Decodes an input with these bounds, also split at each of `cuts` and byte by byte.
///
/// The default bounds are above every input, and the reading is the naive parser's. With smaller ones the rejection may
/// depend on the split, since a piece may exceed a bound before it has the invalid byte. The messages before it may not.
pub(crate) fn check(sender: Sender<'_>, limits: Limits, bytes: &[u8], cuts: &[usize]) -> Decoded {
    let whole = decode(sender, limits, [bytes]);
    let compare = |split: &Decoded, description: fmt::Arguments<'_>| {
        let is_same = *split == whole
            || limits != Limits::default()
                && (is_bounded(split) || is_bounded(&whole))
                && (is_invalid(split) && is_invalid(&whole))
                && split.messages == whole.messages;
        assert!(is_same, "{description}: {split:?}\nwhole: {whole:?}");
    };
    for cut in cuts {
        let (first, last) = bytes.split_at(*cut);
        let (middle, last) = last.split_at(last.len() / 2);
        compare(&decode(sender, limits, [first, middle, last]), format_args!("split at {cut}"));
    }
    compare(&decode(sender, limits, bytes.chunks(1)), format_args!("byte by byte"));
    if is_bounded(&whole) {
        let parsed = naive::parse(sender, bytes).messages;
        assert!(parsed.starts_with(&whole.messages), "{whole:?}\nnaive: {parsed:?}");
    } else {
        compare_with_naive(sender, bytes, &whole);
    }
    whole
}

fn is_invalid(decoded: &Decoded) -> bool {
    !matches!(decoded.rejection, None | Some(Rejection::Incomplete))
}

/// Returns true if the message exceeds a bound.
fn is_bounded(decoded: &Decoded) -> bool {
    matches!(
        decoded.rejection,
        Some(
            Rejection::HeadTooLarge
                | Rejection::TooManyFields
                | Rejection::TargetTooLong
                | Rejection::ChunkExtensionsTooLarge
                | Rejection::TrailersTooLarge
        )
    )
}

fn compare_with_naive(sender: Sender<'_>, bytes: &[u8], decoded: &Decoded) {
    let parsed = naive::parse(sender, bytes);
    let end = match decoded.rejection {
        None => End::Complete,
        Some(Rejection::Incomplete) => End::Incomplete,
        Some(_) => End::Invalid,
    };
    assert_eq!(parsed.end, end, "{decoded:?}\nnaive: {parsed:?}");
    assert_eq!(parsed.messages.len(), decoded.messages.len(), "{decoded:?}\nnaive: {parsed:?}");
    for (ours, naive) in decoded.messages.iter().zip(parsed.messages) {
        // A dropped trailer field changes the order of the others. Only the order within one name has a meaning
        // (RFC 9110 §5.3).
        let sorted = |message: &Message| {
            let mut message = message.clone();
            message.trailers.sort_by(|one, other| one.0.cmp(&other.0));
            message
        };
        assert_eq!(sorted(ours), sorted(&naive));
    }
}

/// Encodes a message, with or without the chunked coding, and decodes it again.
pub(crate) fn check_round_trip(message: &Message, method: &Method, coding: Coding) {
    let sender = match message.start {
        // A request with two hosts is rejected before it is encoded.
        StartLine::Request { .. } if message.fields.iter().filter(|(name, _)| name == "host").count() > 1 => return,
        StartLine::Request { .. } => Sender::Client,
        StartLine::Response { .. } => Sender::Server(std::slice::from_ref(method)),
    };
    let (headers, length) = framed(message, method, coding);
    let mut bytes = encode_head(&message.start, &headers);
    encode_body(message, length, &mut bytes);
    let expected = Message {
        start: usual_reason(&message.start),
        version: Version::HTTP_11,
        fields: end_to_end(&message.start, fields(&headers)),
        keep_alive: message.keep_alive && length != BodyLength::UntilClose,
        ..message.clone()
    };
    let decoded = decode(sender, Limits::default(), [&bytes[..]]);
    assert_eq!(
        decoded,
        Decoded { messages: vec![expected], rejection: None, unfinished: None },
        "{}",
        bytes.escape_ascii()
    );
}

/// The transfer coding of an encoded message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coding {
    /// A length, or the end of the connection for a response that had no length.
    Identity,
    Chunked,
}

/// Returns the headers of an encoded message, and the length of its body.
fn framed(message: &Message, method: &Method, coding: Coding) -> (HeaderMap, BodyLength) {
    let mut headers = header_map(&message.fields);
    let is_framed = headers.contains_key(CONTENT_LENGTH);
    headers.insert(CONNECTION, HeaderValue::from_static(if message.keep_alive { "keep-alive" } else { "close" }));
    if let StartLine::Response { status, .. } = message.start {
        if *method == Method::HEAD || matches!(status, 100..=199 | 204 | 304) {
            return (headers, BodyLength::Exact(0)); // Its framing fields describe another response.
        }
        if !is_framed && coding == Coding::Identity && message.trailers.is_empty() {
            return (headers, BodyLength::UntilClose);
        }
    }
    headers.remove(CONTENT_LENGTH);
    headers.remove(TRANSFER_ENCODING);
    if coding == Coding::Chunked || !message.trailers.is_empty() {
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        return (headers, BodyLength::Chunked);
    }
    headers.insert(CONTENT_LENGTH, message.body.len().into());
    (headers, BodyLength::Exact(message.body.len() as u64))
}

fn header_map(fields: &Fields) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("a decoded name is valid");
        headers.append(name, HeaderValue::from_bytes(value).expect("a decoded value is valid"));
    }
    headers
}

fn encode_head(start: &StartLine, headers: &HeaderMap) -> Vec<u8> {
    let mut bytes = Vec::new();
    match start {
        StartLine::Request { method, target } => {
            let method = Method::from_bytes(method.as_bytes()).expect("a decoded method is valid");
            encode::request_head(&mut bytes, &method, target, encode::Fields { headers, sent_names: None });
        }
        StartLine::Response { status, reason } => {
            let status = StatusCode::from_u16(*status).expect("a decoded status is valid");
            encode::response_head(&mut bytes, status, reason, encode::Fields { headers, sent_names: None });
            encode::end_of_head(&mut bytes);
        }
    }
    bytes
}

fn encode_body(message: &Message, length: BodyLength, bytes: &mut Vec<u8>) {
    let mut encoder = BodyEncoder::new(length);
    for data in message.body.chunks(3) {
        let suffix = encoder.data_frame(data.len(), bytes).expect("the declared length");
        bytes.extend_from_slice(data);
        bytes.extend_from_slice(suffix);
    }
    // A sender must not write more than it declares (RFC 9112 §6.3).
    let is_bounded = { encoder }.data_frame(1, &mut Vec::new()).is_err();
    assert_eq!(is_bounded, encoder.is_complete(), "{length:?}");
    encoder.end(Some(&header_map(&message.trailers)), bytes).expect("the declared length");
}

/// Returns the start line with the usual reason phrase in place of none.
fn usual_reason(start: &StartLine) -> StartLine {
    match start {
        StartLine::Response { status, reason } if reason.is_empty() => {
            let usual = StatusCode::from_u16(*status).ok().and_then(|status| status.canonical_reason());
            StartLine::Response { status: *status, reason: usual.unwrap_or_default().as_bytes().to_vec() }
        }
        start => start.clone(),
    }
}
