//! The proxy's end of a delta stream: subscriptions, versions of accepted resources, ACK and NACK. Performs no IO; the
//! proxy's xDS source drives it.
//!
//! ```text
//!  connect()                            first request of each resource type
//!  on_response(response)                ParsedResponse; the caller decodes its resources
//!  acknowledge(parsed, rejections)      ACK, or NACK when a resource was rejected
//!  subscribe(resource type, names)      request with names to subscribe to and to unsubscribe from
//! ```
//!
//! A new stream sends the versions of all accepted resources (`initial_resource_versions`), so the control plane sends
//! only what differs. Rejected resources are not among them, so they are sent again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use weir_model::Rejection;

use crate::limits::{MAX_ERROR_BYTES, MAX_RESOURCES};
use crate::proto::{Any, DeltaDiscoveryRequest, DeltaDiscoveryResponse, Node, Resource, Status, is_weir};
use crate::resource_type::ResourceType;

/// gRPC's `INVALID_ARGUMENT`: the status code of every NACK.
const INVALID_ARGUMENT: i32 = 3;

/// The proxy's end of ADS streams, one after another. Subscriptions and versions outlive a stream.
#[derive(Debug)]
pub struct ClientState {
    node: Node,
    subscriptions: BTreeMap<ResourceType, ClientSubscription>,
    /// The nonce of the last response of `weir-control`, which accepts reports. `None` for other control planes.
    report_nonce: Option<u64>,
}

/// The subscription to one resource type.
#[derive(Debug, Default)]
struct ClientSubscription {
    /// Names subscribed to. Empty for wildcard types, which subscribe to everything.
    names: BTreeSet<String>,
    /// The version of each accepted resource, by name.
    versions: BTreeMap<String, String>,
    /// True once a request of this type was sent on the current stream.
    requested: bool,
}

/// A response, checked against the subscription. Its resources are not decoded yet.
#[derive(Debug, Clone, PartialEq)]
pub struct ParsedResponse {
    /// The resource type of the response.
    pub resource_type: ResourceType,
    /// New and changed resources: name, version, message. Empty when the response is malformed.
    pub updated: Vec<(String, String, Any)>,
    /// Names of resources that do not exist or were removed.
    pub removed: Vec<String>,
    /// The reason why the whole response is rejected.
    pub malformed: Option<String>,
    nonce: String,
}

impl ClientState {
    /// Creates the state of a proxy that subscribes to all clusters and listeners. The first request carries `node`.
    pub fn new(node: Node) -> Self {
        let empty = |resource_type| (resource_type, ClientSubscription::default());
        Self { node, subscriptions: ResourceType::ALL.into_iter().map(empty).collect(), report_nonce: None }
    }

    /// Records a resource that an earlier process accepted in this version.
    pub fn restore(&mut self, resource_type: ResourceType, name: &str, version: &str) {
        self.subscriptions.entry(resource_type).or_default().versions.insert(name.to_owned(), version.to_owned());
    }

    /// Starts a new stream and returns its first requests, which list the versions of accepted resources.
    pub fn connect(&mut self) -> Vec<DeltaDiscoveryRequest> {
        for subscription in self.subscriptions.values_mut() {
            subscription.requested = false;
        }
        self.report_nonce = None;
        let is_subscribed = |resource_type: &ResourceType| {
            resource_type.is_wildcard() || !self.subscriptions[resource_type].names.is_empty()
        };
        let types: Vec<ResourceType> = ResourceType::ALL.into_iter().filter(is_subscribed).collect();
        let mut requests: Vec<_> = types.into_iter().map(|resource_type| self.first_request(resource_type)).collect();
        if let Some(first) = requests.first_mut() {
            first.node = Some(self.node.clone());
        }
        requests
    }

    /// Replaces the subscription to a resource type. Returns `None` when it does not change, or for a wildcard type.
    pub fn subscribe(&mut self, resource_type: ResourceType, names: BTreeSet<String>) -> Option<DeltaDiscoveryRequest> {
        let subscription = self.subscriptions.entry(resource_type).or_default();
        if resource_type.is_wildcard() || subscription.names == names {
            return None;
        }
        let subscribe: Vec<String> = names.difference(&subscription.names).cloned().collect();
        let unsubscribe: Vec<String> = subscription.names.difference(&names).cloned().collect();
        subscription.versions.retain(|name, _| names.contains(name));
        subscription.names = names;
        if !subscription.requested {
            return Some(self.first_request(resource_type));
        }
        Some(DeltaDiscoveryRequest {
            type_url: resource_type.type_url(),
            resource_names_subscribe: subscribe,
            resource_names_unsubscribe: unsubscribe,
            ..DeltaDiscoveryRequest::default()
        })
    }

    /// Parses a response. Resources without a subscription are ignored. Returns `None` for an unknown type, which gets
    /// no ACK or NACK.
    pub fn on_response(&mut self, response: DeltaDiscoveryResponse) -> Option<ParsedResponse> {
        if response.control_plane.as_ref().is_some_and(is_weir) {
            self.report_nonce = response.nonce.parse().ok();
        }
        let resource_type = ResourceType::from_type_url(&response.type_url)?;
        let subscription = &self.subscriptions[&resource_type];
        let is_subscribed = |name: &String| resource_type.is_wildcard() || subscription.names.contains(name);
        let mut seen = BTreeSet::new();
        let mut malformed = None;
        let mut updated = Vec::new();
        for Resource { name, version, resource, .. } in response.resources {
            let Some(resource) = resource else {
                malformed = Some(format!("resource `{name}` is empty"));
                continue;
            };
            if !seen.insert(name.clone()) {
                malformed = Some(format!("resource `{name}` is there twice"));
            }
            if is_subscribed(&name) {
                updated.push((name, version, resource));
            }
        }
        if seen.len() > MAX_RESOURCES || subscription.versions.len() + updated.len() > 2 * MAX_RESOURCES {
            malformed = Some(format!("more than {MAX_RESOURCES} resources of one type"));
        }
        let removed = response.removed_resources.into_iter().filter(is_subscribed).collect();
        if malformed.is_some() {
            updated.clear();
        }
        Some(ParsedResponse { resource_type, updated, removed, malformed, nonce: response.nonce })
    }

    /// Returns the ACK or NACK of a response, and records the versions of all resources but those in `rejected`.
    pub fn acknowledge(
        &mut self,
        parsed: &ParsedResponse,
        rejected: &BTreeMap<String, Vec<Rejection>>,
    ) -> DeltaDiscoveryRequest {
        let subscription = self.subscriptions.entry(parsed.resource_type).or_default();
        subscription.requested = true;
        for (name, version, _) in &parsed.updated {
            if !rejected.contains_key(name) {
                subscription.versions.insert(name.clone(), version.clone());
            }
        }
        if parsed.malformed.is_none() {
            for name in &parsed.removed {
                subscription.versions.remove(name);
            }
        }
        let rejections = rejected.values().flatten().map(ToString::to_string);
        let reasons: Vec<String> = parsed.malformed.iter().cloned().chain(rejections).collect();
        DeltaDiscoveryRequest {
            type_url: parsed.resource_type.type_url(),
            response_nonce: parsed.nonce.clone(),
            error_detail: (!reasons.is_empty()).then(|| error_detail(&reasons.join("; "))),
            ..DeltaDiscoveryRequest::default()
        }
    }

    /// Returns the nonce of the last response when its sender accepts a [`Report`](crate::Report) on it.
    pub fn report_nonce(&self) -> Option<u64> {
        self.report_nonce
    }

    fn first_request(&mut self, resource_type: ResourceType) -> DeltaDiscoveryRequest {
        let subscription = self.subscriptions.entry(resource_type).or_default();
        subscription.requested = true;
        DeltaDiscoveryRequest {
            type_url: resource_type.type_url(),
            resource_names_subscribe: subscription.names.iter().cloned().collect(),
            initial_resource_versions: subscription.versions.clone().into_iter().collect::<HashMap<_, _>>(),
            ..DeltaDiscoveryRequest::default()
        }
    }
}

fn error_detail(reasons: &str) -> Status {
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

    fn response(resource_type: ResourceType, resources: Vec<Resource>) -> DeltaDiscoveryResponse {
        DeltaDiscoveryResponse {
            type_url: resource_type.type_url(),
            resources,
            nonce: "1".to_owned(),
            ..Default::default()
        }
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn connect_sends_node_in_first_request_only() {
        let node = Node { id: "p1".to_owned(), ..Node::default() };
        let mut client = ClientState::new(node.clone());
        let requests = client.connect();
        assert_eq!(requests.len(), 2, "clusters and listeners, by wildcard");
        assert_eq!((requests[0].node.as_ref(), requests[1].node.as_ref()), (Some(&node), None));
        assert!(requests.iter().all(|request| request.resource_names_subscribe.is_empty()));
    }

    #[test]
    fn connect_lists_versions_of_accepted_resources_only() {
        let mut client = ClientState::new(Node::default());
        client.connect();
        let parsed =
            client.on_response(response(ResourceType::Cluster, vec![resource("a", "1"), resource("b", "1")])).unwrap();
        let bad = Rejection {
            resource: weir_model::ResourceId { kind: weir_model::ResourceKind::Cluster, name: "b".to_owned() },
            field: "lb_policy".to_owned(),
            reason: "is not supported".to_owned(),
            hint: String::new(),
        };
        let answer = client.acknowledge(&parsed, &BTreeMap::from([("b".to_owned(), vec![bad])]));
        assert_eq!(answer.response_nonce, "1");
        assert_eq!(answer.error_detail.unwrap().message, "cluster b: lb_policy: is not supported");
        let again = client.connect();
        assert_eq!(again[0].initial_resource_versions, HashMap::from([("a".to_owned(), "1".to_owned())]));
    }

    #[test]
    fn subscribe_requests_the_difference_to_the_last_subscription() {
        let mut client = ClientState::new(Node::default());
        client.connect();
        let first = client.subscribe(ResourceType::Endpoints, names(&["a", "b"])).unwrap();
        assert_eq!(first.resource_names_subscribe, ["a", "b"]);
        assert_eq!(client.subscribe(ResourceType::Endpoints, names(&["a", "b"])), None);
        let second = client.subscribe(ResourceType::Endpoints, names(&["b", "c"])).unwrap();
        assert_eq!(second.resource_names_subscribe, ["c"]);
        assert_eq!(second.resource_names_unsubscribe, ["a"]);
        let parsed = client
            .on_response(response(ResourceType::Endpoints, vec![resource("a", "1"), resource("b", "1")]))
            .unwrap();
        assert_eq!(parsed.updated.len(), 1, "a resource without a subscription is ignored");
    }

    #[test]
    fn response_with_duplicate_resource_is_rejected_whole() {
        let mut client = ClientState::new(Node::default());
        let twice = response(ResourceType::Cluster, vec![resource("a", "1"), resource("a", "2")]);
        let parsed = client.on_response(twice).unwrap();
        assert!(parsed.updated.is_empty());
        let answer = client.acknowledge(&parsed, &BTreeMap::new());
        assert_eq!(answer.error_detail.unwrap().message, "resource `a` is there twice");
        let unknown = DeltaDiscoveryResponse { type_url: "x".to_owned(), ..Default::default() };
        assert_eq!(client.on_response(unknown), None);
    }
}
