//! Replays the corpus of odd and hostile HTTP/1 messages in Weir, Envoy and nginx, and compares what each makes of them
//! with what the corpus records. Each difference between the proxies must have a reason.
//!
//! ```text
//!                          ┌─► Weir ──────────────────┐
//!  client: bytes of a case ├─► Weir with a filter ────┤─► origin: a strict parser records each message
//!   responses, silence ◄── ├─► Envoy ─────────────────┤
//!                          └─► nginx ─────────────────┘
//! ```
//!
//! For Weir the client, the access log, the route, the filter and the origin must agree about each message.
//! `UPDATE_CORPUS=1` writes the outcomes of this run into the corpus; `UPDATE_DOCS=1` the section of `docs/http1.md`.
//! The suite takes about one minute.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking and prints")]

mod corpus; // Parses and rewrites the files.
mod case; // Cases and definitions.
mod draft; // A case while its lines are read.
mod notation; // Escapes and repetitions.
mod judgments; // Each difference has a reason.
mod page; // The section of docs/http1.md.
mod replay; // Runs all cases and compares their outcomes.
mod peers; // The proxies.
mod configuration; // The configurations of Envoy and nginx.
mod client; // The client of a case.
mod origin; // The origin of a lane.
mod outcome; // The text of a result.
mod access_log; // The access log beside the client, the filter and the origin.
mod replies; // The client's parser.
mod strict; // The origin's parser.
mod head; // Lines and fields, for both parsers.

use access_log::Filters;
use case::Kind;
use corpus::Corpus;
use peers::Peer;
use replay::replay;

/// Smallest number of cases.
const MIN_CASES: usize = 1_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_treat_each_case_as_recorded() {
    let peers = [
        Peer::weir(Filters::Absent).await,
        Peer::weir(Filters::Recording).await,
        Peer::envoy().await,
        Peer::nginx().await,
    ];
    let mut lines = Vec::new();
    for kind in [Kind::Requests, Kind::Responses] {
        let corpus = Corpus::read(kind);
        let differences = replay(&corpus, &peers).await;
        lines.extend(differences.disagreements);
        if std::env::var_os("UPDATE_CORPUS").is_some() {
            println!("{}.corpus: {} outcomes replaced", kind.name(), differences.replaced.len());
            corpus.rewrite(differences.replaced);
        } else {
            lines.extend(differences.outcomes);
        }
    }
    assert!(lines.is_empty(), "{} differences from the corpus:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn each_difference_has_a_reason() {
    let corpora = [Kind::Requests, Kind::Responses].map(Corpus::read);
    let count: usize = corpora.iter().map(|corpus| corpus.cases.len()).sum();
    assert!(count >= MIN_CASES, "{count} cases");
    let violations: Vec<String> = corpora.iter().flat_map(judgments::violations).collect();
    assert!(violations.is_empty(), "{} violations:\n{}", violations.len(), violations.join("\n"));
}

#[test]
fn page_lists_the_reasons() {
    page::check(&[Kind::Requests, Kind::Responses].map(Corpus::read));
}
