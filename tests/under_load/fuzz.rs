//! Fuzz test of the control plane. Valid requests are mutated: bytes are changed, removed, repeated or inserted. They
//! are sent to the API, to the xDS stream of proxies, and to the address of mutual TLS. The control plane must respond,
//! reject or close the connection. It must not panic, lose applied resources, or grow.
//!
//! The acceptance run was `WEIR_SECONDS=600`; the suite runs 5 s. A test prints its seed, which `WEIR_SEED` sets.

use std::net::SocketAddr;
use std::time::Duration;

use harness::{Client, ControlPlane, Origin, Resources, full, read, with_deadline};
use http::Request;
use prost::Message;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;
use weir_xds::ResourceType;
use weir_xds::proto::{DeltaDiscoveryRequest, DiscoveryRequest, Node};

use crate::{lock_machine, number_from_env};

/// Duration of each test by default, in seconds.
const SECONDS: usize = 5;

/// Bytes by which a control plane may grow. It stores the revisions and tokens that the test creates.
const MAX_GROWTH: u64 = 256 * 1024 * 1024;

/// Valid requests to the API: method, path and body.
const VALID_REQUESTS: [(&str, &str, &str); 14] = [
    ("GET", "/api/v1/resources", ""),
    ("GET", "/api/v1/resources?kind=ServiceEntry&namespace=default", ""),
    ("GET", "/api/v1/resources/ServiceEntry/default/origin", ""),
    ("PUT", "/api/v1/resources/ServiceEntry/default/other", SERVICE),
    ("DELETE", "/api/v1/resources/ServiceEntry/default/other", ""),
    ("POST", "/api/v1/apply?dry_run=true", SERVICE),
    ("POST", "/api/v1/apply?message=why&expected_revision=1", SERVICE),
    ("POST", "/api/v1/delete", r#"[{"kind": "ServiceEntry", "namespace": "default", "name": "other"}]"#),
    ("GET", "/api/v1/revisions?before=7&limit=3", ""),
    ("GET", "/api/v1/revisions/1", ""),
    ("POST", "/api/v1/revisions/1/rollback?dry_run=true", ""),
    ("GET", "/api/v1/proxies", ""),
    ("POST", "/api/v1/tokens", r#"{"name": "x", "role": "proxy", "workload": "a/b", "expiresInSeconds": 1}"#),
    ("GET", "/api/v1/authority", ""),
];

const SERVICE: &str = "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {name: other}\nspec:\n  ports: [{name: http, \
                       port: 80, protocol: HTTP}]\n  endpoints: [{address: \"127.0.0.1:9001\", version: v1}]\n";

/// Mutates valid requests.
struct Mutator(SmallRng);

impl Mutator {
    fn new() -> Self {
        let seed = std::env::var("WEIR_SEED").ok().and_then(|text| text.parse().ok());
        let seed: u64 = seed.unwrap_or_else(|| SmallRng::from_os_rng().random());
        println!("WEIR_SEED={seed}");
        Self(SmallRng::seed_from_u64(seed))
    }

    /// Returns true with a probability in percent.
    fn chance(&mut self, percent: u32) -> bool {
        self.0.random_range(0..100) < percent
    }

    /// Returns the bytes with up to three mutations.
    fn bytes(&mut self, valid: &[u8]) -> Vec<u8> {
        let mut bytes = valid.to_vec();
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

    /// Returns a path with mutations that the HTTP library can send.
    fn path(&mut self, valid: &str) -> String {
        let bytes = self.bytes(valid.as_bytes());
        let plain = bytes.into_iter().map(|byte| if byte.is_ascii_graphic() && byte != b'#' { byte } else { b'%' });
        let path = String::from_utf8(plain.take(4_000).collect()).unwrap();
        if path.starts_with('/') { path } else { format!("/{path}") }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mutated_api_requests_do_not_harm_control_plane() {
    let _machine = lock_machine().await;
    let (control, mut mutator) = (start().await, Mutator::new());
    let (before, deadline) = (control.memory(), Instant::now() + seconds());
    let (mut sent, mut responses) = (0, std::collections::BTreeMap::<u16, usize>::new());
    let token = control.admin_token();
    let mut client = Client::http1(control.api()).await;
    while Instant::now() < deadline {
        let (method, path, body) = *VALID_REQUESTS.choose(&mut mutator.0).unwrap();
        let mut request = Request::builder().method(method).uri(mutator.path(path));
        if mutator.chance(95) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let Ok(request) = request.body(full(mutator.bytes(body.as_bytes()))) else { continue };
        sent += 1;
        let response = with_deadline("a response or its end", client.try_send(request)).await;
        match response {
            Ok(response)
                if response.headers().get("content-type").is_some_and(|value| value == "text/event-stream") =>
            {
                client = Client::http1(control.api()).await; // A watch never ends.
            }
            Ok(response) => {
                *responses.entry(response.status().as_u16()).or_default() += 1;
                assert_ne!(response.status(), 500);
                if with_deadline("the body", read(response)).await.is_err() || client.is_closed() {
                    client = Client::http1(control.api()).await;
                }
            }
            Err(_) => client = Client::http1(control.api()).await,
        }
    }
    println!("{sent} requests, responses by status {responses:?}");
    assert_healthy(&control, before).await;
    assert!(responses.len() > 3, "{responses:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mutated_xds_streams_do_not_harm_control_plane() {
    let _machine = lock_machine().await;
    let (control, mut mutator) = (start().await, Mutator::new());
    let (before, deadline) = (control.memory(), Instant::now() + seconds());
    let mut client = Client::http2(control.xds()).await;
    let (mut streams, mut streams_with_response) = (0, 0_usize);
    while Instant::now() < deadline {
        let is_delta = mutator.chance(60);
        let method = if is_delta { "DeltaAggregatedResources" } else { "StreamAggregatedResources" };
        let path = format!("/envoy.service.discovery.v3.AggregatedDiscoveryService/{method}");
        let mut body = Vec::new();
        for number in 0..mutator.0.random_range(1..6) {
            let valid = if is_delta {
                delta_request(number, &mut mutator)
            } else {
                state_of_the_world_request(number, &mut mutator)
            };
            let message = mutator.bytes(&valid);
            let size = u32::try_from(message.len()).unwrap();
            let length: u32 = if mutator.chance(97) { size } else { mutator.0.random() };
            body.push(u8::from(mutator.chance(2)));
            body.extend_from_slice(&length.to_be_bytes());
            body.extend_from_slice(&message);
        }
        let request = Request::builder().method("POST").uri(format!("http://control{path}"));
        let request = request.header("content-type", "application/grpc").header("te", "trailers");
        streams += 1;
        let response = with_deadline("a response", client.try_send(request.body(full(body)).unwrap())).await;
        match response {
            Ok(response) => match with_deadline("the end of the stream", read(response)).await {
                Ok(response) => streams_with_response += usize::from(!response.body.is_empty()),
                Err(_) => client = Client::http2(control.xds()).await,
            },
            Err(_) => client = Client::http2(control.xds()).await,
        }
        if streams % 50 == 0 {
            send_broken_handshake(control.xds_mtls(), &mut mutator).await;
        }
    }
    println!("{streams} streams, {streams_with_response} of them got a response");
    assert!(streams_with_response > 0);
    assert_healthy(&control, before).await;
}

async fn start() -> ControlPlane {
    let control = ControlPlane::start().await;
    let origin = Origin::text("here").await;
    control.apply(&Resources::forward_to(origin.address())).await;
    control
}

fn seconds() -> Duration {
    Duration::from_secs(number_from_env("WEIR_SECONDS", SECONDS) as u64)
}

/// Panics unless the control plane responds, accepts a change, has not panicked and has not grown.
async fn assert_healthy(control: &ControlPlane, before: u64) {
    let growth = control.memory().saturating_sub(before);
    println!("memory grew by {} MiB", growth / 1024 / 1024);
    assert!(!control.log().contains("panicked") && !control.log().contains("by a bug"), "see the log");
    assert!(growth < MAX_GROWTH, "memory grew by {growth} bytes");
    assert_eq!(control.get("resources/Gateway/default/edge").await["metadata"]["name"], "edge");
    let origin = Origin::text("there").await;
    control.apply(&Resources::forward_to(origin.address())).await;
    let proxy = control.proxy("after", &[]).await;
    harness::wait_until("a proxy to serve", async || {
        proxy.find_listener("default/edge/http").await?;
        (proxy.get("/").await.text() == "there").then_some(())
    })
    .await;
}

/// Opens a connection and sends bytes that are no TLS handshake, or begin like one.
async fn send_broken_handshake(address: SocketAddr, mutator: &mut Mutator) {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let handshake = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let mut bytes = mutator.bytes(&handshake);
    let length = mutator.0.random_range(0..600);
    bytes.extend((0..length).map(|_| mutator.0.random::<u8>()));
    drop(socket.write_all(&bytes).await);
    drop(socket.shutdown().await);
    let mut response = Vec::new();
    drop(with_deadline("the end of the connection", socket.read_to_end(&mut response)).await);
}

fn node(number: u32) -> Option<Node> {
    let (id, user_agent_name) = ("fuzz".to_owned(), "weir-proxy".to_owned());
    (number == 0).then(|| Node { id, user_agent_name, ..Node::default() })
}

fn delta_request(number: u32, mutator: &mut Mutator) -> Vec<u8> {
    let kind = *ResourceType::ALL.choose(&mut mutator.0).unwrap();
    let names = ["default/origin:80", "default/edge/http", "*", "nobody"].map(str::to_owned);
    let request = DeltaDiscoveryRequest {
        node: node(number),
        type_url: kind.type_url(),
        resource_names_subscribe: names.choose_multiple(&mut mutator.0, 2).cloned().collect(),
        resource_names_unsubscribe: names.choose_multiple(&mut mutator.0, 1).cloned().collect(),
        response_nonce: number.to_string(),
        initial_resource_versions: [("default/origin:80".to_owned(), "1".to_owned())].into(),
        ..DeltaDiscoveryRequest::default()
    };
    request.encode_to_vec()
}

fn state_of_the_world_request(number: u32, mutator: &mut Mutator) -> Vec<u8> {
    let kind = *ResourceType::ALL.choose(&mut mutator.0).unwrap();
    let names = ["default/origin:80", "default/edge/http", "*"].map(str::to_owned);
    let request = DiscoveryRequest {
        node: node(number),
        type_url: kind.type_url(),
        resource_names: names.choose_multiple(&mut mutator.0, 1).cloned().collect(),
        response_nonce: number.to_string(),
        ..DiscoveryRequest::default()
    };
    request.encode_to_vec()
}
