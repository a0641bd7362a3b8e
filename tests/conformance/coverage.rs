//! Every hostcall and callback of the host's table has a case here, or a reason why not.

use std::collections::BTreeSet;

use weir_host_abi::abi::calls::{CALLBACKS, HOSTCALLS, Hostcall, Library, STREAM_CALLBACKS};

use crate::case::Case;
use crate::modules;
use crate::outcome::Outcome;

/// Callbacks that no request of these cases can bring about.
const ELSEWHERE: [(&str, &str); 5] = [
    ("proxy_on_foreign_function", "no function of either host calls back"),
    ("proxy_on_context_create", "tests of the host: every case would log it before its path is known"),
    ("proxy_on_grpc_trailing_metadata", "another name of proxy_on_grpc_receive_trailing_metadata"),
    ("proxy_on_tick", "tests of the proxy: it comes by the clock"),
    ("proxy_on_queue_ready", "tests of the proxy: it comes when its worker has time"),
];

/// Fails when a row of the table has no case.
pub(crate) fn check<'o>(cases: &[Case], outcomes: impl Iterator<Item = &'o Outcome>) {
    let words = |step: &String| step.split(' ').nth(1).map(str::to_owned);
    let mut made: BTreeSet<String> = cases.iter().flat_map(|case| case.steps.iter().filter_map(words)).collect();
    made.extend(modules::hostcalls());
    let missing: Vec<_> = HOSTCALLS.iter().map(|row| row.name).filter(|name| !made.contains(*name)).collect();
    assert!(missing.is_empty(), "no case makes these hostcalls: {missing:?}");

    let lines = outcomes.flatten().filter_map(|line| line.strip_prefix("filter "));
    let seen: BTreeSet<&str> = lines.filter_map(|line| line.split_once("|called|")).map(|(name, _)| name).collect();
    let is_seen = |callback: &str| {
        let name = callback
            .trim_start_matches("proxy_on_")
            .replace("grpc_receive_", "grpc_")
            .replace("connection_close", "close");
        seen.contains(name.as_str()) || ["vm_start", "configure"].contains(&name.as_str())
    };
    let exempt = |name: &str| ELSEWHERE.iter().any(|(callback, _)| *callback == name);
    let missing: Vec<_> = CALLBACKS.iter().map(|row| row.name).filter(|name| !is_seen(name) && !exempt(name)).collect();
    assert!(missing.is_empty(), "no case brings about these callbacks: {missing:?}");
}

#[test]
fn what_an_envoy_lets_a_plugin_without_streams_do_is_everything_else() {
    let is_of_the_abi = |row: &&Hostcall| row.library == Library::Wasi || row.name.starts_with("proxy_");
    let hostcalls = HOSTCALLS.iter().filter(is_of_the_abi).map(|row| row.name).filter(|name| *name != "proc_raise");
    let callbacks = CALLBACKS.iter().map(|row| row.name).filter(|name| !STREAM_CALLBACKS.contains(name));
    let expected: BTreeSet<&str> = hostcalls.chain(callbacks).collect();
    assert_eq!(weir_xds::encode::WITHOUT_STREAMS.into_iter().collect::<BTreeSet<_>>(), expected);
}
