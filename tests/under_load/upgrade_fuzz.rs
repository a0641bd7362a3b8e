//! Fuzz test of upgrades: random answers of an origin to requests that switch to another protocol, over HTTP/1.1 and as
//! extended CONNECT of HTTP/2. The bytes that follow a request reach the origin only after its 101, and those that follow
//! the 101 reach the client as they are. Every other answer leaves no tunnel.
//!
//! `WEIR_FUZZ_EXECUTIONS=100000` or `WEIR_FUZZ_SECONDS=600` is the long form; `WEIR_SEED` repeats a run.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::ext::Protocol;
use harness::{Proxy, Resources, spawn_background};
use http::{Method, Request};
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::budget::{Budget, mutate, run_clients, seconds_from_env, seed_from_env};
use crate::{lock_machine, number_from_env};

/// Upgrades of a run of the suite.
const EXECUTIONS: usize = 3_000;

/// Clients at the same time.
const CLIENTS: usize = 32;

/// Time in which an exchange ends. Every timeout of [`resources`] is shorter.
const LONGEST_EXCHANGE: Duration = Duration::from_secs(20);

/// Time in which the origin waits for bytes that must not come.
const EARLY: Duration = Duration::from_millis(1);

/// Bytes that the proxy may grow by after the first fifth of a run.
const MAX_GROWTH: u64 = 8 << 20;

/// Answers that the mutations begin with.
const ANSWERS: [&str; 8] = [
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nsec-websocket-accept: x\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 101 \r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\ncontent-length: 5\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    "HTTP/1.1 200 OK\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 2\r\n\r\nok",
    "HTTP/1.1 426 Upgrade Required\r\nupgrade: other\r\ncontent-length: 0\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
];

/// Words that mutations insert.
const WORDS: [&[u8]; 12] = [
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"HTTP/1.1 101 \r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"upgrade: websocket\r\n",
    b"upgrade: \r\n",
    b"connection: upgrade\r\n",
    b"content-length: 1\r\n",
    b"transfer-encoding: chunked\r\n",
    b"101",
];

/// An answer of the origin to one request.
#[derive(Debug, Clone)]
struct Answer {
    bytes: Vec<u8>,
    /// Bytes that follow the answer at once.
    tail: Vec<u8>,
}

/// The state of a run.
#[derive(Default)]
struct Run {
    answers: Mutex<HashMap<String, Answer>>,
    /// The first fault that the origin has seen.
    fault: Mutex<Option<String>>,
    switched: AtomicU64,
}

/// Returns resources that forward everything, with timeouts that end each incomplete exchange.
fn resources(origin: SocketAddr) -> Resources {
    let route = "rules: [{timeouts: {request: 2s}, backendRefs: [{name: origin, port: 80}]}]";
    let policy = "apiVersion: weir.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {name: clients}\nspec: {timeouts: \
                  {requestHead: 500ms, streamIdle: 500ms, connectionIdle: 500ms}}\n";
    Resources::new().service("origin", &[origin]).route("everything", route).yaml(policy)
}

async fn start_origin(run: Arc<Run>) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_background(async move {
        let mut connections = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            let run = Arc::clone(&run);
            connections.spawn(async move { drop(serve(socket, &run).await) });
            while connections.try_join_next().is_some() {}
        }
    });
    address
}

/// Answers one request, and closes the connection. Reports bytes that come before the answer.
async fn serve(mut socket: TcpStream, run: &Run) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut received = Vec::new();
    let head = loop {
        if socket.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
        if let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&received[..head]).into_owned();
    let name = text.split(' ').nth(1).unwrap_or_default().to_owned();
    let planned = run.answers.lock().remove(&name);
    let Some(Answer { bytes, tail }) = planned else {
        return socket.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
    };
    // The client has sent more already.
    drop(timeout(EARLY, socket.read_buf(&mut received)).await);
    if received.len() > head {
        run.report(format!("{name}: bytes of the tunnel before the answer"));
    }
    socket.write_all(&[&bytes[..], &tail].concat()).await?;
    let mut from_client = Vec::new();
    while from_client.len() < MESSAGE.len() && socket.read_buf(&mut from_client).await? > 0 {}
    match from_client.is_empty() {
        true => {}
        false if !may_switch(&bytes) => run.report(format!("{name}: a tunnel without a 101: {}", bytes.escape_ascii())),
        false if !from_client.starts_with(MESSAGE) && !MESSAGE.starts_with(&from_client) => {
            run.report(format!("{name}: other bytes: {}", from_client.escape_ascii()));
        }
        false => {}
    }
    socket.shutdown().await
}

impl Run {
    fn report(&self, fault: String) {
        self.fault.lock().get_or_insert(fault);
    }

    /// Runs an upgrade over HTTP/1.1. Returns the bytes behind the 101, if there was one.
    async fn over_http1(&self, address: SocketAddr, name: &str) -> Option<Vec<u8>> {
        let mut socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let head = format!(
            "GET {name} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\r\n"
        );
        socket.write_all(&[head.as_bytes(), MESSAGE].concat()).await.unwrap();
        let mut received = Vec::new();
        while socket.read_buf(&mut received).await.is_ok_and(|count| count > 0) {}
        let switched = final_head(&received)?;
        received[switched.status..].starts_with(b"HTTP/1.1 101 ").then(|| received[switched.end..].to_vec())
    }
}

/// The final head of an answer.
struct FinalHead {
    /// The position of its status line.
    status: usize,
    /// The position behind it.
    end: usize,
}

/// Returns the first head that is a 101 or no informational one; `None` if no head is whole.
fn final_head(bytes: &[u8]) -> Option<FinalHead> {
    let mut status = 0;
    loop {
        let length = bytes[status..].windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let is_informational =
            bytes[status..].starts_with(b"HTTP/1.1 1") && !bytes[status..].starts_with(b"HTTP/1.1 101");
        if !is_informational {
            return Some(FinalHead { status, end: status + length });
        }
        status += length;
    }
}

/// Returns true if an answer can be a 101 that switches to the protocol.
fn may_switch(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    text.contains("101") && text.contains("upgrade:") && text.contains("websocket")
}

/// The bytes of each client behind its request.
const MESSAGE: &[u8] = b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

/// Runs an extended CONNECT. Returns the bytes of the tunnel, if there is one.
async fn over_http2(sender: &h2::client::SendRequest<Bytes>, name: &str) -> Option<Vec<u8>> {
    let mut sender = sender.clone().ready().await.ok()?;
    let mut request = Request::builder().method(Method::CONNECT).uri(format!("http://a{name}")).body(()).unwrap();
    request.extensions_mut().insert(Protocol::from_static("websocket"));
    let (response, mut body) = sender.send_request(request, false).ok()?;
    body.send_data(Bytes::from_static(MESSAGE), false).ok();
    let response = response.await.ok()?;
    let is_switched = response.status().is_success();
    let mut stream = response.into_body();
    let mut received = Vec::new();
    while let Some(Ok(data)) = stream.data().await {
        stream.flow_control().release_capacity(data.len()).ok();
        received.extend_from_slice(&data);
    }
    is_switched.then_some(received)
}

/// Opens a connection of HTTP/2 whose settings have arrived: they allow extended CONNECT.
async fn connect_http2(address: SocketAddr, tasks: &mut JoinSet<()>) -> h2::client::SendRequest<Bytes> {
    let socket = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = h2::client::handshake(socket).await.unwrap();
    tasks.spawn(async { drop(connection.await) });
    let first = Request::get("http://a/settings").body(()).unwrap();
    let (response, _) = sender.clone().ready().await.unwrap().send_request(first, true).unwrap();
    response.await.unwrap();
    sender
}

async fn run_client(address: SocketAddr, run: Arc<Run>, budget: Arc<Budget>, seed: u64) {
    let mut http2: Option<h2::client::SendRequest<Bytes>> = None;
    let mut tasks = JoinSet::new();
    while let Some(number) = budget.take() {
        let mut random = SmallRng::seed_from_u64(seed.wrapping_add(number));
        let mut bytes = ANSWERS[random.random_range(0..ANSWERS.len())].as_bytes().to_vec();
        mutate(&mut bytes, &WORDS, &mut random);
        let tail = format!("tunnel {number:016x}").into_bytes();
        let answer = Answer { bytes, tail: tail.clone() };
        let name = format!("/{number:016x}");
        run.answers.lock().insert(name.clone(), answer.clone());
        let exchange = async {
            match random.random() {
                false => run.over_http1(address, &name).await,
                true => {
                    if http2.as_ref().is_none_or(|sender| sender.current_max_send_streams() == 0) {
                        http2 = Some(connect_http2(address, &mut tasks).await);
                    }
                    let tunneled = over_http2(http2.as_ref().unwrap(), &name).await;
                    if http2.as_ref().unwrap().clone().ready().await.is_err() {
                        http2 = None;
                    }
                    tunneled
                }
            }
        };
        let tunneled = timeout(LONGEST_EXCHANGE, exchange).await;
        let tunneled = tunneled.unwrap_or_else(|_| panic!("{number}: the exchange does not end: {answer:?}"));
        run.answers.lock().remove(&name);
        if let Some(received) = tunneled {
            run.switched.fetch_add(1, Ordering::Relaxed);
            let all = [&answer.bytes[..], &tail].concat();
            assert!(may_switch(&answer.bytes), "{number}: a tunnel without a 101: {}", all.escape_ascii());
            let is_whole = all.ends_with(&received) && received.ends_with(&tail);
            assert!(is_whole, "{number}: {} of {}", received.escape_ascii(), all.escape_ascii());
        }
        if let Some(fault) = run.fault.lock().clone() {
            panic!("at the origin: {fault}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_answers_to_upgrades_open_no_wrong_tunnel() {
    let _machine = lock_machine().await;
    let (seed, time) = (seed_from_env(), seconds_from_env("WEIR_FUZZ_SECONDS"));
    let executions = number_from_env("WEIR_FUZZ_EXECUTIONS", EXECUTIONS) as u64;
    let run = Arc::new(Run::default());
    let proxy = Proxy::start(&resources(start_origin(Arc::clone(&run)).await)).await;
    let address = proxy.address().await;
    let first = Arc::new(Budget::new(0, executions / 5, time.map(|time| time / 5)));
    run_clients(CLIENTS, || run_client(address, Arc::clone(&run), Arc::clone(&first), seed)).await;
    let warm = proxy.memory("VmRSS");
    let rest = Arc::new(Budget::new(first.next(), executions - executions / 5, time.map(|time| time * 4 / 5)));
    run_clients(CLIENTS, || run_client(address, Arc::clone(&run), Arc::clone(&rest), seed)).await;
    let (total, switched) = (rest.next(), run.switched.load(Ordering::Relaxed));
    let grown = proxy.memory("VmRSS").saturating_sub(warm);
    println!("{total} upgrades, {switched} tunnels, {} KiB more memory", grown >> 10);
    assert_eq!(proxy.get("/alive").await.status, 404, "the origin's own response");
    assert!(!proxy.log().contains("panicked"), "see the log");
    assert!(grown < MAX_GROWTH, "memory grew by {grown} bytes");
    assert!(switched > total / 10, "many answers are a 101: {switched} of {total}");
}
