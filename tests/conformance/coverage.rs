//! Checks that every hostcall and callback of the host's tables has a case in this suite, or a reason why not.

use std::collections::BTreeSet;

use weir_host_abi::abi::calls::{CALLBACKS, HOSTCALLS, HostcallSpec, ImportModule, STREAM_CALLBACKS};

use crate::case::Case;
use crate::case_result::CaseResult;
use crate::modules;

/// Callbacks that no case of this suite can cause, with the reason.
const EXEMPT_CALLBACKS: [(&str, &str); 5] = [
    ("proxy_on_foreign_function", "no function of either host calls back"),
    ("proxy_on_context_create", "tests of the host: every case would log it before its path is known"),
    ("proxy_on_grpc_trailing_metadata", "another name of proxy_on_grpc_receive_trailing_metadata"),
    ("proxy_on_tick", "tests of the proxy: it comes by the clock"),
    ("proxy_on_queue_ready", "tests of the proxy: it comes when its worker has time"),
];

/// Panics if a hostcall or callback has no case.
pub(crate) fn check<'o>(cases: &[Case], results: impl Iterator<Item = &'o CaseResult>) {
    let hostcall_name = |step: &String| step.split(' ').nth(1).map(str::to_owned);
    let mut called: BTreeSet<String> =
        cases.iter().flat_map(|case| case.steps.iter().filter_map(hostcall_name)).collect();
    called.extend(modules::hostcalls());
    let missing: Vec<_> = HOSTCALLS.iter().map(|row| row.name).filter(|name| !called.contains(*name)).collect();
    assert!(missing.is_empty(), "no case makes these hostcalls: {missing:?}");

    let lines = results.flatten().filter_map(|line| line.strip_prefix("filter "));
    let seen: BTreeSet<&str> = lines.filter_map(|line| line.split_once("|called|")).map(|(name, _)| name).collect();
    let is_seen = |callback: &str| {
        let name = callback
            .trim_start_matches("proxy_on_")
            .replace("grpc_receive_", "grpc_")
            .replace("connection_close", "close");
        seen.contains(name.as_str()) || ["vm_start", "configure"].contains(&name.as_str())
    };
    let is_exempt = |name: &str| EXEMPT_CALLBACKS.iter().any(|(callback, _)| *callback == name);
    let missing: Vec<_> =
        CALLBACKS.iter().map(|row| row.name).filter(|name| !is_seen(name) && !is_exempt(name)).collect();
    assert!(missing.is_empty(), "no case causes these callbacks: {missing:?}");
}

#[test]
fn non_stream_capabilities_are_abi_calls_without_stream_callbacks() {
    let is_of_the_abi = |row: &&HostcallSpec| row.import_module == ImportModule::Wasi || row.name.starts_with("proxy_");
    let hostcalls = HOSTCALLS.iter().filter(is_of_the_abi).map(|row| row.name).filter(|name| *name != "proc_raise");
    let callbacks = CALLBACKS.iter().map(|row| row.name).filter(|name| !STREAM_CALLBACKS.contains(name));
    let expected: BTreeSet<&str> = hostcalls.chain(callbacks).collect();
    assert_eq!(weir_xds::encode::NON_STREAM_CAPABILITIES.into_iter().collect::<BTreeSet<_>>(), expected);
}
