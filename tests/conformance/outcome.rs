//! What can be seen of a case, in lines that can be compared.

use std::collections::BTreeMap;

use harness::Answer;
use http::HeaderMap;
use weir_host_abi::abi::pairs::Pairs;

use crate::guest::quoted;

/// Headers that each proxy adds for itself.
const OWN: [&str; 11] = [
    "date",
    "server",
    "x-request-id",
    "x-forwarded-for",
    "x-forwarded-proto",
    "via",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "host",
];

/// A case's lines.
pub(crate) type Outcome = Vec<String>;

pub(crate) fn is_own(name: &str) -> bool {
    OWN.contains(&name) || name.starts_with("x-envoy-")
}

/// The headers that are nobody's own, sorted by name; values of one name in their order.
pub(crate) fn headers(of: &str, map: &HeaderMap) -> Vec<String> {
    let mut by_name: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in map {
        if !is_own(name.as_str()) {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            by_name.entry(name.as_str()).or_default().push(value);
        }
    }
    by_name
        .into_iter()
        .flat_map(|(name, values)| values.into_iter().map(move |it| format!("{of} {name}: {it}")))
        .collect()
}

/// What the client saw.
pub(crate) fn answer(answer: Result<Answer, String>) -> Outcome {
    let Ok(answer) = answer else { return vec!["answer broken off".to_owned()] };
    let mut lines = vec![format!("answer {}", answer.status)];
    lines.extend(headers("answer header", &answer.headers));
    lines.push(format!("answer body {}", quoted(&answer.body)));
    lines.extend(answer.trailers.iter().flat_map(|trailers| headers("answer trailer", trailers)));
    lines
}

/// A line of the filter, with what is each proxy's own left out of header lists; of a value that is never the same, only
/// how long it is.
pub(crate) fn said(line: &str, is_volatile: bool) -> String {
    if let Some((before, text)) = line.split_once("|0 \"").filter(|_| is_volatile) {
        let bytes = unescaped(text.trim_end_matches('"'));
        let address = String::from_utf8_lossy(&bytes).parse::<std::net::SocketAddr>().map(|_| "an address".to_owned());
        let shown = address.unwrap_or_else(|_| format!("{} bytes", bytes.len()));
        return format!("filter {before}|0 {shown}");
    }
    if !line.contains("|proxy_get_header_map_pairs|") {
        return format!("filter {line}");
    }
    let Some((before, text)) = line.split_once(" \"") else { return format!("filter {line}") };
    let bytes = unescaped(text.trim_end_matches('"'));
    let Ok(pairs) = Pairs::decode(&bytes) else { return format!("filter {line}") };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let list: Vec<_> =
        pairs.iter().map(|(name, value)| (text(name), text(value))).filter(|(name, _)| !is_own(name)).collect();
    let list: Vec<_> = list.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    format!("filter {before} [{}]", list.join(", "))
}

/// Whether a line is about the answer to a callout: when it comes is nobody's promise.
pub(crate) fn is_answer(line: &str) -> bool {
    line.starts_with("filter http_call_response|") || line.starts_with("filter grpc_")
}

/// The bytes that the probe has printed with escapes.
fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut letters = text.bytes();
    while let Some(letter) = letters.next() {
        match letter {
            b'\\' => match letters.next() {
                Some(b'x') => {
                    let mut digit = || letters.next().and_then(|digit| char::from(digit).to_digit(16)).unwrap_or(0);
                    let (high, low) = (digit(), digit());
                    bytes.push(u8::try_from(high * 16 + low).unwrap_or(0));
                }
                Some(b'n') => bytes.push(b'\n'),
                Some(b'r') => bytes.push(b'\r'),
                Some(b't') => bytes.push(b'\t'),
                Some(other) => bytes.push(other),
                None => {}
            },
            other => bytes.push(other),
        }
    }
    bytes
}
