//! Which route serves which listener and host: parentRefs, allowedRoutes and host names.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use weir_model::{HostMatch, ListenerProtocol};

use crate::document::Path;
use crate::resolve::catalog::{Catalog, Found};
use crate::resolve::host::{covers, intersection, written};
use crate::resolve::namespace;
use crate::resolve::problem::Problems;
use crate::resource::{Admits, Gateway, GatewayListener, ObjectId, ParentRef, Resource};
use crate::suggest::{hint, listing, quoted};
use crate::written::Kind;

/// Where a Gateway listens that names no address: plain HTTP leaves the machine only when somebody asks for it.
pub(crate) const DEFAULT_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The class that needs no GatewayClass document.
const DEFAULT_CLASS: &str = "weir";

/// Who makes Gateways of our classes real.
const CONTROLLER: &str = "weir.dev/gateway-controller";

/// A route that serves a host of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Attachment {
    /// The Gateway's document.
    pub(crate) gateway: usize,
    /// The listener's index in the Gateway.
    pub(crate) listener: usize,
    /// The route's document.
    pub(crate) route: usize,
    /// The hosts.
    pub(crate) host: HostMatch,
}

/// Checks what Gateways say about each other and about their class.
pub(crate) fn check_gateways(catalog: &Catalog<'_>, problems: &mut Problems) {
    let root = Path::ROOT;
    let spec = root.field("spec");
    let mut taken: HashMap<SocketAddr, (usize, &ObjectId)> = HashMap::new();
    for (document, id, gateway) in catalog.gateways() {
        check_class(catalog, document, gateway, problems);
        let list = spec.field("listeners");
        for address in addresses(gateway) {
            for (index, listener) in gateway.listeners.iter().enumerate() {
                let address = SocketAddr::new(address, listener.port);
                let (owner, owner_id) = *taken.entry(address).or_insert((document, id));
                if owner != document {
                    let reason = format!("{} listens on {address} already", quoted(&owner_id.to_string()));
                    let hint = "change the port, or put the listener into that Gateway";
                    problems.add(document, &list.entry(index).field("port"), reason, hint);
                }
            }
        }
    }
}

/// The addresses that a Gateway listens on.
pub(crate) fn addresses(gateway: &Gateway) -> Vec<IpAddr> {
    if gateway.addresses.is_empty() { vec![DEFAULT_ADDRESS] } else { gateway.addresses.clone() }
}

fn check_class(catalog: &Catalog<'_>, document: usize, gateway: &Gateway, problems: &mut Problems) {
    let root = Path::ROOT;
    let spec = root.field("spec");
    let at = spec.field("gatewayClassName");
    match catalog.find(Kind::GatewayClass, "", &gateway.class) {
        Found::Document(index) => {
            let Some(Resource::GatewayClass(class)) = &catalog.document(index).resource else { return };
            if class.controller != CONTROLLER {
                let reason = format!("the class {} belongs to another controller", quoted(&gateway.class));
                problems.add(document, &at, reason, format!("write `{DEFAULT_CLASS}`"));
            }
        }
        Found::Missing if gateway.class != DEFAULT_CLASS => {
            let names = catalog.gateway_classes().map(|(_, id, _)| &*id.name);
            let mut names: Vec<&str> = names.chain([DEFAULT_CLASS]).collect();
            names.sort_unstable();
            let hint = hint(&gateway.class, names.iter().copied(), "there are");
            problems.add(document, &at, format!("no GatewayClass {}", quoted(&gateway.class)), hint);
        }
        Found::Missing | Found::Unknown => {}
    }
}

/// Attaches every route to the listeners that its parentRefs mean.
pub(crate) fn attach_routes(catalog: &Catalog<'_>, problems: &mut Problems) -> Vec<Attachment> {
    let root = Path::ROOT;
    let spec = root.field("spec");
    let list = spec.field("parentRefs");
    let mut attachments = Vec::new();
    let mut seen = HashSet::new();
    let http_routes = catalog.http_routes().map(|(document, id, it)| (document, id, &it.parents, &it.hosts[..]));
    let tcp_routes = catalog.tcp_routes().map(|(document, id, it)| (document, id, &it.parents, &[][..]));
    for (document, id, parents, hosts) in http_routes.chain(tcp_routes) {
        seen.clear();
        for (index, parent) in parents.iter().enumerate() {
            let at = list.entry(index);
            let namespace = namespace(parent.namespace.as_deref(), id);
            let gateway = match catalog.find(Kind::Gateway, namespace, &parent.name) {
                Found::Document(index) => index,
                Found::Unknown => continue,
                Found::Missing => {
                    let (reason, hint) = catalog.missing(Kind::Gateway, namespace, &parent.name);
                    problems.add(document, &at.field("name"), reason, hint);
                    continue;
                }
            };
            match attach(catalog, gateway, (id, hosts), parent) {
                Ok(served) => attachments.extend(
                    served
                        .into_iter()
                        .map(|(listener, host)| Attachment { gateway, listener, route: document, host })
                        .filter(|attachment| seen.insert(attachment.clone())),
                ),
                Err(Refused::Parent { field: Some(field), reason, hint }) => {
                    problems.add(document, &at.field(field), reason, hint);
                }
                Err(Refused::Parent { field: None, reason, hint }) => problems.add(document, &at, reason, hint),
                Err(Refused::Hosts { reason, hint }) => {
                    problems.add(document, &spec.field("hostnames"), reason, hint);
                }
            }
        }
    }
    check_tcp_listeners(catalog, &attachments, problems);
    attachments
}

/// Nothing tells the connections of a TCP listener apart, so all of them take one route.
fn check_tcp_listeners(catalog: &Catalog<'_>, attachments: &[Attachment], problems: &mut Problems) {
    let root = Path::ROOT;
    let spec = root.field("spec");
    let mut taken: HashMap<(usize, usize), usize> = HashMap::new();
    for Attachment { gateway, listener, route, host: _ } in attachments {
        let of_gateway = catalog.document(*gateway);
        let Some(Resource::Gateway(known)) = &of_gateway.resource else { continue };
        if known.listeners[*listener].protocol != ListenerProtocol::Tcp {
            continue;
        }
        let first = *taken.entry((*gateway, *listener)).or_insert(*route);
        if let (true, Some(id), Some(other)) = (first != *route, &of_gateway.id, &catalog.document(first).id) {
            let (name, other) = (quoted(&known.listeners[*listener].name), quoted(&other.to_string()));
            let reason = format!("listener {name} of {} has {other} already", quoted(&id.to_string()));
            problems.add(*route, &spec.field("parentRefs"), reason, "attach it to another listener, by `sectionName`");
        }
    }
}

enum Refused {
    Parent { field: Option<&'static str>, reason: String, hint: String },
    Hosts { reason: String, hint: String },
}

fn attach(
    catalog: &Catalog<'_>,
    document: usize,
    (route_id, route_hosts): (&ObjectId, &[HostMatch]),
    parent: &ParentRef,
) -> Result<Vec<(usize, HostMatch)>, Refused> {
    let (Some(Resource::Gateway(gateway)), Some(id)) =
        (&catalog.document(document).resource, &catalog.document(document).id)
    else {
        return Ok(Vec::new());
    };
    let candidates = candidates(gateway, id, parent, route_id.kind)?;
    let admits = |listener: &GatewayListener| match listener.admits {
        Admits::AllNamespaces => true,
        Admits::SameNamespace => id.namespace == route_id.namespace,
    };
    let admitted: Vec<usize> = candidates.into_iter().filter(|index| admits(&gateway.listeners[*index])).collect();
    if admitted.is_empty() {
        let from = quoted(&route_id.namespace);
        return Err(Refused::Parent {
            field: None,
            reason: format!("{} admits no {} of namespace {from}", quoted(&id.to_string()), route_id.kind.name()),
            hint: "write `allowedRoutes: {namespaces: {from: All}}` on its listener".to_owned(),
        });
    }
    let mut served = Vec::new();
    for index in &admitted {
        served.extend(hosts(gateway, *index, route_hosts).into_iter().map(|host| (*index, host)));
    }
    if served.is_empty() {
        let hosts: Vec<String> = admitted.iter().map(|index| written(&gateway.listeners[*index].host)).collect();
        return Err(Refused::Hosts {
            reason: format!("no host name in common with {}", quoted(&id.to_string())),
            hint: format!("its listeners serve {}", listing(hosts.iter().map(String::as_str))),
        });
    }
    Ok(served)
}

/// The listeners that a parentRef of a kind of route means, by section name and port.
fn candidates(gateway: &Gateway, id: &ObjectId, parent: &ParentRef, kind: Kind) -> Result<Vec<usize>, Refused> {
    let listeners = || gateway.listeners.iter().enumerate();
    if let Some(section) = &parent.section
        && !listeners().any(|(_, listener)| *listener.name == **section)
    {
        return Err(Refused::Parent {
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
        return Err(Refused::Parent {
            field: Some("port"),
            reason: format!("{} has no such listener on this port", quoted(&id.to_string())),
            hint: format!("its ports are {}", listing(ports.iter().map(String::as_str))),
        });
    }
    let fitting: Vec<usize> =
        found.into_iter().filter(|index| gateway.listeners[*index].route_kind() == kind).collect();
    if fitting.is_empty() {
        let protocol = if kind == Kind::TcpRoute { "`protocol: TCP`" } else { "`protocol: HTTP`" };
        return Err(Refused::Parent {
            field: None,
            reason: format!("{} has no such listener for kind {}", quoted(&id.to_string()), kind.name()),
            hint: format!("name a listener with {protocol}"),
        });
    }
    Ok(fitting)
}

/// The hosts that a route serves on a listener. Those that a more specific listener of the same port serves are that
/// listener's alone (Gateway API, "listener isolation").
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
