//! What the upstream types have, or our own design names, and this proxy does not do yet. Each is refused by name
//! (never ignored), and listed in the documentation from this one table. `tests` holds that every path exists.

use crate::written::Kind;

/// A field, or one value of a field, that is known and not supported.
#[derive(Debug)]
pub(crate) struct Unsupported {
    /// `spec.rules[].name`, or `spec.rules[].filters[].type=CORS`.
    pub(crate) path: &'static str,
    /// What to do instead.
    pub(crate) hint: &'static str,
}

const fn entry(path: &'static str, hint: &'static str) -> Unsupported {
    Unsupported { path, hint }
}

const STATUS: Unsupported = entry("status", "remove it: `status` is written by controllers, not by people");

const CLUSTER_ONLY: &str = "remove it: it means something inside a Kubernetes cluster only";

/// Metadata that a cluster writes.
const METADATA: [Unsupported; 8] = [
    entry("metadata.uid", CLUSTER_ONLY),
    entry("metadata.resourceVersion", CLUSTER_ONLY),
    entry("metadata.generation", CLUSTER_ONLY),
    entry("metadata.managedFields", CLUSTER_ONLY),
    entry("metadata.ownerReferences", CLUSTER_ONLY),
    entry("metadata.finalizers", CLUSTER_ONLY),
    entry("metadata.selfLink", CLUSTER_ONLY),
    entry("metadata.generateName", "write `name`"),
];

const GATEWAY: [Unsupported; 5] = [
    entry("spec.allowedListeners", "remove it: ListenerSets are not supported, so none can attach"),
    entry("spec.infrastructure", "remove it: the proxy that reads this file is the infrastructure"),
    entry(
        "spec.tls",
        "remove it: downstreams are asked for no certificates; for workloads write `protocol: weir.dev/MTLS`",
    ),
    entry("spec.listeners[].tls.options", "remove it: there is one way, TLS 1.3"),
    entry("spec.listeners[].allowedRoutes.namespaces.selector", "write `from: Same` or `from: All`"),
];

const GATEWAY_CHOICES: [Unsupported; 2] = [
    entry("spec.listeners[].tls.mode=Passthrough", "write `Terminate`: TLS is not passed through yet"),
    entry(
        "spec.listeners[].allowedRoutes.namespaces.from=Selector",
        "write `from: Same` or `from: All`: namespaces have no labels in files",
    ),
];

const HTTP_ROUTE: [Unsupported; 6] = [
    entry("spec.rules[].backendRefs[].filters", "put the filters on the rule; use two rules where they differ"),
    entry("spec.rules[].filters[].cors", "use a Filter with a module that answers CORS requests"),
    entry("spec.rules[].filters[].extensionRef", "remove it: a Filter names the HTTPRoute in its own `targetRefs`"),
    entry("spec.rules[].filters[].type=CORS", "use a Filter with a module that answers CORS requests"),
    entry("spec.rules[].filters[].type=ExtensionRef", "a Filter names the HTTPRoute in its own `targetRefs`"),
    entry("spec.rules[].matches[].method=CONNECT", "remove the match: CONNECT requests are refused"),
];

const HTTP_ROUTE_EXPERIMENTAL: [Unsupported; 3] = [
    entry("spec.rules[].retry", "remove it: retries are not supported yet"),
    entry("spec.rules[].sessionPersistence", "remove it: every request is balanced anew"),
    entry("spec.useDefaultGateways", "name the Gateways in `parentRefs`"),
];

const GATEWAY_CLASS: [Unsupported; 1] = [entry("spec.parametersRef", "remove it: a class has no parameters here")];

const TCP_ROUTE: [Unsupported; 1] = [entry("spec.useDefaultGateways", "name the Gateways in `parentRefs`")];

const SERVICE: [Unsupported; 6] = [
    entry(
        "spec.ports[].protocol=TLS",
        "use TCP for bytes in TLS that go by as they are; for mutual TLS of the mesh write `identity`",
    ),
    entry("spec.ports[].targetPort", "the port of an endpoint is in its `address`"),
    entry("spec.selector", "list the `endpoints`, or write `dns`"),
    entry("spec.clusterIP", "remove it: a Service is found by its name"),
    entry("spec.type", "remove it: a Service has no type here"),
    entry("spec.externalName", "write `dns: {host: ..., port: ...}`"),
];

const FILTER: [Unsupported; 2] = [
    entry("spec.module.url", "download the module, and push it as a bundle"),
    entry("spec.module.oci", "pull the module, and push it as a bundle"),
];

const BACKEND_POLICY: [Unsupported; 3] = [
    entry("spec.healthChecks", "remove it: health checks are not supported yet"),
    entry("spec.outlierDetection", "remove it: outlier detection is not supported yet"),
    entry("spec.tls", "remove it; for mutual TLS of the mesh write `identity` into the Service"),
];

/// What is not supported of a kind.
pub(crate) fn of(kind: Kind) -> impl Iterator<Item = &'static Unsupported> {
    let own: [&'static [Unsupported]; 2] = match kind {
        Kind::Gateway => [&GATEWAY, &GATEWAY_CHOICES],
        Kind::HttpRoute => [&HTTP_ROUTE, &HTTP_ROUTE_EXPERIMENTAL],
        Kind::TcpRoute => [&TCP_ROUTE, &[]],
        Kind::GatewayClass => [&GATEWAY_CLASS, &[]],
        Kind::ReferenceGrant => [&[], &[]],
        Kind::Service => [&SERVICE, &[]],
        Kind::Filter => [&FILTER, &[]],
        Kind::BackendPolicy => [&BACKEND_POLICY, &[]],
        Kind::AccessPolicy | Kind::Secret | Kind::Mesh => [&[], &[]],
    };
    own.into_iter().flatten().chain(std::iter::once(&STATUS)).chain(&METADATA)
}

/// Kinds of upstream that are known and not supported, and what to do instead.
pub(crate) const UNSUPPORTED_KINDS: [(&str, &str); 12] = [
    ("GRPCRoute", "use an HTTPRoute: a gRPC method is a path, `/package.Service/Method`"),
    ("TLSRoute", "use a TCPRoute: TLS goes by as it is, without a look at the host that it asks for"),
    ("UDPRoute", "only HTTP and TCP are proxied"),
    (
        "BackendTLSPolicy",
        "for mutual TLS of the mesh write `identity` into the Service; other upstream TLS is not there yet",
    ),
    ("ListenerSet", "write the listeners into the Gateway"),
    ("XListenerSet", "write the listeners into the Gateway"),
    ("ConfigMap", "write a filter's configuration into its `config`"),
    ("Ingress", "use a Gateway and an HTTPRoute"),
    ("EndpointSlice", "write the addresses into `endpoints` of a Service"),
    ("Namespace", "remove it: a namespace exists by being used"),
    ("Deployment", "remove it: the proxy starts nothing"),
    ("List", "write each object as a document of its own, with `---` between them"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::shape;
    use crate::schema::shape::Shape;

    fn is_refused(shape: &Shape, path: &str) -> bool {
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let (name, choice) = first.split_once('=').map_or((first, None), |(name, choice)| (name, Some(choice)));
        let (name, is_list) = name.strip_suffix("[]").map_or((name, false), |name| (name, true));
        let Shape::Record(fields) = shape else { return false };
        let Some(field) = fields.iter().find(|field| field.name == name) else { return false };
        let inner = match &field.shape {
            Shape::List(element) if is_list => element,
            other => other,
        };
        match (rest, choice, inner) {
            (Some(rest), _, inner) => is_refused(inner, rest),
            (None, Some(choice), Shape::Choice(choices)) => {
                choices.iter().any(|it| it.text == choice && it.refused.is_some())
            }
            (None, Some(_), _) => false,
            (None, None, _) => field.refused.is_some(),
        }
    }

    #[test]
    fn every_entry_names_a_field() {
        for kind in Kind::ALL {
            for entry in of(kind) {
                assert!(is_refused(shape(kind), entry.path), "{}: {}", kind.name(), entry.path);
            }
        }
    }
}
