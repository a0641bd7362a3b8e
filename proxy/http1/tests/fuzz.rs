//! Random bytes near valid messages, against a naive parser written from the grammar of RFC 9112, and against the codec
//! itself with the bytes split elsewhere and with its own encoding. Inputs of interest are in `proxy/http1/tests/corpus/`.
//!
//! `WEIR_FUZZ_EXECUTIONS=10000000` is the long form; `WEIR_SEED` repeats a run. `WEIR_KEEP=1` adds an input to the corpus
//! for each shape that is not in it. `proxy/http1/tests/corpus/README.md` describes the corpus.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking and prints")]

mod checks;
mod messages;
mod mutation;
mod naive;

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::slice;

use checks::{Coding, SMALL, check, check_round_trip};
use http::Method;
use messages::{Decoded, Message, Sender, decode, executions, seed};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use weir_http1::{Limits, Rejection};

/// Executions of a target in a normal run.
const EXECUTIONS: u64 = 100_000;

#[test]
fn random_requests_have_one_reading() {
    fuzz("requests", |_| Method::GET);
}

#[test]
fn random_responses_have_one_reading() {
    fuzz("responses", |random| if random.random() { Method::GET } else { Method::HEAD });
}

#[test]
fn corpus_has_one_reading() {
    for target in ["requests", "responses"] {
        let mut covered = HashSet::new();
        for (name, bytes) in corpus(target) {
            let outcomes = outcomes(target, &bytes);
            let outcome = outcomes.iter().find(|outcome| name.starts_with(&format!("{}-", outcome_name(**outcome))));
            covered.insert(*outcome.unwrap_or_else(|| panic!("{target}/{name}: {outcomes:?}")));
        }
        let missing: Vec<Rejection> =
            possible(target).filter(|rejection| !covered.contains(&Some(*rejection))).collect();
        assert!(missing.is_empty() && covered.contains(&None), "tests/corpus/{target} has no input for {missing:?}");
    }
}

/// Checks an input of the corpus, split at each byte. Returns its outcomes: responses answer GET or HEAD, and the bounds
/// are small or the default.
fn outcomes(target: &str, bytes: &[u8]) -> Vec<Option<Rejection>> {
    let cuts: Vec<usize> = (0..=bytes.len()).collect();
    let mut outcomes = Vec::new();
    for method in [Method::GET, Method::HEAD] {
        let sender = sender(target, &method);
        let decoded = check(sender, Limits::default(), bytes, &cuts);
        for message in &decoded.messages {
            check_round_trip(message, &method, Coding::Identity);
            check_round_trip(message, &method, Coding::Chunked);
        }
        outcomes.extend([decoded.rejection, check(sender, SMALL, bytes, &cuts).rejection]);
    }
    outcomes
}

/// Returns the rejections that messages of this target have.
fn possible(target: &str) -> impl Iterator<Item = Rejection> + use<> {
    let of_requests = [Rejection::RequestLine, Rejection::Method, Rejection::Target, Rejection::TargetTooLong];
    let never = if target == "requests" { vec![Rejection::StatusLine] } else { of_requests.to_vec() };
    Rejection::ALL.into_iter().filter(move |rejection| !never.contains(rejection))
}

fn sender<'a>(target: &str, method: &'a Method) -> Sender<'a> {
    if target == "requests" { Sender::Client } else { Sender::Server(slice::from_ref(method)) }
}

/// Runs the checks on random inputs. `method` is the method of the requests that responses answer.
fn fuzz(target: &'static str, method: fn(&mut SmallRng) -> Method) {
    let mut random = SmallRng::seed_from_u64(seed());
    let mut shapes = std::env::var_os("WEIR_KEEP").map(|_| BTreeMap::new());
    for _ in 0..executions(EXECUTIONS) {
        let method = method(&mut random);
        let sender = sender(target, &method);
        let bytes = mutation::mutated(sender, &mut random);
        let guard = PrintInputOnPanic { target, bytes: &bytes };
        let cut = random.random_range(0..=bytes.len());
        let decoded = check(sender, Limits::default(), &bytes, &[cut]);
        if random.random_ratio(1, 4) {
            check(sender, SMALL, &bytes, &[cut]);
        }
        for message in &decoded.messages {
            check_round_trip(message, &method, if random.random() { Coding::Identity } else { Coding::Chunked });
        }
        drop(guard);
        if let Some(shapes) = shapes.as_mut().filter(|_| method == Method::GET) {
            add_shapes(sender, &bytes, shapes);
        }
    }
    let new = |shape: &String| !folder(target).join(shape).exists();
    for (shape, bytes) in shapes.into_iter().flatten().filter(|(shape, _)| new(shape)) {
        fs::write(folder(target).join(shape), bytes).unwrap();
    }
}

/// The outcome as the names of files in the corpus have it.
fn outcome_name(rejection: Option<Rejection>) -> &'static str {
    rejection.map_or("valid", |rejection| rejection.name().trim_start_matches("http1_"))
}

/// Adds the shapes of an input to `shapes`, unless a shorter input has them.
fn add_shapes(sender: Sender<'_>, bytes: &[u8], shapes: &mut BTreeMap<String, Vec<u8>>) {
    for limits in [Limits::default(), SMALL] {
        let shape = shape(&decode(sender, limits, [bytes]));
        let shortest = shapes.entry(shape).or_insert_with(|| bytes.to_vec());
        if bytes.len() < shortest.len() {
            *shortest = bytes.to_vec();
        }
    }
}

/// Returns the name of an input: the outcome, and what distinguishes inputs with this outcome.
fn shape(decoded: &Decoded) -> String {
    let detail = match (&decoded.messages[..], decoded.rejection, &decoded.unfinished) {
        (_, Some(_), None) => "in_head",
        (_, Some(_), Some(_)) => "in_body",
        ([message], None, _) => framing(message),
        (_, None, _) => "in_a_row",
    };
    format!("{}-{detail}", outcome_name(decoded.rejection))
}

fn framing(message: &Message) -> &'static str {
    let has = |name| message.fields.iter().any(|field| field.0 == name);
    if !message.trailers.is_empty() {
        "trailers"
    } else if has("content-length") {
        "length"
    } else if message.keep_alive && !message.body.is_empty() {
        "chunked"
    } else {
        "unframed"
    }
}

fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target)
}

/// Returns the names and the bytes of a target's inputs.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let paths = fs::read_dir(folder(target)).unwrap().map(|entry| entry.unwrap().path());
    let mut inputs: Vec<(String, Vec<u8>)> = paths
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(&path).unwrap()))
        .collect();
    inputs.sort();
    inputs
}

/// A guard that prints the command that adds the input to the corpus when the test panics.
struct PrintInputOnPanic<'a> {
    target: &'static str,
    bytes: &'a [u8],
}

impl Drop for PrintInputOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut octal = String::new();
            for byte in self.bytes {
                write!(octal, "\\{byte:03o}").unwrap();
            }
            println!("failed on {}", self.bytes.escape_ascii());
            println!(
                "to add it to the corpus, with its right outcome in place of OUTCOME, such as valid or chunk_size:"
            );
            println!("printf '{octal}' > proxy/http1/tests/corpus/{}/OUTCOME-what", self.target);
        }
    }
}
