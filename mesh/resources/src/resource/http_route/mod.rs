//! `HTTPRoute`: which requests go where.

pub(crate) mod action;
pub(crate) mod edits;
pub(crate) mod filters;
pub(crate) mod matches;

use std::sync::Arc;

use gateway_api::httproutes::{HttpRouteParentRefs, HttpRouteRules, HttpRouteSpec};
use weir_model::{Fraction, HeaderEdits, HostMatch, Redirect, Rewrite, RouteMatch, Timeouts, Weight};

use crate::document::{Faults, Path};
use crate::grammar::name;
use crate::limits::{MAX_HOSTNAMES, MAX_PARENTS, MAX_RULES};
use crate::resource::field::{is_bounded, port};
use crate::suggest::quoted;
use crate::written::{GATEWAY_GROUP, Kind};

pub(crate) use action::check_backends;

/// Which requests go where.
#[derive(Debug)]
pub(crate) struct HttpRoute {
    /// The hosts it is for; none = all of its listeners'.
    pub(crate) hosts: Vec<HostMatch>,
    /// What it attaches to, at least one.
    pub(crate) parents: Vec<ParentRef>,
    /// Its rules, at least one.
    pub(crate) rules: Vec<Rule>,
}

/// A Gateway, or some of its listeners.
#[derive(Debug)]
pub(crate) struct ParentRef {
    /// The Gateway's namespace; `None` = the route's own.
    pub(crate) namespace: Option<String>,
    /// The Gateway's name.
    pub(crate) name: String,
    /// Only the listener of this name.
    pub(crate) section: Option<String>,
    /// Only listeners on this port.
    pub(crate) port: Option<u16>,
}

/// What some requests match and what becomes of them.
#[derive(Debug)]
pub(crate) struct Rule {
    /// One of these must match; at least one.
    pub(crate) matches: Vec<RouteMatch>,
    /// Changes to the request's headers.
    pub(crate) request_headers: HeaderEdits,
    /// Changes to the response's headers.
    pub(crate) response_headers: HeaderEdits,
    /// What becomes of the request.
    pub(crate) action: RuleAction,
}

/// What becomes of a request.
#[derive(Debug)]
pub(crate) enum RuleAction {
    /// The downstream is sent elsewhere.
    Redirect(Redirect),
    /// It goes to a Service.
    Forward {
        /// One of these, by weight; at least one.
        backends: Vec<(BackendRef, Weight)>,
        /// Who else gets a copy, and the index of the filter that says so.
        mirrors: Vec<(BackendRef, Fraction, usize)>,
        /// What the upstream sees instead.
        rewrite: Rewrite,
        /// How long it may take.
        timeouts: Timeouts,
    },
}

/// A port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BackendRef {
    /// The Service's namespace; `None` = the route's own.
    pub(crate) namespace: Option<String>,
    /// The Service's name.
    pub(crate) name: String,
    /// The port.
    pub(crate) port: u16,
}

/// Checks the fields of an HTTPRoute.
pub(crate) fn check(spec: HttpRouteSpec, path: &Path<'_>, faults: &mut Faults) -> Option<HttpRoute> {
    let HttpRouteSpec { hostnames, parent_refs, rules } = spec;
    let hosts = check_hosts(&hostnames.unwrap_or_default(), &path.field("hostnames"), faults);
    let parents = check_parents(parent_refs.unwrap_or_default(), &path.field("parentRefs"), faults);
    let rules = check_rules(rules.unwrap_or_default(), &path.field("rules"), faults);
    Some(HttpRoute { hosts: hosts?, parents: parents?, rules: rules? })
}

fn check_hosts(hostnames: &[String], path: &Path<'_>, faults: &mut Faults) -> Option<Vec<HostMatch>> {
    if !is_bounded(hostnames, MAX_HOSTNAMES, path, faults) {
        return None;
    }
    let mut hosts = Vec::with_capacity(hostnames.len());
    for (index, hostname) in hostnames.iter().enumerate() {
        let at = path.entry(index);
        match name::host_match(hostname) {
            Ok(host) if hosts.contains(&host) => {
                faults.add(&at, format!("{} is there already", quoted(hostname)), "remove one of the two");
            }
            Ok(host) => hosts.push(host),
            Err(objection) => faults.object(&at, objection),
        }
    }
    Some(hosts)
}

/// Checks what a route attaches to.
pub(crate) fn check_parents(
    parents: Vec<HttpRouteParentRefs>,
    path: &Path<'_>,
    faults: &mut Faults,
) -> Option<Vec<ParentRef>> {
    if parents.is_empty() {
        faults.add(path, "a route that attaches to nothing", "name a Gateway: `parentRefs: [{name: web}]`");
    }
    if !is_bounded(&parents, MAX_PARENTS, path, faults) {
        return None;
    }
    let mut checked = Vec::with_capacity(parents.len());
    for (index, parent) in parents.into_iter().enumerate() {
        let at = path.entry(index);
        let HttpRouteParentRefs { group, kind, name, namespace, port: number, section_name } = parent;
        let kind = kind.as_deref().unwrap_or(Kind::Gateway.name());
        let group = group.as_deref().unwrap_or(GATEWAY_GROUP);
        if kind == Kind::Service.name() {
            let hint = "attach it to a Gateway: routes of the mesh come with the sidecar";
            faults.add(&at.field("kind"), "a route on a Service is not supported yet", hint);
        } else if kind != Kind::Gateway.name() {
            faults.add(&at.field("kind"), format!("routes do not attach to {}", quoted(kind)), "write `Gateway`");
        } else if group != GATEWAY_GROUP {
            let reason = format!("{} is not the group of Gateway", quoted(group));
            faults.add(&at.field("group"), reason, format!("write `{GATEWAY_GROUP}`, or leave it out"));
        }
        let port = match number {
            None => None,
            Some(number) => port(number.into(), &at.field("port"), faults),
        };
        checked.push(ParentRef { namespace, name, section: section_name, port });
    }
    Some(checked)
}

fn check_rules(rules: Vec<HttpRouteRules>, path: &Path<'_>, faults: &mut Faults) -> Option<Vec<Rule>> {
    if rules.is_empty() {
        faults.add(path, "a route without rules", "add one: `rules: [{backendRefs: [{name: web, port: 80}]}]`");
    }
    if !is_bounded(&rules, MAX_RULES, path, faults) {
        return None;
    }
    let mut names: Vec<Arc<str>> = Vec::new();
    let mut checked = Vec::with_capacity(rules.len());
    for (index, rule) in rules.into_iter().enumerate() {
        let at = path.entry(index);
        if let Some(text) = &rule.name {
            if let Err(objection) = name::object_name(text) {
                faults.object(&at.field("name"), objection);
            }
            if names.iter().any(|other| **other == **text) {
                let reason = format!("another rule is named {}", quoted(text));
                faults.add(&at.field("name"), reason, "give each rule a name of its own");
            }
            names.push(Arc::from(text.as_str()));
        }
        checked.extend(check_rule(rule, &at, faults));
    }
    Some(checked)
}

fn check_rule(rule: HttpRouteRules, path: &Path<'_>, faults: &mut Faults) -> Option<Rule> {
    let HttpRouteRules { backend_refs, filters, matches, name: _, timeouts } = rule;
    let matches = matches::check(matches.unwrap_or_default(), &path.field("matches"), faults);
    let filters = filters::check(filters.unwrap_or_default(), &path.field("filters"), faults);
    let backends = check_backends(backend_refs.unwrap_or_default(), &path.field("backendRefs"), faults);
    let timeouts = match timeouts {
        None => Some(None),
        Some(timeouts) => action::check_timeouts(timeouts, &path.field("timeouts"), faults).map(Some),
    };
    let (matches, filters) = (matches?, filters?);
    action::check_prefixes(&filters, &matches, path, faults);
    let (request_headers, response_headers) = (filters.request_headers.clone(), filters.response_headers.clone());
    let action = action::check(filters, backends?, timeouts?, path, faults)?;
    Some(Rule { matches, request_headers, response_headers, action })
}
