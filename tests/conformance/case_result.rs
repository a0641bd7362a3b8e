//! Results of cases, as lines that can be compared: the response, the request at the origin, and the filter's log.

use std::collections::BTreeMap;

use harness::ClientResponse;
use http::HeaderMap;
use weir_host_abi::abi::pairs::Pairs;

use crate::probe_script::quoted;

/// Headers that each proxy sets in its own way. They are not compared.
const PROXY_HEADERS: [&str; 11] = [
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

/// Lines of one case.
pub(crate) type CaseResult = Vec<String>;

/// Returns true if a header is one that each proxy sets in its own way.
pub(crate) fn is_proxy_header(name: &str) -> bool {
    PROXY_HEADERS.contains(&name) || name.starts_with("x-envoy-")
}

/// Returns a line for each compared header, with `prefix` before it. Lines are sorted by name; values of one name stay
/// in their order.
pub(crate) fn header_lines(prefix: &str, map: &HeaderMap) -> Vec<String> {
    let mut by_name: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in map {
        if !is_proxy_header(name.as_str()) {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            by_name.entry(name.as_str()).or_default().push(value);
        }
    }
    by_name
        .into_iter()
        .flat_map(|(name, values)| values.into_iter().map(move |value| format!("{prefix} {name}: {value}")))
        .collect()
}

/// Returns the lines of the client's response.
pub(crate) fn response_lines(response: Result<ClientResponse, String>) -> CaseResult {
    let Ok(response) = response else { return vec!["answer broken off".to_owned()] };
    let mut lines = vec![format!("answer {}", response.status)];
    lines.extend(header_lines("answer header", &response.headers));
    lines.push(format!("answer body {}", quoted(&response.body)));
    lines.extend(response.trailers.iter().flat_map(|trailers| header_lines("answer trailer", trailers)));
    lines
}

/// Returns a line of the filter's log for comparison. Header lists lose the headers that are not compared. A volatile
/// value is replaced by its length, or by `an address`.
pub(crate) fn guest_line(line: &str, is_volatile: bool) -> String {
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
    let list: Vec<_> = pairs
        .iter()
        .map(|(name, value)| (text(name), text(value)))
        .filter(|(name, _)| !is_proxy_header(name))
        .collect();
    let list: Vec<_> = list.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    format!("filter {before} [{}]", list.join(", "))
}

/// Returns true if a line is about a callout's response, whose time of arrival is not defined.
pub(crate) fn is_callout_response(line: &str) -> bool {
    line.starts_with("filter http_call_response|") || line.starts_with("filter grpc_")
}

/// Returns the bytes of a text that the probe printed with escapes.
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
