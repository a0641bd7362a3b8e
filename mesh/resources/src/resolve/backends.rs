//! Which Service a route forwards to: backendRefs and mirrors, and who may refer across namespaces.

use crate::document::Path;
use crate::resolve::catalog::{Catalog, Found};
use crate::resolve::namespace;
use crate::resolve::problem::Problems;
use crate::resource::{BackendRef, ObjectId, Resource, RuleAction};
use crate::suggest::{listing, quoted};
use crate::written::Kind;

/// The name of the cluster that a reference means: `namespace/service:port`.
pub(crate) fn backend_id(backend: &BackendRef, route: &ObjectId) -> String {
    format!("{}/{}:{}", namespace(backend.namespace.as_deref(), route), backend.name, backend.port)
}

/// Checks what all routes forward to.
pub(crate) fn check_routes(catalog: &Catalog<'_>, problems: &mut Problems) {
    let root = Path::ROOT;
    let spec = root.field("spec");
    let rules = spec.field("rules");
    for (document, id, route) in catalog.http_routes() {
        for (index, rule) in route.rules.iter().enumerate() {
            let at = rules.entry(index);
            let RuleAction::Forward { backends, mirrors, .. } = &rule.action else { continue };
            let list = at.field("backendRefs");
            for (index, (backend, _)) in backends.iter().enumerate() {
                check_backend(catalog, (document, id), backend, &list.entry(index), problems);
            }
            let list = at.field("filters");
            for (backend, _, filter) in mirrors {
                let filter = list.entry(*filter);
                let mirror = filter.field("requestMirror");
                check_backend(catalog, (document, id), backend, &mirror.field("backendRef"), problems);
            }
        }
    }
}

/// Checks what the TCPRoutes forward to.
pub(crate) fn check_tcp_routes(catalog: &Catalog<'_>, problems: &mut Problems) {
    let root = Path::ROOT;
    let spec = root.field("spec");
    let rules = spec.field("rules");
    let rule = rules.entry(0);
    let list = rule.field("backendRefs");
    for (document, id, route) in catalog.tcp_routes() {
        for (index, (backend, _)) in route.backends.iter().enumerate() {
            check_backend(catalog, (document, id), backend, &list.entry(index), problems);
        }
    }
}

fn check_backend(
    catalog: &Catalog<'_>,
    (document, id): (usize, &ObjectId),
    backend: &BackendRef,
    path: &Path<'_>,
    problems: &mut Problems,
) {
    let namespace = namespace(backend.namespace.as_deref(), id);
    let index = match catalog.find(Kind::Service, namespace, &backend.name) {
        Found::Document(index) => index,
        Found::Unknown => return,
        Found::Missing => {
            let (reason, hint) = catalog.missing(Kind::Service, namespace, &backend.name);
            problems.add(document, &path.field("name"), reason, hint);
            return;
        }
    };
    let Some(Resource::Service(service)) = &catalog.document(index).resource else { return };
    let port = service.ports.iter().find(|port| port.port == backend.port);
    if port.is_some_and(|port| port.is_tcp) && id.kind == Kind::HttpRoute {
        let reason = format!("port {} of Service {} is for TCP alone", backend.port, quoted(&backend.name));
        problems.add(document, &path.field("port"), reason, "forward to it with a TCPRoute, or change its protocol");
    }
    if port.is_none() {
        let ports: Vec<String> = service.ports.iter().map(|port| port.port.to_string()).collect();
        let reason = format!("Service {} has no port {}", quoted(&backend.name), backend.port);
        let hint = format!("its ports are {}", listing(ports.iter().map(String::as_str)));
        problems.add(document, &path.field("port"), reason, hint);
    }
    if namespace != &*id.namespace && !is_granted(catalog, id, namespace, &backend.name) {
        let reason = format!("namespace {} does not let {} refer to it", quoted(namespace), quoted(&id.namespace));
        let (kind, own) = (id.kind.name(), &id.namespace);
        let hint = format!("add a ReferenceGrant in namespace `{namespace}`, from {kind} in `{own}` to Service");
        problems.add(document, &path.field("namespace"), reason, hint);
    }
}

fn is_granted(catalog: &Catalog<'_>, route: &ObjectId, namespace: &str, service: &str) -> bool {
    catalog.may_hide(Kind::ReferenceGrant, namespace)
        || catalog.reference_grants().any(|(_, id, grant)| {
            *id.namespace == *namespace
                && grant.from.iter().any(|(kind, from)| *kind == route.kind && **from == *route.namespace)
                && grant.services.iter().any(|name| name.as_ref().is_none_or(|name| name == service))
        })
}
