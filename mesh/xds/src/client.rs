//! The proxy's side of a delta stream: what it asks for, what it holds, and how it answers. No IO: the proxy's source of
//! configuration drives it.
//!
//! ```text
//!  connect ─► requests           on_response ─► Changes ─► (decoded, applied) ─► answer ─► ACK or NACK
//!                                 want(kind, names) ─► request with what is new and what is no longer wanted
//! ```
//!
//! What was accepted is told to the next control plane by version (`initial_resource_versions`), so that nothing is sent
//! twice; what was refused is not, so that it comes again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use weir_model::Rejection;

use crate::kind::Kind;
use crate::limits::{MAX_ERROR_BYTES, MAX_RESOURCES};
use crate::proto::{Any, CONTROL_PLANE, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Resource, Status};
use crate::report::Report;

/// `INVALID_ARGUMENT` of gRPC: what a NACK says.
const INVALID_ARGUMENT: i32 = 3;

/// The proxy's side of a stream, and what outlives it.
#[derive(Debug)]
pub struct ClientState {
    node: Node,
    kinds: BTreeMap<Kind, Asked>,
    /// The number of the last response of a control plane of ours, which wants reports.
    reports: Option<u64>,
}

/// What is asked for and held of one kind.
#[derive(Debug, Default)]
struct Asked {
    /// By name; a wildcard kind asks for everything.
    wanted: BTreeSet<String>,
    /// Version by name, of what was accepted.
    held: BTreeMap<String, String>,
    /// True once the stream has a request of this kind.
    begun: bool,
}

/// What a response changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// Of which kind.
    pub kind: Kind,
    /// New and changed resources: name, version, content.
    pub put: Vec<(String, String, Any)>,
    /// Resources that are not there, or not any more.
    pub removed: Vec<String>,
    /// Why the response is refused as a whole, if it is.
    pub broken: Option<String>,
    nonce: String,
}

impl ClientState {
    /// Asks for everything that has no names yet; `node` says who we are.
    pub fn new(node: Node) -> Self {
        let kinds = Kind::ALL.into_iter().map(|kind| (kind, Asked::default())).collect();
        Self { node, kinds, reports: None }
    }

    /// A resource is held that an earlier process was given in this version.
    pub fn restore(&mut self, kind: Kind, name: &str, version: &str) {
        self.kinds.entry(kind).or_default().held.insert(name.to_owned(), version.to_owned());
    }

    /// The first requests of a new stream, with what is held already.
    pub fn connect(&mut self) -> Vec<DeltaDiscoveryRequest> {
        for asked in self.kinds.values_mut() {
            asked.begun = false;
        }
        self.reports = None;
        let kinds = Kind::ALL.into_iter().filter(|kind| kind.is_wildcard() || !self.kinds[kind].wanted.is_empty());
        let kinds: Vec<Kind> = kinds.collect();
        let mut requests: Vec<_> = kinds.into_iter().map(|kind| self.begin(kind)).collect();
        if let Some(first) = requests.first_mut() {
            first.node = Some(self.node.clone());
        }
        requests
    }

    /// Asks for exactly these resources of a kind; `None` when nothing changes by that.
    pub fn want(&mut self, kind: Kind, names: BTreeSet<String>) -> Option<DeltaDiscoveryRequest> {
        let asked = self.kinds.entry(kind).or_default();
        if kind.is_wildcard() || asked.wanted == names {
            return None;
        }
        let subscribe: Vec<String> = names.difference(&asked.wanted).cloned().collect();
        let unsubscribe: Vec<String> = asked.wanted.difference(&names).cloned().collect();
        asked.held.retain(|name, _| names.contains(name));
        asked.wanted = names;
        if !asked.begun {
            return Some(self.begin(kind));
        }
        Some(DeltaDiscoveryRequest {
            type_url: kind.type_url(),
            resource_names_subscribe: subscribe,
            resource_names_unsubscribe: unsubscribe,
            ..DeltaDiscoveryRequest::default()
        })
    }

    /// Takes a response apart. `None` for one of a kind that we do not know: there is nothing to answer.
    pub fn on_response(&mut self, response: DeltaDiscoveryResponse) -> Option<Changes> {
        if response.control_plane.is_some_and(|it| it.identifier == CONTROL_PLANE) {
            self.reports = response.nonce.parse().ok();
        }
        let kind = Kind::of_url(&response.type_url)?;
        let asked = &self.kinds[&kind];
        let is_asked = |name: &String| kind.is_wildcard() || asked.wanted.contains(name);
        let mut seen = BTreeSet::new();
        let mut broken = None;
        let mut put = Vec::new();
        for Resource { name, version, resource, .. } in response.resources {
            let Some(resource) = resource else {
                broken = Some(format!("resource `{name}` is empty"));
                continue;
            };
            if !seen.insert(name.clone()) {
                broken = Some(format!("resource `{name}` is there twice"));
            }
            if is_asked(&name) {
                put.push((name, version, resource));
            }
        }
        if seen.len() > MAX_RESOURCES || asked.held.len() + put.len() > 2 * MAX_RESOURCES {
            broken = Some(format!("more than {MAX_RESOURCES} resources of one kind"));
        }
        let removed = response.removed_resources.into_iter().filter(is_asked).collect();
        if broken.is_some() {
            put.clear();
        }
        Some(Changes { kind, put, removed, broken, nonce: response.nonce })
    }

    /// The answer to a response whose resources were tried: each that is in no rejection counts as held from now on.
    pub fn answer(&mut self, changes: &Changes, rejected: &BTreeMap<String, Vec<Rejection>>) -> DeltaDiscoveryRequest {
        let asked = self.kinds.entry(changes.kind).or_default();
        asked.begun = true;
        for (name, version, _) in &changes.put {
            if !rejected.contains_key(name) {
                asked.held.insert(name.clone(), version.clone());
            }
        }
        if changes.broken.is_none() {
            for name in &changes.removed {
                asked.held.remove(name);
            }
        }
        let told = rejected.values().flatten().map(ToString::to_string);
        let reasons: Vec<String> = changes.broken.iter().cloned().chain(told).collect();
        DeltaDiscoveryRequest {
            type_url: changes.kind.type_url(),
            response_nonce: changes.nonce.clone(),
            error_detail: (!reasons.is_empty()).then(|| refusal(&reasons.join("; "))),
            ..DeltaDiscoveryRequest::default()
        }
    }

    /// The number of the last response, when its sender wants to hear what became of it: see [`Report`].
    pub fn reports(&self) -> Option<u64> {
        self.reports
    }

    /// Says what became of everything up to a response.
    pub fn report(&self, report: &Report) -> DeltaDiscoveryRequest {
        report.request()
    }

    fn begin(&mut self, kind: Kind) -> DeltaDiscoveryRequest {
        let asked = self.kinds.entry(kind).or_default();
        asked.begun = true;
        DeltaDiscoveryRequest {
            type_url: kind.type_url(),
            resource_names_subscribe: asked.wanted.iter().cloned().collect(),
            initial_resource_versions: asked.held.clone().into_iter().collect::<HashMap<_, _>>(),
            ..DeltaDiscoveryRequest::default()
        }
    }
}

fn refusal(reasons: &str) -> Status {
    let mut message = reasons.to_owned();
    if message.len() > MAX_ERROR_BYTES {
        let end = (0..=MAX_ERROR_BYTES).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    Status { code: INVALID_ARGUMENT, message, details: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(name: &str, version: &str) -> Resource {
        Resource {
            name: name.to_owned(),
            version: version.to_owned(),
            resource: Some(Any::default()),
            ..Resource::default()
        }
    }

    fn response(kind: Kind, resources: Vec<Resource>) -> DeltaDiscoveryResponse {
        DeltaDiscoveryResponse { type_url: kind.type_url(), resources, nonce: "1".to_owned(), ..Default::default() }
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_the_first_request_says_who_we_are() {
        let node = Node { id: "p1".to_owned(), ..Node::default() };
        let mut client = ClientState::new(node.clone());
        let requests = client.connect();
        assert_eq!(requests.len(), 2, "clusters and listeners, by wildcard");
        assert_eq!((requests[0].node.as_ref(), requests[1].node.as_ref()), (Some(&node), None));
        assert!(requests.iter().all(|request| request.resource_names_subscribe.is_empty()));
    }

    #[test]
    fn what_was_accepted_is_told_to_the_next_stream_and_what_was_refused_is_not() {
        let mut client = ClientState::new(Node::default());
        client.connect();
        let changes =
            client.on_response(response(Kind::Cluster, vec![resource("a", "1"), resource("b", "1")])).unwrap();
        let bad = Rejection {
            resource: weir_model::ResourceId { kind: weir_model::ResourceKind::Cluster, name: "b".to_owned() },
            field: "lb_policy".to_owned(),
            reason: "is not supported".to_owned(),
            hint: String::new(),
        };
        let answer = client.answer(&changes, &BTreeMap::from([("b".to_owned(), vec![bad])]));
        assert_eq!(answer.response_nonce, "1");
        assert_eq!(answer.error_detail.unwrap().message, "cluster b: lb_policy: is not supported");
        let again = client.connect();
        assert_eq!(again[0].initial_resource_versions, HashMap::from([("a".to_owned(), "1".to_owned())]));
    }

    #[test]
    fn asks_for_what_is_new_and_leaves_what_is_not_wanted() {
        let mut client = ClientState::new(Node::default());
        client.connect();
        let first = client.want(Kind::Endpoints, names(&["a", "b"])).unwrap();
        assert_eq!(first.resource_names_subscribe, ["a", "b"]);
        assert_eq!(client.want(Kind::Endpoints, names(&["a", "b"])), None);
        let second = client.want(Kind::Endpoints, names(&["b", "c"])).unwrap();
        assert_eq!(second.resource_names_subscribe, ["c"]);
        assert_eq!(second.resource_names_unsubscribe, ["a"]);
        let changes =
            client.on_response(response(Kind::Endpoints, vec![resource("a", "1"), resource("b", "1")])).unwrap();
        assert_eq!(changes.put.len(), 1, "what is not asked for is ignored");
    }

    #[test]
    fn a_broken_response_is_refused_whole() {
        let mut client = ClientState::new(Node::default());
        let twice = response(Kind::Cluster, vec![resource("a", "1"), resource("a", "2")]);
        let changes = client.on_response(twice).unwrap();
        assert!(changes.put.is_empty());
        let answer = client.answer(&changes, &BTreeMap::new());
        assert_eq!(answer.error_detail.unwrap().message, "resource `a` is there twice");
        let unknown = DeltaDiscoveryResponse { type_url: "x".to_owned(), ..Default::default() };
        assert_eq!(client.on_response(unknown), None);
    }
}
