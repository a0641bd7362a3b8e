//! What the fields of the upstream kinds mean to this proxy, in a sentence each: upstream's own comments are about what
//! implementations may do. Tests hold that every supported field is here, and nothing else.

use crate::written::Kind;

/// Field and meaning.
type Meaning = (&'static str, &'static str);

const GATEWAY: [Meaning; 22] = [
    ("spec.listeners[].tls", "The certificate; for `HTTPS`, and for nothing else."),
    ("spec.listeners[].tls.mode", "`Terminate`, as when left out."),
    ("spec.listeners[].tls.certificateRefs", "One Secret of the Gateway's namespace."),
    ("spec.listeners[].tls.certificateRefs[].group", "The empty text, as when left out."),
    ("spec.listeners[].tls.certificateRefs[].kind", "`Secret`, as when left out."),
    ("spec.listeners[].tls.certificateRefs[].name", "The Secret's name."),
    ("spec.listeners[].tls.certificateRefs[].namespace", "Leave it out: the Gateway's own."),
    ("spec.addresses", "The addresses to listen on; 127.0.0.1 when left out."),
    ("spec.addresses[].type", "`IPAddress`, as when left out."),
    ("spec.addresses[].value", "An IP address without port; `0.0.0.0` for all of the machine's."),
    ("spec.gatewayClassName", "`weir`, or the name of a GatewayClass."),
    ("spec.listeners", "Where it listens, at least one."),
    ("spec.listeners[].name", "Its name, unique in the Gateway."),
    (
        "spec.listeners[].hostname",
        "The host it serves, or `*.example.com` for all hosts below one; every host when left out.",
    ),
    ("spec.listeners[].port", "The port. Listeners may share one when their host names differ."),
    (
        "spec.listeners[].protocol",
        "`HTTP`: HTTP/1.1, and HTTP/2 by prior knowledge; `HTTPS`: both in TLS 1.3; `weir.dev/MTLS`: both for workloads of the mesh; `TCP`: bytes of any kind; `weir.dev/MTLS-TCP`: bytes for workloads of the mesh.",
    ),
    ("spec.listeners[].allowedRoutes", "Which routes may attach."),
    (
        "spec.listeners[].allowedRoutes.kinds",
        "The kinds that may; as when left out HTTPRoute, on a TCP listener TCPRoute.",
    ),
    ("spec.listeners[].allowedRoutes.kinds[].group", "`gateway.networking.k8s.io`, as when left out."),
    ("spec.listeners[].allowedRoutes.kinds[].kind", "`HTTPRoute`, on a TCP listener `TCPRoute`."),
    ("spec.listeners[].allowedRoutes.namespaces", "The namespaces whose routes may."),
    ("spec.listeners[].allowedRoutes.namespaces.from", "The Gateway's own, as when left out, or all."),
];

const HTTP_ROUTE: [Meaning; 33] = [
    ("spec.hostnames", "The hosts it is for, as on a listener; all hosts of the listeners when left out."),
    ("spec.parentRefs", "The Gateways it attaches to, at least one."),
    ("spec.parentRefs[].group", "`gateway.networking.k8s.io`, as when left out."),
    ("spec.parentRefs[].kind", "`Gateway`, as when left out."),
    ("spec.parentRefs[].name", "The Gateway's name."),
    ("spec.parentRefs[].namespace", "The Gateway's namespace; the route's own when left out."),
    ("spec.parentRefs[].port", "Only the listeners on this port."),
    ("spec.parentRefs[].sectionName", "Only the listener of this name."),
    ("spec.rules", "What becomes of which requests, at least one."),
    ("spec.rules[].name", "For people; unique in the route."),
    ("spec.rules[].backendRefs", "The Services it forwards to; one is chosen for each request."),
    ("spec.rules[].filters", "What is changed or answered on the way."),
    ("spec.rules[].filters[].type", "Which filter; the field of the same name says how. Each once, but RequestMirror."),
    ("spec.rules[].filters[].requestHeaderModifier", "Changes the request's headers before it is forwarded."),
    ("spec.rules[].filters[].responseHeaderModifier", "Changes the response's headers before it is sent."),
    (
        "spec.rules[].filters[].requestMirror",
        "Sends a copy of the request to another Service, whose answer is dropped.",
    ),
    ("spec.rules[].filters[].requestRedirect", "Answers with a redirect; such a rule forwards nothing."),
    ("spec.rules[].filters[].requestRedirect.scheme", "The scheme to go to; the request's own when left out."),
    ("spec.rules[].filters[].requestRedirect.statusCode", "301, 302, 303, 307 or 308; 302 when left out."),
    ("spec.rules[].filters[].urlRewrite", "Changes host or path before the request is forwarded."),
    ("spec.rules[].matches", "It is for requests that match one of these; for all requests when left out."),
    ("spec.rules[].matches[].path", "What the path, without query, must be; the prefix `/` when left out."),
    (
        "spec.rules[].matches[].path.type",
        "`PathPrefix`, as when left out, goes by segments: `/a` is `/a` and `/a/b`, not `/ab`. A regular expression must match the whole path.",
    ),
    ("spec.rules[].matches[].path.value", "The path; `/` when left out."),
    ("spec.rules[].matches[].method", "What the method must be."),
    ("spec.rules[].matches[].headers", "What headers must be, all of them."),
    (
        "spec.rules[].matches[].queryParams",
        "What query parameters must be, all of them; of a repeated one the first counts.",
    ),
    ("spec.rules[].timeouts", "How long a request may take, as in `500ms` or `1m30s`."),
    (
        "spec.rules[].timeouts.request",
        "From its head to the response's last byte; `0s` = no limit, `15s` when left out.",
    ),
    (
        "spec.rules[].timeouts.backendRequest",
        "For one attempt, until the response's head; at most as long as `request`.",
    ),
    ("spec.rules[].filters[].requestMirror.percent", "The share that is copied, in hundredths; all when left out."),
    ("spec.rules[].filters[].requestMirror.fraction", "The share that is copied, instead of `percent`."),
    ("spec.rules[].filters[].requestMirror.backendRef", "The Service."),
];

const REFERENCE_GRANT: [Meaning; 8] = [
    ("spec.from", "Who may refer."),
    ("spec.from[].group", "`gateway.networking.k8s.io`."),
    ("spec.from[].kind", "`HTTPRoute` or `TCPRoute`."),
    ("spec.from[].namespace", "Their namespace."),
    ("spec.to", "What they may refer to, in the grant's own namespace."),
    ("spec.to[].group", "`weir.dev`, or the empty text for a core Service, which means the same."),
    ("spec.to[].kind", "`Service`."),
    ("spec.to[].name", "One Service; all when left out."),
];

const GATEWAY_CLASS: [Meaning; 2] =
    [("spec.controllerName", "`weir.dev/gateway-controller`."), ("spec.description", "For people.")];

/// Fields that mean the same wherever they are, by the end of their path.
const EVERYWHERE: [Meaning; 26] = [
    ("backendRefs[].weight", "Its share beside its siblings, 0 to 1000000; 1 when left out."),
    ("].group", "`weir.dev`, or the empty text for a core Service, which means the same, as when left out."),
    ("].kind", "`Service`, as when left out."),
    ("].port", "The Service's port; must be there."),
    ("].namespace", "The Service's namespace, which must let this one refer to it; the route's own when left out."),
    ("backendRefs[].name", "The Service's name."),
    ("backendRef.group", "As in `backendRefs`."),
    ("backendRef.kind", "As in `backendRefs`."),
    ("backendRef.name", "The Service's name."),
    ("backendRef.namespace", "As in `backendRefs`."),
    ("backendRef.port", "As in `backendRefs`."),
    ("fraction.numerator", "So many."),
    ("fraction.denominator", "Of so many; 100 when left out."),
    (".hostname", "The host, without port."),
    (".requestRedirect.port", "The port; the scheme's own when only `scheme` is given."),
    (".path", "The path; the query stays."),
    (".path.type", "Whether the whole path is replaced, or the prefix that matched."),
    (".replaceFullPath", "The new path."),
    (".replacePrefixMatch", "What stands for the prefix; only where every match of the rule is a PathPrefix."),
    ("Modifier.set", "Replaces all values of a header."),
    ("Modifier.add", "Adds one more value."),
    ("Modifier.remove", "Removes headers, by name."),
    ("].name", "The name; headers in any case."),
    ("matches[].headers[].type", "How the value is compared; `Exact` when left out."),
    ("matches[].queryParams[].type", "How the value is compared; `Exact` when left out."),
    ("].value", "The value."),
];

/// What a field of an upstream kind means; `None` for a field of our own kinds, whose comments say it.
pub(super) fn meaning(kind: Kind, path: &str) -> Option<&'static str> {
    let own: &[Meaning] = match kind {
        Kind::Gateway => &GATEWAY,
        Kind::HttpRoute => &HTTP_ROUTE,
        Kind::ReferenceGrant => &REFERENCE_GRANT,
        Kind::GatewayClass => &GATEWAY_CLASS,
        Kind::TcpRoute
        | Kind::Service
        | Kind::Filter
        | Kind::BackendPolicy
        | Kind::AccessPolicy
        | Kind::Secret
        | Kind::Mesh => return None,
    };
    let exact = own.iter().find(|(other, _)| *other == path);
    let shared = || EVERYWHERE.iter().find(|(end, _)| path.ends_with(end));
    exact.or_else(shared).map(|(_, meaning)| *meaning)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::shape;
    use crate::schema::shape::Shape;

    fn paths(shape: &Shape, path: &str, found: &mut Vec<String>) {
        match shape {
            Shape::List(element) => paths(element, &format!("{path}[]"), found),
            Shape::Record(fields) => {
                for field in fields.iter().filter(|field| field.refused.is_none()) {
                    let path = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
                    paths(&field.shape, &path, found);
                    found.push(path);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn every_field_has_a_meaning_and_every_meaning_a_field() {
        let upstream = [
            (Kind::Gateway, &GATEWAY[..]),
            (Kind::HttpRoute, &HTTP_ROUTE),
            (Kind::ReferenceGrant, &REFERENCE_GRANT),
            (Kind::GatewayClass, &GATEWAY_CLASS),
        ];
        for (kind, meanings) in upstream {
            let mut fields = Vec::new();
            paths(shape(kind), "", &mut fields);
            for field in fields.iter().filter(|field| field.starts_with("spec.")) {
                assert!(meaning(kind, field).is_some(), "{}: {field} has no meaning", kind.name());
            }
            for (path, _) in meanings {
                assert!(fields.iter().any(|field| field == path), "{}: no field {path}", kind.name());
            }
        }
    }
}
