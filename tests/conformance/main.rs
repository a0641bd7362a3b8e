//! Conformance suite: runs the same modules, configurations and requests in a real Envoy and in Weir, and compares the
//! results. A result has the response, the request at the origin, callouts, and the filter's callbacks and hostcalls.
//!
//! ```text
//! case.rs ─► side_by_side.rs ─► Envoy ─► lines ─┐
//!                           └─► Weir  ─► lines ─┴─► differences.rs ─► docs/envoy-differences.md must list it
//! ```
//!
//! The filter `tests/probe` makes the hostcalls. The suite also fails if a hostcall or callback of the host's tables
//! has no case, and if the page lists a difference that no longer exists.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking and prints")]

mod probe_script; // The probe's script and log.
mod case; // One case of an HTTP stream.
mod matrix; // Every hostcall from every callback.
mod properties; // Every property.
mod behavior; // Effects of filters on streams.
mod expressions; // CEL.
mod tcp; // Cases of TCP connections.
mod modules; // Modules in the text format, which the probe cannot be.
mod assemblyscript; // A filter of the AssemblyScript SDK.
mod coverage; // Every hostcall and callback has a case.
mod side_by_side; // Runs cases in both proxies.
mod case_result; // Results of cases, as lines.
mod differences; // Comparison with docs/envoy-differences.md.

use case::Case;
use differences::DocumentedDifferences;
use side_by_side::{RunConfig, run};

/// Smallest number of cases.
const MIN_CASES: usize = 300;

#[tokio::test]
async fn probe_cases_match_envoy_or_are_documented() {
    let mut cases = matrix::cases();
    cases.extend(properties::cases());
    cases.extend(behavior::cases());
    cases.extend(behavior::wasi());
    cases.extend(expressions::cases());
    assert!(cases.len() >= MIN_CASES, "{} cases", cases.len());
    compare(&RunConfig::default(), &cases).await;
}

async fn compare(config: &RunConfig, cases: &[Case]) {
    let mut differences = DocumentedDifferences::read();
    let results = run(config, cases, |name| differences.is_undefined(name)).await;
    let compared = results.iter().filter(|(envoy, _)| envoy.is_some()).count();
    for (case, (envoy, weir)) in cases.iter().zip(&results) {
        differences.compare(&case.name, envoy.as_ref(), weir);
    }
    let connections = tcp::cases();
    let tcp_results = tcp::run(&connections, |name| differences.is_undefined(name)).await;
    let (compared, all) =
        (compared + tcp_results.iter().filter(|(envoy, _)| envoy.is_some()).count(), cases.len() + tcp_results.len());
    for (case, (envoy, weir)) in connections.iter().zip(&tcp_results) {
        differences.compare(&case.name, envoy.as_ref(), weir);
    }
    coverage::check(cases, results.iter().chain(&tcp_results).map(|(_, weir)| weir));
    println!("{compared} cases compared, {} undefined in Envoy", all - compared);
    differences.report();
}
