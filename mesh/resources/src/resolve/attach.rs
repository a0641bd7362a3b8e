//! Attachment of routes to listeners: parentRefs, allowedRoutes and host names.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use weir_model::{HostMatch, ListenerProtocol};

use crate::resolve::errors::ReferenceErrors;
use crate::resolve::host::{covers, display, intersection};
use crate::resolve::index::{Lookup, ObjectIndex};
use crate::resource::{AllowedNamespaces, Gateway, GatewayListener, ObjectId, ParentRef, Resource};
use crate::spec::Kind;
use crate::suggest::{hint, listing, quoted};
use crate::yaml::FieldPathRef;

/// The address of a Gateway without `addresses`: plaintext HTTP leaves the machine only if the Gateway requests it.
pub(crate) const DEFAULT_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The class that needs no GatewayClass object.
const DEFAULT_CLASS: &str = "weir";

/// The controller of Weir's GatewayClasses.
const CONTROLLER: &str = "weir.dev/gateway-controller";

/// A route that serves a host of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Attachment {
    /// The index of the Gateway's document.
    pub(crate) gateway: usize,
    /// The index of the listener in the Gateway.
    pub(crate) listener: usize,
    /// The index of the route's document.
    pub(crate) route: usize,
    /// The hosts that the route serves on the listener.
    pub(crate) host: HostMatch,
}

/// Checks the classes of Gateways, and that no two Gateways listen on one address.
pub(crate) fn check_gateways(objects: &ObjectIndex<'_>, errors: &mut ReferenceErrors) {
    let root = FieldPathRef::ROOT;
    let spec = root.field("spec");
    let mut taken: HashMap<SocketAddr, (usize, &ObjectId)> = HashMap::new();
    for (document, id, gateway) in objects.gateways() {
        check_class(objects, document, gateway, errors);
        let list = spec.field("listeners");
        for address in addresses(gateway) {
            for (index, listener) in gateway.listeners.iter().enumerate() {
                let address = SocketAddr::new(address, listener.port);
                let (owner, owner_id) = *taken.entry(address).or_insert((document, id));
                if owner != document {
                    let reason = format!("{} listens on {address} already", quoted(&owner_id.to_string()));
                    let hint = "change the port, or put the listener into that Gateway";
                    errors.add(document, &list.entry(index).field("port"), reason, hint);
                }
            }
        }
    }
}

/// Returns the addresses that a Gateway listens on.
pub(crate) fn addresses(gateway: &Gateway) -> Vec<IpAddr> {
    if gateway.addresses.is_empty() { vec![DEFAULT_ADDRESS] } else { gateway.addresses.clone() }
}

fn check_class(objects: &ObjectIndex<'_>, document: usize, gateway: &Gateway, errors: &mut ReferenceErrors) {
    let root = FieldPathRef::ROOT;
    let spec = root.field("spec");
    let at = spec.field("gatewayClassName");
    match objects.find(Kind::GatewayClass, "", &gateway.class) {
        Lookup::Document(index) => {
            let Some(Resource::GatewayClass(class)) = &objects.document(index).resource else { return };
            if class.controller != CONTROLLER {
                let reason = format!("the class {} belongs to another controller", quoted(&gateway.class));
                errors.add(document, &at, reason, format!("write `{DEFAULT_CLASS}`"));
            }
        }
        Lookup::Missing if gateway.class != DEFAULT_CLASS => {
            let names = objects.gateway_classes().map(|(_, id, _)| &*id.name);
            let mut names: Vec<&str> = names.chain([DEFAULT_CLASS]).collect();
            names.sort_unstable();
            let hint = hint(&gateway.class, names.iter().copied(), "there are");
            errors.add(document, &at, format!("no GatewayClass {}", quoted(&gateway.class)), hint);
        }
        Lookup::Missing | Lookup::Unknown => {}
    }
}

/// Attaches every route to the listeners of its parentRefs.
pub(crate) fn attach_routes(objects: &ObjectIndex<'_>, errors: &mut ReferenceErrors) -> Vec<Attachment> {
    let root = FieldPathRef::ROOT;
    let spec = root.field("spec");
    let list = spec.field("parentRefs");
    let mut attachments = Vec::new();
    let mut seen = HashSet::new();
    let http_routes =
        objects.http_routes().map(|(document, id, route)| (document, id, &route.parents, &route.hosts[..]));
    let tcp_routes = objects.tcp_routes().map(|(document, id, route)| (document, id, &route.parents, &[][..]));
    for (document, id, parents, hosts) in http_routes.chain(tcp_routes) {
        seen.clear();
        for (index, parent) in parents.iter().enumerate() {
            let at = list.entry(index);
            let namespace = id.reference_namespace(parent.namespace.as_deref());
            let gateway = match objects.find(Kind::Gateway, namespace, &parent.name) {
                Lookup::Document(index) => index,
                Lookup::Unknown => continue,
                Lookup::Missing => {
                    let (reason, hint) = objects.missing(Kind::Gateway, namespace, &parent.name);
                    errors.add(document, &at.field("name"), reason, hint);
                    continue;
                }
            };
            match attach(objects, gateway, id, hosts, parent) {
                Ok(bindings) => attachments.extend(
                    bindings
                        .into_iter()
                        .map(|(listener, host)| Attachment { gateway, listener, route: document, host })
                        .filter(|attachment| seen.insert(attachment.clone())),
                ),
                Err(AttachError::Parent { field: Some(field), reason, hint }) => {
                    errors.add(document, &at.field(field), reason, hint);
                }
                Err(AttachError::Parent { field: None, reason, hint }) => errors.add(document, &at, reason, hint),
                Err(AttachError::Hosts { reason, hint }) => {
                    errors.add(document, &spec.field("hostnames"), reason, hint);
                }
            }
        }
    }
    check_tcp_listeners(objects, &attachments, errors);
    check_kinds_of_hosts(objects, &attachments, errors);
    attachments
}

/// Checks that a TCP listener has at most one route: its connections have no property to route by.
fn check_tcp_listeners(objects: &ObjectIndex<'_>, attachments: &[Attachment], errors: &mut ReferenceErrors) {
    let root = FieldPathRef::ROOT;
    let spec = root.field("spec");
    let mut taken: HashMap<(usize, usize), usize> = HashMap::new();
    for Attachment { gateway, listener, route, host: _ } in attachments {
        let of_gateway = objects.document(*gateway);
        let Some(Resource::Gateway(known)) = &of_gateway.resource else { continue };
        if known.listeners[*listener].protocol != ListenerProtocol::Tcp {
            continue;
        }
        let first = *taken.entry((*gateway, *listener)).or_insert(*route);
        if let (true, Some(id), Some(other)) = (first != *route, &of_gateway.id, &objects.document(first).id) {
            let (name, other) = (quoted(&known.listeners[*listener].name), quoted(&other.to_string()));
            let reason = format!("listener {name} of {} has {other} already", quoted(&id.to_string()));
            errors.add(*route, &spec.field("parentRefs"), reason, "attach it to another listener, by `sectionName`");
        }
    }
}

/// Checks that HTTPRoutes and GRPCRoutes of a listener have no host in common. The older route has the host, then the
/// first by namespace and name (Gateway API, `GRPCRouteSpec.hostnames`).
fn check_kinds_of_hosts(objects: &ObjectIndex<'_>, attachments: &[Attachment], errors: &mut ReferenceErrors) {
    let root = FieldPathRef::ROOT;
    let spec = root.field("spec");
    let is_grpc =
        |attachment: &&Attachment| matches!(objects.document(attachment.route).resource, Some(Resource::GrpcRoute(_)));
    let age = |route: usize| {
        let document = objects.document(route);
        document.id.as_ref().map(|id| (&document.creation, &id.namespace, &id.name))
    };
    let mut rejected = HashSet::new();
    for grpc in attachments.iter().filter(is_grpc) {
        let shares_host = |other: &&Attachment| {
            (other.gateway, other.listener) == (grpc.gateway, grpc.listener)
                && !is_grpc(other)
                && intersection(&grpc.host, &other.host).is_some()
        };
        for http in attachments.iter().filter(shares_host) {
            let (first, second) = if age(grpc.route) < age(http.route) { (grpc, http) } else { (http, grpc) };
            let Some(id) = &objects.document(first.route).id else { continue };
            if rejected.insert(second.route) {
                let reason = format!("{} serves host {} there", quoted(&id.to_string()), quoted(&display(&first.host)));
                let hint = "a host of a listener has HTTPRoutes or GRPCRoutes: give one of the two other `hostnames`";
                errors.add(second.route, &spec.field("parentRefs"), reason, hint);
            }
        }
    }
}

/// A parentRef that selects no listener, or a route without a host in common.
enum AttachError {
    Parent { field: Option<&'static str>, reason: String, hint: String },
    Hosts { reason: String, hint: String },
}

fn attach(
    objects: &ObjectIndex<'_>,
    document: usize,
    route_id: &ObjectId,
    route_hosts: &[HostMatch],
    parent: &ParentRef,
) -> Result<Vec<(usize, HostMatch)>, AttachError> {
    let (Some(Resource::Gateway(gateway)), Some(id)) =
        (&objects.document(document).resource, &objects.document(document).id)
    else {
        return Ok(Vec::new());
    };
    let found = matching_listeners(gateway, id, parent, route_id.kind)?;
    let is_admitted = |listener: &GatewayListener| match listener.allowed_namespaces {
        AllowedNamespaces::AllNamespaces => true,
        AllowedNamespaces::SameNamespace => id.namespace == route_id.namespace,
    };
    let admitted: Vec<usize> = found.into_iter().filter(|index| is_admitted(&gateway.listeners[*index])).collect();
    if admitted.is_empty() {
        let from = quoted(&route_id.namespace);
        return Err(AttachError::Parent {
            field: None,
            reason: format!("{} admits no {} of namespace {from}", quoted(&id.to_string()), route_id.kind.name()),
            hint: "write `allowedRoutes: {namespaces: {from: All}}` on its listener".to_owned(),
        });
    }
    let mut bindings = Vec::new();
    for index in &admitted {
        bindings.extend(hosts(gateway, *index, route_hosts).into_iter().map(|host| (*index, host)));
    }
    if bindings.is_empty() {
        let hosts: Vec<String> = admitted.iter().map(|index| display(&gateway.listeners[*index].host)).collect();
        return Err(AttachError::Hosts {
            reason: format!("no host name in common with {}", quoted(&id.to_string())),
            hint: format!("its listeners serve {}", listing(hosts.iter().map(String::as_str))),
        });
    }
    Ok(bindings)
}

/// Returns the indexes of the listeners that a parentRef selects, by section name, port, and kind of route.
fn matching_listeners(
    gateway: &Gateway,
    id: &ObjectId,
    parent: &ParentRef,
    kind: Kind,
) -> Result<Vec<usize>, AttachError> {
    let listeners = || gateway.listeners.iter().enumerate();
    if let Some(section) = &parent.section
        && !listeners().any(|(_, listener)| *listener.name == **section)
    {
        return Err(AttachError::Parent {
            field: Some("sectionName"),
            reason: format!("{} has no listener {}", quoted(&id.to_string()), quoted(section)),
            hint: hint(section, gateway.listeners.iter().map(|listener| &*listener.name), "its listeners are"),
        });
    }
    let means = |listener: &GatewayListener| {
        parent.section.as_ref().is_none_or(|section| *listener.name == **section)
            && parent.port.is_none_or(|port| listener.port == port)
    };
    let found: Vec<usize> = listeners().filter(|(_, listener)| means(listener)).map(|(index, _)| index).collect();
    if found.is_empty() {
        let ports: Vec<String> = gateway.listeners.iter().map(|listener| listener.port.to_string()).collect();
        return Err(AttachError::Parent {
            field: Some("port"),
            reason: format!("{} has no such listener on this port", quoted(&id.to_string())),
            hint: format!("its ports are {}", listing(ports.iter().map(String::as_str))),
        });
    }
    let fitting: Vec<usize> =
        found.into_iter().filter(|index| gateway.listeners[*index].allowed_kinds.contains(&kind)).collect();
    if fitting.is_empty() {
        let protocol = if kind == Kind::TcpRoute { "`protocol: TCP`" } else { "`protocol: HTTP`" };
        return Err(AttachError::Parent {
            field: None,
            reason: format!("{} has no such listener for kind {}", quoted(&id.to_string()), kind.name()),
            hint: format!("name a listener with {protocol}"),
        });
    }
    Ok(fitting)
}

/// Returns the hosts that a route serves on a listener. A host of a more specific listener on the same port belongs to
/// that listener alone (Gateway API: listener isolation).
fn hosts(gateway: &Gateway, index: usize, hosts: &[HostMatch]) -> Vec<HostMatch> {
    let listener = &gateway.listeners[index];
    let any = [HostMatch::Any];
    let wanted = if hosts.is_empty() { &any[..] } else { hosts };
    let is_elsewhere = |host: &HostMatch| {
        gateway.listeners.iter().any(|other| {
            other.port == listener.port
                && other.host != listener.host
                && covers(&listener.host, &other.host)
                && covers(&other.host, host)
        })
    };
    wanted.iter().filter_map(|host| intersection(&listener.host, host)).filter(|host| !is_elsewhere(host)).collect()
}
