//! `TCPRoute`: validation.

use gateway_api::httproutes::{HttpRouteParentRefs, HttpRouteRulesBackendRefs};

use crate::resource::http_route::{ParentRef, RuleBackend, check_backends, check_parents};
use crate::spec::{TcpBackendSpec, TcpParentSpec, TcpRouteSpec, TcpRuleSpec};
use crate::syntax::name;
use crate::yaml::{FieldErrors, FieldPathRef};

/// A validated TCPRoute.
#[derive(Debug)]
pub(crate) struct TcpRoute {
    /// The parents, at least one.
    pub(crate) parents: Vec<ParentRef>,
    /// The weighted backends; at least one weight is above 0.
    pub(crate) backends: Vec<RuleBackend>,
}

/// Validates a TCPRoute.
pub(crate) fn check(spec: TcpRouteSpec, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<TcpRoute> {
    let TcpRouteSpec { parent_refs, mut rules } = spec;
    let parents = parent_refs.unwrap_or_default().into_iter().map(as_parent).collect();
    let parents = check_parents(parents, &path.field("parentRefs"), errors);
    let at = path.field("rules");
    let (Some(TcpRuleSpec { name, backend_refs }), true) = (rules.pop(), rules.is_empty()) else {
        let hint = "write one: `rules: [{backendRefs: [{name: db, port: 5432}]}]`";
        errors.add(&at, "is not one rule", hint);
        return None;
    };
    let at = at.entry(0);
    if let Some(Err(error)) = name.as_deref().map(name::object_name) {
        errors.add_syntax_error(&at.field("name"), error);
    }
    let at = at.field("backendRefs");
    let backends = check_backends(backend_refs.into_iter().map(as_backend).collect(), &at, errors)?;
    if backends.iter().all(|backend| backend.weight.get() == 0) {
        errors.add(&at, "no Service with a weight above 0", "name one: `backendRefs: [{name: db, port: 5432}]`");
        return None;
    }
    Some(TcpRoute { parents: parents?, backends })
}

fn as_parent(raw: TcpParentSpec) -> HttpRouteParentRefs {
    let TcpParentSpec { group, kind, name, namespace, port, section_name } = raw;
    HttpRouteParentRefs { group, kind, name, namespace, port, section_name }
}

fn as_backend(raw: TcpBackendSpec) -> HttpRouteRulesBackendRefs {
    let TcpBackendSpec { group, kind, name, namespace, port, weight } = raw;
    HttpRouteRulesBackendRefs { filters: None, group, kind, name, namespace, port, weight }
}
