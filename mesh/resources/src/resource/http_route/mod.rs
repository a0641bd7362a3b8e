//! `HTTPRoute`: validation. `grpc_route` uses its parts.

pub(crate) mod action;
pub(crate) mod backends;
pub(crate) mod filters;
pub(crate) mod cors;
pub(crate) mod backend_ref;
pub(crate) mod header_modifier;
pub(crate) mod matches;
pub(crate) mod retry;

use std::sync::Arc;

use gateway_api::httproutes::HttpRouteParentRefs;
use weir_model::{CorsPolicy, HeaderModifier, HostMatch, RetryPolicy, RouteMatch, Timeouts};

use crate::limits::{MAX_HOSTNAMES, MAX_PARENTS, MAX_RULES};
use crate::resource::field::{is_bounded, port};
use crate::resource::service_ref::{CORE_SERVICE, SERVICE_ENTRY};
use crate::spec::{GATEWAY_GROUP, HttpRouteRule, HttpRouteSpec, Kind};
use crate::suggest::quoted;
use crate::syntax::name;
use crate::yaml::{FieldErrors, FieldPathRef};

use action::ActionParts;

pub(crate) use action::RuleAction;
pub(crate) use backend_ref::BackendRef;
pub(crate) use backends::{RuleBackend, check_backends};
pub(crate) use filters::RuleFilters;

/// A validated HTTPRoute or GRPCRoute.
#[derive(Debug)]
pub(crate) struct HttpRoute {
    /// The hosts; empty for all hosts of its listeners.
    pub(crate) hosts: Vec<HostMatch>,
    /// The parents, at least one.
    pub(crate) parents: Vec<ParentRef>,
    /// The rules, at least one.
    pub(crate) rules: Vec<Rule>,
}

/// A Gateway, or some of its listeners.
#[derive(Debug)]
pub(crate) struct ParentRef {
    /// The Gateway's namespace; `None` for the route's own.
    pub(crate) namespace: Option<String>,
    /// The Gateway's name.
    pub(crate) name: String,
    /// Restricts the reference to the listener of this name.
    pub(crate) section: Option<String>,
    /// Restricts the reference to listeners on this port.
    pub(crate) port: Option<u16>,
}

/// A rule: matches and an action.
#[derive(Debug)]
pub(crate) struct Rule {
    /// The matches; one must match; at least one.
    pub(crate) matches: Vec<RouteMatch>,
    /// The lengths of the method of each match, for a GRPCRoute; empty for an HTTPRoute.
    pub(crate) methods: Vec<MethodLengths>,
    /// Changes to request headers.
    pub(crate) request_headers: HeaderModifier,
    /// Changes to response headers.
    pub(crate) response_headers: HeaderModifier,
    /// The cross-origin requests that it allows.
    pub(crate) cors: Option<Arc<CorsPolicy>>,
    /// The action on a matching request.
    pub(crate) action: RuleAction,
}

/// The lengths of a gRPC method match in characters, which decide its precedence; 0 for a missing part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MethodLengths {
    /// The service.
    pub(crate) service: usize,
    /// The method.
    pub(crate) method: usize,
}

/// A rule as written, of an HTTPRoute or a GRPCRoute.
pub(crate) trait RawRule {
    /// Returns the rule's name.
    fn name(&self) -> Option<&str>;

    /// Validates the rule.
    fn check(self, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Rule>;
}

/// The validated parts of a rule. `None` if a part is invalid; for timeouts and retries, if there are none.
pub(crate) struct RuleParts {
    /// The matches, and for a GRPCRoute the lengths of their methods.
    pub(crate) matches: Option<RuleMatches>,
    pub(crate) filters: Option<RuleFilters>,
    pub(crate) backends: Option<Vec<RuleBackend>>,
    pub(crate) timeouts: Option<Timeouts>,
    pub(crate) retry: Option<Arc<RetryPolicy>>,
}

/// The matches of a rule.
pub(crate) struct RuleMatches {
    pub(crate) matches: Vec<RouteMatch>,
    /// See [`Rule::methods`].
    pub(crate) methods: Vec<MethodLengths>,
}

/// Validates an HTTPRoute.
pub(crate) fn check(spec: HttpRouteSpec, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<HttpRoute> {
    let HttpRouteSpec { hostnames, parent_refs, rules } = spec;
    let hosts = check_hosts(&hostnames.unwrap_or_default(), &path.field("hostnames"), errors);
    let parents = check_parents(parent_refs.unwrap_or_default(), &path.field("parentRefs"), errors);
    let rules = check_rules(rules.unwrap_or_default(), &path.field("rules"), errors);
    Some(HttpRoute { hosts: hosts?, parents: parents?, rules: rules? })
}

/// Validates the `hostnames` of a route.
pub(crate) fn check_hosts(
    hostnames: &[String],
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<Vec<HostMatch>> {
    if !is_bounded(hostnames, MAX_HOSTNAMES, path, errors) {
        return None;
    }
    let mut hosts = Vec::with_capacity(hostnames.len());
    for (index, hostname) in hostnames.iter().enumerate() {
        let at = path.entry(index);
        match name::host_match(hostname) {
            Ok(host) if hosts.contains(&host) => {
                errors.add(&at, format!("{} is there already", quoted(hostname)), "remove one of the two");
            }
            Ok(host) => hosts.push(host),
            Err(error) => errors.add_syntax_error(&at, error),
        }
    }
    Some(hosts)
}

/// Validates the `parentRefs` of a route.
pub(crate) fn check_parents(
    parents: Vec<HttpRouteParentRefs>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<Vec<ParentRef>> {
    if parents.is_empty() {
        errors.add(path, "a route that attaches to nothing", "name a Gateway: `parentRefs: [{name: web}]`");
    }
    if !is_bounded(&parents, MAX_PARENTS, path, errors) {
        return None;
    }
    let mut checked = Vec::with_capacity(parents.len());
    for (index, parent) in parents.into_iter().enumerate() {
        let at = path.entry(index);
        let HttpRouteParentRefs { group, kind, name, namespace, port: number, section_name } = parent;
        let kind = kind.as_deref().unwrap_or(Kind::Gateway.name());
        let group = group.as_deref().unwrap_or(GATEWAY_GROUP);
        if matches!(kind, CORE_SERVICE | SERVICE_ENTRY) {
            let hint = "attach it to a Gateway: routes of the mesh come with the sidecar";
            errors.add(&at.field("kind"), "a route on a Service is not supported yet", hint);
        } else if kind != Kind::Gateway.name() {
            errors.add(&at.field("kind"), format!("routes do not attach to {}", quoted(kind)), "write `Gateway`");
        } else if group != GATEWAY_GROUP {
            let reason = format!("{} is not the group of Gateway", quoted(group));
            errors.add(&at.field("group"), reason, format!("write `{GATEWAY_GROUP}`, or leave it out"));
        }
        let port = match number {
            None => None,
            Some(number) => port(number.into(), &at.field("port"), errors),
        };
        checked.push(ParentRef { namespace, name, section: section_name, port });
    }
    Some(checked)
}

/// Validates the rules of a route.
pub(crate) fn check_rules<R: RawRule>(
    rules: Vec<R>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<Vec<Rule>> {
    if rules.is_empty() {
        errors.add(path, "a route without rules", "add one: `rules: [{backendRefs: [{name: web, port: 80}]}]`");
    }
    if !is_bounded(&rules, MAX_RULES, path, errors) {
        return None;
    }
    let mut names: Vec<Arc<str>> = Vec::new();
    let mut checked = Vec::with_capacity(rules.len());
    for (index, rule) in rules.into_iter().enumerate() {
        let at = path.entry(index);
        if let Some(text) = rule.name() {
            if let Err(error) = name::object_name(text) {
                errors.add_syntax_error(&at.field("name"), error);
            }
            if names.iter().any(|other| **other == *text) {
                let reason = format!("another rule is named {}", quoted(text));
                errors.add(&at.field("name"), reason, "give each rule a name of its own");
            }
            names.push(Arc::from(text));
        }
        checked.extend(rule.check(&at, errors));
    }
    Some(checked)
}

impl RawRule for HttpRouteRule {
    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn check(self, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Rule> {
        let Self { backend_refs, filters, matches, name: _, retry, timeouts } = self;
        let matches = matches::check(matches.unwrap_or_default(), &path.field("matches"), errors);
        let filters = filters::check(filters.unwrap_or_default(), &path.field("filters"), errors);
        let backends = check_backends(backend_refs.unwrap_or_default(), &path.field("backendRefs"), errors);
        let timeouts = match timeouts {
            None => Some(None),
            Some(timeouts) => action::check_timeouts(timeouts, &path.field("timeouts"), errors).map(Some),
        };
        let matches = matches.map(|matches| RuleMatches { matches, methods: Vec::new() });
        let retry = match retry {
            None => Some(None),
            Some(retry) => retry::check(retry, &path.field("retry"), errors).map(Some),
        };
        combine(RuleParts { matches, filters, backends, timeouts: timeouts?, retry: retry? }, path, errors)
    }
}

/// Validates the combination of a rule's parts, and returns the rule.
pub(crate) fn combine(parts: RuleParts, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Rule> {
    let RuleParts { matches, filters, backends, timeouts, retry } = parts;
    let (RuleMatches { matches, methods }, filters) = (matches?, filters?);
    action::check_prefixes(&filters, &matches, path, errors);
    let (request_headers, response_headers) = (filters.request_headers.clone(), filters.response_headers.clone());
    let cors = filters.cors.clone();
    let action = action::check(filters, ActionParts { backends: backends?, timeouts, retry }, path, errors)?;
    Some(Rule { matches, methods, request_headers, response_headers, cors, action })
}
