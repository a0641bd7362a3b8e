//! References of routes to Services: backendRefs, mirrors, and references across namespaces.

use std::collections::HashSet;

use crate::resolve::errors::ReferenceErrors;
use crate::resolve::index::{Lookup, ObjectIndex};
use crate::resource::{BackendRef, ObjectId, Resource, RuleAction};
use crate::spec::Kind;
use crate::suggest::{listing, quoted};
use crate::yaml::FieldPathRef;

/// Returns the name of the cluster of a reference: `namespace/service:port`.
pub(crate) fn backend_id(backend: &BackendRef, route: &ObjectId) -> String {
    format!("{}/{}:{}", route.reference_namespace(backend.namespace.as_deref()), backend.name, backend.port)
}

/// Returns the clusters that a GRPCRoute forwards or mirrors to.
pub(crate) fn grpc_backends(objects: &ObjectIndex<'_>) -> HashSet<String> {
    let mut clusters = HashSet::new();
    for (_, id, route) in objects.http_routes().filter(|(_, id, _)| id.kind == Kind::GrpcRoute) {
        for rule in &route.rules {
            let RuleAction::Forward { backends, mirrors, .. } = &rule.action else { continue };
            clusters.extend(backends.iter().map(|backend| backend_id(&backend.reference, id)));
            clusters.extend(mirrors.iter().map(|(backend, ..)| backend_id(backend, id)));
        }
    }
    clusters
}

/// Checks the backends and mirrors of all HTTPRoutes and GRPCRoutes.
pub(crate) fn check_routes(objects: &ObjectIndex<'_>, errors: &mut ReferenceErrors) {
    let root = FieldPathRef::ROOT;
    let spec = root.field("spec");
    let rules = spec.field("rules");
    for (document, id, route) in objects.http_routes() {
        for (index, rule) in route.rules.iter().enumerate() {
            let at = rules.entry(index);
            let RuleAction::Forward { backends, mirrors, .. } = &rule.action else { continue };
            let list = at.field("backendRefs");
            for (index, backend) in backends.iter().enumerate() {
                check_backend(objects, &Referrer { document, id }, &backend.reference, &list.entry(index), errors);
            }
            let list = at.field("filters");
            for (backend, _, filter) in mirrors {
                let filter = list.entry(*filter);
                let mirror = filter.field("requestMirror");
                check_backend(objects, &Referrer { document, id }, backend, &mirror.field("backendRef"), errors);
            }
        }
    }
}

/// Checks the backends of all TCPRoutes.
pub(crate) fn check_tcp_routes(objects: &ObjectIndex<'_>, errors: &mut ReferenceErrors) {
    let root = FieldPathRef::ROOT;
    let spec = root.field("spec");
    let rules = spec.field("rules");
    let rule = rules.entry(0);
    let list = rule.field("backendRefs");
    for (document, id, route) in objects.tcp_routes() {
        for (index, backend) in route.backends.iter().enumerate() {
            check_backend(objects, &Referrer { document, id }, &backend.reference, &list.entry(index), errors);
        }
    }
}

/// Checks the Service ports that Filters give other names. As for a callout by the port's own name, no ReferenceGrant is
/// needed.
pub(crate) fn check_filter_clusters(objects: &ObjectIndex<'_>, errors: &mut ReferenceErrors) {
    let root = FieldPathRef::ROOT;
    let spec = root.field("spec");
    let clusters = spec.field("clusters");
    for (document, id, filter) in objects.filters() {
        for (alias, cluster) in &filter.clusters {
            let at = clusters.field(alias);
            let namespace = cluster.namespace.as_deref().unwrap_or(&id.namespace);
            let index = match objects.find(Kind::ServiceEntry, namespace, &cluster.name) {
                Lookup::Document(index) => index,
                Lookup::Unknown => continue,
                Lookup::Missing => {
                    let (reason, hint) = objects.missing(Kind::ServiceEntry, namespace, &cluster.name);
                    errors.add(document, &at.field("name"), reason, hint);
                    continue;
                }
            };
            let Some(Resource::ServiceEntry(service)) = &objects.document(index).resource else { continue };
            match service.ports.iter().find(|port| port.port == cluster.port) {
                Some(port) if port.is_tcp => {
                    let reason =
                        format!("port {} of ServiceEntry {} is for TCP only", port.port, quoted(&cluster.name));
                    errors.add(document, &at.field("port"), reason, "callouts use HTTP: name another port");
                }
                Some(_) => {}
                None => {
                    let ports: Vec<String> = service.ports.iter().map(|port| port.port.to_string()).collect();
                    let reason = format!("ServiceEntry {} has no port {}", quoted(&cluster.name), cluster.port);
                    let hint = format!("its ports are {}", listing(ports.iter().map(String::as_str)));
                    errors.add(document, &at.field("port"), reason, hint);
                }
            }
        }
    }
}

/// The route that a reference is in.
struct Referrer<'a> {
    /// The index of the route's document.
    document: usize,
    id: &'a ObjectId,
}

fn check_backend(
    objects: &ObjectIndex<'_>,
    route: &Referrer<'_>,
    backend: &BackendRef,
    path: &FieldPathRef<'_>,
    errors: &mut ReferenceErrors,
) {
    let Referrer { document, id } = *route;
    let namespace = id.reference_namespace(backend.namespace.as_deref());
    let index = match objects.find(Kind::ServiceEntry, namespace, &backend.name) {
        Lookup::Document(index) => index,
        Lookup::Unknown => return,
        Lookup::Missing => {
            let (reason, hint) = objects.missing(Kind::ServiceEntry, namespace, &backend.name);
            errors.add(document, &path.field("name"), reason, hint);
            return;
        }
    };
    let Some(Resource::ServiceEntry(service)) = &objects.document(index).resource else { return };
    let port = service.ports.iter().find(|port| port.port == backend.port);
    if port.is_some_and(|port| port.is_tcp) && id.kind != Kind::TcpRoute {
        let reason = format!("port {} of ServiceEntry {} is for TCP only", backend.port, quoted(&backend.name));
        errors.add(document, &path.field("port"), reason, "forward to it with a TCPRoute, or change its protocol");
    }
    if port.is_none() {
        let ports: Vec<String> = service.ports.iter().map(|port| port.port.to_string()).collect();
        let reason = format!("ServiceEntry {} has no port {}", quoted(&backend.name), backend.port);
        let hint = format!("its ports are {}", listing(ports.iter().map(String::as_str)));
        errors.add(document, &path.field("port"), reason, hint);
    }
    if namespace != &*id.namespace && !is_granted(objects, id, namespace, &backend.name) {
        let reason = format!("namespace {} grants no reference from {}", quoted(namespace), quoted(&id.namespace));
        let (kind, own) = (id.kind.name(), &id.namespace);
        let hint = format!("add a ReferenceGrant in namespace `{namespace}`, from {kind} in `{own}` to Service");
        errors.add(document, &path.field("namespace"), reason, hint);
    }
}

fn is_granted(objects: &ObjectIndex<'_>, route: &ObjectId, namespace: &str, service: &str) -> bool {
    objects.may_exist_unparsed(Kind::ReferenceGrant, namespace)
        || objects.reference_grants().any(|(_, id, grant)| {
            *id.namespace == *namespace
                && grant.from.iter().any(|(kind, from)| *kind == route.kind && **from == *route.namespace)
                && grant.services.iter().any(|name| name.as_ref().is_none_or(|name| name == service))
        })
}
