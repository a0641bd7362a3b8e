//! Cases of TCP connections, run in Envoy and in Weir with the same filter, clients and origin. Connections are opened
//! one after another, so that the filter finds a connection's case by its number.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use harness::{Codec, Envoy, EnvoyConfig, EnvoyFilter, Filter, Module, Origin, Proxy, Resources, probe, wait_until};
use parking_lot::Mutex;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::case_result::{self, CaseResult};
use crate::matrix::{calls, http_call, is_callout, title};
use crate::probe_script::{self, quoted};
use crate::properties;
use crate::side_by_side::callout_origin;

/// One TCP connection, and the filter's steps on it.
#[derive(Debug, Clone)]
pub(crate) struct TcpCase {
    /// Name in reports and in `docs/envoy-differences.md`.
    pub(crate) name: String,
    /// Lines of the probe's script, without the path at their beginning.
    pub(crate) steps: Vec<String>,
    client_steps: &'static [ClientStep],
    is_volatile: bool,
    ignores_callout_responses: bool,
    /// Beginnings of lines that are not compared: callbacks whose number depends on how TCP splits the bytes.
    ignored_callbacks: &'static [&'static str],
}

/// One step of the client.
#[derive(Debug, Clone, Copy)]
enum ClientStep {
    /// Reads once from the socket.
    Read,
    Send(&'static str),
    /// Closes its sending direction.
    End,
    /// Resets the connection.
    Reset,
}

/// Reads the origin's greeting, sends, reads the response, and closes.
const READ_SEND_READ: &[ClientStep] = &[ClientStep::Read, ClientStep::Send("ping"), ClientStep::Read, ClientStep::End];
/// Sends and closes without reading.
const SEND_WITHOUT_READING: &[ClientStep] = &[ClientStep::Send("ping"), ClientStep::End];

/// Longest wait of a client for bytes that the filter may buffer without end.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

impl TcpCase {
    fn new(name: impl Into<String>, steps: &[&str]) -> Self {
        let steps = steps.iter().map(|step| (*step).to_owned()).collect();
        Self {
            name: name.into(),
            steps,
            client_steps: READ_SEND_READ,
            is_volatile: false,
            ignores_callout_responses: false,
            ignored_callbacks: &[],
        }
    }

    fn with_client_steps(self, client_steps: &'static [ClientStep]) -> Self {
        Self { client_steps, ..self }
    }

    fn without_reading(self) -> Self {
        Self {
            client_steps: SEND_WITHOUT_READING,
            ignored_callbacks: &["filter upstream_data|", "filter downstream_data|"],
            ..self
        }
    }
}

/// Callbacks from which each hostcall is made.
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

/// Returns every TCP case.
pub(crate) fn cases() -> Vec<TcpCase> {
    let mut cases = vec![
        TcpCase::new("tcp: nothing is done", &[]),
        TcpCase::new("tcp: the client ends before it has read", &[]).without_reading(),
        TcpCase::new("tcp: the client breaks off", &[]).with_client_steps(&[ClientStep::Read, ClientStep::Reset]),
        TcpCase::new("tcp: the origin ends first", &[]).with_client_steps(&[
            ClientStep::Read,
            ClientStep::Send("bye"),
            ClientStep::Read,
            ClientStep::End,
        ]),
        TcpCase::new("tcp: the origin breaks off", &[]).with_client_steps(&[ClientStep::Read, ClientStep::Send("rst")]),
        TcpCase::new("tcp: the client only listens", &[]).with_client_steps(&[ClientStep::Read, ClientStep::End]),
    ];
    cases.extend(write_cases());
    cases.extend(pause_cases());
    cases.extend(hostcall_cases());
    cases.extend(property_cases());
    cases
}

fn write_cases() -> Vec<TcpCase> {
    let write_cases = [
        ("replaces", "0 100 \"NEW\""),
        ("replaces by nothing", "0 100 \"\""),
        ("prepends", "0 0 \"NEW \""),
        ("appends", "2147483647 0 \" NEW\""),
        ("cuts off the beginning", "0 2 \"\""),
        ("writes into the middle", "1 2 \"NEW\""),
    ];
    let mut cases = Vec::new();
    for (what, write) in write_cases {
        for (callback, buffer) in [("downstream_data", 2), ("upstream_data", 3)] {
            let steps = [
                format!("{callback} proxy_set_buffer_bytes {buffer} {write}"),
                format!("{callback} proxy_get_buffer_bytes {buffer} 0 100"),
            ];
            let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
            let case = TcpCase::new(format!("tcp {callback}: {what}"), &steps);
            cases.push(match (what, callback) {
                ("replaces by nothing", _) => case.without_reading(),
                // The origin responds to what is written when the connection closes. Its data arrive in one or two
                // callbacks.
                (_, "downstream_data") => TcpCase { ignored_callbacks: &["filter upstream_data|"], ..case },
                _ => case,
            });
        }
    }
    cases
}

fn pause_cases() -> Vec<TcpCase> {
    let mut cases = Vec::new();
    for (callback, stream) in [("new_connection", 2), ("downstream_data", 2), ("upstream_data", 3)] {
        // Envoy cannot resume the upstream direction.
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

fn hostcall_cases() -> Vec<TcpCase> {
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
        let is_callout = is_callout(&call);
        for callback in CALLBACKS {
            let mut steps = vec![format!("{callback} {call}")];
            if call.starts_with("proxy_grpc_stream") && !call.contains("nobody") {
                steps.push(format!("{callback} proxy_grpc_send id \"message\" 1"));
            }
            let case = TcpCase { steps, ..TcpCase::new(format!("tcp {}", title(callback, &call)), &[]) };
            // The origin responds to what is written when the connection closes, too.
            let is_echoed = callback == "downstream_data" && call.starts_with("proxy_set_buffer_bytes 2");
            let ignored_callbacks = if is_echoed { &["filter upstream_data|"][..] } else { &[] };
            cases.push(TcpCase { ignores_callout_responses: is_callout, ignored_callbacks, ..case });
        }
    }
    cases
}

fn property_cases() -> Vec<TcpCase> {
    let property = |path: &&str| {
        let nul_separated = path.replace('.', "\\0");
        let steps = ["new_connection", "downstream_data", "upstream_data", "log"]
            .map(|callback| format!("{callback} proxy_get_property \"{nul_separated}\""));
        let name = format!("tcp property {path}");
        let is_volatile = properties::is_volatile(path);
        TcpCase { steps: steps.to_vec(), is_volatile, ..TcpCase::new(name, &[]) }
    };
    properties::PATHS.iter().map(property).collect()
}

/// Runs the cases in both proxies and returns each case's result in Envoy and in Weir. Envoy's is `None` if its
/// behavior is undefined.
pub(crate) async fn run(cases: &[TcpCase], undefined: impl Fn(&str) -> bool) -> Vec<(Option<CaseResult>, CaseResult)> {
    let origin = ScriptedTcpOrigin::start().await;
    let callout = callout_origin().await;
    let defined = (0..cases.len()).filter(|number| !undefined(&cases[*number].name)).collect();
    // The readiness check of the harness is Envoy's first connection.
    let in_envoy = CaseOrder { cases, chosen: defined, first_connection: 1 };
    let envoy = Envoy::run(&envoy_config(&in_envoy.script(), origin.address, &callout)).await;
    let is_closed = async || envoy.log().contains("*tcp/0|delete|over").then_some(());
    wait_until("Envoy to close its first connection", is_closed).await;
    origin.take_lines().await;
    let mut envoy_results = in_envoy.run(&origin, envoy.address(), || envoy.log()).await;
    let in_weir = CaseOrder { cases, chosen: (0..cases.len()).collect(), first_connection: 0 };
    let weir = Proxy::start(&weir_resources(&in_weir.script(), origin.address, &callout)).await;
    let address = weir.listener("default/edge/tcp").await;
    let mut weir_results = in_weir.run(&origin, address, || weir.log()).await;
    let results = |number: usize| (envoy_results.remove(&number), weir_results.remove(&number).unwrap_or_default());
    (0..cases.len()).map(results).collect()
}

/// Cases in the order in which one proxy runs them. The probe finds the steps of a connection by its number.
struct CaseOrder<'a> {
    cases: &'a [TcpCase],
    /// Indexes into `cases`.
    chosen: Vec<usize>,
    first_connection: usize,
}

impl CaseOrder<'_> {
    /// Returns the probe's script for connections that arrive in this order.
    fn script(&self) -> String {
        let lines = self.chosen.iter().enumerate().flat_map(|(position, number)| {
            let path = connection_path(self.first_connection + position);
            self.cases[*number].steps.iter().map(move |step| format!("{path} {step}\n"))
        });
        lines.collect()
    }

    /// Runs the chosen cases one after another. Each starts after the filter has deleted the previous connection's
    /// context.
    async fn run(
        &self,
        origin: &ScriptedTcpOrigin,
        proxy: SocketAddr,
        log: impl Fn() -> String,
    ) -> BTreeMap<usize, CaseResult> {
        let mut results = BTreeMap::new();
        for (position, number) in self.chosen.iter().enumerate() {
            let case = &self.cases[*number];
            let mut lines = run_client(proxy, case).await;
            let path = connection_path(self.first_connection + position);
            let last_line = log().lines().last().unwrap_or_default().to_owned();
            let guest_log =
                wait_until(&format!("the filter to delete the context of {}: {last_line}", case.name), async || {
                    let log = log();
                    log.contains(&format!("probe|{path}|delete|over")).then(|| probe_script::parse_log(&log))
                })
                .await;
            lines.extend(origin.take_lines().await);
            let guest_lines = guest_log.get(&path).into_iter().flatten();
            lines.extend(guest_lines.map(|line| case_result::guest_line(line, case.is_volatile)));
            lines.retain(|line| !case.ignored_callbacks.iter().any(|start| line.starts_with(start)));
            lines.retain(|line| !case.ignores_callout_responses || !case_result::is_callout_response(line));
            results.insert(*number, lines);
        }
        results
    }
}

fn connection_path(connection: usize) -> String {
    format!("*tcp/{connection}")
}

fn envoy_config(script: &str, origin: SocketAddr, callout: &Origin) -> EnvoyConfig {
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
        ..EnvoyFilter::new("default/probe")
    };
    EnvoyConfig {
        filters: vec![filter],
        clusters: vec![("default/callout:80".to_owned(), callout.address())],
        target: "default/origin:80",
        is_tcp: true,
        ..EnvoyConfig::forward_to(Codec::Http2, origin)
    }
}

fn weir_resources(script: &str, origin: SocketAddr, callout: &Origin) -> Resources {
    let module = std::fs::read(probe()).expect("the probe was built");
    let filter = Filter { config: json!(script), ..Filter::new("probe", Module::Bytes("probe.wasm", module)) };
    let fields = "rootId: root, vm: {id: shared}, limits: {logBytesPerSecond: 64Mi, callTimeout: 1s}";
    Resources::forward_tcp_to(origin)
        .http2_service("callout", &[callout.address()])
        .filter(filter.targeting_tcp("everything").with_fields(fields))
}

/// Runs the client's steps and returns its lines.
async fn run_client(proxy: SocketAddr, case: &TcpCase) -> CaseResult {
    let mut stream = TcpStream::connect(proxy).await.expect("the proxy accepts");
    stream.set_nodelay(true).expect("a socket");
    let mut bytes = Vec::new();
    let mut end = "end";
    for step in case.client_steps {
        match step {
            ClientStep::Send(text) => drop(stream.write_all(text.as_bytes()).await),
            ClientStep::End => drop(stream.shutdown().await),
            ClientStep::Reset => {
                stream.set_zero_linger().expect("a socket");
                drop(stream);
                return vec![format!("client read {}", quoted(&bytes))];
            }
            ClientStep::Read => {
                let mut chunk = [0; 1024];
                match tokio::time::timeout(READ_TIMEOUT, stream.read(&mut chunk)).await {
                    Ok(Ok(length)) => bytes.extend_from_slice(&chunk[..length]),
                    Ok(Err(_)) => end = "reset",
                    Err(_) => return vec!["client waits in vain".to_owned()],
                }
            }
        }
    }
    match tokio::time::timeout(READ_TIMEOUT, stream.read_to_end(&mut bytes)).await {
        Ok(Ok(_)) => {}
        Ok(Err(_)) => end = "reset",
        Err(_) => return vec!["client waits in vain".to_owned()],
    }
    vec![format!("client read {}", quoted(&bytes)), format!("client saw the {end}")]
}

/// An origin that sends `hello`, responds to each read with `pong`, closes after `bye` and resets after `rst`.
struct ScriptedTcpOrigin {
    address: SocketAddr,
    received: Arc<Mutex<ReceivedBytes>>,
}

/// Lines about closed connections, and the number of open ones.
#[derive(Default)]
struct ReceivedBytes {
    open_connections: usize,
    lines: Vec<String>,
}

impl ScriptedTcpOrigin {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("the listener is bound");
        let received = Arc::<Mutex<ReceivedBytes>>::default();
        let shared = Arc::clone(&received);
        harness::spawn_background(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().open_connections += 1;
                let shared = Arc::clone(&shared);
                harness::spawn_background(async move {
                    let lines = serve_connection(stream).await;
                    let mut received = shared.lock();
                    received.open_connections -= 1;
                    received.lines.extend(lines);
                });
            }
        });
        Self { address, received }
    }

    /// Returns the lines since the last call. Blocks until no connection is open.
    async fn take_lines(&self) -> Vec<String> {
        wait_until("the origin's connections to close", async || {
            let mut received = self.received.lock();
            (received.open_connections == 0).then(|| std::mem::take(&mut received.lines))
        })
        .await
    }
}

async fn serve_connection(mut stream: TcpStream) -> Vec<String> {
    stream.set_nodelay(true).ok();
    let mut bytes = Vec::new();
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
                bytes.extend_from_slice(chunk);
                if chunk == b"bye" {
                    stream.shutdown().await.ok();
                    if stream.read_to_end(&mut bytes).await.is_err() {
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
    vec![format!("origin heard {}", quoted(&bytes)), format!("origin saw the {end}")]
}
