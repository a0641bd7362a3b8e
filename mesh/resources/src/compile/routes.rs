//! Gateways and their routes to listeners and route tables. The listeners of a Gateway that share an address and a port
//! become one, with the virtual hosts of all.

use std::collections::BTreeMap;
use std::mem::take;
use std::net::SocketAddr;
use std::sync::Arc;

use weir_model::{
    DirectResponse, DownstreamTls, Forward, HostCertificate, HostMatch, Listener, ListenerName, ListenerProtocol,
    Metadata, Mirror, Route, RouteAction, RouteName, RouteTable, RouteTableName, TargetVersion, VirtualHost, Weight,
    WeightedCluster,
};

use crate::compile::chain::{Chains, RuleChains};
use crate::compile::clusters::{self, cluster_name};
use crate::compile::precedence::{Candidate, compare};
use crate::compile::reuse::{Memory, Routes};
use crate::compile::secrets::secret_name;
use crate::resolve::attach::addresses;
use crate::resolve::catalog::Found;
use crate::resolve::{Attachment, Catalog, Resolved, backend_id, namespace};
use crate::resource::{
    BackendRef, Gateway, GatewayListener, HttpRoute, Mesh, ObjectId, Resource, Rule, RuleAction, Security,
};
use crate::source::Sources;
use crate::written::Kind;

/// The listeners of all Gateways, each with its route table.
pub(crate) fn listeners(
    sources: &Sources,
    catalog: &Catalog<'_>,
    resolved: &Resolved<'_>,
    chains: &mut Chains<'_>,
    memory: &mut Memory,
) -> Vec<(Listener, RouteTable)> {
    let mut built = Vec::new();
    for (document, id, gateway) in catalog.gateways() {
        for (port, first) in ports(gateway) {
            let is_here = |it: &&Attachment| it.gateway == document && gateway.listeners[it.listener].port == port;
            let mut tables = Tables { sources, catalog, chains, memory };
            let attachments: Vec<&Attachment> = resolved.attachments.iter().filter(is_here).collect();
            let protocol = gateway.listeners[first].protocol;
            let mut virtual_hosts = match protocol {
                ListenerProtocol::Http => tables.virtual_hosts(id, hosts(gateway, port), &attachments),
                ListenerProtocol::Tcp => match tables.tcp_host(&attachments) {
                    Some(host) => vec![host],
                    None => continue, // Nobody would be behind it: whoever connects had better learn that at once.
                },
            };
            let addresses = addresses(gateway);
            let last = addresses.len() - 1;
            for (index, address) in addresses.into_iter().enumerate() {
                // The first address has the plain name: nearly always it is the only one.
                let suffix = if index == 0 { String::new() } else { format!("@{address}") };
                let name = format!("{}/{}/{}{suffix}", id.namespace, id.name, gateway.listeners[first].name);
                let table_name = RouteTableName::new(&name).expect("made of RFC 1123 names and an IP address");
                let listener = Listener {
                    name: ListenerName::new(&name).expect("made of RFC 1123 names and an IP address"),
                    address: SocketAddr::new(address, port),
                    protocol,
                    route_table: table_name.clone(),
                    tls: tls((id, gateway), (port, first), catalog.mesh()),
                };
                // The last one takes the virtual hosts: thousands of routes are not copied for nothing.
                let virtual_hosts = if index == last { take(&mut virtual_hosts) } else { virtual_hosts.clone() };
                built.push((listener, RouteTable { name: table_name, virtual_hosts }));
            }
        }
    }
    built
}

/// Who may connect to a port; all of its listeners say it in the same way.
fn tls(
    (id, gateway): (&ObjectId, &Gateway),
    (port, first): (u16, usize),
    mesh: Option<&Mesh>,
) -> Option<DownstreamTls> {
    match gateway.listeners[first].security {
        Security::Plain => None,
        Security::Mesh => Some(DownstreamTls::Mesh { plain_until: mesh.and_then(|mesh| mesh.plain_until) }),
        Security::Https(_) => {
            let here = gateway.listeners.iter().filter(|listener| listener.port == port);
            let certificate = |listener: &GatewayListener| match &listener.security {
                Security::Https(secret) => {
                    Some(HostCertificate { host: listener.host.clone(), secret: secret_name(&id.namespace, secret) })
                }
                Security::Plain | Security::Mesh => None,
            };
            Some(DownstreamTls::Https(here.filter_map(certificate).collect()))
        }
    }
}

/// The ports of a Gateway, each with the index of its first listener.
fn ports(gateway: &Gateway) -> BTreeMap<u16, usize> {
    let mut ports = BTreeMap::new();
    for (index, listener) in gateway.listeners.iter().enumerate() {
        ports.entry(listener.port).or_insert(index);
    }
    ports
}

/// The hosts of the listeners on a port. Each has a virtual host, even without routes: a listener answers for its hosts
/// alone, and no wider listener does it in its place.
fn hosts(gateway: &Gateway, port: u16) -> impl Iterator<Item = &HostMatch> {
    gateway.listeners.iter().filter(move |listener| listener.port == port).map(|listener| &listener.host)
}

struct Tables<'a, 'b, 'c> {
    sources: &'a Sources,
    catalog: &'a Catalog<'c>,
    chains: &'a mut Chains<'b>,
    memory: &'a mut Memory,
}

impl<'c> Tables<'_, '_, 'c> {
    fn virtual_hosts<'h>(
        &mut self,
        gateway: &ObjectId,
        hosts: impl Iterator<Item = &'h HostMatch>,
        attachments: &[&Attachment],
    ) -> Vec<VirtualHost> {
        let mut by_host: BTreeMap<&HostMatch, Vec<Candidate<'c>>> = hosts.map(|host| (host, Vec::new())).collect();
        for attachment in attachments {
            by_host.entry(&attachment.host).or_default().extend(self.candidates(gateway, attachment));
        }
        let virtual_host = |(host, mut candidates): (&HostMatch, Vec<Candidate<'c>>)| {
            candidates.sort_by(compare);
            VirtualHost {
                host: host.clone(),
                routes: candidates.into_iter().map(|candidate| candidate.route).collect(),
            }
        };
        by_host.into_iter().map(virtual_host).collect()
    }

    /// The one route of a TCP listener: it matches every connection.
    fn tcp_host(&mut self, attachments: &[&Attachment]) -> Option<VirtualHost> {
        let document = self.catalog.document(attachments.first()?.route);
        let (Some(Resource::TcpRoute(route)), Some(id)) = (&document.resource, &document.id) else { return None };
        let name = RouteName::new(&format!("{}/{}/0", id.namespace, id.name)).expect("made of RFC 1123 names");
        let target = |(backend, weight): &(BackendRef, Weight)| WeightedCluster {
            cluster: cluster_name(&backend_id(backend, id)),
            weight: *weight,
        };
        let route = Route::of_connections(
            name,
            self.chains.tcp_chain(id),
            route.backends.iter().filter(|(_, weight)| weight.get() > 0).map(target).collect(),
        );
        Some(VirtualHost { host: HostMatch::Any, routes: vec![Arc::new(route)] })
    }

    fn candidates(&mut self, gateway: &ObjectId, attachment: &Attachment) -> Vec<Candidate<'c>> {
        let document = self.catalog.document(attachment.route);
        let (Some(Resource::HttpRoute(route)), Some(id)) = (&document.resource, &document.id) else {
            return Vec::new();
        };
        let chains = self.chains.chains(gateway, id, route);
        let source = &self.sources.documents()[attachment.route].document;
        let versions = route_versions(self.catalog, id, route);
        let routes: Routes = self
            .memory
            .routes(source, (&chains, &versions), || routes((id, &document.metadata), route, &chains, &versions));
        let created = document.created.as_deref();
        let candidate =
            |(position, route): (usize, &Arc<Route>)| Candidate { route: route.clone(), created, id, position };
        routes.iter().enumerate().map(candidate).collect()
    }
}

/// The routes of an HTTPRoute: one for each match of each rule.
fn routes(
    (id, metadata): (&ObjectId, &Metadata),
    route: &HttpRoute,
    chains: &RuleChains,
    versions: &[TargetVersion],
) -> Vec<Arc<Route>> {
    let mut routes = Vec::new();
    for (rule_index, rule) in route.rules.iter().enumerate() {
        let action = action(id, rule, versions);
        for (match_index, matches) in rule.matches.iter().enumerate() {
            let name = format!("{}/{}/{rule_index}/{match_index}", id.namespace, id.name);
            routes.push(Arc::new(Route {
                name: RouteName::new(&name).expect("made of RFC 1123 names and numbers"),
                matches: matches.clone(),
                chain: chains.of(rule_index).clone(),
                request_headers: rule.request_headers.clone(),
                response_headers: rule.response_headers.clone(),
                action: action.clone(),
                metadata: metadata.clone(),
            }));
        }
    }
    routes
}

fn action(id: &ObjectId, rule: &Rule, versions: &[TargetVersion]) -> RouteAction {
    match &rule.action {
        RuleAction::Redirect(redirect) => RouteAction::Redirect(redirect.clone()),
        // Gateway API, `HTTPBackendRef.weight`: requests that no Service is to have are answered with 500.
        RuleAction::Forward { backends, .. } if backends.iter().all(|(_, weight)| weight.get() == 0) => {
            RouteAction::Respond(DirectResponse { status: 500, detail: Arc::from("no_backend_weight") })
        }
        RuleAction::Forward { backends, mirrors, rewrite, timeouts } => RouteAction::Forward(Forward {
            targets: backends
                .iter()
                .map(|(backend, weight)| WeightedCluster {
                    cluster: cluster_name(&backend_id(backend, id)),
                    weight: *weight,
                })
                .collect(),
            versions: versions_of(backends.iter().map(|(backend, _)| backend_id(backend, id)), versions),
            rewrite: rewrite.clone(),
            mirrors: mirrors
                .iter()
                .map(|(backend, fraction, _)| Mirror {
                    cluster: cluster_name(&backend_id(backend, id)),
                    fraction: *fraction,
                })
                .collect(),
            timeouts: *timeouts,
        }),
    }
}

fn versions_of(clusters: impl Iterator<Item = String>, versions: &[TargetVersion]) -> Vec<TargetVersion> {
    let clusters: Vec<String> = clusters.collect();
    versions.iter().filter(|version| clusters.iter().any(|cluster| cluster == version.of.as_str())).cloned().collect()
}

/// The versions of everything that a route forwards to: they come from the Services, not from the route's own text.
fn route_versions(catalog: &Catalog<'_>, id: &ObjectId, route: &HttpRoute) -> Vec<TargetVersion> {
    let mut known: Vec<TargetVersion> = Vec::new();
    for rule in &route.rules {
        let RuleAction::Forward { backends, .. } = &rule.action else { continue };
        for (backend, _) in backends {
            let of = cluster_name(&backend_id(backend, id));
            if known.iter().any(|version| version.of == of) {
                continue;
            }
            let namespace = namespace(backend.namespace.as_deref(), id);
            let Found::Document(index) = catalog.find(Kind::Service, namespace, &backend.name) else { continue };
            let Some(Resource::Service(service)) = &catalog.document(index).resource else { continue };
            let Some(port) = service.ports.iter().find(|port| port.port == backend.port) else { continue };
            let registered = catalog.document(index).id.as_ref().map_or(&[][..], |id| catalog.registered(id));
            known.extend(clusters::versions((service, registered), port).into_iter().map(|version| TargetVersion {
                of: of.clone(),
                version: Arc::clone(version),
                cluster: clusters::version_name(&of, version),
            }));
        }
    }
    known
}
