//! Fuzz test of HTTP/2 endpoints: random frames in response to each stream. A client gets a response whose body belongs
//! to its head, or an error, within its time; requests to another endpoint of the same worker are not affected.
//!
//! `WEIR_FUZZ_EXECUTIONS=100000` or `WEIR_FUZZ_SECONDS=600` is the long form; `WEIR_SEED` repeats a run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use harness::{Client, Codec, Origin, Proxy, Resources, full, spawn_background};
use http::Request;
use http_body_util::BodyExt;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::budget::{Budget, mutate, run_clients, seconds_from_env, seed_from_env};
use crate::{lock_machine, number_from_env};

/// Requests of a run of the suite.
const EXECUTIONS: usize = 3_000;

/// Clients at the same time.
const CLIENTS: usize = 32;

/// Time in which a request ends. Every timeout of [`resources`] is shorter.
const LONGEST_REQUEST: Duration = Duration::from_secs(20);

/// Bytes that the proxy may grow by after the first fifth of a run.
const MAX_GROWTH: u64 = 16 << 20;

const PREFACE_BYTES: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;

/// Bytes that mutations insert: heads of frames, and indexes of HPACK.
const WORDS: [&[u8]; 8] = [
    b"\0\0\0\x04\x01\0\0\0\0",
    b"\0\0\x04\x03\0\0\0\0\x01",
    b"\0\0\x08\x07\0\0\0\0\0",
    b"\x88",
    b"\xff\xff\xff\xff\x0f",
    b"\x3f\xe1\xff\x03",
    b"\0\0\0",
    b"\x80",
];

/// Returns resources with an endpoint of random frames at `/`, and an honest one at `/honest`.
fn resources(random: SocketAddr, honest: SocketAddr) -> Resources {
    let routes = "rules:\n- {timeouts: {request: 2s}, backendRefs: [{name: random, port: 80}]}\n- {matches: [{path: {value: \
                  /honest}}], backendRefs: [{name: honest, port: 80}]}";
    let policy = "apiVersion: weir.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {name: clients}\nspec: {timeouts: \
                  {requestHead: 500ms, streamIdle: 500ms, connectionIdle: 500ms}, upgrades: [websocket]}\n";
    Resources::new()
        .http2_service("random", &[random])
        .http2_service("honest", &[honest])
        .route("everything", routes)
        .yaml(policy)
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Encodes a header without indexes (RFC 7541 §6.2.2).
fn header(name: &str, value: &str) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    [&[0, length(name)], name.as_bytes(), &[length(value)], value.as_bytes()].concat()
}

/// One stream's frames, whose head and body name the connection and the stream.
struct Script<'a> {
    random: &'a mut SmallRng,
    stream: u32,
    name: String,
    bytes: Vec<u8>,
}

impl Script<'_> {
    /// Appends a frame; its payload is mutated sometimes, unless it is data.
    fn push(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut bytes = frame(kind, flags, stream, payload);
        if kind != DATA && self.random.random_ratio(1, 24) {
            mutate(&mut bytes, &WORDS, self.random);
        }
        self.bytes.extend(bytes);
    }

    fn write(mut self) -> Vec<u8> {
        if self.random.random_ratio(1, 4) {
            self.push_other();
        }
        let mut head = match self.random.random_range(0..8) {
            0 => header(":status", "103"),
            1 => header(":status", "404"),
            2 => Vec::new(),
            _ => vec![0x88], // `:status: 200` (RFC 7541, appendix A).
        };
        head.extend(header("x-name", &self.name));
        if self.random.random_ratio(1, 6) {
            head.extend(header("content-length", &(self.random.random_range(0..40) * 4).to_string()));
        }
        if self.random.random_ratio(1, 12) {
            head.extend(header("connection", "close"));
        }
        if self.random.random_ratio(1, 12) {
            head.extend(header(":status", "200"));
        }
        self.push_head(&head);
        for _ in 0..self.random.random_range(0..4) {
            match self.random.random_range(0..16) {
                0 => self.push_other(),
                1..6 => {
                    let data = self.name.repeat(self.random.random_range(0..3_000)).into_bytes();
                    self.push(DATA, 0, self.stream, &data[..data.len().min(16_384)]);
                }
                6..10 => {
                    let padding = self.random.random_range(0..40);
                    let data = [&[padding], self.name.as_bytes(), &vec![0; padding.into()][..]].concat();
                    self.push(DATA, PADDED, self.stream, &data);
                }
                _ => self.push(DATA, 0, self.stream, self.name.clone().as_bytes()),
            }
        }
        match self.random.random_range(0..8) {
            0 => self.push(HEADERS, END_HEADERS | END_STREAM, self.stream, &header("x-sum", "1")),
            1 => {
                let code = self.random.random_range(0u32..16);
                self.push(RST_STREAM, 0, self.stream, &code.to_be_bytes());
            }
            2 => {} // The proxy ends it by a timeout, or with the connection.
            _ => self.push(DATA, END_STREAM, self.stream, b""),
        }
        self.bytes
    }

    /// Appends a head, sometimes in two frames.
    fn push_head(&mut self, head: &[u8]) {
        if self.random.random_ratio(3, 4) {
            return self.push(HEADERS, END_HEADERS, self.stream, head);
        }
        let (first, second) = head.split_at(self.random.random_range(0..=head.len()));
        self.push(HEADERS, 0, self.stream, first);
        self.push(CONTINUATION, END_HEADERS, self.stream, second);
    }

    /// Appends a frame beside the response.
    fn push_other(&mut self) {
        // A setting or window out of range ends the connection, so most are within.
        let value: u32 =
            if self.random.random_ratio(1, 8) { self.random.random() } else { self.random.random_range(1..200_000) };
        let stream = if self.random.random() { self.stream } else { 0 };
        let (kind, flags, noise): (u8, u8, [u8; 8]) = self.random.random();
        match self.random.random_range(0..64) {
            0..24 => self.push(PING, 0, 0, &noise),
            24..48 => self.push(WINDOW_UPDATE, 0, stream, &value.to_be_bytes()),
            48..54 => {
                let setting = self.random.random_range(0u16..10);
                let setting = [&setting.to_be_bytes()[..], &value.to_be_bytes()].concat();
                self.push(SETTINGS, 0, 0, &setting);
            }
            54..56 => {
                let last = if self.random.random() { self.stream } else { value & 0x7fff_ffff };
                let code = self.random.random_range(0u32..14);
                self.push(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat());
            }
            56 => self.push(PUSH_PROMISE, END_HEADERS, self.stream, &[0, 0, 0, 2, 0x88]),
            57 => self.push(RST_STREAM, 0, value & 0xff, &8u32.to_be_bytes()),
            58 => self.push(DATA, 0, self.stream + 2, b"?"),
            _ => self.push(kind, flags, stream, &noise),
        }
    }
}

/// Starts an endpoint of random frames.
async fn start_endpoint(seed: u64) -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_background(async move {
        let mut connections = JoinSet::new();
        let mut number = 0u64;
        while let Ok((socket, _)) = listener.accept().await {
            number += 1;
            connections.spawn(async move { drop(serve(socket, number, seed).await) });
            while connections.try_join_next().is_some() {}
        }
    });
    address
}

/// Answers each stream of a connection with random frames.
async fn serve(mut socket: TcpStream, number: u64, seed: u64) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let mut random = SmallRng::seed_from_u64(seed ^ number.rotate_left(32));
    let mut preface = [0; PREFACE_BYTES];
    socket.read_exact(&mut preface).await?;
    // Few streams share a connection, since a fault of the connection ends all of them.
    let streams = if random.random_ratio(1, 64) { 0 } else { random.random_range(1u32..5) };
    let mut settings = [&[0, 3][..], &streams.to_be_bytes()].concat(); // MAX_CONCURRENT_STREAMS.
    match random.random_range(0..4) {
        0 => settings.extend([&[0, 4][..], &random.random_range(0u32..70_000).to_be_bytes()].concat()), // INITIAL_WINDOW_SIZE.
        1 => settings.extend([0, 8, 0, 0, 0, 1]), // ENABLE_CONNECT_PROTOCOL.
        _ => {}
    }
    socket.write_all(&frame(SETTINGS, 0, 0, &settings)).await?;
    let mut head = [0; 9];
    loop {
        socket.read_exact(&mut head).await?;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        socket.read_exact(&mut payload).await?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        match head[3] {
            SETTINGS if head[4] == 0 => socket.write_all(&frame(SETTINGS, 1, 0, b"")).await?,
            HEADERS if stream > 0 => {
                let script = Script { random: &mut random, stream, name: name(number, stream), bytes: Vec::new() };
                let bytes = script.write();
                socket.write_all(&bytes).await?;
                if random.random_ratio(1, 64) {
                    return Ok(()); // The connection ends within streams.
                }
            }
            _ => {}
        }
    }
}

/// Returns the name of a stream, with a check that mutations break.
fn name(connection: u64, stream: u32) -> String {
    format!("<{connection}.{stream}.{:x}>", check_of(connection, stream))
}

fn check_of(connection: u64, stream: u32) -> u64 {
    (connection << 32 | u64::from(stream)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 8
}

/// Returns true for the text between the brackets of a name.
fn is_name(text: &str) -> bool {
    let mut parts = text.split('.');
    let (connection, stream) = (parts.next().and_then(|part| part.parse().ok()), parts.next());
    let (stream, check) = (stream.and_then(|part| part.parse().ok()), parts.next());
    let expected = connection.zip(stream).map(|(connection, stream)| format!("{:x}", check_of(connection, stream)));
    check.is_some() && check == expected.as_deref()
}

/// Checks that each name in a body is that of its head. Other texts are mutations.
fn check_body(name: &str, body: &[u8]) -> Result<(), String> {
    let text = String::from_utf8_lossy(body);
    let own = name.trim_matches(['<', '>']);
    let other = text.split(['<', '>']).find(|part| is_name(part) && *part != own).filter(|_| is_name(own));
    other.map_or(Ok(()), |other| Err(format!("the body of {other} after the head of {own}")))
}

/// The state of a run.
#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    honest: AtomicU64,
}

async fn run_client(address: SocketAddr, counts: Arc<Counts>, budget: Arc<Budget>, seed: u64) {
    let mut client: Option<Client> = None;
    while let Some(number) = budget.take() {
        let mut random = SmallRng::seed_from_u64(seed.wrapping_add(number));
        let codec = if random.random() { Codec::Http1 } else { Codec::Http2 };
        let is_honest = random.random_ratio(1, 16);
        // On a new connection: the proxy may be about to close an idle one.
        let mut connected = match client.take().filter(|_| !is_honest) {
            Some(client) => client,
            None => Client::connect(codec, address).await,
        };
        let path = if is_honest { "/honest" } else { "/" };
        let body = vec![b'x'; [0, 5, 100_000][random.random_range(0..3)]];
        let request = match body.is_empty() {
            true => Request::get(path).body(harness::empty()),
            false => Request::post(path).body(full(body)),
        };
        let exchange = async {
            let response = connected.try_send(request.unwrap()).await.ok()?;
            let (parts, body) = response.into_parts();
            let collected = body.collect().await.ok().map(http_body_util::Collected::to_bytes);
            Some((parts, collected))
        };
        let ended = timeout(LONGEST_REQUEST, exchange).await;
        let ended = ended.unwrap_or_else(|_| panic!("request {number} does not end"));
        if let Some((parts, Some(body))) = ended {
            if is_honest {
                assert_eq!((parts.status.as_u16(), &body[..]), (200, &b"honest"[..]), "request {number}");
                counts.honest.fetch_add(1, Ordering::Relaxed);
            } else if let Some(name) = parts.headers.get("x-name").and_then(|name| name.to_str().ok()) {
                counts.answered.fetch_add(1, Ordering::Relaxed);
                check_body(name, &body).unwrap_or_else(|fault| panic!("request {number}: {fault}"));
            }
            client = Some(connected).filter(|_| random.random_ratio(3, 4));
        } else {
            assert!(!is_honest, "request {number} to the honest endpoint failed");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_frames_of_endpoints_mix_no_responses() {
    let _machine = lock_machine().await;
    let (seed, time) = (seed_from_env(), seconds_from_env("WEIR_FUZZ_SECONDS"));
    let executions = number_from_env("WEIR_FUZZ_EXECUTIONS", EXECUTIONS) as u64;
    let honest =
        Origin::start(Codec::Http2, |_| async { Ok::<_, harness::BodyError>(http::Response::new(full("honest"))) })
            .await;
    let resources = resources(start_endpoint(seed).await, honest.address());
    let proxy = Proxy::start(&resources).await;
    let (address, counts) = (proxy.address().await, Arc::new(Counts::default()));
    let first = Arc::new(Budget::new(0, executions / 5, time.map(|time| time / 5)));
    run_clients(CLIENTS, || run_client(address, Arc::clone(&counts), Arc::clone(&first), seed)).await;
    let warm = proxy.memory("VmRSS");
    let rest = Arc::new(Budget::new(first.next(), executions - executions / 5, time.map(|time| time * 4 / 5)));
    run_clients(CLIENTS, || run_client(address, Arc::clone(&counts), Arc::clone(&rest), seed)).await;
    let total = rest.next();
    let (answered, honest) = (counts.answered.load(Ordering::Relaxed), counts.honest.load(Ordering::Relaxed));
    let grown = proxy.memory("VmRSS").saturating_sub(warm);
    println!(
        "{total} requests, {answered} answered by random frames, {honest} honestly, {} KiB more memory",
        grown >> 10
    );
    assert!(!proxy.log().contains("panicked"), "see the log");
    proxy.wait_for_metric("weir_downstream_connections{listener=\"default/edge/http\"}", |open| open <= 0.0).await;
    assert!(grown < MAX_GROWTH, "memory grew by {grown} bytes");
    assert!(answered > total / 8, "many responses are valid: {answered} of {total}");
}
