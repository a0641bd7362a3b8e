//! TCP connections: the same filter, clients and origin in both, one connection after another, so that the filter knows
//! by their number which case a connection belongs to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use harness::{Codec, Envoy, EnvoyFilter, EnvoyPlan, Filter, Module, Origin, Proxy, Resources, probe, until};
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::guest::{self, quoted};
use crate::matrix::{calls, http_call, title};
use crate::outcome::{self, Outcome};
use crate::properties;
use crate::side_by_side::callout;

/// A connection, and what the filter does with it.
#[derive(Debug, Clone)]
pub(crate) struct TcpCase {
    /// What it is called in reports and in the list of differences.
    pub(crate) name: String,
    /// Lines of the probe's script without their path.
    pub(crate) steps: Vec<String>,
    acts: &'static [Act],
    is_volatile: bool,
    leaves_answers_out: bool,
    /// Callbacks that are left out: in how many pieces their bytes come is nobody's promise.
    leaves_out: &'static [&'static str],
}

/// What the client does.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Reads once.
    Read,
    Send(&'static str),
    /// Sends nothing more.
    End,
    /// Breaks off.
    Reset,
}

/// The origin says hello; the client sends something, reads the answer, and ends.
const TALK: &[Act] = &[Act::Read, Act::Send("ping"), Act::Read, Act::End];
/// The client does not wait for the origin.
const HASTY: &[Act] = &[Act::Send("ping"), Act::End];

/// How long a client waits for what a filter may keep for ever.
const PATIENCE: Duration = Duration::from_secs(3);

impl TcpCase {
    fn new(name: impl Into<String>, steps: &[&str]) -> Self {
        let steps = steps.iter().map(|step| (*step).to_owned()).collect();
        Self { name: name.into(), steps, acts: TALK, is_volatile: false, leaves_answers_out: false, leaves_out: &[] }
    }

    fn acting(self, acts: &'static [Act]) -> Self {
        Self { acts, ..self }
    }

    fn in_haste(self) -> Self {
        Self { acts: HASTY, leaves_out: &["filter upstream_data|", "filter downstream_data|"], ..self }
    }
}

/// Where a hostcall is made from.
const CALLBACKS: [&str; 8] = [
    "new_connection",
    "downstream_data",
    "upstream_data",
    "upstream_close",
    "downstream_close",
    "done",
    "log",
    "delete",
];

/// Every case of this page.
pub(crate) fn cases() -> Vec<TcpCase> {
    let mut cases = vec![
        TcpCase::new("tcp: nothing is done", &[]),
        TcpCase::new("tcp: the client ends before it has read", &[]).in_haste(),
        TcpCase::new("tcp: the client breaks off", &[]).acting(&[Act::Read, Act::Reset]),
        TcpCase::new("tcp: the origin ends first", &[]).acting(&[Act::Read, Act::Send("bye"), Act::Read, Act::End]),
        TcpCase::new("tcp: the origin breaks off", &[]).acting(&[Act::Read, Act::Send("rst")]),
        TcpCase::new("tcp: the client only listens", &[]).acting(&[Act::Read, Act::End]),
    ];
    cases.extend(writes());
    cases.extend(pauses());
    cases.extend(hostcalls());
    cases.extend(known());
    cases
}

fn writes() -> Vec<TcpCase> {
    let writes = [
        ("replaces", "0 100 \"NEW\""),
        ("replaces by nothing", "0 100 \"\""),
        ("prepends", "0 0 \"NEW \""),
        ("appends", "2147483647 0 \" NEW\""),
        ("cuts off the beginning", "0 2 \"\""),
        ("writes into the middle", "1 2 \"NEW\""),
    ];
    let mut cases = Vec::new();
    for (what, write) in writes {
        for (callback, buffer) in [("downstream_data", 2), ("upstream_data", 3)] {
            let steps = [
                format!("{callback} proxy_set_buffer_bytes {buffer} {write}"),
                format!("{callback} proxy_get_buffer_bytes {buffer} 0 100"),
            ];
            let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
            let case = TcpCase::new(format!("tcp {callback}: {what}"), &steps);
            cases.push(match (what, callback) {
                ("replaces by nothing", _) => case.in_haste(),
                // As below.
                (_, "downstream_data") => TcpCase { leaves_out: &["filter upstream_data|"], ..case },
                _ => case,
            });
        }
    }
    cases
}

fn pauses() -> Vec<TcpCase> {
    let mut cases = Vec::new();
    for (callback, stream) in [("new_connection", 2), ("downstream_data", 2), ("upstream_data", 3)] {
        // For the upstream's bytes Envoy has no way to go on.
        let actions = if callback == "upstream_data" { &[1][..] } else { &[1, 2, 9] };
        for action in actions {
            let steps = [
                format!("{callback} {}", http_call("/answer")),
                format!("{callback} return {action}"),
                "http_call_response proxy_set_effective_context ctx".to_owned(),
                format!("http_call_response proxy_get_buffer_bytes {stream} 0 100"),
                format!("http_call_response proxy_continue_stream {stream}"),
            ];
            let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
            cases.push(TcpCase::new(format!("tcp {callback}: return {action} until a callout"), &steps));
        }
    }
    let close = |callback: &str, stream| {
        let step = format!("{callback} proxy_close_stream {stream}");
        TcpCase::new(format!("tcp {callback}: closes {stream}"), &[&step, &format!("{callback} return 1")])
    };
    for callback in ["new_connection", "downstream_data", "upstream_data"] {
        for stream in [2, 3] {
            cases.push(close(callback, stream));
        }
    }
    cases
}

fn hostcalls() -> Vec<TcpCase> {
    let mut own: Vec<String> = [
        "proxy_get_buffer_bytes 2 0 100",
        "proxy_get_buffer_bytes 2 1 2",
        "proxy_get_buffer_bytes 3 0 100",
        "proxy_get_buffer_status 2",
        "proxy_get_buffer_status 3",
        "proxy_set_buffer_bytes 2 0 0 \"before \"",
        "proxy_set_buffer_bytes 3 0 0 \"before \"",
        "proxy_continue_stream 3",
        "proxy_close_stream 2",
        "proxy_close_stream 3",
    ]
    .map(str::to_owned)
    .to_vec();
    own.extend(calls());
    let mut cases = Vec::new();
    for call in own {
        let calls_out =
            ["proxy_http_call", "proxy_grpc_call", "proxy_grpc_stream"].iter().any(|it| call.starts_with(it));
        for callback in CALLBACKS {
            let mut steps = vec![format!("{callback} {call}")];
            if call.starts_with("proxy_grpc_stream") && !call.contains("nobody") {
                steps.push(format!("{callback} proxy_grpc_send id \"message\" 1"));
            }
            let case = TcpCase { steps, ..TcpCase::new(format!("tcp {}", title(callback, &call)), &[]) };
            // What is written at the end is answered when the origin ends, too.
            let is_answered = callback == "downstream_data" && call.starts_with("proxy_set_buffer_bytes 2");
            let leaves_out = if is_answered { &["filter upstream_data|"][..] } else { &[] };
            cases.push(TcpCase { leaves_answers_out: calls_out, leaves_out, ..case });
        }
    }
    cases
}

fn known() -> Vec<TcpCase> {
    let property = |path: &&str| {
        let path = path.replace('.', "\\0");
        let steps = ["new_connection", "downstream_data", "upstream_data", "log"]
            .map(|callback| format!("{callback} proxy_get_property \"{path}\""));
        let name = format!("tcp property {}", path.replace("\\0", "."));
        let is_volatile = properties::is_volatile(&path.replace("\\0", "."));
        TcpCase { steps: steps.to_vec(), is_volatile, ..TcpCase::new(name, &[]) }
    };
    properties::PATHS.iter().map(property).collect()
}

/// The cases' outcomes: Envoy's, none where what it does is undefined; and Weir's.
pub(crate) async fn run(cases: &[TcpCase], undefined: impl Fn(&str) -> bool) -> Vec<(Option<Outcome>, Outcome)> {
    let origin = Talker::start().await;
    let callout = callout().await;
    let defined: Vec<usize> = (0..cases.len()).filter(|number| !undefined(&cases[*number].name)).collect();
    let all: Vec<usize> = (0..cases.len()).collect();
    let plan = plan(&script(cases, &defined, 1), origin.address, &callout);
    let envoy = Envoy::run(&plan).await;
    // To find out that it listens was a connection, too.
    until("Envoy's first connection to end", async || envoy.log().contains("*tcp/0|delete|over").then_some(())).await;
    origin.heard().await;
    let mut theirs = play((cases, &defined, 1), &origin, envoy.address(), || envoy.log()).await;
    let weir = Proxy::start(&resources(&script(cases, &all, 0), origin.address, &callout)).await;
    let address = weir.listener("default/edge/tcp").await;
    let mut ours = play((cases, &all, 0), &origin, address, || weir.log()).await;
    let outcome = |number: usize| (theirs.remove(&number), ours.remove(&number).unwrap_or_default());
    all.into_iter().map(outcome).collect()
}

/// The script for connections that come in this order, from a number on.
fn script(cases: &[TcpCase], order: &[usize], first: usize) -> String {
    let lines = order.iter().enumerate().flat_map(|(position, number)| {
        cases[*number].steps.iter().map(move |step| format!("{} {step}\n", path(first + position)))
    });
    lines.collect()
}

fn path(connection: usize) -> String {
    format!("*tcp/{connection}")
}

fn plan(script: &str, origin: SocketAddr, callout: &Origin) -> EnvoyPlan {
    let filter = EnvoyFilter {
        root_id: "root",
        module: probe().to_owned(),
        configuration: script.to_owned(),
        fields: json!({
            "vm_config": {
                "vm_id": "default/vm:shared", "runtime": "envoy.wasm.runtime.v8",
                "code": {"local": {"filename": probe()}},
            },
        }),
        ..EnvoyFilter::of("default/probe")
    };
    EnvoyPlan {
        filters: vec![filter],
        clusters: vec![("default/callout:80".to_owned(), callout.address())],
        target: "default/origin:80",
        is_tcp: true,
        ..EnvoyPlan::to(Codec::Http2, origin)
    }
}

fn resources(script: &str, origin: SocketAddr, callout: &Origin) -> Resources {
    let module = std::fs::read(probe()).expect("the probe was built");
    let filter = Filter { config: json!(script), ..Filter::of("probe", Module::Bytes("probe.wasm", module)) };
    let fields = "rootId: root, vm: {id: shared}, limits: {logPerSecond: 64Mi, callTime: 1s}";
    Resources::forward_tcp_to(origin)
        .http2_service("callout", &[callout.address()])
        .filter(filter.before_tcp("everything").with(fields))
}

/// Plays the chosen cases, each when the filter has forgotten the one before.
async fn play(
    (cases, chosen, first): (&[TcpCase], &[usize], usize),
    origin: &Talker,
    proxy: SocketAddr,
    log: impl Fn() -> String,
) -> BTreeMap<usize, Outcome> {
    let mut outcomes = BTreeMap::new();
    for (position, number) in chosen.iter().enumerate() {
        let case = &cases[*number];
        let mut lines = talk(proxy, case).await;
        let path = path(first + position);
        let said = until(
            &format!("the filter to have forgotten {}: {}", case.name, log().lines().last().unwrap_or_default()),
            async || {
                let log = log();
                // Only the end of a long log is of this connection.
                let recent = log.rfind(&format!("probe|{path}|delete|over")).map(|_| guest::said(&log))?;
                Some(recent)
            },
        )
        .await;
        lines.extend(origin.heard().await);
        lines.extend(said.get(&path).into_iter().flatten().map(|line| outcome::said(line, case.is_volatile)));
        lines.retain(|line| !case.leaves_out.iter().any(|start| line.starts_with(start)));
        lines.retain(|line| !case.leaves_answers_out || !outcome::is_answer(line));
        outcomes.insert(*number, lines);
    }
    outcomes
}

/// What the client does and gets.
async fn talk(proxy: SocketAddr, case: &TcpCase) -> Outcome {
    let mut stream = TcpStream::connect(proxy).await.expect("the proxy accepts");
    stream.set_nodelay(true).expect("a socket");
    let mut got = Vec::new();
    let mut end = "end";
    for act in case.acts {
        match act {
            Act::Send(text) => drop(stream.write_all(text.as_bytes()).await),
            Act::End => drop(stream.shutdown().await),
            Act::Reset => {
                stream.set_zero_linger().expect("a socket");
                drop(stream);
                return vec![format!("client read {}", quoted(&got))];
            }
            Act::Read => {
                let mut chunk = [0; 1024];
                match tokio::time::timeout(PATIENCE, stream.read(&mut chunk)).await {
                    Ok(Ok(length)) => got.extend_from_slice(&chunk[..length]),
                    Ok(Err(_)) => end = "reset",
                    Err(_) => return vec!["client waits in vain".to_owned()],
                }
            }
        }
    }
    match tokio::time::timeout(PATIENCE, stream.read_to_end(&mut got)).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) => end = "reset",
        Err(_) => return vec!["client waits in vain".to_owned()],
    }
    vec![format!("client read {}", quoted(&got)), format!("client saw the {end}")]
}

/// An origin that says hello, answers, ends after "bye" and breaks off after "rst".
struct Talker {
    address: SocketAddr,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Default)]
struct Heard {
    under_way: usize,
    lines: Vec<String>,
}

impl Talker {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        let heard = Arc::<Mutex<Heard>>::default();
        let noted = Arc::clone(&heard);
        harness::beside(async move {
            while let Ok((stream, _)) = listener.accept().await {
                noted.lock().under_way += 1;
                let noted = Arc::clone(&noted);
                harness::beside(async move {
                    let lines = serve(stream).await;
                    let mut noted = noted.lock();
                    noted.under_way -= 1;
                    noted.lines.extend(lines);
                });
            }
        });
        Self { address, heard }
    }

    /// What was heard since the last time.
    async fn heard(&self) -> Vec<String> {
        until("the origin to have done", async || {
            let mut heard = self.heard.lock();
            (heard.under_way == 0).then(|| std::mem::take(&mut heard.lines))
        })
        .await
    }
}

async fn serve(mut stream: TcpStream) -> Vec<String> {
    stream.set_nodelay(true).ok();
    let mut got = Vec::new();
    let mut end = "end";
    stream.write_all(b"hello").await.ok();
    let mut chunk = [0; 1024];
    loop {
        match stream.read(&mut chunk).await {
            Ok(0) => {
                stream.shutdown().await.ok();
                break;
            }
            Ok(length) => {
                let chunk = &chunk[..length];
                got.extend_from_slice(chunk);
                if chunk == b"bye" {
                    stream.shutdown().await.ok();
                    if stream.read_to_end(&mut got).await.is_err() {
                        end = "reset";
                    }
                    break;
                }
                if chunk == b"rst" {
                    stream.set_zero_linger().ok();
                    break;
                }
                stream.write_all(&[b" pong ", chunk].concat()).await.ok();
            }
            Err(_) => {
                end = "reset";
                break;
            }
        }
    }
    vec![format!("origin heard {}", quoted(&got)), format!("origin saw the {end}")]
}
