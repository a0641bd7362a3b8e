//! A filter on the bare ABI, without an SDK. It makes any hostcall from any callback with any arguments, and logs the
//! results. Its configuration has a line for each step:
//!
//! ```text
//! PATH      CALLBACK         HOSTCALL             ARGUMENTS
//! /case/7   request_headers  proxy_get_property   "request\0path"
//! /case/7   request_headers  return               1
//! *root     configure        proxy_log            2 "hello"
//! ```
//!
//! A result is logged as `probe|/case/7|request_headers|proxy_get_property|0 "/case/7"`. A stream runs the steps of its
//! path. A callout's response runs those of the stream that made the callout. TCP connections run those of `*tcp/0`,
//! `*tcp/1` and so on, in the order of their arrival. Other callbacks run those of `*root`. Every stream runs the steps
//! of `*new` when it is created, before its path is known. The conformance suite compares the logs of two hosts.

mod calls; // Hostcalls with arguments from the script.
mod guest; // Exports that the host needs of every guest.
mod script; // The configuration.

use std::cell::RefCell;
use std::collections::HashMap;

use calls::HostcallResult;
use script::{Script, Step};

thread_local! {
    static PROBE: RefCell<Probe> = RefCell::default();
}

/// State of the VM.
#[derive(Default)]
struct Probe {
    script: Script,
    /// The paths of streams, by context.
    paths: HashMap<u32, String>,
    /// Number of TCP connections since the start.
    connections: usize,
    /// Context that made a callout, by the callout's id.
    callouts: HashMap<u32, u32>,
    /// First number that the last hostcall wrote.
    last_number: i64,
}

/// A running callback: its name, and the path and context whose steps it runs.
struct CallbackScope {
    name: &'static str,
    path: String,
    /// The stream's context, or the plugin's.
    context: u32,
    size: u32,
}

fn log_event(path: &str, callback: &str, event: &str) {
    calls::log(2, &format!("probe|{path}|{callback}|{event}"));
}

impl CallbackScope {
    /// Returns a callback on the plugin context.
    fn of_plugin(name: &'static str, context: u32) -> Self {
        Self { name, path: "*root".to_owned(), context, size: 0 }
    }

    fn of_stream(name: &'static str, context: u32, size: u32) -> Self {
        let path = PROBE.with_borrow(|probe| probe.paths.get(&context).cloned());
        Self { name, path: path.unwrap_or_else(|| "*root".to_owned()), context, size }
    }

    /// Returns a callback of a callout's response, on the context that made the callout.
    fn of_callout(name: &'static str, root: u32, call: u32, size: u32) -> Self {
        let caller = PROBE.with_borrow(|probe| probe.callouts.get(&call).copied());
        Self::of_stream(name, caller.unwrap_or(root), size)
    }

    /// Logs the call, runs the steps, and returns the value of the last `return` step, 0 without one. `delete` also
    /// logs
    /// `over`, since it is the last callback of a context.
    fn run(&self, arguments: &str) -> u32 {
        let steps = PROBE.with_borrow(|probe| probe.script.steps(&self.path, self.name));
        log_event(&self.path, self.name, &format!("called|{arguments}"));
        let mut action = 0;
        for step in steps {
            match step.call.as_str() {
                "return" => action = self.number(&step, 0) as u32,
                "trap" => std::process::abort(),
                _ => self.run_hostcall(&step),
            }
        }
        if self.name == "delete" {
            log_event(&self.path, self.name, "over");
        }
        action
    }

    fn number(&self, step: &Step, at: usize) -> i64 {
        step.arguments.get(at).map_or(0, |argument| argument.number(&self.named_numbers()))
    }

    /// Returns the numbers that an argument can name.
    fn named_numbers(&self) -> [(&'static str, i64); 3] {
        let last_number = PROBE.with_borrow(|probe| probe.last_number);
        [("ctx", i64::from(self.context)), ("size", i64::from(self.size)), ("id", last_number)]
    }

    fn run_hostcall(&self, step: &Step) {
        let Some(HostcallResult { status, written, first }) =
            calls::make(&step.call, &step.arguments, &self.named_numbers())
        else {
            return log_event(&self.path, self.name, &format!("{}|no such hostcall", step.call));
        };
        PROBE.with_borrow_mut(|probe| {
            if let Some(first) = first {
                probe.last_number = first;
                let calls_out =
                    ["proxy_http_call", "proxy_grpc_call", "proxy_grpc_stream"].contains(&step.call.as_str());
                if status == 0 && calls_out {
                    probe.callouts.insert(first as u32, self.context);
                }
            }
        });
        // Ids of callouts and metrics differ between hosts. Only the existence of an id is compared.
        let host_specific = ["proxy_http_call", "proxy_grpc_call", "proxy_grpc_stream", "proxy_define_metric"];
        let written = match written.as_str() {
            "" => String::new(),
            number if host_specific.contains(&step.call.as_str()) && !number.contains("unwritten") && number != "0" => {
                " ID".into()
            }
            other => format!(" {other}"),
        };
        log_event(&self.path, self.name, &format!("{}|{status}{written}", step.call));
    }
}

/// Stores the path of a stream from its request.
fn store_path(context: u32) {
    if PROBE.with_borrow(|probe| probe.paths.contains_key(&context)) {
        return;
    }
    let path = calls::request_path().unwrap_or_else(|| "*unknown".to_owned());
    PROBE.with_borrow_mut(|probe| probe.paths.insert(context, path));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(context: u32, parent: u32) {
    if parent == 0 {
        return; // There is no configuration yet.
    }
    let steps = PROBE.with_borrow(|probe| !probe.script.steps("*new", "context_create").is_empty());
    if steps {
        CallbackScope { name: "context_create", path: "*new".to_owned(), context, size: 0 }.run("");
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(root: u32, size: u32) -> u32 {
    // The script is the VM's configuration too, so that this callback can be scripted.
    if let Some(text) = calls::buffer(6, size) {
        PROBE.with_borrow_mut(|probe| probe.script = Script::parse(&text));
    }
    CallbackScope::of_plugin("vm_start", root).run("");
    1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(root: u32, size: u32) -> u32 {
    let text = calls::buffer(7, size).unwrap_or_default();
    PROBE.with_borrow_mut(|probe| probe.script = Script::parse(&text));
    let is_rejected = CallbackScope::of_plugin("configure", root).run("") != 0;
    u32::from(!is_rejected)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(root: u32) {
    let is_first = PROBE.with_borrow_mut(|probe| !std::mem::replace(&mut probe.script.ticked, true));
    if is_first {
        CallbackScope::of_plugin("tick", root).run("");
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_queue_ready(root: u32, _queue: u32) {
    CallbackScope::of_plugin("queue_ready", root).run("");
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_foreign_function(root: u32, function: u32, size: u32) {
    CallbackScope { size, ..CallbackScope::of_plugin("foreign_function", root) }.run(&format!("{function} {size}"));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(context: u32, _count: u32, end: u32) -> u32 {
    store_path(context);
    CallbackScope::of_stream("request_headers", context, 0).run(&format!("end={end}"))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(context: u32, size: u32, end: u32) -> u32 {
    CallbackScope::of_stream("request_body", context, size).run(&format!("size={size} end={end}"))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_trailers(context: u32, count: u32) -> u32 {
    CallbackScope::of_stream("request_trailers", context, 0).run(&format!("count={count}"))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(context: u32, _count: u32, end: u32) -> u32 {
    store_path(context);
    CallbackScope::of_stream("response_headers", context, 0).run(&format!("end={end}"))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_body(context: u32, size: u32, end: u32) -> u32 {
    CallbackScope::of_stream("response_body", context, size).run(&format!("size={size} end={end}"))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_trailers(context: u32, count: u32) -> u32 {
    CallbackScope::of_stream("response_trailers", context, 0).run(&format!("count={count}"))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_new_connection(context: u32) -> u32 {
    PROBE.with_borrow_mut(|probe| {
        let path = format!("*tcp/{}", probe.connections);
        probe.connections += 1;
        probe.paths.insert(context, path);
    });
    CallbackScope::of_stream("new_connection", context, 0).run("")
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_downstream_data(context: u32, size: u32, end: u32) -> u32 {
    CallbackScope::of_stream("downstream_data", context, size).run(&format!("size={size} end={end}"))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_upstream_data(context: u32, size: u32, end: u32) -> u32 {
    CallbackScope::of_stream("upstream_data", context, size).run(&format!("size={size} end={end}"))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_downstream_connection_close(context: u32, peer: u32) {
    CallbackScope::of_stream("downstream_close", context, 0).run(&format!("peer={peer}"));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_upstream_connection_close(context: u32, peer: u32) {
    CallbackScope::of_stream("upstream_close", context, 0).run(&format!("peer={peer}"));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(root: u32, call: u32, headers: u32, body: u32, trailers: u32) {
    let arguments = format!("failed={} body={body} trailers={trailers}", headers == 0);
    CallbackScope::of_callout("http_call_response", root, call, body).run(&arguments);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_receive_initial_metadata(root: u32, call: u32, _count: u32) {
    CallbackScope::of_callout("grpc_initial_metadata", root, call, 0).run("");
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_receive(root: u32, call: u32, size: u32) {
    CallbackScope::of_callout("grpc_receive", root, call, size).run(&format!("size={size}"));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_receive_trailing_metadata(root: u32, call: u32, _count: u32) {
    CallbackScope::of_callout("grpc_trailing_metadata", root, call, 0).run("");
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_close(root: u32, call: u32, status: u32) {
    CallbackScope::of_callout("grpc_close", root, call, 0).run(&format!("status={status}"));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(context: u32) -> u32 {
    CallbackScope::of_stream("done", context, 0).run("") ^ 1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_log(context: u32) {
    store_path(context);
    CallbackScope::of_stream("log", context, 0).run("");
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(context: u32) {
    CallbackScope::of_stream("delete", context, 0).run("");
    PROBE.with_borrow_mut(|probe| {
        probe.paths.remove(&context);
        probe.callouts.retain(|_, caller| *caller != context);
    });
}
