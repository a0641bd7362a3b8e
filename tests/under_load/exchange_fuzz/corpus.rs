//! Seeds of `tests/http1_corpus`, and exchanges of `tests/under_load/exchange_corpus` that a run has found.

use std::fs;
use std::path::{Path, PathBuf};

use super::exchange::{ClientEnd, Exchange, PLACEHOLDER, PlannedResponse, Seeds, Token};

/// Longest message of the corpus that is used. Longer ones only fill buffers.
const MAX_SEED_BYTES: usize = 4_096;

/// The preface of HTTP/2, whose messages this target does not read.
const HTTP2_PREFACE: &[u8] = b"PRI ";

/// Returns the messages of `tests/http1_corpus`.
pub(super) fn seeds() -> Seeds {
    let requests = messages("requests.corpus").into_iter().filter(|bytes| !bytes.starts_with(HTTP2_PREFACE));
    let responses = messages("responses.corpus").into_iter();
    Seeds {
        requests: requests.map(|bytes| request_with_placeholder(&bytes)).collect(),
        responses: responses.map(|bytes| response_with_placeholder(&bytes)).collect(),
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the bytes that each case of a corpus sends.
fn messages(file: &str) -> Vec<Vec<u8>> {
    let text = fs::read_to_string(folder().join("http1_corpus").join(file)).unwrap();
    let sent = |record: &str| {
        let lines = record.lines().filter_map(|line| line.strip_prefix("send ").or(line.strip_prefix("more ")));
        let parts: Option<Vec<Vec<u8>>> = lines.map(unescape).collect();
        parts.map(|parts| parts.concat()).filter(|bytes| !bytes.is_empty() && bytes.len() <= MAX_SEED_BYTES)
    };
    text.split("\n\n").filter_map(sent).collect()
}

/// Puts the placeholder at the front of the first request's path.
fn request_with_placeholder(bytes: &[u8]) -> Vec<u8> {
    match bytes.windows(2).position(|pair| pair == b" /") {
        Some(space) => [&bytes[..=space], b"/", PLACEHOLDER, &bytes[space + 1..]].concat(),
        None => bytes.to_vec(),
    }
}

/// Adds a field with the placeholder to the first response.
fn response_with_placeholder(bytes: &[u8]) -> Vec<u8> {
    match bytes.windows(2).position(|pair| pair == b"\r\n") {
        Some(end) => [&bytes[..end + 2], b"x-marker: ", PLACEHOLDER, b"\r\n", &bytes[end + 2..]].concat(),
        None => bytes.to_vec(),
    }
}

/// Returns the bytes of a text with the escapes of the corpora; `None` if they are too many, or an escape is unknown.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some(character) = rest.chars().next() {
        rest = &rest[character.len_utf8()..];
        match character {
            '\\' => {
                let escape = rest.chars().next()?;
                rest = &rest[escape.len_utf8()..];
                bytes.push(match escape {
                    'r' => b'\r',
                    'n' => b'\n',
                    't' => b'\t',
                    '0' => 0,
                    '\\' | '\'' | '"' => u8::try_from(escape).ok()?,
                    'x' => {
                        let digits = rest.get(..2)?;
                        rest = &rest[2..];
                        u8::from_str_radix(digits, 16).ok()?
                    }
                    _ => return None,
                });
            }
            '{' => {
                let (repetition, after) = rest.split_once('}')?;
                let (count, repeated) = repetition.split_once('*')?;
                let (count, repeated) = (count.parse::<usize>().ok()?, unescape(repeated)?);
                if count * repeated.len() > MAX_SEED_BYTES {
                    return None;
                }
                bytes.extend(repeated.repeat(count));
                rest = after;
            }
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Some(bytes)
}

/// A file of `tests/under_load/exchange_corpus/`.
pub(super) struct RecordedExchange {
    pub(super) name: String,
    pub(super) exchange: Exchange,
}

/// Returns the exchanges that runs have found.
pub(super) fn recorded() -> Vec<RecordedExchange> {
    let files = fs::read_dir(folder().join("under_load/exchange_corpus")).unwrap().map(|entry| entry.unwrap().path());
    let mut recorded: Vec<RecordedExchange> =
        files.filter(|path| path.extension().is_some_and(|end| end == "exchange")).map(|path| read(&path)).collect();
    recorded.sort_by(|one, other| one.name.cmp(&other.name));
    recorded
}

fn read(path: &Path) -> RecordedExchange {
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let wrong = |line: &str| -> ! { panic!("{name}: {line:?}") };
    let (mut request, mut responses) = (Vec::new(), Vec::new());
    for line in fs::read_to_string(path).unwrap().lines().filter(|line| !line.starts_with('#')) {
        if let Some(text) = line.strip_prefix("request ") {
            request = unescape(text).unwrap_or_else(|| wrong(line));
        } else if let Some((token, text)) = line.strip_prefix("response ").and_then(|rest| rest.split_once(' ')) {
            let Some(&token) = Token::all_in(token.as_bytes()).first() else { wrong(line) };
            responses.push(PlannedResponse::new(token, unescape(text).unwrap_or_else(|| wrong(line))));
        } else {
            wrong(line);
        }
    }
    RecordedExchange { exchange: Exchange { request, cut: None, responses, end: ClientEnd::Finish }, name }
}

#[test]
fn escapes_of_corpora_are_read() {
    let expected = b"a\r\n\t\\\0\xffbbb{\xc3\xa9".to_vec();
    assert_eq!(unescape("a\\r\\n\\t\\\\\\0\\xff{3*b}\\x7bé"), Some(expected));
    assert_eq!(unescape("{70000*a}"), None);
    let bytes: Vec<u8> = (0..=u8::MAX).collect();
    assert_eq!(unescape(&super::exchange::escaped(&bytes)), Some(bytes));
    let seeds = seeds();
    assert!(seeds.requests.len() > 500 && seeds.responses.len() > 200);
}
