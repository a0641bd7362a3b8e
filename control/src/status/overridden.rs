//! Matches of HTTPRoutes and GRPCRoutes that receive no request, because another route has an equal match and precedes it.

use std::collections::{BTreeMap, HashMap};

use weir_model::{HostMatch, ListenerName, ListenerProtocol, Route, RouteMatch, Snapshot, VirtualHost};
use weir_resources::{Kind, ObjectId};

use crate::limits::MAX_WARNINGS;

/// A route of a snapshot: a match of a rule of an HTTPRoute or a GRPCRoute.
struct RouteSource<'a> {
    kind: Kind,
    namespace: &'a str,
    name: &'a str,
    rule: &'a str,
    matches: &'a str,
}

/// Returns a note for each match that another route overrides, by HTTPRoute; at most [`MAX_WARNINGS`] each.
pub(super) fn overridden_routes(snapshot: &Snapshot) -> BTreeMap<ObjectId, Vec<String>> {
    let mut notes = BTreeMap::new();
    for listener in snapshot.listeners.values() {
        // Other addresses of a Gateway (`@address`) have the same routes.
        if listener.protocol != ListenerProtocol::Http || listener.name.as_str().contains('@') {
            continue;
        }
        let table = snapshot.route_tables.get(&listener.route_table);
        for host in table.iter().flat_map(|table| &table.virtual_hosts) {
            add_notes(&listener.name, host, &mut notes);
        }
    }
    notes
}

#[expect(clippy::mutable_key_type, reason = "the compiled form of a pattern is a cache, which is no part of its value")]
fn add_notes(listener: &ListenerName, host: &VirtualHost, notes: &mut BTreeMap<ObjectId, Vec<String>>) {
    let mut first: HashMap<RouteMatch, &Route> = HashMap::with_capacity(host.routes.len());
    for route in &host.routes {
        let matches = comparable(&route.matches);
        let Some(winner) = first.get(&matches) else {
            first.insert(matches, route);
            continue;
        };
        let (Some(loser), Some(winner)) = (RouteSource::new(route), RouteSource::new(winner)) else { continue };
        let Some(id) = ObjectId::new(loser.kind.name(), loser.namespace, loser.name) else { continue };
        let of_object = notes.entry(id).or_default();
        if of_object.len() < MAX_WARNINGS {
            let RouteSource { rule, matches, .. } = loser;
            of_object.push(format!(
                "rules[{rule}].matches[{matches}] gets no request of listener {listener} for host {}: {winner} has an equal \
                 match and precedes it",
                host_text(&host.host)
            ));
        }
    }
}

fn host_text(host: &HostMatch) -> String {
    match host {
        HostMatch::Exact(name) => name.to_string(),
        HostMatch::Suffix(suffix) => format!("*{suffix}"),
        HostMatch::Any => "*".to_owned(),
    }
}

/// Returns the match with headers and query parameters in one order, which does not matter.
fn comparable(matches: &RouteMatch) -> RouteMatch {
    let mut matches = matches.clone();
    matches.headers.sort_by_cached_key(|header| format!("{header:?}"));
    matches.query.sort_by_cached_key(|parameter| format!("{parameter:?}"));
    matches
}

impl<'a> RouteSource<'a> {
    /// Reads the name of a route: `namespace/name/rule/match`, and `/grpc` for one of a GRPCRoute.
    fn new(route: &'a Route) -> Option<Self> {
        let mut parts = route.name.as_str().split('/');
        let mut next = || parts.next();
        let [namespace, name, rule, matches] = [next()?, next()?, next()?, next()?];
        let kind = if next() == Some("grpc") { Kind::GrpcRoute } else { Kind::HttpRoute };
        Some(Self { kind, namespace, name, rule, matches })
    }
}

impl std::fmt::Display for RouteSource<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { kind, namespace, name, rule, matches } = self;
        write!(formatter, "rules[{rule}].matches[{matches}] of {} {namespace}/{name}", kind.name())
    }
}

#[cfg(test)]
mod tests {
    use weir_resources::{Compiler, SourceFile};

    use super::*;

    #[test]
    fn note_names_route_that_precedes_equal_match() {
        let route = |name: &str, matches: &str| {
            format!(
                "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec: {{parentRefs: \
                 [{{name: edge}}], rules: [{{matches: [{matches}], filters: [{{type: RequestRedirect, requestRedirect: \
                 {{hostname: a.com}}}}]}}]}}\n"
            )
        };
        let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge}\nspec: \
                       {gatewayClassName: weir, listeners: [{name: http, port: 80, protocol: HTTP}]}\n";
        let headers = ["{name: a, value: '1'}, {name: b, value: '2'}", "{name: b, value: '2'}, {name: a, value: '1'}"];
        let text = [
            gateway.to_owned(),
            route("one", &format!("{{path: {{value: /a}}}}, {{headers: [{}]}}", headers[0])),
            route("two", &format!("{{path: {{value: /b}}}}, {{headers: [{}]}}, {{path: {{value: /a/}}}}", headers[1])),
        ]
        .concat();
        let compiled = Compiler::new().compile(&[SourceFile { path: "a.yaml".into(), text: text.into() }]).unwrap();
        let notes = overridden_routes(&compiled.snapshot);
        let note = |own: u8, other: u8| {
            format!(
                "rules[0].matches[{own}] gets no request of listener default/edge/http for host *: \
                 rules[0].matches[{other}] of HTTPRoute default/one has an equal match and precedes it"
            )
        };
        let id = ObjectId::new("HTTPRoute", "default", "two").unwrap();
        assert_eq!(notes, BTreeMap::from([(id, vec![note(2, 0), note(1, 1)])]));
    }
}
