//! Checks both ends of the protocol against a model, with random sequences of parsed, NACKs, lost streams, repeated
//! responses and reconnects to a replica. At the end the client has exactly the available resources. On the way it
//! never has a reference to a resource that it lacks.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use prost::Message as _;
use weir_model::{Rejection, ResourceId, ResourceKind};
use weir_xds::proto::{Any, DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Node};
use weir_xds::resource_set::VersionedResource;
use weir_xds::server::{Protocol, RequestOutcome};
use weir_xds::{ClientState, ResourceSet, ResourceType, ServerState};

/// Names per resource type.
const NAMES: u8 = 4;

/// One step of a sequence.
#[derive(Debug, Clone)]
enum Step {
    /// A cluster is added with its endpoints, or parsed.
    PutCluster(u8),
    /// Only its endpoints change.
    PutEndpoints(u8),
    /// A listener is added or parsed, with routes to these clusters and a plugin.
    PutListener(u8, Vec<u8>, u8),
    /// A listener is removed with its routes.
    RemoveListener(u8),
    /// A cluster is removed unless a route refers to it.
    RemoveCluster(u8),
    /// The oldest response reaches the client.
    ToClient,
    /// The oldest response reaches the client twice.
    ToClientTwice,
    /// The oldest request reaches the server.
    ToServer,
    /// The stream breaks and loses all messages in transit; the client connects to a replica.
    Reconnect,
    /// Two seconds pass.
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

/// The resources of the control plane. The content of each is a unique number, and the names to which it refers.
#[derive(Default)]
struct World {
    resources: ResourceSet,
    count: u64,
    routes: BTreeMap<u8, Vec<u8>>,
    plugins: BTreeMap<u8, u8>,
    clusters: BTreeSet<u8>,
}

impl World {
    fn put(&mut self, resource_type: ResourceType, name: u8, refers_to: &[u8]) {
        self.count += 1;
        let mut value = self.count.to_be_bytes().to_vec();
        value.extend_from_slice(refers_to);
        let resource = Any { type_url: resource_type.type_url(), value };
        self.resources.put(
            resource_type,
            &name.to_string(),
            VersionedResource { version: self.count.to_string(), resource },
        );
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::PutCluster(name) => {
                self.put(ResourceType::Cluster, *name, &[]);
                if self.clusters.insert(*name) {
                    self.put(ResourceType::Endpoints, *name, &[]);
                }
            }
            Step::PutEndpoints(name) if self.clusters.contains(name) => self.put(ResourceType::Endpoints, *name, &[]),
            Step::PutListener(name, clusters, plugin) => {
                let clusters: Vec<u8> =
                    clusters.iter().copied().filter(|cluster| self.clusters.contains(cluster)).collect();
                self.put(ResourceType::Plugin, *plugin, &[]);
                self.put(ResourceType::Listener, *name, &[*plugin]);
                self.put(ResourceType::RouteTable, *name, &clusters);
                self.routes.insert(*name, clusters);
                self.plugins.insert(*name, *plugin);
                self.sweep_plugins();
            }
            Step::RemoveListener(name) => {
                self.resources.remove(ResourceType::Listener, &name.to_string());
                self.resources.remove(ResourceType::RouteTable, &name.to_string());
                self.routes.remove(name);
                self.plugins.remove(name);
                self.sweep_plugins();
            }
            Step::RemoveCluster(name) if !self.routes.values().flatten().any(|cluster| cluster == name) => {
                self.resources.remove(ResourceType::Cluster, &name.to_string());
                self.resources.remove(ResourceType::Endpoints, &name.to_string());
                self.clusters.remove(name);
            }
            _ => {}
        }
    }

    fn sweep_plugins(&mut self) {
        let used: BTreeSet<u8> = self.plugins.values().copied().collect();
        (0..NAMES)
            .filter(|name| !used.contains(name))
            .for_each(|name| self.resources.remove(ResourceType::Plugin, &name.to_string()));
    }
}

type ClientResources = BTreeMap<(ResourceType, String), Vec<u8>>;

/// Returns the names to which a client with these resources subscribes.
fn wanted(accepted: &ClientResources) -> Vec<(ResourceType, BTreeSet<String>)> {
    let of_type = |resource_type: ResourceType| accepted.iter().filter(move |((other, _), _)| *other == resource_type);
    let names = |resource_type: ResourceType| of_type(resource_type).map(|((_, name), _)| name.clone()).collect();
    let plugins =
        of_type(ResourceType::Listener).flat_map(|(_, content)| &content[8..]).map(ToString::to_string).collect();
    vec![
        (ResourceType::Endpoints, names(ResourceType::Cluster)),
        (ResourceType::Plugin, plugins),
        (ResourceType::RouteTable, names(ResourceType::Listener)),
    ]
}

/// The client end, with the resources that it accepted.
struct Proxy {
    state: ClientState,
    accepted: ClientResources,
    /// Rejects contents whose number is a multiple of this. 0 rejects nothing.
    rejects_multiples_of: u64,
}

impl Proxy {
    fn is_rejected(&self, content: &[u8]) -> bool {
        let number = u64::from_be_bytes(content[..8].try_into().unwrap());
        self.rejects_multiples_of != 0 && number.is_multiple_of(self.rejects_multiples_of)
    }

    /// Processes a response and returns the requests that follow.
    fn on_response(&mut self, response: DeltaDiscoveryResponse) -> Vec<DeltaDiscoveryRequest> {
        let Some(parsed) = self.state.on_response(response) else { return Vec::new() };
        let mut rejected = BTreeMap::new();
        for (name, _, resource) in &parsed.updated {
            if self.is_rejected(&resource.value) {
                let resource = ResourceId { kind: ResourceKind::Cluster, name: name.clone() };
                let reason = "is rejected".to_owned();
                let rejection = Rejection { resource, field: String::new(), reason, hint: String::new() };
                rejected.insert(name.clone(), vec![rejection]);
            } else {
                self.accepted.insert((parsed.resource_type, name.clone()), resource.value.clone());
            }
        }
        for name in &parsed.removed {
            self.accepted.remove(&(parsed.resource_type, name.clone()));
        }
        let mut requests = vec![self.state.acknowledge(&parsed, &rejected)];
        for (resource_type, wanted) in wanted(&self.accepted) {
            self.accepted.retain(|(other, name), _| *other != resource_type || wanted.contains(name));
            requests.extend(self.state.subscribe(resource_type, wanted));
        }
        requests
    }
}

/// Fails if the client has a route to a cluster that it lacks, or that lacks endpoints.
fn check_references(accepted: &ClientResources) -> Result<(), TestCaseError> {
    let tables = accepted.iter().filter(|((resource_type, _), _)| *resource_type == ResourceType::RouteTable);
    let needs = tables.flat_map(|((_, name), content)| content[8..].iter().map(move |cluster| (name, cluster)));
    for (name, cluster) in needs {
        let lacks = |resource_type: &ResourceType| !accepted.contains_key(&(*resource_type, cluster.to_string()));
        let lacking = [ResourceType::Cluster, ResourceType::Endpoints].into_iter().find(lacks);
        prop_assert_eq!(lacking, None, "routes {} go to cluster {}, which is not there", name, cluster);
    }
    Ok(())
}

/// Both ends of a stream, and the messages in transit.
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
        while let Some(response) = self.server.next_response(&world.resources, now) {
            let response = DeltaDiscoveryResponse::decode(&*response.into_bytes()).unwrap();
            self.to_client.push_back(response);
        }
    }

    fn deliver_to_client(&mut self, proxy: &mut Proxy, twice: bool) {
        let Some(response) = self.to_client.pop_front() else { return };
        if twice {
            self.to_server.extend(proxy.on_response(response.clone()));
        }
        self.to_server.extend(proxy.on_response(response));
    }

    fn deliver_to_server(&mut self, resources: &ResourceSet) {
        let Some(request) = self.to_server.pop_front() else { return };
        let outcome = self.server.on_delta_request(&request, resources);
        assert!(
            !matches!(outcome, RequestOutcome::UnknownType(_) | RequestOutcome::TooManyResources(_)),
            "{outcome:?}"
        );
    }
}

fn run_delta(steps: &[Step], rejects_multiples_of: u64) -> Result<(), TestCaseError> {
    let mut world = World::default();
    let mut proxy =
        Proxy { state: ClientState::new(Node::default()), accepted: ClientResources::new(), rejects_multiples_of };
    let mut stream = Stream::connect(&mut proxy);
    let mut now = Duration::ZERO;
    for step in steps {
        world.apply(step);
        match step {
            Step::ToClient => stream.deliver_to_client(&mut proxy, false),
            Step::ToClientTwice => stream.deliver_to_client(&mut proxy, true),
            Step::ToServer => stream.deliver_to_server(&world.resources),
            Step::Reconnect => stream = Stream::connect(&mut proxy),
            Step::Wait => now += Duration::from_secs(2),
            _ => {}
        }
        stream.push(&world, now);
        if rejects_multiples_of == 0 {
            check_references(&proxy.accepted)?;
        }
    }
    settle(&mut stream, &mut proxy, &world, now)?;
    prop_assert!(stream.server.is_synced(&world.resources));
    for resource_type in ResourceType::ALL {
        check_type(resource_type, &proxy, &world)?;
    }
    Ok(())
}

/// Delivers messages until none is left.
fn settle(stream: &mut Stream, proxy: &mut Proxy, world: &World, mut now: Duration) -> Result<(), TestCaseError> {
    for _ in 0..1_000 {
        stream.push(world, now);
        if stream.to_client.is_empty() && stream.to_server.is_empty() {
            match stream.server.next_deadline(now) {
                Some(until) => now = until,
                None => return Ok(()),
            }
        }
        stream.deliver_to_client(proxy, false);
        stream.deliver_to_server(&world.resources);
        if proxy.rejects_multiples_of == 0 {
            check_references(&proxy.accepted)?;
        }
    }
    Err(TestCaseError::fail("the exchange does not end"))
}

/// Fails unless the client has every subscribed resource, or an earlier version of a rejected one.
fn check_type(resource_type: ResourceType, proxy: &Proxy, world: &World) -> Result<(), TestCaseError> {
    let wanted = wanted(&proxy.accepted).into_iter().find(|(other, _)| *other == resource_type).map(|(_, names)| names);
    for (name, available) in world.resources.of_type(resource_type).iter() {
        if wanted.as_ref().is_some_and(|wanted| !wanted.contains(name.as_ref())) {
            continue;
        }
        let accepted = proxy.accepted.get(&(resource_type, name.to_string()));
        if proxy.is_rejected(&available.resource.value) {
            prop_assert!(accepted.is_none_or(|accepted| !proxy.is_rejected(accepted)));
        } else {
            prop_assert_eq!(accepted, Some(&available.resource.value), "{:?} {}", resource_type, name);
        }
    }
    for (other, name) in proxy.accepted.keys() {
        let available = world.resources.of_type(resource_type).contains_key(name.as_str());
        prop_assert!(
            *other != resource_type || available,
            "{:?} {} is at the client and not available",
            resource_type,
            name
        );
    }
    Ok(())
}

/// A SotW client, like Envoy and gRPC clients.
#[derive(Default)]
struct SotwClient {
    accepted: ClientResources,
    subscribed: BTreeMap<ResourceType, BTreeSet<String>>,
    nonces: BTreeMap<ResourceType, String>,
}

impl SotwClient {
    fn request(&self, resource_type: ResourceType) -> DiscoveryRequest {
        let names = self.subscribed.get(&resource_type).into_iter().flatten().cloned().collect();
        let response_nonce = self.nonces.get(&resource_type).cloned().unwrap_or_default();
        DiscoveryRequest {
            type_url: resource_type.type_url(),
            resource_names: names,
            response_nonce,
            ..Default::default()
        }
    }

    fn connect(&mut self) -> Vec<DiscoveryRequest> {
        self.nonces.clear();
        let named =
            self.subscribed.iter().filter(|(_, names)| !names.is_empty()).map(|(resource_type, _)| *resource_type);
        let kinds: BTreeSet<ResourceType> =
            [ResourceType::Cluster, ResourceType::Listener].into_iter().chain(named).collect();
        kinds.into_iter().map(|resource_type| self.request(resource_type)).collect()
    }

    /// `names` maps contents to names: a SotW response has no names, and contents are unique.
    fn on_response(
        &mut self,
        response: &DiscoveryResponse,
        names: &BTreeMap<Vec<u8>, Arc<str>>,
    ) -> Vec<DiscoveryRequest> {
        let resource_type = ResourceType::from_type_url(&response.type_url).unwrap();
        if resource_type.is_wildcard() {
            self.accepted.retain(|(other, _), _| *other != resource_type);
        }
        for resource in &response.resources {
            self.accepted.insert((resource_type, names[&resource.value].to_string()), resource.value.clone());
        }
        self.nonces.insert(resource_type, response.nonce.clone());
        let mut changed = BTreeSet::from([resource_type]);
        for (resource_type, wanted) in wanted(&self.accepted) {
            self.accepted.retain(|(other, name), _| *other != resource_type || wanted.contains(name));
            if *self.subscribed.entry(resource_type).or_default() != wanted {
                self.subscribed.insert(resource_type, wanted);
                changed.insert(resource_type);
            }
        }
        changed.into_iter().map(|resource_type| self.request(resource_type)).collect()
    }
}

fn run_sotw(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut world = World::default();
    let mut names = BTreeMap::new();
    let mut client = SotwClient::default();
    let mut server = ServerState::new(Protocol::StateOfTheWorld);
    let mut to_server: VecDeque<DiscoveryRequest> = client.connect().into();
    let mut to_client: VecDeque<DiscoveryResponse> = VecDeque::new();
    let mut now = Duration::ZERO;
    let settling = std::iter::repeat_n([Step::ToClient, Step::ToServer], 400).flatten();
    for (index, step) in steps.iter().cloned().chain(settling).enumerate() {
        world.apply(&step);
        for resource_type in ResourceType::ALL {
            for (name, available) in world.resources.of_type(resource_type).iter() {
                names.insert(available.resource.value.clone(), name.clone());
            }
        }
        match step {
            Step::ToClient | Step::ToClientTwice => {
                let response = to_client.pop_front();
                to_server.extend(response.into_iter().flat_map(|response| client.on_response(&response, &names)));
            }
            Step::ToServer => {
                let request = to_server.pop_front();
                request.iter().for_each(|request| drop(server.on_request(request, &world.resources)));
            }
            Step::Reconnect => {
                server = ServerState::new(Protocol::StateOfTheWorld);
                (to_server, to_client) = (client.connect().into(), VecDeque::new());
            }
            Step::Wait => now += Duration::from_secs(2),
            _ => {}
        }
        if index >= steps.len() && to_server.is_empty() && to_client.is_empty() {
            match server.next_deadline(now) {
                Some(until) => now = until,
                None if server.is_synced(&world.resources) => break,
                None => {}
            }
        }
        while let Some(response) = server.next_response(&world.resources, now) {
            let response = DiscoveryResponse::decode(&*response.into_bytes()).unwrap();
            to_client.push_back(response);
        }
        // A reconnected SotW client cannot report the versions that it has.
        if !steps.iter().any(|step| matches!(step, Step::Reconnect)) {
            check_references(&client.accepted)?;
        }
    }
    prop_assert!(to_server.is_empty() && to_client.is_empty(), "the exchange does not end");
    for resource_type in ResourceType::ALL {
        let wanted =
            wanted(&client.accepted).into_iter().find(|(other, _)| *other == resource_type).map(|(_, names)| names);
        for (name, available) in world.resources.of_type(resource_type).iter() {
            if wanted.as_ref().is_none_or(|wanted| wanted.contains(name.as_ref())) {
                let accepted = client.accepted.get(&(resource_type, name.to_string()));
                prop_assert_eq!(accepted, Some(&available.resource.value), "{:?} {}", resource_type, name);
            }
        }
        let is_available = |name: &String| world.resources.of_type(resource_type).contains_key(name.as_str());
        let stale = client
            .accepted
            .keys()
            .find(|(other, name)| *other == resource_type && resource_type.is_wildcard() && !is_available(name));
        prop_assert_eq!(stale, None);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn delta_client_converges_to_available_resources(
        steps in prop::collection::vec(step(), 1..60),
        rejects_multiples_of in prop_oneof![2 => Just(0u64), 1 => 2u64..6],
    ) {
        run_delta(&steps, rejects_multiples_of)?;
    }

    #[test]
    fn sotw_client_converges_to_available_resources(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        run_sotw(&steps)?;
    }
}
