//! Listeners and route tables from Gateways and routes. The listeners of a Gateway that share an address and a port
//! become one, with the virtual hosts of all.

use std::collections::BTreeMap;
use std::mem::take;
use std::net::SocketAddr;
use std::sync::Arc;

use weir_model::{
    DownstreamProtocolOptions, DownstreamTls, Forward, HostCertificate, HostMatch, Listener, ListenerName,
    ListenerProtocol, Metadata, Mirror, RetryPolicy, Route, RouteAction, RouteMatch, RouteName, RouteTable,
    RouteTableName, TargetVersion, VirtualHost, WeightedCluster,
};

use crate::compile::cache::{BuildCache, Routes};
use crate::compile::chain::{ChainBuilder, RuleChains};
use crate::compile::clusters::{self, ServiceEndpoints, cluster_name};
use crate::compile::precedence::{RankedRoute, compare};
use crate::compile::secrets::secret_name;
use crate::resolve::attach::addresses;
use crate::resolve::index::Lookup;
use crate::resolve::{Attachment, ObjectIndex, Resolved, backend_id};
use crate::resource::{
    Gateway, GatewayListener, HttpRoute, ListenerTls, Mesh, MethodLengths, ObjectId, Resource, Rule, RuleAction,
    RuleBackend,
};
use crate::source::Sources;
use crate::spec::Kind;

/// Returns the listeners of all Gateways, each with its route table.
pub(crate) fn listeners(
    sources: &Sources,
    objects: &ObjectIndex<'_>,
    resolved: &Resolved<'_>,
    chains: &mut ChainBuilder<'_>,
    cache: &mut BuildCache,
) -> Vec<(Listener, RouteTable)> {
    let mut built = Vec::new();
    for (document, id, gateway) in objects.gateways() {
        for (port, first) in ports(gateway) {
            let is_here = |attachment: &&Attachment| {
                attachment.gateway == document && gateway.listeners[attachment.listener].port == port
            };
            let mut builder = RouteTableBuilder { sources, objects, chains, cache };
            let attachments: Vec<&Attachment> = resolved.attachments.iter().filter(is_here).collect();
            let protocol = gateway.listeners[first].protocol;
            let mut virtual_hosts = match protocol {
                ListenerProtocol::Http => builder.virtual_hosts(id, hosts(gateway, port), &attachments),
                ListenerProtocol::Tcp => match builder.tcp_host(&attachments) {
                    Some(host) => vec![host],
                    // The listener is left out, so that a client's connection is refused.
                    None => continue,
                },
            };
            let addresses = addresses(gateway);
            let last = addresses.len() - 1;
            for (index, address) in addresses.into_iter().enumerate() {
                // The first address has no suffix, since most Gateways have one address only.
                let suffix = if index == 0 { String::new() } else { format!("@{address}") };
                let name = format!("{}/{}/{}{suffix}", id.namespace, id.name, gateway.listeners[first].name);
                let table_name = RouteTableName::new(&name).expect("made of RFC 1123 names and an IP address");
                let listener = Listener {
                    name: ListenerName::new(&name).expect("made of RFC 1123 names and an IP address"),
                    address: SocketAddr::new(address, port),
                    protocol,
                    route_table: table_name.clone(),
                    tls: tls(id, gateway, &gateway.listeners[first], objects.mesh()),
                    options: match protocol {
                        ListenerProtocol::Http => resolved.client_policies.options(document, port),
                        ListenerProtocol::Tcp => DownstreamProtocolOptions::default(),
                    },
                };
                // The last address takes the virtual hosts, which saves a copy of all routes.
                let virtual_hosts = if index == last { take(&mut virtual_hosts) } else { virtual_hosts.clone() };
                built.push((listener, RouteTable { name: table_name, virtual_hosts }));
            }
        }
    }
    built
}

/// Returns the TLS settings of a port, decided by its first listener; `check_distinct` guarantees that the others are
/// compatible.
fn tls(id: &ObjectId, gateway: &Gateway, first: &GatewayListener, mesh: Option<&Mesh>) -> Option<DownstreamTls> {
    match first.tls {
        ListenerTls::Plaintext => None,
        ListenerTls::MutualTls => {
            Some(DownstreamTls::Mesh { plaintext_until: mesh.and_then(|mesh| mesh.plaintext_until) })
        }
        ListenerTls::Https(_) => {
            let here = gateway.listeners.iter().filter(|listener| listener.port == first.port);
            let certificate = |listener: &GatewayListener| match &listener.tls {
                ListenerTls::Https(secret) => {
                    Some(HostCertificate { host: listener.host.clone(), secret: secret_name(&id.namespace, secret) })
                }
                ListenerTls::Plaintext | ListenerTls::MutualTls => None,
            };
            Some(DownstreamTls::Https(here.filter_map(certificate).collect()))
        }
    }
}

/// Returns the ports of a Gateway, each with the index of its first listener.
fn ports(gateway: &Gateway) -> BTreeMap<u16, usize> {
    let mut ports = BTreeMap::new();
    for (index, listener) in gateway.listeners.iter().enumerate() {
        ports.entry(listener.port).or_insert(index);
    }
    ports
}

/// Returns the hosts of the listeners on a port. Each has a virtual host, even without routes, so that no wider
/// listener serves it.
fn hosts(gateway: &Gateway, port: u16) -> impl Iterator<Item = &HostMatch> {
    gateway.listeners.iter().filter(move |listener| listener.port == port).map(|listener| &listener.host)
}

struct RouteTableBuilder<'a, 'b, 'c> {
    sources: &'a Sources,
    objects: &'a ObjectIndex<'c>,
    chains: &'a mut ChainBuilder<'b>,
    cache: &'a mut BuildCache,
}

impl<'c> RouteTableBuilder<'_, '_, 'c> {
    fn virtual_hosts<'h>(
        &mut self,
        gateway: &ObjectId,
        hosts: impl Iterator<Item = &'h HostMatch>,
        attachments: &[&Attachment],
    ) -> Vec<VirtualHost> {
        let mut by_host: BTreeMap<&HostMatch, Vec<RankedRoute<'c>>> = hosts.map(|host| (host, Vec::new())).collect();
        for attachment in attachments {
            by_host.entry(&attachment.host).or_default().extend(self.ranked_routes(gateway, attachment));
        }
        let virtual_host = |(host, mut ranked): (&HostMatch, Vec<RankedRoute<'c>>)| {
            ranked.sort_by(compare);
            VirtualHost { host: host.clone(), routes: ranked.into_iter().map(|ranked| ranked.route).collect() }
        };
        by_host.into_iter().map(virtual_host).collect()
    }

    /// Returns the virtual host of a TCP listener: one route, which matches every connection; `None` without a route.
    fn tcp_host(&mut self, attachments: &[&Attachment]) -> Option<VirtualHost> {
        let document = self.objects.document(attachments.first()?.route);
        let (Some(Resource::TcpRoute(route)), Some(id)) = (&document.resource, &document.id) else { return None };
        let name = RouteName::new(&format!("{}/{}/0", id.namespace, id.name)).expect("made of RFC 1123 names");
        let route = Route::tcp(
            name,
            self.chains.tcp_chain(id),
            route
                .backends
                .iter()
                .filter(|backend| backend.weight.get() > 0)
                .map(|backend| target(id, backend))
                .collect(),
        );
        Some(VirtualHost { host: HostMatch::Any, routes: vec![Arc::new(route)] })
    }

    fn ranked_routes(&mut self, gateway: &ObjectId, attachment: &Attachment) -> Vec<RankedRoute<'c>> {
        let document = self.objects.document(attachment.route);
        let route = document.resource.as_ref().and_then(Resource::http_route);
        let (Some(route), Some(id)) = (route, &document.id) else { return Vec::new() };
        let chains = self.chains.chains(gateway, id, route);
        let source = &self.sources.documents()[attachment.route];
        let versions = route_versions(self.objects, id, route);
        let routes: Routes = self
            .cache
            .routes(source.key(), &chains, &versions, || routes(id, &document.metadata, route, &chains, &versions));
        let creation = &document.creation;
        let methods: Vec<MethodLengths> = route.rules.iter().flat_map(|rule| &rule.methods).copied().collect();
        let ranked = |(match_index, route): (usize, &Arc<Route>)| RankedRoute {
            route: route.clone(),
            grpc_method: methods.get(match_index).copied(),
            creation,
            id,
            match_index,
        };
        routes.iter().enumerate().map(ranked).collect()
    }
}

/// Returns the routes of an HTTPRoute or a GRPCRoute: one per match of each rule.
fn routes(
    id: &ObjectId,
    metadata: &Metadata,
    route: &HttpRoute,
    chains: &RuleChains,
    versions: &[TargetVersion],
) -> Vec<Arc<Route>> {
    let mut routes = Vec::new();
    for (rule_index, rule) in route.rules.iter().enumerate() {
        let action = action(id, rule, versions);
        for (match_index, matches) in rule.matches.iter().enumerate() {
            let action = with_retry(action.clone(), matches);
            // An HTTPRoute and a GRPCRoute may have one name.
            let suffix = if id.kind == Kind::GrpcRoute { "/grpc" } else { "" };
            let name = format!("{}/{}/{rule_index}/{match_index}{suffix}", id.namespace, id.name);
            routes.push(Arc::new(Route {
                name: RouteName::new(&name).expect("made of RFC 1123 names and numbers"),
                matches: matches.clone(),
                chain: chains.for_rule(rule_index).clone(),
                request_headers: rule.request_headers.clone(),
                response_headers: rule.response_headers.clone(),
                cors: rule.cors.clone(),
                action,
                metadata: metadata.clone(),
            }));
        }
    }
    routes
}

fn action(id: &ObjectId, rule: &Rule, versions: &[TargetVersion]) -> RouteAction {
    match &rule.action {
        RuleAction::Redirect(redirect) => RouteAction::Redirect(redirect.clone()),
        RuleAction::Forward { backends, .. } if backends.iter().all(|backend| backend.weight.get() == 0) => {
            RouteAction::NoBackend
        }
        RuleAction::Forward { backends, mirrors, rewrite, timeouts, retry } => RouteAction::Forward(Forward {
            targets: backends.iter().map(|backend| target(id, backend)).collect(),
            versions: filter_versions(backends.iter().map(|backend| backend_id(&backend.reference, id)), versions),
            rewrite: rewrite.clone(),
            mirrors: mirrors
                .iter()
                .map(|(backend, fraction, _)| Mirror {
                    cluster: cluster_name(&backend_id(backend, id)),
                    fraction: *fraction,
                })
                .collect(),
            timeouts: *timeouts,
            retry: retry.clone(),
        }),
    }
}

/// Returns the action of one match of a rule. A match that names a method retries it, whatever the method is.
fn with_retry(mut action: RouteAction, matches: &RouteMatch) -> RouteAction {
    if let RouteAction::Forward(Forward { retry: Some(retry), .. }) = &mut action
        && matches.method.is_some()
    {
        *retry = Arc::new(RetryPolicy { idempotent_only: false, ..RetryPolicy::clone(retry) });
    }
    action
}

fn target(id: &ObjectId, backend: &RuleBackend) -> WeightedCluster {
    WeightedCluster {
        cluster: cluster_name(&backend_id(&backend.reference, id)),
        weight: backend.weight,
        request_headers: backend.request_headers.clone(),
        response_headers: backend.response_headers.clone(),
    }
}

fn filter_versions(clusters: impl Iterator<Item = String>, versions: &[TargetVersion]) -> Vec<TargetVersion> {
    let clusters: Vec<String> = clusters.collect();
    versions
        .iter()
        .filter(|version| clusters.iter().any(|cluster| cluster == version.target.as_str()))
        .cloned()
        .collect()
}

/// Returns the versions of all backends of a route. They depend on the ServiceEntries, not only on the route's own
/// text.
fn route_versions(objects: &ObjectIndex<'_>, id: &ObjectId, route: &HttpRoute) -> Vec<TargetVersion> {
    let mut known: Vec<TargetVersion> = Vec::new();
    for rule in &route.rules {
        let RuleAction::Forward { backends, .. } = &rule.action else { continue };
        for RuleBackend { reference: backend, .. } in backends {
            let of = cluster_name(&backend_id(backend, id));
            if known.iter().any(|version| version.target == of) {
                continue;
            }
            let namespace = id.reference_namespace(backend.namespace.as_deref());
            let Lookup::Document(index) = objects.find(Kind::ServiceEntry, namespace, &backend.name) else { continue };
            let Some(Resource::ServiceEntry(service)) = &objects.document(index).resource else { continue };
            let Some(port) = service.ports.iter().find(|port| port.port == backend.port) else { continue };
            let registered = objects.document(index).id.as_ref().map_or(&[][..], |id| objects.registered(id));
            let endpoints = ServiceEndpoints { service, registered };
            known.extend(endpoints.versions(port).into_iter().map(|version| TargetVersion {
                target: of.clone(),
                version: Arc::clone(version),
                cluster: clusters::version_name(&of, version),
            }));
        }
    }
    known
}
