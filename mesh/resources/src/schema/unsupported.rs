//! Fields of the Gateway API and of Weir's design that are not supported yet. Each is rejected by name, and the
//! documentation lists it. A test checks that every path exists.

use crate::spec::Kind;

/// A field, or one value of a field, that is known but not supported.
#[derive(Debug)]
pub(crate) struct Unsupported {
    /// The path: `spec.rules[].name`, or `spec.rules[].filters[].type=CORS`.
    pub(crate) path: &'static str,
    /// The alternative.
    pub(crate) hint: &'static str,
}

const fn entry(path: &'static str, hint: &'static str) -> Unsupported {
    Unsupported { path, hint }
}

const CLUSTER_ONLY: &str = "remove it: it is used inside a Kubernetes cluster only";

/// Metadata for a cluster.
const METADATA: [Unsupported; 4] = [
    entry("metadata.ownerReferences", CLUSTER_ONLY),
    entry("metadata.finalizers", CLUSTER_ONLY),
    entry("metadata.selfLink", CLUSTER_ONLY),
    entry("metadata.generateName", "write `name`"),
];

const GATEWAY: [Unsupported; 5] = [
    entry("spec.allowedListeners", "remove it: ListenerSets are not supported, so none can attach"),
    entry("spec.infrastructure", "remove it: the proxy that reads this file is the infrastructure"),
    entry(
        "spec.tls.frontend",
        "remove it: client certificates are not verified; for workloads write `protocol: weir.dev/MTLS`",
    ),
    entry("spec.listeners[].tls.options", "remove it: listeners use TLS 1.3 only"),
    entry("spec.listeners[].allowedRoutes.namespaces.selector", "write `from: Same` or `from: All`"),
];

const GATEWAY_CHOICES: [Unsupported; 2] = [
    entry("spec.listeners[].tls.mode=Passthrough", "write `Terminate`: TLS is not passed through yet"),
    entry(
        "spec.listeners[].allowedRoutes.namespaces.from=Selector",
        "write `from: Same` or `from: All`: namespaces have no labels in files",
    ),
];

const HTTP_ROUTE: [Unsupported; 3] = [
    entry("spec.rules[].filters[].extensionRef", "remove it: a Filter names the HTTPRoute in its own `targetRefs`"),
    entry("spec.rules[].filters[].type=ExtensionRef", "a Filter names the HTTPRoute in its own `targetRefs`"),
    entry("spec.rules[].matches[].method=CONNECT", "remove the match: CONNECT requests are rejected"),
];

/// Filters of a backend, other than those that change headers.
const HTTP_BACKEND: [Unsupported; 10] = [
    entry("spec.rules[].backendRefs[].filters[].cors", ON_RULE),
    entry("spec.rules[].backendRefs[].filters[].extensionRef", ON_RULE),
    entry("spec.rules[].backendRefs[].filters[].requestMirror", ON_RULE),
    entry("spec.rules[].backendRefs[].filters[].requestRedirect", ON_RULE),
    entry("spec.rules[].backendRefs[].filters[].urlRewrite", ON_RULE),
    entry("spec.rules[].backendRefs[].filters[].type=CORS", ON_RULE),
    entry("spec.rules[].backendRefs[].filters[].type=ExtensionRef", ON_RULE),
    entry("spec.rules[].backendRefs[].filters[].type=RequestMirror", ON_RULE),
    entry("spec.rules[].backendRefs[].filters[].type=RequestRedirect", ON_RULE),
    entry("spec.rules[].backendRefs[].filters[].type=URLRewrite", ON_RULE),
];

const ON_RULE: &str = "put the filter on the rule; use two rules where they differ";

const GRPC_ROUTE: [Unsupported; 8] = [
    entry("spec.rules[].filters[].extensionRef", "remove it: a Filter names the GRPCRoute in its own `targetRefs`"),
    entry("spec.rules[].filters[].type=ExtensionRef", "a Filter names the GRPCRoute in its own `targetRefs`"),
    entry("spec.rules[].backendRefs[].filters[].extensionRef", ON_RULE),
    entry("spec.rules[].backendRefs[].filters[].requestMirror", ON_RULE),
    entry("spec.rules[].backendRefs[].filters[].type=ExtensionRef", ON_RULE),
    entry("spec.rules[].backendRefs[].filters[].type=RequestMirror", ON_RULE),
    entry("spec.rules[].sessionPersistence", "remove it: each request is balanced on its own"),
    entry("spec.useDefaultGateways", "name the Gateways in `parentRefs`"),
];

const HTTP_ROUTE_EXPERIMENTAL: [Unsupported; 2] = [
    entry("spec.rules[].sessionPersistence", "remove it: each request is balanced on its own"),
    entry("spec.useDefaultGateways", "name the Gateways in `parentRefs`"),
];

const GATEWAY_CLASS: [Unsupported; 1] = [entry("spec.parametersRef", "remove it: a class has no parameters here")];

const TCP_ROUTE: [Unsupported; 1] = [entry("spec.useDefaultGateways", "name the Gateways in `parentRefs`")];

const SERVICE: [Unsupported; 6] = [
    entry(
        "spec.ports[].protocol=TLS",
        "use TCP to forward TLS bytes unchanged; to open TLS connections use a BackendTLSPolicy, or `identity` in a mesh",
    ),
    entry("spec.ports[].targetPort", "the port of an endpoint is in its `address`"),
    entry("spec.selector", "list the `endpoints`, or write `dns`"),
    entry("spec.clusterIP", "remove it: routes refer to a ServiceEntry by name"),
    entry("spec.type", "remove it: a ServiceEntry has no type"),
    entry("spec.externalName", "write `dns: {host: ..., port: ...}`"),
];

const FILTER: [Unsupported; 2] = [
    entry("spec.module.url", "download the module, and push it as a bundle"),
    entry("spec.module.oci", "pull the module, and push it as a bundle"),
];

const BACKEND_POLICY: [Unsupported; 2] = [
    entry("spec.healthChecks", "remove it: health checks are not supported yet"),
    entry("spec.tls", "use a BackendTLSPolicy; for mutual TLS of the mesh write `identity` into the ServiceEntry"),
];

/// Returns the unsupported fields of a kind.
pub(crate) fn of(kind: Kind) -> impl Iterator<Item = &'static Unsupported> {
    let own: [&'static [Unsupported]; 3] = match kind {
        Kind::Gateway => [&GATEWAY, &GATEWAY_CHOICES, &[]],
        Kind::HttpRoute => [&HTTP_ROUTE, &HTTP_BACKEND, &HTTP_ROUTE_EXPERIMENTAL],
        Kind::GrpcRoute => [&GRPC_ROUTE, &[], &[]],
        Kind::TcpRoute => [&TCP_ROUTE, &[], &[]],
        Kind::GatewayClass => [&GATEWAY_CLASS, &[], &[]],
        Kind::ReferenceGrant => [&[], &[], &[]],
        Kind::ServiceEntry => [&SERVICE, &[], &[]],
        Kind::Filter => [&FILTER, &[], &[]],
        Kind::BackendTrafficPolicy => [&BACKEND_POLICY, &[], &[]],
        Kind::BackendTlsPolicy
        | Kind::ClientTrafficPolicy
        | Kind::AuthorizationPolicy
        | Kind::Secret
        | Kind::ConfigMap
        | Kind::Mesh => [&[], &[], &[]],
    };
    own.into_iter().flatten().chain(&METADATA)
}

/// Upstream kinds that are known but not supported, with the alternative.
pub(crate) const UNSUPPORTED_KINDS: [(&str, &str); 10] = [
    ("TLSRoute", "use a TCPRoute: it forwards TLS bytes without matching the server name"),
    ("UDPRoute", "only HTTP and TCP are proxied"),
    ("Service", "write a ServiceEntry with `endpoints`: a core Service has no endpoints of its own to forward to"),
    ("ListenerSet", "write the listeners into the Gateway"),
    ("XListenerSet", "write the listeners into the Gateway"),
    ("Ingress", "use a Gateway and an HTTPRoute"),
    ("EndpointSlice", "write the addresses into `endpoints` of a ServiceEntry"),
    ("Namespace", "remove it: namespaces need no object"),
    ("Deployment", "remove it: the proxy starts no workloads"),
    ("List", "a List cannot be inside another one: write its `items` into the outer one"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::definition::Schema;
    use crate::schema::kinds::kind_schema;

    fn is_unsupported(schema: &Schema, path: &str) -> bool {
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let (name, value) = first.split_once('=').map_or((first, None), |(name, value)| (name, Some(value)));
        let (name, is_list) = name.strip_suffix("[]").map_or((name, false), |name| (name, true));
        let Schema::Record(fields) = schema else { return false };
        let Some(field) = fields.iter().find(|field| field.name == name) else { return false };
        let inner = match &field.schema {
            Schema::List(element) if is_list => element,
            other => other,
        };
        match (rest, value, inner) {
            (Some(rest), _, inner) => is_unsupported(inner, rest),
            (None, Some(value), Schema::Enum(values)) => {
                values.iter().any(|known| known.text == value && !known.support.is_supported())
            }
            (None, Some(_), _) => false,
            (None, None, _) => !field.support.is_supported(),
        }
    }

    #[test]
    fn every_entry_has_a_field() {
        for kind in Kind::ALL {
            for entry in of(kind) {
                assert!(is_unsupported(kind_schema(kind), entry.path), "{}: {}", kind.name(), entry.path);
            }
        }
    }
}
