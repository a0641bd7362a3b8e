//! `TCPRoute`: where the connections of TCP listeners go.

use gateway_api::httproutes::{HttpRouteParentRefs, HttpRouteRulesBackendRefs};
use weir_model::Weight;

use crate::document::{Faults, Path};
use crate::grammar::name;
use crate::resource::http_route::{BackendRef, ParentRef, check_backends, check_parents};
use crate::written::{TcpBackendSpec, TcpParentSpec, TcpRouteSpec, TcpRuleSpec};

/// Where the connections of TCP listeners go.
#[derive(Debug)]
pub(crate) struct TcpRoute {
    /// What it attaches to, at least one.
    pub(crate) parents: Vec<ParentRef>,
    /// One of these, by weight; at least one weight is above 0.
    pub(crate) backends: Vec<(BackendRef, Weight)>,
}

/// Checks the fields of a TCPRoute.
pub(crate) fn check(spec: TcpRouteSpec, path: &Path<'_>, faults: &mut Faults) -> Option<TcpRoute> {
    let TcpRouteSpec { parent_refs, mut rules } = spec;
    let parents = parent_refs.unwrap_or_default().into_iter().map(as_parent).collect();
    let parents = check_parents(parents, &path.field("parentRefs"), faults);
    let at = path.field("rules");
    let (Some(TcpRuleSpec { name, backend_refs }), true) = (rules.pop(), rules.is_empty()) else {
        let hint = "write one: `rules: [{backendRefs: [{name: db, port: 5432}]}]`";
        faults.add(&at, "is not one rule", hint);
        return None;
    };
    let at = at.entry(0);
    if let Some(Err(objection)) = name.as_deref().map(name::object_name) {
        faults.object(&at.field("name"), objection);
    }
    let at = at.field("backendRefs");
    let backends = check_backends(backend_refs.into_iter().map(as_backend).collect(), &at, faults)?;
    if backends.iter().all(|(_, weight)| weight.get() == 0) {
        faults.add(&at, "no Service with a weight above 0", "name one: `backendRefs: [{name: db, port: 5432}]`");
        return None;
    }
    Some(TcpRoute { parents: parents?, backends })
}

fn as_parent(written: TcpParentSpec) -> HttpRouteParentRefs {
    let TcpParentSpec { group, kind, name, namespace, port, section_name } = written;
    HttpRouteParentRefs { group, kind, name, namespace, port, section_name }
}

fn as_backend(written: TcpBackendSpec) -> HttpRouteRulesBackendRefs {
    let TcpBackendSpec { group, kind, name, namespace, port, weight } = written;
    HttpRouteRulesBackendRefs { filters: None, group, kind, name, namespace, port, weight }
}
