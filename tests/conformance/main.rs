//! The same modules, configurations and requests through real Envoy and through Weir, and everything that can be seen of
//! them compared: answers, what reached the origin, what callouts said, what the filter itself saw and was told.
//!
//! ```text
//! cases.rs ─► side_by_side.rs ─► Envoy ─► lines ─┐
//!                            └─► Weir  ─► lines ─┴─► differences.rs ─► docs/envoy-differences.md says why, or the test fails
//! ```
//!
//! What makes the hostcalls is `tests/probe`. The suite fails when a hostcall or callback of the host's table has no
//! case here, and when the page lists a difference that is none any more.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking and prints")]

mod guest; // The probe's script, and what it says.
mod case; // One case.
mod matrix; // Every hostcall from every callback.
mod properties; // Every property.
mod behaviour; // What filters do to streams.
mod expressions; // CEL.
mod tcp; // What filters do to connections.
mod modules; // What is no probe.
mod assemblyscript; // A filter in another language, with its own SDK.
mod coverage; // That nothing is left out.
mod side_by_side; // Runs cases in both.
mod outcome; // What can be seen, in lines.
mod differences; // What may differ, and why.

use case::Case;
use differences::Differences;
use side_by_side::{Arrangement, run};

/// As many cases as there must be at least.
const LEAST: usize = 300;

#[tokio::test]
async fn the_same_filter_in_both() {
    let mut cases = matrix::cases();
    cases.extend(properties::cases());
    cases.extend(behaviour::cases());
    cases.extend(behaviour::wasi());
    cases.extend(expressions::cases());
    assert!(cases.len() >= LEAST, "{} cases", cases.len());
    compare(&Arrangement::default(), &cases).await;
}

async fn compare(arrangement: &Arrangement, cases: &[Case]) {
    let mut differences = Differences::read();
    let outcomes = run(arrangement, cases, |name| differences.is_undefined(name)).await;
    let compared = outcomes.iter().filter(|(envoy, _)| envoy.is_some()).count();
    for (case, (envoy, weir)) in cases.iter().zip(&outcomes) {
        differences.compare(&case.name, envoy.as_ref(), weir);
    }
    let connections = tcp::cases();
    let seen = tcp::run(&connections, |name| differences.is_undefined(name)).await;
    let (compared, all) =
        (compared + seen.iter().filter(|(envoy, _)| envoy.is_some()).count(), cases.len() + seen.len());
    for (case, (envoy, weir)) in connections.iter().zip(&seen) {
        differences.compare(&case.name, envoy.as_ref(), weir);
    }
    coverage::check(cases, outcomes.iter().chain(&seen).map(|(_, weir)| weir));
    println!("{compared} cases compared, {} undefined in Envoy", all - compared);
    differences.report();
}
