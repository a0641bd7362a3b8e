//! A filter on the bare ABI, without an SDK: it makes any hostcall from any callback, with any arguments, and says in
//! its log what came back. What it does is in its configuration, a line for each step:
//!
//! ```text
//! PATH      CALLBACK         HOSTCALL             ARGUMENTS
//! /case/7   request_headers  proxy_get_property   "request\0path"
//! /case/7   request_headers  return               1
//! *root     configure        proxy_log            2 "hello"
//! ```
//!
//! and it says: `probe|/case/7|request_headers|proxy_get_property|0 "/case/7"`. Streams do the steps of their path, a
//! callout's answer those of the stream that asked, TCP connections those of `*tcp/0`, `*tcp/1` as they come, everything else those of `*root`; `*new` is done by every stream
//! when it is created, when its path is not known yet. Hosts run it side by side, and their answers are compared.

mod calls; // What can be called.
mod guest; // What the host needs of every guest.
mod script; // What the configuration says.

use std::cell::RefCell;
use std::collections::HashMap;

use calls::Outcome;
use script::{Script, Step};

thread_local! {
    static PROBE: RefCell<Probe> = RefCell::default();
}

/// What the filter knows.
#[derive(Default)]
struct Probe {
    script: Script,
    /// The paths of streams, by context.
    paths: HashMap<u32, String>,
    /// How many TCP connections there were.
    connections: usize,
    /// Who made a callout, by its id.
    callouts: HashMap<u32, u32>,
    /// What a hostcall wrote last into its first number.
    last: i64,
}

/// A callback that is under way.
struct Moment {
    name: &'static str,
    path: String,
    /// The stream's context, or the plugin's.
    context: u32,
    size: u32,
}

fn say(path: &str, callback: &str, what: &str) {
    calls::log(2, &format!("probe|{path}|{callback}|{what}"));
}

impl Moment {
    /// A callback on the plugin's context.
    fn of_root(name: &'static str, context: u32) -> Self {
        Self { name, path: "*root".to_owned(), context, size: 0 }
    }

    fn of_stream(name: &'static str, context: u32, size: u32) -> Self {
        let path = PROBE.with_borrow(|probe| probe.paths.get(&context).cloned());
        Self { name, path: path.unwrap_or_else(|| "*root".to_owned()), context, size }
    }

    /// The answer to a callout: it belongs to whoever made it.
    fn of_callout(name: &'static str, root: u32, call: u32, size: u32) -> Self {
        let asked = PROBE.with_borrow(|probe| probe.callouts.get(&call).copied());
        Self::of_stream(name, asked.unwrap_or(root), size)
    }

    /// Says that it was called, does its steps, and returns what the last `return` says. The last callback says that it is
    /// over, too: nothing more comes from its context.
    fn run(&self, told: &str) -> u32 {
        let steps = PROBE.with_borrow(|probe| probe.script.steps(&self.path, self.name));
        say(&self.path, self.name, &format!("called|{told}"));
        let mut action = 0;
        for step in steps {
            match step.call.as_str() {
                "return" => action = self.number(&step, 0) as u32,
                "trap" => std::process::abort(),
                _ => self.make(&step),
            }
        }
        if self.name == "delete" {
            say(&self.path, self.name, "over");
        }
        action
    }

    fn number(&self, step: &Step, at: usize) -> i64 {
        step.arguments.get(at).map_or(0, |argument| argument.number(&self.known()))
    }

    /// What an argument may name.
    fn known(&self) -> [(&'static str, i64); 3] {
        let last = PROBE.with_borrow(|probe| probe.last);
        [("ctx", i64::from(self.context)), ("size", i64::from(self.size)), ("id", last)]
    }

    fn make(&self, step: &Step) {
        let Some(Outcome { status, written, first }) = calls::make(&step.call, &step.arguments, &self.known()) else {
            return say(&self.path, self.name, &format!("{}|no such hostcall", step.call));
        };
        PROBE.with_borrow_mut(|probe| {
            if let Some(first) = first {
                probe.last = first;
                let calls_out =
                    ["proxy_http_call", "proxy_grpc_call", "proxy_grpc_stream"].contains(&step.call.as_str());
                if status == 0 && calls_out {
                    probe.callouts.insert(first as u32, self.context);
                }
            }
        });
        // Names of callouts and the like are each host's own affair; that there is one is not.
        let own = ["proxy_http_call", "proxy_grpc_call", "proxy_grpc_stream", "proxy_define_metric"];
        let written = match written.as_str() {
            "" => String::new(),
            number if own.contains(&step.call.as_str()) && !number.contains("unwritten") && number != "0" => {
                " ID".into()
            }
            other => format!(" {other}"),
        };
        say(&self.path, self.name, &format!("{}|{status}{written}", step.call));
    }
}

/// The path of a stream, as its request says it.
fn learn_path(context: u32) {
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
        Moment { name: "context_create", path: "*new".to_owned(), context, size: 0 }.run("");
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(root: u32, size: u32) -> u32 {
    // The script is the VM's configuration too, so that this callback can be scripted.
    if let Some(text) = calls::buffer(6, size) {
        PROBE.with_borrow_mut(|probe| probe.script = Script::parse(&text));
    }
    Moment::of_root("vm_start", root).run("");
    1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(root: u32, size: u32) -> u32 {
    let text = calls::buffer(7, size).unwrap_or_default();
    PROBE.with_borrow_mut(|probe| probe.script = Script::parse(&text));
    let refused = Moment::of_root("configure", root).run("") != 0;
    u32::from(!refused)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(root: u32) {
    let is_first = PROBE.with_borrow_mut(|probe| !std::mem::replace(&mut probe.script.ticked, true));
    if is_first {
        Moment::of_root("tick", root).run("");
    }
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_queue_ready(root: u32, _queue: u32) {
    Moment::of_root("queue_ready", root).run("");
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_foreign_function(root: u32, function: u32, size: u32) {
    Moment { size, ..Moment::of_root("foreign_function", root) }.run(&format!("{function} {size}"));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(context: u32, _count: u32, end: u32) -> u32 {
    learn_path(context);
    Moment::of_stream("request_headers", context, 0).run(&format!("end={end}"))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(context: u32, size: u32, end: u32) -> u32 {
    Moment::of_stream("request_body", context, size).run(&format!("size={size} end={end}"))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_trailers(context: u32, count: u32) -> u32 {
    Moment::of_stream("request_trailers", context, 0).run(&format!("count={count}"))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(context: u32, _count: u32, end: u32) -> u32 {
    learn_path(context);
    Moment::of_stream("response_headers", context, 0).run(&format!("end={end}"))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_body(context: u32, size: u32, end: u32) -> u32 {
    Moment::of_stream("response_body", context, size).run(&format!("size={size} end={end}"))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_trailers(context: u32, count: u32) -> u32 {
    Moment::of_stream("response_trailers", context, 0).run(&format!("count={count}"))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_new_connection(context: u32) -> u32 {
    PROBE.with_borrow_mut(|probe| {
        let path = format!("*tcp/{}", probe.connections);
        probe.connections += 1;
        probe.paths.insert(context, path);
    });
    Moment::of_stream("new_connection", context, 0).run("")
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_downstream_data(context: u32, size: u32, end: u32) -> u32 {
    Moment::of_stream("downstream_data", context, size).run(&format!("size={size} end={end}"))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_upstream_data(context: u32, size: u32, end: u32) -> u32 {
    Moment::of_stream("upstream_data", context, size).run(&format!("size={size} end={end}"))
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_downstream_connection_close(context: u32, peer: u32) {
    Moment::of_stream("downstream_close", context, 0).run(&format!("peer={peer}"));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_upstream_connection_close(context: u32, peer: u32) {
    Moment::of_stream("upstream_close", context, 0).run(&format!("peer={peer}"));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(root: u32, call: u32, headers: u32, body: u32, trailers: u32) {
    let told = format!("failed={} body={body} trailers={trailers}", headers == 0);
    Moment::of_callout("http_call_response", root, call, body).run(&told);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_receive_initial_metadata(root: u32, call: u32, _count: u32) {
    Moment::of_callout("grpc_initial_metadata", root, call, 0).run("");
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_receive(root: u32, call: u32, size: u32) {
    Moment::of_callout("grpc_receive", root, call, size).run(&format!("size={size}"));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_receive_trailing_metadata(root: u32, call: u32, _count: u32) {
    Moment::of_callout("grpc_trailing_metadata", root, call, 0).run("");
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_close(root: u32, call: u32, status: u32) {
    Moment::of_callout("grpc_close", root, call, 0).run(&format!("status={status}"));
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(context: u32) -> u32 {
    Moment::of_stream("done", context, 0).run("") ^ 1
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_log(context: u32) {
    learn_path(context);
    Moment::of_stream("log", context, 0).run("");
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(context: u32) {
    Moment::of_stream("delete", context, 0).run("");
    PROBE.with_borrow_mut(|probe| {
        probe.paths.remove(&context);
        probe.callouts.retain(|_, asked| *asked != context);
    });
}
