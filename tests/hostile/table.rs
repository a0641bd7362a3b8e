//! The table of hostile modules that start, and the calls that several of them make.

use crate::wat::{CALLOUT_CLUSTER, CALLOUT_HEADERS, ModuleParts, OUT, call};

/// A hostile module that starts.
#[derive(Debug, Clone)]
pub(crate) struct HostileModule {
    pub(crate) name: String,
    /// The module in the WebAssembly text format.
    pub(crate) text: String,
    /// Part of the text of its failure. `None` if the module need not fail.
    pub(crate) fails: Option<&'static str>,
}

pub(crate) const REQUEST_HEADERS: &str = "proxy_on_request_headers";
pub(crate) const REQUEST_BODY: &str = "proxy_on_request_body";
pub(crate) const RESPONSE_HEADERS: &str = "proxy_on_response_headers";
pub(crate) const RESPONSE_BODY: &str = "proxy_on_response_body";
pub(crate) const ON_TICK: &str = "proxy_on_tick";
pub(crate) const ON_LOG: &str = "proxy_on_log";
pub(crate) const CALL_RESPONSE: &str = "proxy_on_http_call_response";

/// Text of the failure of a callback that exceeded its time.
pub(crate) const STOPPED: &str = "stopped after";

/// The hostile modules that start.
#[derive(Debug, Default)]
pub(crate) struct ModuleTable {
    pub(crate) modules: Vec<HostileModule>,
}

impl ModuleTable {
    /// Adds a module. `fails` is a part of the text of its failure, `None` if it need not fail.
    pub(crate) fn add(&mut self, name: &str, fails: Option<&'static str>, parts: &ModuleParts) {
        self.modules.push(HostileModule { name: name.to_owned(), text: parts.module(name), fails });
    }

    /// Adds a module that does harm in the request's headers and need not fail.
    pub(crate) fn survives(&mut self, name: &str, body: impl Into<String>) {
        self.add(name, None, &ModuleParts::harmful_in(REQUEST_HEADERS, body));
    }

    /// Adds a module that fails in the request's headers.
    pub(crate) fn fails(&mut self, name: &str, fails: &'static str, body: impl Into<String>) {
        self.add(name, Some(fails), &ModuleParts::harmful_in(REQUEST_HEADERS, body));
    }
}

/// Returns the code that sets the tick period.
pub(crate) fn set_tick(milliseconds: i64) -> String {
    call("proxy_set_tick_period_milliseconds", &[milliseconds])
}

/// Returns the code of an HTTP callout to the Service `echo`. `body` is its address and its size.
pub(crate) fn callout(body: [i64; 2]) -> String {
    let [to, to_size] = CALLOUT_CLUSTER;
    let [head, head_size] = CALLOUT_HEADERS;
    call("proxy_http_call", &[to, to_size, head, head_size, body[0], body[1], 0, 0, 1_000, OUT])
}
