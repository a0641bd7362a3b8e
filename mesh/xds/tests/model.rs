//! The protocol, checked against a model: random changes, refusals, lost streams, repeated responses and replicas that
//! take over. Whatever happens, in the end the client holds exactly what the control plane offers, and on the way there
//! it never holds a reference to something that it does not hold.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use prost::Message as _;
use weir_model::{Rejection, ResourceId, ResourceKind};
use weir_xds::offer::Offered;
use weir_xds::proto::{Any, DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Node};
use weir_xds::server::{Protocol, Said};
use weir_xds::{ClientState, Kind, Offer, ServerState};

/// Names of each kind.
const NAMES: u8 = 4;

/// What happens next.
#[derive(Debug, Clone)]
enum Step {
    /// A cluster comes or changes, with its endpoints.
    PutCluster(u8),
    /// Only its endpoints change.
    PutEndpoints(u8),
    /// A listener comes or changes, with its routes to these clusters and a plugin.
    PutListener(u8, Vec<u8>, u8),
    /// A listener goes, and its routes.
    RemoveListener(u8),
    /// A cluster goes, unless a route needs it.
    RemoveCluster(u8),
    /// The oldest response arrives.
    ToClient,
    /// The oldest response arrives twice.
    ToClientTwice,
    /// The oldest request arrives.
    ToServer,
    /// The stream breaks with all that is on it; the client connects to a replica.
    Reconnect,
    /// Time goes by.
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    let name = 0..NAMES;
    prop_oneof![
        2 => name.clone().prop_map(Step::PutCluster),
        2 => name.clone().prop_map(Step::PutEndpoints),
        2 => (name.clone(), prop::collection::vec(0..NAMES, 0..3), 0..NAMES)
            .prop_map(|(name, clusters, plugin)| Step::PutListener(name, clusters, plugin)),
        1 => name.clone().prop_map(Step::RemoveListener),
        1 => name.prop_map(Step::RemoveCluster),
        8 => Just(Step::ToClient),
        1 => Just(Step::ToClientTwice),
        8 => Just(Step::ToServer),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Wait),
    ]
}

/// What the control plane offers. A resource's content is a number that is never used again and what it refers to.
#[derive(Default)]
struct World {
    offer: Offer,
    count: u64,
    routes: BTreeMap<u8, Vec<u8>>,
    plugins: BTreeMap<u8, u8>,
    clusters: BTreeSet<u8>,
}

impl World {
    fn put(&mut self, kind: Kind, name: u8, refers_to: &[u8]) {
        self.count += 1;
        let mut value = self.count.to_be_bytes().to_vec();
        value.extend_from_slice(refers_to);
        let resource = Any { type_url: kind.type_url(), value };
        self.offer.put(kind, &name.to_string(), Offered { version: self.count.to_string(), resource });
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::PutCluster(name) => {
                self.put(Kind::Cluster, *name, &[]);
                if self.clusters.insert(*name) {
                    self.put(Kind::Endpoints, *name, &[]);
                }
            }
            Step::PutEndpoints(name) if self.clusters.contains(name) => self.put(Kind::Endpoints, *name, &[]),
            Step::PutListener(name, clusters, plugin) => {
                let clusters: Vec<u8> = clusters.iter().copied().filter(|it| self.clusters.contains(it)).collect();
                self.put(Kind::Plugin, *plugin, &[]);
                self.put(Kind::Listener, *name, &[*plugin]);
                self.put(Kind::RouteTable, *name, &clusters);
                self.routes.insert(*name, clusters);
                self.plugins.insert(*name, *plugin);
                self.sweep_plugins();
            }
            Step::RemoveListener(name) => {
                self.offer.remove(Kind::Listener, &name.to_string());
                self.offer.remove(Kind::RouteTable, &name.to_string());
                self.routes.remove(name);
                self.plugins.remove(name);
                self.sweep_plugins();
            }
            Step::RemoveCluster(name) if !self.routes.values().flatten().any(|cluster| cluster == name) => {
                self.offer.remove(Kind::Cluster, &name.to_string());
                self.offer.remove(Kind::Endpoints, &name.to_string());
                self.clusters.remove(name);
            }
            _ => {}
        }
    }

    fn sweep_plugins(&mut self) {
        let used: BTreeSet<u8> = self.plugins.values().copied().collect();
        (0..NAMES)
            .filter(|name| !used.contains(name))
            .for_each(|name| self.offer.remove(Kind::Plugin, &name.to_string()));
    }
}

type Held = BTreeMap<(Kind, String), Vec<u8>>;

/// What a peer asks for by name when it holds this.
fn wanted(held: &Held) -> Vec<(Kind, BTreeSet<String>)> {
    let of = |kind: Kind| held.iter().filter(move |((of, _), _)| *of == kind);
    let names = |kind: Kind| of(kind).map(|((_, name), _)| name.clone()).collect();
    let plugins = of(Kind::Listener).flat_map(|(_, content)| &content[8..]).map(ToString::to_string).collect();
    vec![(Kind::Endpoints, names(Kind::Cluster)), (Kind::Plugin, plugins), (Kind::RouteTable, names(Kind::Listener))]
}

/// A proxy, as far as the protocol knows it.
struct Proxy {
    state: ClientState,
    held: Held,
    /// Refuses contents whose number this divides; 0 = none.
    refuses: u64,
}

impl Proxy {
    fn is_refused(&self, content: &[u8]) -> bool {
        let number = u64::from_be_bytes(content[..8].try_into().unwrap());
        self.refuses != 0 && number.is_multiple_of(self.refuses)
    }

    /// What a response does, and the requests that follow from it.
    fn take_in(&mut self, response: DeltaDiscoveryResponse) -> Vec<DeltaDiscoveryRequest> {
        let Some(changes) = self.state.on_response(response) else { return Vec::new() };
        let mut rejected = BTreeMap::new();
        for (name, _, resource) in &changes.put {
            if self.is_refused(&resource.value) {
                let resource = ResourceId { kind: ResourceKind::Cluster, name: name.clone() };
                let reason = "is refused".to_owned();
                let rejection = Rejection { resource, field: String::new(), reason, hint: String::new() };
                rejected.insert(name.clone(), vec![rejection]);
            } else {
                self.held.insert((changes.kind, name.clone()), resource.value.clone());
            }
        }
        for name in &changes.removed {
            self.held.remove(&(changes.kind, name.clone()));
        }
        let mut requests = vec![self.state.answer(&changes, &rejected)];
        for (kind, wanted) in wanted(&self.held) {
            self.held.retain(|(of, name), _| *of != kind || wanted.contains(name));
            requests.extend(self.state.want(kind, wanted));
        }
        requests
    }
}

/// Nothing that is held refers to something that is not.
fn check_references(held: &Held) -> Result<(), TestCaseError> {
    let tables = held.iter().filter(|((kind, _), _)| *kind == Kind::RouteTable);
    let needs = tables.flat_map(|((_, name), content)| content[8..].iter().map(move |cluster| (name, cluster)));
    for (name, cluster) in needs {
        let lacks = |kind: &Kind| !held.contains_key(&(*kind, cluster.to_string()));
        let lacking = [Kind::Cluster, Kind::Endpoints].into_iter().find(lacks);
        prop_assert_eq!(lacking, None, "routes {} go to cluster {}, which is not there", name, cluster);
    }
    Ok(())
}

/// Both ends and what is on its way between them.
struct Stream {
    server: ServerState,
    to_server: VecDeque<DeltaDiscoveryRequest>,
    to_client: VecDeque<DeltaDiscoveryResponse>,
}

impl Stream {
    fn connect(proxy: &mut Proxy) -> Self {
        let to_server = proxy.state.connect().into();
        Self { server: ServerState::new(Protocol::Delta), to_server, to_client: VecDeque::new() }
    }

    fn push(&mut self, world: &World, now: Duration) {
        while let Some(response) = self.server.next_response(&world.offer, now) {
            let response = DeltaDiscoveryResponse::decode(&*response.into_bytes()).unwrap();
            self.to_client.push_back(response);
        }
    }

    fn deliver_to_client(&mut self, proxy: &mut Proxy, twice: bool) {
        let Some(response) = self.to_client.pop_front() else { return };
        if twice {
            self.to_server.extend(proxy.take_in(response.clone()));
        }
        self.to_server.extend(proxy.take_in(response));
    }

    fn deliver_to_server(&mut self, offer: &Offer) {
        let Some(request) = self.to_server.pop_front() else { return };
        let said = self.server.on_delta_request(&request, offer);
        assert!(!matches!(said, Said::Unknown(_) | Said::TooMany(_)), "{said:?}");
    }
}

fn run(steps: &[Step], refuses: u64) -> Result<(), TestCaseError> {
    let mut world = World::default();
    let mut proxy = Proxy { state: ClientState::new(Node::default()), held: Held::new(), refuses };
    let mut stream = Stream::connect(&mut proxy);
    let mut now = Duration::ZERO;
    for step in steps {
        world.apply(step);
        match step {
            Step::ToClient => stream.deliver_to_client(&mut proxy, false),
            Step::ToClientTwice => stream.deliver_to_client(&mut proxy, true),
            Step::ToServer => stream.deliver_to_server(&world.offer),
            Step::Reconnect => stream = Stream::connect(&mut proxy),
            Step::Wait => now += Duration::from_secs(2),
            _ => {}
        }
        stream.push(&world, now);
        if refuses == 0 {
            check_references(&proxy.held)?;
        }
    }
    settle(&mut stream, &mut proxy, &world, now)?;
    prop_assert!(stream.server.is_settled(&world.offer));
    for kind in Kind::ALL {
        check_kind(kind, &proxy, &world)?;
    }
    Ok(())
}

/// Lets everything arrive.
fn settle(stream: &mut Stream, proxy: &mut Proxy, world: &World, mut now: Duration) -> Result<(), TestCaseError> {
    for _ in 0..1_000 {
        stream.push(world, now);
        if stream.to_client.is_empty() && stream.to_server.is_empty() {
            match stream.server.wait(now) {
                Some(until) => now = until,
                None => return Ok(()),
            }
        }
        stream.deliver_to_client(proxy, false);
        stream.deliver_to_server(&world.offer);
        if proxy.refuses == 0 {
            check_references(&proxy.held)?;
        }
    }
    Err(TestCaseError::fail("it never ends"))
}

/// What is wanted and offered is held; what was refused is held as it was before, or not at all.
fn check_kind(kind: Kind, proxy: &Proxy, world: &World) -> Result<(), TestCaseError> {
    let wanted = wanted(&proxy.held).into_iter().find(|(of, _)| *of == kind).map(|(_, names)| names);
    for (name, offered) in world.offer.of_kind(kind).iter() {
        if wanted.as_ref().is_some_and(|wanted| !wanted.contains(name.as_ref())) {
            continue;
        }
        let held = proxy.held.get(&(kind, name.to_string()));
        if proxy.is_refused(&offered.resource.value) {
            prop_assert!(held.is_none_or(|held| !proxy.is_refused(held)));
        } else {
            prop_assert_eq!(held, Some(&offered.resource.value), "{:?} {}", kind, name);
        }
    }
    for (of, name) in proxy.held.keys() {
        let offered = world.offer.of_kind(kind).contains_key(name.as_str());
        prop_assert!(*of != kind || offered, "{:?} {} is held and not offered", kind, name);
    }
    Ok(())
}

/// A peer that speaks state of the world, as Envoy and gRPC clients do.
#[derive(Default)]
struct WholePeer {
    held: Held,
    asked: BTreeMap<Kind, BTreeSet<String>>,
    nonces: BTreeMap<Kind, String>,
}

impl WholePeer {
    fn request(&self, kind: Kind) -> DiscoveryRequest {
        let names = self.asked.get(&kind).into_iter().flatten().cloned().collect();
        let response_nonce = self.nonces.get(&kind).cloned().unwrap_or_default();
        DiscoveryRequest { type_url: kind.type_url(), resource_names: names, response_nonce, ..Default::default() }
    }

    fn connect(&mut self) -> Vec<DiscoveryRequest> {
        self.nonces.clear();
        let named = self.asked.iter().filter(|(_, names)| !names.is_empty()).map(|(kind, _)| *kind);
        let kinds: BTreeSet<Kind> = [Kind::Cluster, Kind::Listener].into_iter().chain(named).collect();
        kinds.into_iter().map(|kind| self.request(kind)).collect()
    }

    /// A resource's name is told by its place in the world: contents are unique.
    fn take_in(&mut self, response: &DiscoveryResponse, names: &BTreeMap<Vec<u8>, Arc<str>>) -> Vec<DiscoveryRequest> {
        let kind = Kind::of_url(&response.type_url).unwrap();
        if kind.is_wildcard() {
            self.held.retain(|(of, _), _| *of != kind);
        }
        for resource in &response.resources {
            self.held.insert((kind, names[&resource.value].to_string()), resource.value.clone());
        }
        self.nonces.insert(kind, response.nonce.clone());
        let mut changed = BTreeSet::from([kind]);
        for (kind, wanted) in wanted(&self.held) {
            self.held.retain(|(of, name), _| *of != kind || wanted.contains(name));
            if *self.asked.entry(kind).or_default() != wanted {
                self.asked.insert(kind, wanted);
                changed.insert(kind);
            }
        }
        changed.into_iter().map(|kind| self.request(kind)).collect()
    }
}

fn run_whole(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut world = World::default();
    let mut names = BTreeMap::new();
    let mut peer = WholePeer::default();
    let mut server = ServerState::new(Protocol::StateOfTheWorld);
    let mut to_server: VecDeque<DiscoveryRequest> = peer.connect().into();
    let mut to_client: VecDeque<DiscoveryResponse> = VecDeque::new();
    let mut now = Duration::ZERO;
    let settling = std::iter::repeat_n([Step::ToClient, Step::ToServer], 400).flatten();
    for (index, step) in steps.iter().cloned().chain(settling).enumerate() {
        world.apply(&step);
        for kind in Kind::ALL {
            for (name, offered) in world.offer.of_kind(kind).iter() {
                names.insert(offered.resource.value.clone(), name.clone());
            }
        }
        match step {
            Step::ToClient | Step::ToClientTwice => {
                let response = to_client.pop_front();
                to_server.extend(response.into_iter().flat_map(|response| peer.take_in(&response, &names)));
            }
            Step::ToServer => {
                let request = to_server.pop_front();
                request.iter().for_each(|request| drop(server.on_request(request, &world.offer)));
            }
            Step::Reconnect => {
                server = ServerState::new(Protocol::StateOfTheWorld);
                (to_server, to_client) = (peer.connect().into(), VecDeque::new());
            }
            Step::Wait => now += Duration::from_secs(2),
            _ => {}
        }
        if index >= steps.len() && to_server.is_empty() && to_client.is_empty() {
            match server.wait(now) {
                Some(until) => now = until,
                None if server.is_settled(&world.offer) => break,
                None => {}
            }
        }
        while let Some(response) = server.next_response(&world.offer, now) {
            let response = DiscoveryResponse::decode(&*response.into_bytes()).unwrap();
            to_client.push_back(response);
        }
        // Who comes from another stream cannot say what it holds in this protocol.
        if !steps.iter().any(|step| matches!(step, Step::Reconnect)) {
            check_references(&peer.held)?;
        }
    }
    prop_assert!(to_server.is_empty() && to_client.is_empty(), "it never ends");
    for kind in Kind::ALL {
        let wanted = wanted(&peer.held).into_iter().find(|(of, _)| *of == kind).map(|(_, names)| names);
        for (name, offered) in world.offer.of_kind(kind).iter() {
            if wanted.as_ref().is_none_or(|wanted| wanted.contains(name.as_ref())) {
                let held = peer.held.get(&(kind, name.to_string()));
                prop_assert_eq!(held, Some(&offered.resource.value), "{:?} {}", kind, name);
            }
        }
        let is_offered = |name: &String| world.offer.of_kind(kind).contains_key(name.as_str());
        let stale = peer.held.keys().find(|(of, name)| *of == kind && kind.is_wildcard() && !is_offered(name));
        prop_assert_eq!(stale, None);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn the_client_ends_with_what_is_offered(
        steps in prop::collection::vec(step(), 1..60),
        refuses in prop_oneof![2 => Just(0u64), 1 => 2u64..6],
    ) {
        run(&steps, refuses)?;
    }

    #[test]
    fn a_peer_that_speaks_state_of_the_world_ends_with_what_is_offered(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        run_whole(&steps)?;
    }
}
