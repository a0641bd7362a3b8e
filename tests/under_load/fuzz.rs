//! Nonsense for the control plane: requests that were right once, with bytes changed, left out, repeated or made up, for
//! its API, for the stream that proxies open, and for the address of mutual TLS. It answers, refuses or hangs up; it never
//! fails by a bug of its own, forgets what was applied by others, or grows.
//!
//! `WEIR_SECONDS=600` is what was accepted; the suite takes less. A failure prints its seed: `WEIR_SEED`.

use std::net::SocketAddr;
use std::time::Duration;

use harness::{Client, ControlPlane, Origin, Resources, full, read, within};
use http::Request;
use prost::Message;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use weir_xds::Kind;
use weir_xds::proto::{DeltaDiscoveryRequest, DiscoveryRequest, Node};

use crate::{machine, setting};

/// How long each takes when nobody asks for more, in seconds.
const SECONDS: usize = 5;

/// Memory that a control plane may gain by it: revisions and tokens that were made on the way are kept.
const MAX_GAIN: u64 = 256 * 1024 * 1024;

/// What a right request to the API looks like.
const REQUESTS: [(&str, &str, &str); 14] = [
    ("GET", "/api/v1/resources", ""),
    ("GET", "/api/v1/resources?kind=Service&namespace=default", ""),
    ("GET", "/api/v1/resources/Service/default/origin", ""),
    ("PUT", "/api/v1/resources/Service/default/other", SERVICE),
    ("DELETE", "/api/v1/resources/Service/default/other", ""),
    ("POST", "/api/v1/apply?dry_run=true", SERVICE),
    ("POST", "/api/v1/apply?message=why&expected_revision=1", SERVICE),
    ("POST", "/api/v1/delete", r#"[{"kind": "Service", "namespace": "default", "name": "other"}]"#),
    ("GET", "/api/v1/revisions?before=7&limit=3", ""),
    ("GET", "/api/v1/revisions/1", ""),
    ("POST", "/api/v1/revisions/1/rollback?dry_run=true", ""),
    ("GET", "/api/v1/proxies", ""),
    ("POST", "/api/v1/tokens", r#"{"name": "x", "role": "proxy", "workload": "a/b", "expiresInSeconds": 1}"#),
    ("GET", "/api/v1/authority", ""),
];

const SERVICE: &str = "apiVersion: weir.dev/v1alpha1\nkind: Service\nmetadata: {name: other}\nspec:\n  ports: [{name: http, \
                       port: 80, protocol: HTTP}]\n  endpoints: [{address: \"127.0.0.1:9001\", version: v1}]\n";

/// Changes a text that was right.
struct Nonsense(SmallRng);

impl Nonsense {
    fn new() -> Self {
        let seed = std::env::var("WEIR_SEED").ok().and_then(|text| text.parse().ok());
        let seed: u64 = seed.unwrap_or_else(|| SmallRng::from_os_rng().random());
        println!("WEIR_SEED={seed}");
        Self(SmallRng::seed_from_u64(seed))
    }

    /// True this often of a hundred times.
    fn sometimes(&mut self, percent: u32) -> bool {
        self.0.random_range(0..100) < percent
    }

    /// The same bytes, or not quite.
    fn bytes(&mut self, right: &[u8]) -> Vec<u8> {
        let mut bytes = right.to_vec();
        for _ in 0..self.0.random_range(0..4) {
            let at = self.0.random_range(0..=bytes.len());
            let end = self.0.random_range(at..=bytes.len().min(at + 20));
            match self.0.random_range(0..6) {
                0 if at < bytes.len() => bytes[at] = self.0.random(),
                1 => drop(bytes.drain(at..end)),
                2 => {
                    let noise: [u8; 9] = self.0.random();
                    bytes.splice(at..at, noise).for_each(drop);
                }
                3 => {
                    let part = bytes[at..end].repeat(self.0.random_range(1..200));
                    bytes.splice(at..at, part).for_each(drop);
                }
                4 => bytes.truncate(at),
                _ => {
                    let odd: &[&[u8]] =
                        &[b"\xff\xff\xff\xff", b"{{{{[[[[", b"-1", b"&a *a", b"99999999999999999999", b"\0"];
                    bytes.splice(at..end, odd.choose(&mut self.0).unwrap().iter().copied()).for_each(drop);
                }
            }
        }
        bytes
    }

    /// A path that an HTTP library sends: the same, or not quite.
    fn path(&mut self, right: &str) -> String {
        let bytes = self.bytes(right.as_bytes());
        let plain = bytes.into_iter().map(|byte| if byte.is_ascii_graphic() && byte != b'#' { byte } else { b'%' });
        let path = String::from_utf8(plain.take(4_000).collect()).unwrap();
        if path.starts_with('/') { path } else { format!("/{path}") }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_does_not_harm_the_api() {
    let _machine = machine().await;
    let (control, mut nonsense) = (begin().await, Nonsense::new());
    let (before, until) = (control.memory(), Instant::now() + seconds());
    let (mut sent, mut answers) = (0, std::collections::BTreeMap::<u16, usize>::new());
    let token = control.admin_token();
    let mut client = Client::http1(control.api()).await;
    while Instant::now() < until {
        let (method, path, body) = *REQUESTS.choose(&mut nonsense.0).unwrap();
        let mut request = Request::builder().method(method).uri(nonsense.path(path));
        if nonsense.sometimes(95) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let Ok(request) = request.body(full(nonsense.bytes(body.as_bytes()))) else { continue };
        sent += 1;
        let answer = within("an answer or its end", client.attempt(request)).await;
        match answer {
            Ok(response) if response.headers().get("content-type").is_some_and(|it| it == "text/event-stream") => {
                client = Client::http1(control.api()).await; // It never ends.
            }
            Ok(response) => {
                *answers.entry(response.status().as_u16()).or_default() += 1;
                assert_ne!(response.status(), 500);
                if within("the body", read(response)).await.is_err() || client.is_closed() {
                    client = Client::http1(control.api()).await;
                }
            }
            Err(_) => client = Client::http1(control.api()).await,
        }
    }
    println!("{sent} requests, answers {answers:?}");
    check(&control, before).await;
    assert!(answers.len() > 3, "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_does_not_harm_the_streams_of_proxies() {
    let _machine = machine().await;
    let (control, mut nonsense) = (begin().await, Nonsense::new());
    let (before, until) = (control.memory(), Instant::now() + seconds());
    let mut client = Client::http2(control.xds()).await;
    let (mut streams, mut answered) = (0, 0_usize);
    while Instant::now() < until {
        let is_delta = nonsense.sometimes(60);
        let method = if is_delta { "DeltaAggregatedResources" } else { "StreamAggregatedResources" };
        let path = format!("/envoy.service.discovery.v3.AggregatedDiscoveryService/{method}");
        let mut body = Vec::new();
        for number in 0..nonsense.0.random_range(1..6) {
            let right = if is_delta { delta(number, &mut nonsense) } else { state(number, &mut nonsense) };
            let message = nonsense.bytes(&right);
            let right = u32::try_from(message.len()).unwrap();
            let length: u32 = if nonsense.sometimes(97) { right } else { nonsense.0.random() };
            body.push(u8::from(nonsense.sometimes(2)));
            body.extend_from_slice(&length.to_be_bytes());
            body.extend_from_slice(&message);
        }
        let request = Request::builder().method("POST").uri(format!("http://control{path}"));
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        streams += 1;
        let answer = within("an answer", client.attempt(request.body(full(body)).unwrap())).await;
        match answer {
            Ok(response) => match within("the end of the stream", read(response)).await {
                Ok(answer) => answered += usize::from(!answer.body.is_empty()),
                Err(_) => client = Client::http2(control.xds()).await,
            },
            Err(_) => client = Client::http2(control.xds()).await,
        }
        if streams % 50 == 0 {
            garbage(control.mutual(), &mut nonsense).await;
        }
    }
    println!("{streams} streams, {answered} of them were told something");
    assert!(answered > 0);
    check(&control, before).await;
}

async fn begin() -> ControlPlane {
    let control = ControlPlane::start().await;
    let origin = Origin::says("here").await;
    control.apply(&Resources::forward_to(origin.address())).await;
    control
}

fn seconds() -> Duration {
    Duration::from_secs(setting("WEIR_SECONDS", SECONDS) as u64)
}

/// It is well: it answers, takes a change, has not failed by a bug, and has not grown.
async fn check(control: &ControlPlane, before: u64) {
    let gain = control.memory().saturating_sub(before);
    println!("{} MiB gained", gain / 1024 / 1024);
    assert!(!control.log().contains("panicked") && !control.log().contains("by a bug"), "see the log");
    assert!(gain < MAX_GAIN, "{gain} bytes gained");
    assert_eq!(control.get("resources/Gateway/default/edge").await["metadata"]["name"], "edge");
    let origin = Origin::says("there").await;
    control.apply(&Resources::forward_to(origin.address())).await;
    let proxy = control.proxy("after", &[]).await;
    harness::until("a proxy to be told", async || {
        proxy.find_listener("default/edge/http").await?;
        (proxy.get("/").await.text() == "there").then_some(())
    })
    .await;
}

/// Bytes that are no handshake, or only begin like one.
async fn garbage(address: SocketAddr, nonsense: &mut Nonsense) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let begin = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let mut bytes = nonsense.bytes(&begin);
    let length = nonsense.0.random_range(0..600);
    bytes.extend((0..length).map(|_| nonsense.0.random::<u8>()));
    drop(socket.write_all(&bytes).await);
    drop(socket.shutdown().await);
    let mut answer = Vec::new();
    drop(within("the end of the connection", socket.read_to_end(&mut answer)).await);
}

fn node(number: u32) -> Option<Node> {
    let (id, user_agent_name) = ("fuzz".to_owned(), "weir-proxy".to_owned());
    (number == 0).then(|| Node { id, user_agent_name, ..Node::default() })
}

fn delta(number: u32, nonsense: &mut Nonsense) -> Vec<u8> {
    let kind = *Kind::ALL.choose(&mut nonsense.0).unwrap();
    let names = ["default/origin:80", "default/edge/http", "*", "nobody"].map(str::to_owned);
    let request = DeltaDiscoveryRequest {
        node: node(number),
        type_url: kind.type_url(),
        resource_names_subscribe: names.choose_multiple(&mut nonsense.0, 2).cloned().collect(),
        resource_names_unsubscribe: names.choose_multiple(&mut nonsense.0, 1).cloned().collect(),
        response_nonce: number.to_string(),
        initial_resource_versions: [("default/origin:80".to_owned(), "1".to_owned())].into(),
        ..DeltaDiscoveryRequest::default()
    };
    request.encode_to_vec()
}

fn state(number: u32, nonsense: &mut Nonsense) -> Vec<u8> {
    let kind = *Kind::ALL.choose(&mut nonsense.0).unwrap();
    let names = ["default/origin:80", "default/edge/http", "*"].map(str::to_owned);
    let request = DiscoveryRequest {
        node: node(number),
        type_url: kind.type_url(),
        resource_names: names.choose_multiple(&mut nonsense.0, 1).cloned().collect(),
        response_nonce: number.to_string(),
        ..DiscoveryRequest::default()
    };
    request.encode_to_vec()
}
