//! Scale report of the control plane, with many light xDS clients in place of proxies (delta ADS, one connection each).
//! It prints the time until every client has a change of an endpoint or a route, the memory of each client in the
//! control plane, and the CPU time of a push.
//!
//! `WEIR_PROXIES=1000 WEIR_SERVICES=1000` is the size in `docs/scale.md`; the suite has 50 of each.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::{ControlPlane, Resources, with_deadline};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use weir_xds::proto::{AggregatedDiscoveryServiceClient, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use weir_xds::{ClientState, ResourceType};

use crate::{lock_machine, number_from_env, percentile};

const PROXIES: usize = 50;
const SERVICES: usize = 50;
const ENDPOINTS: usize = 10;
const ROUNDS: usize = 10;

/// The resource that clients report when it arrives, and the number of the change.
#[derive(Clone)]
struct ExpectedResource {
    kind: ResourceType,
    name: String,
    round: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn change_reaches_every_proxy() {
    let _machine = lock_machine().await;
    let (proxies, services) = (number_from_env("WEIR_PROXIES", PROXIES), number_from_env("WEIR_SERVICES", SERVICES));
    let control = ControlPlane::start().await;
    control.apply(&mesh(services)).await;
    let before = control.memory();
    let (expected, expectation) =
        watch::channel(ExpectedResource { kind: ResourceType::Listener, name: String::new(), round: 0 });
    let (arrivals, mut arrived) = mpsc::channel::<(usize, Instant)>(proxies);
    let complete = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for number in 0..proxies {
        let client = LightClient {
            state: ClientState::new(Node {
                id: format!("light-{number}"),
                user_agent_name: "weir-proxy".to_owned(),
                ..Node::default()
            }),
            services,
            endpoints: BTreeSet::new(),
            has_routes: false,
            complete: Arc::clone(&complete),
            expectation: expectation.clone(),
            arrivals: arrivals.clone(),
        };
        clients.spawn(client.run(format!("http://127.0.0.1:{}", control.xds().port())));
    }
    let start = Instant::now();
    with_long_deadline("every client to have every resource", async {
        while complete.load(Ordering::Relaxed) < proxies {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    println!("{proxies} proxies, {services} services, {} endpoints", services * ENDPOINTS);
    println!("every client has every resource after {:.1} s", start.elapsed().as_secs_f64());
    let each = control.memory().saturating_sub(before) / proxies as u64 / 1024;
    println!("memory for each proxy: {each} KiB");

    let mut round = 0;
    for (label, kind, name) in [
        ("an endpoint", ResourceType::Endpoints, "default/s0:80"),
        ("a route", ResourceType::RouteTable, "default/edge/http"),
    ] {
        let (mut times, mut cpu, mut applied) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            round += 1;
            expected.send_replace(ExpectedResource { kind, name: name.to_owned(), round });
            let changed = if kind == ResourceType::Endpoints { service(0, round) } else { route(0, round) };
            let (start, cpu_before) = (Instant::now(), control.cpu());
            control.apply(&Resources::empty().yaml(&changed)).await;
            applied.push(start.elapsed().as_millis());
            for _ in 0..proxies {
                let (for_round, at) = with_deadline("the change to reach a proxy", arrived.recv()).await.unwrap();
                assert_eq!(for_round, round);
                times.push((at - start).as_millis());
            }
            cpu.push((control.cpu() - cpu_before).as_millis());
        }
        let p = |values: &[u128], percent| percentile(values, percent);
        println!(
            "{label}: applied in {} ms, reaches a proxy after {} ms (p50), {} ms (p99), {} ms of CPU a push",
            p(&applied, 50),
            p(&times, 50),
            p(&times, 99),
            p(&cpu, 50)
        );
    }
}

/// Waits up to 240 s, longer than the deadline of other tests: a thousand clients start slowly.
async fn with_long_deadline(label: &str, future: impl Future<Output = ()>) {
    let waited = tokio::time::timeout(std::time::Duration::from_secs(240), future).await;
    assert!(waited.is_ok(), "deadline exceeded: {label}");
}

/// Returns services with endpoints, and a route to each.
fn mesh(services: usize) -> Resources {
    let text: String = (0..services).map(|number| service(number, 0) + &route(number, 0)).collect();
    Resources::new().yaml(&text)
}

/// Returns a ServiceEntry. The ports of its endpoints differ in each round.
fn service(number: usize, round: usize) -> String {
    let address = |index| format!("{{address: \"10.{}.{}.{index}:{}\"}}", number / 250, number % 250, 1000 + round);
    let endpoints: Vec<String> = (1..=ENDPOINTS).map(address).collect();
    format!(
        "---\napiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {{name: s{number}}}\nspec: {{ports: [{{name: \
         http, port: 80, protocol: HTTP}}], endpoints: [{}]}}\n",
        endpoints.join(", ")
    )
}

/// Returns a route. Its path differs in each round.
fn route(number: usize, round: usize) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r{number}}}\nspec: \
         {{parentRefs: [{{name: edge}}], rules: [{{matches: [{{path: {{type: Exact, value: /r{number}/{round}}}}}], \
         backendRefs: [{{name: s{number}, port: 80}}]}}]}}\n"
    )
}

/// An xDS client with a proxy's protocol state, which does not decode resources.
struct LightClient {
    state: ClientState,
    services: usize,
    endpoints: BTreeSet<String>,
    has_routes: bool,
    complete: Arc<AtomicUsize>,
    expectation: watch::Receiver<ExpectedResource>,
    arrivals: mpsc::Sender<(usize, Instant)>,
}

impl LightClient {
    async fn run(mut self, url: String) {
        let (requests, receiver) = mpsc::channel(64);
        for request in self.state.connect() {
            requests.send(request).await.unwrap();
        }
        let mut service = AggregatedDiscoveryServiceClient::connect(url)
            .await
            .unwrap()
            .max_decoding_message_size(weir_xds::limits::MAX_MESSAGE_BYTES);
        let opened = service.delta_aggregated_resources(ReceiverStream::new(receiver)).await.unwrap();
        let mut responses = opened.into_inner();
        let mut is_complete = false;
        while let Ok(Some(response)) = responses.message().await {
            for request in self.process_response(response).await {
                requests.send(request).await.unwrap();
            }
            if !is_complete && self.has_routes && self.endpoints.len() == self.services {
                is_complete = true;
                self.complete.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn process_response(&mut self, response: DeltaDiscoveryResponse) -> Vec<DeltaDiscoveryRequest> {
        let Some(changes) = self.state.on_response(response) else { return Vec::new() };
        let names = || changes.updated.iter().map(|(name, ..)| name.clone());
        let mut requests = vec![self.state.acknowledge(&changes, &Default::default())];
        match changes.resource_type {
            ResourceType::Cluster => requests.extend(self.state.subscribe(ResourceType::Endpoints, names().collect())),
            ResourceType::Endpoints => self.endpoints.extend(names()),
            ResourceType::Listener => {
                requests.extend(self.state.subscribe(ResourceType::RouteTable, names().collect()));
            }
            ResourceType::RouteTable => self.has_routes = true,
            ResourceType::Plugin | ResourceType::Secret => {}
        }
        let expected = self.expectation.borrow().clone();
        if expected.kind == changes.resource_type && names().any(|name| name == expected.name) {
            self.arrivals.send((expected.round, Instant::now())).await.unwrap();
        }
        requests
    }
}
