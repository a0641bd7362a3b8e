//! `Gateway`: validation.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use gateway_api::gateways::{
    GatewayAddresses, GatewayListeners, GatewayListenersAllowedRoutes, GatewayListenersAllowedRoutesKinds,
    GatewayListenersAllowedRoutesNamespaces, GatewayListenersAllowedRoutesNamespacesFrom, GatewayListenersTls,
    GatewayListenersTlsCertificateRefs, GatewaySpec, GatewayTls, GatewayTlsBackend,
    GatewayTlsBackendClientCertificateRef,
};
use weir_model::{HostMatch, ListenerProtocol};

use crate::limits::{MAX_ADDRESSES, MAX_LISTENERS};
use crate::resource::field::{is_bounded, port};
use crate::spec::{GATEWAY_GROUP, Kind};
use crate::suggest::quoted;
use crate::syntax::name;
use crate::yaml::{FieldErrors, FieldPathRef};

/// The protocol of an HTTP listener for workloads of the mesh, with mutual TLS.
const MESH_PROTOCOL: &str = "weir.dev/MTLS";
/// The protocol of a TCP listener.
const TCP: &str = "TCP";
/// The protocol of a TCP listener for workloads of the mesh, with mutual TLS.
const MESH_TCP: &str = "weir.dev/MTLS-TCP";

/// A validated Gateway.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// The name of its class.
    pub(crate) class: String,
    /// The addresses; empty for the default.
    pub(crate) addresses: Vec<IpAddr>,
    /// The listeners, in document order.
    pub(crate) listeners: Vec<GatewayListener>,
    /// The Secret with the client certificate of connections to Services with a BackendTLSPolicy, in the Gateway's
    /// namespace.
    pub(crate) client_certificate: Option<Arc<str>>,
}

/// A listener of a Gateway.
#[derive(Debug)]
pub(crate) struct GatewayListener {
    /// The name, unique in the Gateway.
    pub(crate) name: Arc<str>,
    /// The hosts that it serves.
    pub(crate) host: HostMatch,
    /// The port.
    pub(crate) port: u16,
    /// The protocol within its connections.
    pub(crate) protocol: ListenerProtocol,
    /// The TLS mode of its connections.
    pub(crate) tls: ListenerTls,
    /// The namespaces whose routes may attach.
    pub(crate) allowed_namespaces: AllowedNamespaces,
    /// The kinds of routes that may attach.
    pub(crate) allowed_kinds: Vec<Kind>,
}

/// The TLS mode of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ListenerTls {
    /// No TLS.
    Plaintext,
    /// Mutual TLS between workloads of the mesh.
    MutualTls,
    /// TLS with the certificate of this Secret, in the Gateway's namespace.
    Https(Arc<str>),
}

impl ListenerTls {
    fn is_compatible(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl GatewayListener {
    /// Returns true if both listeners can share a port.
    fn is_compatible(&self, other: &Self) -> bool {
        self.protocol == other.protocol && self.tls.is_compatible(&other.tls)
    }
}

/// Returns the kinds of routes that a protocol serves.
const fn route_kinds(protocol: ListenerProtocol) -> &'static [Kind] {
    match protocol {
        ListenerProtocol::Http => &[Kind::HttpRoute, Kind::GrpcRoute],
        ListenerProtocol::Tcp => &[Kind::TcpRoute],
    }
}

/// The namespaces whose routes may attach to a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AllowedNamespaces {
    /// The Gateway's namespace.
    SameNamespace,
    /// All namespaces.
    AllNamespaces,
}

/// Validates a Gateway.
pub(crate) fn check(spec: GatewaySpec, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Gateway> {
    // Destructured without `..`, so that a new upstream field fails to compile. `schema::unsupported` rejects the
    // unused ones.
    let GatewaySpec { addresses, allowed_listeners: _, gateway_class_name, infrastructure: _, listeners, tls } = spec;
    let client_certificate = tls.and_then(|tls| check_client_certificate(tls, &path.field("tls"), errors));
    let addresses = check_addresses(addresses.unwrap_or_default(), &path.field("addresses"), errors);
    let at = path.field("listeners");
    if listeners.is_empty() {
        errors.add(&at, "a Gateway without listeners", "add one: `{name: http, port: 8080, protocol: HTTP}`");
    }
    if !is_bounded(&listeners, MAX_LISTENERS, &at, errors) {
        return None;
    }
    let mut checked = Vec::with_capacity(listeners.len());
    for (index, listener) in listeners.into_iter().enumerate() {
        checked.extend(check_listener(listener, &at.entry(index), errors));
    }
    check_distinct(&checked, &at, errors);
    Some(Gateway { class: gateway_class_name, addresses: addresses?, listeners: checked, client_certificate })
}

/// Returns the name of the Secret with the client certificate.
fn check_client_certificate(tls: GatewayTls, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Arc<str>> {
    let GatewayTls { backend, frontend: _ } = tls; // `schema::unsupported` rejects the frontend.
    let GatewayTlsBackend { client_certificate_ref } = backend?;
    let GatewayTlsBackendClientCertificateRef { group, kind, name, namespace } = client_certificate_ref?;
    let backend = path.field("backend");
    check_secret_ref(SecretGroup { group, kind, namespace }, &backend.field("clientCertificateRef"), errors);
    Some(Arc::from(name))
}

/// The fields of a reference that restrict it to Secrets of the Gateway's namespace.
struct SecretGroup {
    group: Option<String>,
    kind: Option<String>,
    namespace: Option<String>,
}

fn check_secret_ref(reference: SecretGroup, path: &FieldPathRef<'_>, errors: &mut FieldErrors) {
    let SecretGroup { group, kind, namespace } = reference;
    if group.is_some_and(|group| !group.is_empty()) || kind.is_some_and(|kind| kind != Kind::Secret.name()) {
        errors.add(&path.field("kind"), "is no Secret", "leave `group` and `kind` out");
    }
    if namespace.is_some() {
        let hint = "leave it out, and have the Secret in the Gateway's namespace";
        errors.add(&path.field("namespace"), "Secrets are used in their own namespace alone", hint);
    }
}

fn check_addresses(
    addresses: Vec<GatewayAddresses>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<Vec<IpAddr>> {
    if !is_bounded(&addresses, MAX_ADDRESSES, path, errors) {
        return None;
    }
    let mut checked = Vec::with_capacity(addresses.len());
    for (index, GatewayAddresses { r#type, value }) in addresses.into_iter().enumerate() {
        let at = path.entry(index);
        if let Some(kind) = r#type.filter(|kind| kind != "IPAddress") {
            errors.add(&at.field("type"), format!("{} is not supported", quoted(&kind)), "write `IPAddress`");
            continue;
        }
        let Some(value) = value else {
            errors.add(&at.field("value"), "missing", "add `value`, as in `value: 0.0.0.0`");
            continue;
        };
        match value.parse::<IpAddr>() {
            Ok(address) if checked.contains(&address) => {
                errors.add(&at.field("value"), "the address is there already", "remove one of the two");
            }
            Ok(address) => checked.push(address),
            Err(_) => {
                let reason = format!("{} is not an IP address", quoted(&value));
                errors.add(&at.field("value"), reason, "write it without port, as in `0.0.0.0` or `::1`");
            }
        }
    }
    Some(checked)
}

fn check_listener(
    listener: GatewayListeners,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<GatewayListener> {
    let GatewayListeners { allowed_routes, hostname, name: listener_name, port: number, protocol, tls } = listener;
    if let Err(error) = name::object_name(&listener_name) {
        errors.add_syntax_error(&path.field("name"), error);
    }
    let listener_tls = check_tls(&protocol, tls, path, errors);
    let is_tcp = protocol == TCP || protocol == MESH_TCP;
    let protocol = if is_tcp { ListenerProtocol::Tcp } else { ListenerProtocol::Http };
    let host = match hostname.as_deref() {
        None | Some("") => Some(HostMatch::Any),
        Some(_) if protocol == ListenerProtocol::Tcp => {
            errors.add(&path.field("hostname"), "bytes name no host", "remove it: a TCP listener is known by its port");
            None
        }
        Some(hostname) => {
            let at = path.field("hostname");
            name::host_match(hostname).map_err(|error| errors.add_syntax_error(&at, error)).ok()
        }
    };
    let GatewayListenersAllowedRoutes { kinds, namespaces } = allowed_routes.unwrap_or_default();
    let at = path.field("allowedRoutes");
    let allowed_kinds = check_allowed_kinds(kinds.unwrap_or_default(), protocol, &at.field("kinds"), errors);
    let allowed_namespaces = allowed_namespaces(namespaces);
    let port = port(number.into(), &path.field("port"), errors);
    let name = Arc::from(listener_name);
    let (host, port, tls) = (host?, port?, listener_tls?);
    Some(GatewayListener { name, host, port, protocol, tls, allowed_namespaces, allowed_kinds })
}

fn check_tls(
    protocol: &str,
    tls: Option<GatewayListenersTls>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<ListenerTls> {
    let at = path.field("tls");
    match (protocol, tls) {
        ("HTTPS", Some(tls)) => check_certificate(tls, &at, errors).map(ListenerTls::Https),
        ("HTTPS", None) => {
            errors.add(&at, "HTTPS without a certificate", "add `tls: {certificateRefs: [{name: my-secret}]}`");
            None
        }
        ("HTTP" | TCP | MESH_PROTOCOL | MESH_TCP, Some(_)) => {
            errors.add(&at, format!("{protocol} takes no certificate"), "remove it, or write `protocol: HTTPS`");
            None
        }
        ("HTTP" | TCP, None) => Some(ListenerTls::Plaintext),
        (MESH_PROTOCOL | MESH_TCP, None) => Some(ListenerTls::MutualTls),
        (other, _) => {
            let hint =
                "write `HTTP`, `HTTPS`, `TCP`, or for workloads of the mesh `weir.dev/MTLS` or `weir.dev/MTLS-TCP`";
            errors.add(&path.field("protocol"), format!("{} is not supported", quoted(other)), hint);
            None
        }
    }
}

/// Returns the name of a listener's Secret.
fn check_certificate(tls: GatewayListenersTls, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Arc<str>> {
    // `schema::unsupported` rejects the other fields.
    let GatewayListenersTls { certificate_refs, mode: _, options: _ } = tls;
    let at = path.field("certificateRefs");
    let mut certificates = certificate_refs.unwrap_or_default();
    let (Some(certificate), true) = (certificates.pop(), certificates.is_empty()) else {
        let hint = "name one Secret; another host is another listener on the same port";
        errors.add(&at, "is not one certificate", hint);
        return None;
    };
    let at = at.entry(0);
    let GatewayListenersTlsCertificateRefs { group, kind, name, namespace } = certificate;
    check_secret_ref(SecretGroup { group, kind, namespace }, &at, errors);
    Some(Arc::from(name))
}

/// Returns the kinds of routes that may attach. Without `kinds`, all that the protocol serves.
fn check_allowed_kinds(
    kinds: Vec<GatewayListenersAllowedRoutesKinds>,
    protocol: ListenerProtocol,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Vec<Kind> {
    let served = route_kinds(protocol);
    if kinds.is_empty() {
        return served.to_vec();
    }
    let mut allowed = Vec::with_capacity(kinds.len());
    for (index, GatewayListenersAllowedRoutesKinds { group, kind }) in kinds.into_iter().enumerate() {
        let is_gateway_group = group.is_none_or(|group| group == GATEWAY_GROUP);
        match served.iter().find(|served| is_gateway_group && served.name() == kind) {
            Some(kind) => allowed.push(*kind),
            None => {
                let names: Vec<String> = served.iter().map(|kind| format!("`kind: {}`", kind.name())).collect();
                let hint = format!("write {}, or leave `kinds` out", names.join(" or "));
                errors.add(&path.entry(index), format!("{} is not a kind that can attach", quoted(&kind)), hint);
            }
        }
    }
    allowed
}

fn allowed_namespaces(namespaces: Option<GatewayListenersAllowedRoutesNamespaces>) -> AllowedNamespaces {
    let Some(GatewayListenersAllowedRoutesNamespaces { from, selector: _ }) = namespaces else {
        return AllowedNamespaces::SameNamespace;
    };
    match from {
        Some(GatewayListenersAllowedRoutesNamespacesFrom::All) => AllowedNamespaces::AllNamespaces,
        // `schema::unsupported` rejects a selector.
        Some(
            GatewayListenersAllowedRoutesNamespacesFrom::Same | GatewayListenersAllowedRoutesNamespacesFrom::Selector,
        )
        | None => AllowedNamespaces::SameNamespace,
    }
}

/// Checks that listeners differ in name, and in port or host name (Gateway API: distinct listeners). Listeners of one
/// port need compatible protocols.
fn check_distinct(listeners: &[GatewayListener], path: &FieldPathRef<'_>, errors: &mut FieldErrors) {
    let mut names = HashMap::new();
    let mut seen = HashMap::new();
    for (index, listener) in listeners.iter().enumerate() {
        let at = path.entry(index);
        if names.insert(&listener.name, index).is_some() {
            let reason = format!("another listener is named {}", quoted(&listener.name));
            errors.add(&at.field("name"), reason, "give each listener a name of its own");
        }
        if let Some(other) = seen.insert((listener.port, &listener.host), index) {
            let reason = format!("the same port and host name as listener {}", quoted(&listeners[other].name));
            errors.add(&at.field("port"), reason, "change the port, or the host name");
        }
        if let Some(other) =
            listeners[..index].iter().find(|other| other.port == listener.port && !other.is_compatible(listener))
        {
            let reason = format!("listener {} on the same port has another protocol", quoted(&other.name));
            errors.add(&at.field("protocol"), reason, "give both the same protocol, or one of them another port");
        }
    }
}
