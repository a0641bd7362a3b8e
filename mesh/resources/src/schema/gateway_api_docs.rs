//! Descriptions of the fields of the Gateway API kinds. The comments of the `gateway-api` crate describe what
//! implementations may do, so they are not used. Tests check that every supported field has a description, and that
//! every description has a field.

use crate::spec::Kind;

/// A field path and its description.
type FieldDoc = (&'static str, &'static str);

const GATEWAY: [FieldDoc; 29] = [
    ("spec.listeners[].tls", "The certificate; for `HTTPS` only."),
    ("spec.listeners[].tls.mode", "`Terminate`, which is the default."),
    ("spec.listeners[].tls.certificateRefs", "Exactly one Secret, in the Gateway's namespace."),
    ("spec.listeners[].tls.certificateRefs[].group", "Empty, which is the default: the core group."),
    ("spec.listeners[].tls.certificateRefs[].kind", "`Secret`, which is the default."),
    ("spec.listeners[].tls.certificateRefs[].name", "The Secret's name."),
    ("spec.listeners[].tls.certificateRefs[].namespace", "Must be left out: a Secret is in the Gateway's namespace."),
    ("spec.tls", "TLS of the whole Gateway."),
    ("spec.tls.backend", "TLS to Services."),
    (
        "spec.tls.backend.clientCertificateRef",
        "The Secret with the certificate that is presented to Services with a BackendTLSPolicy.",
    ),
    ("spec.tls.backend.clientCertificateRef.group", "Empty, which is the default: the core group."),
    ("spec.tls.backend.clientCertificateRef.kind", "`Secret`, which is the default."),
    ("spec.tls.backend.clientCertificateRef.name", "The Secret's name; its type is `kubernetes.io/tls`."),
    ("spec.tls.backend.clientCertificateRef.namespace", "Must be left out: a Secret is in the Gateway's namespace."),
    ("spec.addresses", "The addresses to listen on. Default: 127.0.0.1."),
    ("spec.addresses[].type", "`IPAddress`, which is the default."),
    ("spec.addresses[].value", "An IP address without port; `0.0.0.0` for all addresses of the machine."),
    ("spec.gatewayClassName", "`weir`, or the name of a GatewayClass."),
    ("spec.listeners", "The listeners, at least one."),
    ("spec.listeners[].name", "The listener's name, unique in the Gateway."),
    (
        "spec.listeners[].hostname",
        "The host name that the listener serves, or `*.example.com` for all hosts of a domain. Default: every host.",
    ),
    ("spec.listeners[].port", "The port. Listeners may share a port if their host names differ."),
    (
        "spec.listeners[].protocol",
        "`HTTP`: HTTP/1.1, and HTTP/2 by prior knowledge; `HTTPS`: both over TLS 1.3; `weir.dev/MTLS`: both over mutual TLS between workloads of the mesh; `TCP`: bytes of any kind; `weir.dev/MTLS-TCP`: bytes over mutual TLS between workloads of the mesh.",
    ),
    ("spec.listeners[].allowedRoutes", "The routes that may attach."),
    (
        "spec.listeners[].allowedRoutes.kinds",
        "The kinds that may attach. Default: HTTPRoute and GRPCRoute, on a TCP listener TCPRoute.",
    ),
    ("spec.listeners[].allowedRoutes.kinds[].group", "`gateway.networking.k8s.io`, which is the default."),
    ("spec.listeners[].allowedRoutes.kinds[].kind", "`HTTPRoute` or `GRPCRoute`, on a TCP listener `TCPRoute`."),
    ("spec.listeners[].allowedRoutes.namespaces", "The namespaces whose routes may attach."),
    (
        "spec.listeners[].allowedRoutes.namespaces.from",
        "`Same`, the Gateway's own namespace, which is the default, or `All`.",
    ),
];

const HTTP_ROUTE: [FieldDoc; 41] = [
    (
        "spec.rules[].filters[].cors",
        "Answers preflight requests, before the Filters of the route, and adds the headers of CORS to responses to the allowed origins, to the proxy's own responses, too. The rule must match the method OPTIONS.",
    ),
    (
        "spec.rules[].filters[].cors.allowOrigins",
        "The allowed origins: `*`, or scheme, host and port, as in `https://shop.example`; `https://*.shop.example` allows every subdomain. A preflight request of another origin is answered with 200 without headers of CORS.",
    ),
    ("spec.rules[].filters[].cors.allowCredentials", "True if requests may have credentials. Default: false."),
    (
        "spec.rules[].filters[].cors.allowMethods",
        "The allowed methods, or `*` alone; with `allowCredentials`, `*` is answered with the requested method.",
    ),
    (
        "spec.rules[].filters[].cors.allowHeaders",
        "The allowed request headers, or `*` alone; with `allowCredentials`, `*` is answered with the requested headers.",
    ),
    (
        "spec.rules[].filters[].cors.exposeHeaders",
        "The response headers that scripts may read, or `*` alone, which has no effect with `allowCredentials`.",
    ),
    ("spec.rules[].filters[].cors.maxAge", "The seconds for which a preflight answer may be cached. Default: 5."),
    (
        "spec.rules[].backendRefs[].filters",
        "Changes to headers of requests to this Service, and of its responses. They are made before those of the rule.",
    ),
    (
        "spec.hostnames",
        "The host names that the route serves, in the format of a listener. Default: all hosts of the listeners.",
    ),
    ("spec.parentRefs", "The Gateways that the route attaches to, at least one."),
    ("spec.parentRefs[].group", "`gateway.networking.k8s.io`, which is the default."),
    ("spec.parentRefs[].kind", "`Gateway`, which is the default."),
    ("spec.parentRefs[].name", "The Gateway's name."),
    ("spec.parentRefs[].namespace", "The Gateway's namespace. Default: the route's own."),
    ("spec.parentRefs[].port", "Restricts the reference to the listeners on this port."),
    ("spec.parentRefs[].sectionName", "Restricts the reference to the listener of this name."),
    ("spec.rules", "The rules, at least one."),
    ("spec.rules[].name", "A name for users, unique in the route."),
    ("spec.rules[].backendRefs", "The Services; each request is forwarded to one of them."),
    ("spec.rules[].filters", "Changes to requests and responses, redirects, mirrors and CORS."),
    (
        "spec.rules[].filters[].type",
        "The type of the filter; the field of the same name has its settings. Each type once per rule, except RequestMirror.",
    ),
    ("spec.rules[].filters[].requestHeaderModifier", "Changes the request's headers before it is forwarded."),
    ("spec.rules[].filters[].responseHeaderModifier", "Changes the response's headers before it is sent."),
    ("spec.rules[].filters[].requestMirror", "Sends a copy of the request to another Service and drops its response."),
    ("spec.rules[].filters[].requestRedirect", "Responds with a redirect. The rule then forwards nothing."),
    ("spec.rules[].filters[].requestRedirect.scheme", "The scheme of the new location. Default: the request's own."),
    ("spec.rules[].filters[].requestRedirect.statusCode", "301, 302, 303, 307 or 308. Default: 302."),
    ("spec.rules[].filters[].urlRewrite", "Changes host or path before the request is forwarded."),
    (
        "spec.rules[].matches",
        "The matches; the rule applies to requests that match one of them. Default: all requests.",
    ),
    ("spec.rules[].matches[].path", "The match on the path, without query. Default: the prefix `/`."),
    (
        "spec.rules[].matches[].path.type",
        "`PathPrefix`, which is the default, matches whole segments: `/a` matches `/a` and `/a/b`, not `/ab`. A regular expression must match the whole path.",
    ),
    ("spec.rules[].matches[].path.value", "The path. Default: `/`."),
    ("spec.rules[].matches[].method", "The method."),
    ("spec.rules[].matches[].headers", "Matches on headers; all must match."),
    (
        "spec.rules[].matches[].queryParams",
        "Matches on query parameters; all must match. Of a repeated parameter, the first value is matched.",
    ),
    ("spec.rules[].timeouts", "Timeouts, as in `500ms` or `1m30s`."),
    (
        "spec.rules[].timeouts.request",
        "From the last byte of the request to the last byte of the response. `0s` disables the limit. Default: `15s`.",
    ),
    (
        "spec.rules[].timeouts.backendRequest",
        "For one attempt, until the response's headers; at most as long as `request`.",
    ),
    ("spec.rules[].filters[].requestMirror.percent", "The share of requests that is copied, in percent. Default: all."),
    ("spec.rules[].filters[].requestMirror.fraction", "The share of requests that is copied; excludes `percent`."),
    ("spec.rules[].filters[].requestMirror.backendRef", "The Service that receives the copy."),
];

const GRPC_ROUTE: [FieldDoc; 26] = [
    (
        "spec.hostnames",
        "The host names that the route serves, in the format of a listener. Default: all hosts of the listeners.",
    ),
    ("spec.parentRefs", "The Gateways that the route attaches to, at least one."),
    ("spec.parentRefs[].group", "`gateway.networking.k8s.io`, which is the default."),
    ("spec.parentRefs[].kind", "`Gateway`, which is the default."),
    ("spec.parentRefs[].name", "The Gateway's name."),
    ("spec.parentRefs[].namespace", "The Gateway's namespace. Default: the route's own."),
    ("spec.parentRefs[].port", "Restricts the reference to the listeners on this port."),
    ("spec.parentRefs[].sectionName", "Restricts the reference to the listener of this name."),
    ("spec.rules", "The rules, at least one."),
    ("spec.rules[].name", "A name for users, unique in the route."),
    ("spec.rules[].backendRefs", "The Services; each call is forwarded to one of them."),
    ("spec.rules[].filters", "Changes to headers, and mirrors."),
    (
        "spec.rules[].filters[].type",
        "The type of the filter; the field of the same name has its settings. Each type once per rule, except RequestMirror.",
    ),
    ("spec.rules[].filters[].requestHeaderModifier", "Changes the request's headers before it is forwarded."),
    ("spec.rules[].filters[].responseHeaderModifier", "Changes the response's headers before it is sent."),
    ("spec.rules[].filters[].requestMirror", "Sends a copy of each request to a Service and discards the response."),
    ("spec.rules[].filters[].requestMirror.percent", "The share of requests that is copied, in percent. Default: all."),
    ("spec.rules[].filters[].requestMirror.fraction", "The share of requests that is copied; excludes `percent`."),
    ("spec.rules[].filters[].requestMirror.backendRef", "The Service that receives the copy."),
    ("spec.rules[].matches", "The matches; the rule applies to calls that match one of them. Default: all calls."),
    ("spec.rules[].matches[].headers", "Matches on headers; all must match."),
    (
        "spec.rules[].matches[].method",
        "The match on the called method: `service`, `method` or both. Default: all methods.",
    ),
    (
        "spec.rules[].matches[].method.type",
        "The comparison. Default: `Exact`. A regular expression must match the whole service or method.",
    ),
    ("spec.rules[].matches[].method.service", "The service with its package, as in `shop.v1.Cart`. Default: all."),
    ("spec.rules[].matches[].method.method", "The method, as in `GetItem`. Default: all."),
    ("spec.rules[].backendRefs[].filters", "Changes to headers of requests to this Service, and of its responses."),
];

const REFERENCE_GRANT: [FieldDoc; 8] = [
    ("spec.from", "The routes that may refer."),
    ("spec.from[].group", "`gateway.networking.k8s.io`."),
    ("spec.from[].kind", "`HTTPRoute`, `GRPCRoute` or `TCPRoute`."),
    ("spec.from[].namespace", "The namespace of the routes."),
    ("spec.to", "The objects that they may refer to, in the grant's own namespace."),
    ("spec.to[].group", "Empty for `Service`, `weir.dev` for `ServiceEntry`. Both mean the same objects."),
    ("spec.to[].kind", "`Service` or `ServiceEntry`."),
    ("spec.to[].name", "The name of one Service. Default: all."),
];

const GATEWAY_CLASS: [FieldDoc; 2] =
    [("spec.controllerName", "`weir.dev/gateway-controller`."), ("spec.description", "A description for users.")];

const BACKEND_TLS_POLICY: [FieldDoc; 17] = [
    ("spec.targetRefs", "The Services that the policy applies to, in its own namespace."),
    ("spec.targetRefs[].group", "Empty for `Service`, `weir.dev` for `ServiceEntry`. Both mean the same objects."),
    ("spec.targetRefs[].kind", "`Service` or `ServiceEntry`."),
    ("spec.targetRefs[].name", "The Service's name."),
    ("spec.targetRefs[].sectionName", "The name or the number of a port. Default: all ports."),
    ("spec.validation", "The requirements on the server's certificate."),
    (
        "spec.validation.hostname",
        "The server name that is sent (SNI). Without `subjectAltNames` the certificate must be valid for it.",
    ),
    (
        "spec.validation.caCertificateRefs",
        "Objects with CA certificates in their key `ca.crt`, of which one must have signed the certificate. Excludes `wellKnownCACertificates`.",
    ),
    ("spec.validation.caCertificateRefs[].group", "Empty: the core group."),
    ("spec.validation.caCertificateRefs[].kind", "`ConfigMap` or `Secret`."),
    ("spec.validation.caCertificateRefs[].name", "The object's name, in the namespace of the policy."),
    (
        "spec.validation.wellKnownCACertificates",
        "`System`: the CA certificates of the machine that the proxy runs on. Excludes `caCertificateRefs`.",
    ),
    (
        "spec.validation.subjectAltNames",
        "Names of which the certificate must have one. With it, `hostname` is not compared.",
    ),
    ("spec.validation.subjectAltNames[].type", "The type of the name; the field of the same name has its value."),
    ("spec.validation.subjectAltNames[].hostname", "A host name without wildcard."),
    ("spec.validation.subjectAltNames[].uri", "A URI, compared exactly."),
    (
        "spec.options",
        "`weir.dev/tls-min-version` and `weir.dev/tls-max-version`: `\"1.2\"` or `\"1.3\"`. Default: both versions.",
    ),
];

/// Descriptions of fields that are equal in several places, by the end of their path.
const SHARED: [FieldDoc; 30] = [
    ("backendRefs[].filters[].type", "`RequestHeaderModifier` or `ResponseHeaderModifier`, each once."),
    ("backendRefs[].filters[].requestHeaderModifier", "Changes the request's headers before it is forwarded."),
    ("backendRefs[].filters[].responseHeaderModifier", "Changes the response's headers before it is sent."),
    ("backendRefs[].weight", "The weight among the `backendRefs`, 0 to 1000000. Default: 1."),
    (
        "].group",
        "Empty, which is the default, for `Service`; `weir.dev` for `ServiceEntry`. Both mean the same objects.",
    ),
    ("].kind", "`Service`, which is the default, or `ServiceEntry`."),
    ("].port", "The Service's port; required."),
    (
        "].namespace",
        "The Service's namespace. Another namespace than the route's own requires a ReferenceGrant. Default: the route's own.",
    ),
    ("backendRefs[].name", "The Service's name."),
    ("backendRef.group", "As in `backendRefs`."),
    ("backendRef.kind", "As in `backendRefs`."),
    ("backendRef.name", "The Service's name."),
    ("backendRef.namespace", "As in `backendRefs`."),
    ("backendRef.port", "As in `backendRefs`."),
    ("fraction.numerator", "The numerator."),
    ("fraction.denominator", "The denominator. Default: 100."),
    (".hostname", "The host name, without port."),
    (".requestRedirect.port", "The port. Default: the port of `scheme` if that is set, else the listener's."),
    (".path", "The new path; the query is unchanged."),
    (".path.type", "`ReplaceFullPath` replaces the whole path, `ReplacePrefixMatch` the matched prefix."),
    (".replaceFullPath", "The new path."),
    (".replacePrefixMatch", "The new prefix. Every match of the rule must be a PathPrefix."),
    ("Modifier.set", "Headers to set; replaces all values of a header."),
    ("Modifier.add", "Headers to add; existing values are unchanged."),
    ("Modifier.remove", "Names of headers to remove."),
    ("queryParams[].name", "The parameter's name; upper and lower case differ."),
    ("].name", "The header's name, in upper or lower case."),
    ("matches[].headers[].type", "The comparison. Default: `Exact`."),
    ("matches[].queryParams[].type", "The comparison. Default: `Exact`."),
    ("].value", "The value."),
];

/// Returns the description of a field of a Gateway API kind; `None` for a field of another kind, which has a doc
/// comment.
pub(super) fn field_doc(kind: Kind, path: &str) -> Option<&'static str> {
    let own: &[FieldDoc] = match kind {
        Kind::Gateway => &GATEWAY,
        Kind::HttpRoute => &HTTP_ROUTE,
        Kind::GrpcRoute => &GRPC_ROUTE,
        Kind::ReferenceGrant => &REFERENCE_GRANT,
        Kind::GatewayClass => &GATEWAY_CLASS,
        Kind::BackendTlsPolicy => &BACKEND_TLS_POLICY,
        Kind::TcpRoute
        | Kind::ServiceEntry
        | Kind::Filter
        | Kind::BackendTrafficPolicy
        | Kind::ClientTrafficPolicy
        | Kind::AuthorizationPolicy
        | Kind::Secret
        | Kind::ConfigMap
        | Kind::Mesh => return None,
    };
    let exact = own.iter().find(|(other, _)| *other == path);
    let shared = || SHARED.iter().find(|(end, _)| path.ends_with(end));
    exact.or_else(shared).map(|(_, field_doc)| *field_doc)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::definition::Schema;
    use crate::schema::kinds::kind_schema;

    fn paths(schema: &Schema, path: &str, found: &mut Vec<String>) {
        match schema {
            Schema::List(element) => paths(element, &format!("{path}[]"), found),
            Schema::Record(fields) => {
                for field in fields.iter().filter(|field| field.support.is_supported()) {
                    let path = if path.is_empty() { field.name.clone() } else { format!("{path}.{}", field.name) };
                    paths(&field.schema, &path, found);
                    found.push(path);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn descriptions_match_fields() {
        let upstream = [
            (Kind::Gateway, &GATEWAY[..]),
            (Kind::HttpRoute, &HTTP_ROUTE),
            (Kind::GrpcRoute, &GRPC_ROUTE),
            (Kind::ReferenceGrant, &REFERENCE_GRANT),
            (Kind::GatewayClass, &GATEWAY_CLASS),
            (Kind::BackendTlsPolicy, &BACKEND_TLS_POLICY),
        ];
        for (kind, docs) in upstream {
            let mut fields = Vec::new();
            paths(kind_schema(kind), "", &mut fields);
            // `retry` is a type of this crate, whose comments are its descriptions.
            let is_upstream = |field: &&String| field.starts_with("spec.") && !field.starts_with("spec.rules[].retry");
            for field in fields.iter().filter(is_upstream) {
                assert!(field_doc(kind, field).is_some(), "{}: {field} has no description", kind.name());
            }
            for (path, _) in docs {
                assert!(fields.iter().any(|field| field == path), "{}: no field {path}", kind.name());
            }
        }
    }
}
