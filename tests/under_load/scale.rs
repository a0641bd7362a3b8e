//! Many proxies: light clients that speak the real protocol (delta ADS, one connection each) follow one control plane. How
//! long an endpoint's change and a route's change take until every one of them has it, what each costs in memory, and what
//! a push costs in CPU.
//!
//! `WEIR_PROXIES=1000 WEIR_SERVICES=1000` is the size that `docs/scale.md` tells of; the suite runs fewer.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use harness::{ControlPlane, Resources, within};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use weir_xds::proto::{AggregatedDiscoveryServiceClient, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node};
use weir_xds::{ClientState, Kind};

use crate::{machine, percentile, setting};

const PROXIES: usize = 50;
const SERVICES: usize = 50;
const ENDPOINTS: usize = 10;
const ROUNDS: usize = 10;

/// What a client has seen: the resource of this kind and name, for the nth time since it was asked to look.
#[derive(Clone)]
struct Wanted {
    kind: Kind,
    name: String,
    round: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_reaches_many_proxies() {
    let _machine = machine().await;
    let (proxies, services) = (setting("WEIR_PROXIES", PROXIES), setting("WEIR_SERVICES", SERVICES));
    let control = ControlPlane::start().await;
    control.apply(&mesh(services)).await;
    let before = control.memory();
    let (wanted, look) = watch::channel(Wanted { kind: Kind::Listener, name: String::new(), round: 0 });
    let (seen, mut seen_by) = mpsc::channel::<(usize, Instant)>(proxies);
    let complete = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for number in 0..proxies {
        let client = Follower {
            state: ClientState::new(Node {
                id: format!("light-{number}"),
                user_agent_name: "weir-proxy".to_owned(),
                ..Node::default()
            }),
            services,
            endpoints: BTreeSet::new(),
            has_routes: false,
            complete: Arc::clone(&complete),
            look: look.clone(),
            seen: seen.clone(),
        };
        clients.spawn(client.run(format!("http://127.0.0.1:{}", control.xds().port())));
    }
    let began = Instant::now();
    within_long("every proxy to have everything", async {
        while complete.load(Ordering::Relaxed) < proxies {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    println!("{proxies} proxies, {services} services, {} endpoints", services * ENDPOINTS);
    println!("all have everything after {:.1} s", began.elapsed().as_secs_f64());
    let each = control.memory().saturating_sub(before) / proxies as u64 / 1024;
    println!("memory for each proxy: {each} KiB");

    let mut round = 0;
    for (what, kind, name) in
        [("an endpoint", Kind::Endpoints, "default/s0:80"), ("a route", Kind::RouteTable, "default/edge/http")]
    {
        let (mut times, mut cpu, mut applied) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            round += 1;
            wanted.send_replace(Wanted { kind, name: name.to_owned(), round });
            let changed = if kind == Kind::Endpoints { service(0, round) } else { route(0, round) };
            let (began, cpu_before) = (Instant::now(), control.cpu());
            control.apply(&Resources::nothing().yaml(&changed)).await;
            applied.push(began.elapsed().as_millis());
            for _ in 0..proxies {
                let (of, at) = within("the change to reach a proxy", seen_by.recv()).await.unwrap();
                assert_eq!(of, round);
                times.push((at - began).as_millis());
            }
            cpu.push((control.cpu() - cpu_before).as_millis());
        }
        let p = |values: &[u128], percent| percentile(values, percent);
        println!(
            "{what}: applied in {} ms, reaches a proxy after {} ms (p50), {} ms (p99), {} ms of CPU a push",
            p(&applied, 50),
            p(&times, 50),
            p(&times, 99),
            p(&cpu, 50)
        );
    }
}

/// Waits for more than a test usually may: so many proxies take their time to begin.
async fn within_long(what: &str, future: impl Future<Output = ()>) {
    let waited = tokio::time::timeout(std::time::Duration::from_secs(240), future).await;
    assert!(waited.is_ok(), "waited in vain: {what}");
}

/// Services with endpoints, a route to each.
fn mesh(services: usize) -> Resources {
    let text: String = (0..services).map(|number| service(number, 0) + &route(number, 0)).collect();
    Resources::new().yaml(&text)
}

/// A Service whose endpoints' ports tell rounds apart.
fn service(number: usize, round: usize) -> String {
    let address = |index| format!("{{address: \"10.{}.{}.{index}:{}\"}}", number / 250, number % 250, 1000 + round);
    let endpoints: Vec<String> = (1..=ENDPOINTS).map(address).collect();
    format!(
        "---\napiVersion: weir.dev/v1alpha1\nkind: Service\nmetadata: {{name: s{number}}}\nspec: {{ports: [{{name: \
         http, port: 80, protocol: HTTP}}], endpoints: [{}]}}\n",
        endpoints.join(", ")
    )
}

/// A route whose path tells rounds apart.
fn route(number: usize, round: usize) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r{number}}}\nspec: \
         {{parentRefs: [{{name: edge}}], rules: [{{matches: [{{path: {{type: Exact, value: /r{number}/{round}}}}}], \
         backendRefs: [{{name: s{number}, port: 80}}]}}]}}\n"
    )
}

/// A light client: keeps what a proxy keeps of the protocol, and looks into nothing.
struct Follower {
    state: ClientState,
    services: usize,
    endpoints: BTreeSet<String>,
    has_routes: bool,
    complete: Arc<AtomicUsize>,
    look: watch::Receiver<Wanted>,
    seen: mpsc::Sender<(usize, Instant)>,
}

impl Follower {
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
            for request in self.take_in(response).await {
                requests.send(request).await.unwrap();
            }
            if !is_complete && self.has_routes && self.endpoints.len() == self.services {
                is_complete = true;
                self.complete.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn take_in(&mut self, response: DeltaDiscoveryResponse) -> Vec<DeltaDiscoveryRequest> {
        let Some(changes) = self.state.on_response(response) else { return Vec::new() };
        let names = || changes.put.iter().map(|(name, ..)| name.clone());
        let mut requests = vec![self.state.answer(&changes, &Default::default())];
        match changes.kind {
            Kind::Cluster => requests.extend(self.state.want(Kind::Endpoints, names().collect())),
            Kind::Endpoints => self.endpoints.extend(names()),
            Kind::Listener => requests.extend(self.state.want(Kind::RouteTable, names().collect())),
            Kind::RouteTable => self.has_routes = true,
            Kind::Plugin | Kind::Secret => {}
        }
        let wanted = self.look.borrow().clone();
        if wanted.kind == changes.kind && names().any(|name| name == wanted.name) {
            self.seen.send((wanted.round, Instant::now())).await.unwrap();
        }
        requests
    }
}
