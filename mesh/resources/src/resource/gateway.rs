//! `Gateway`: where the proxy listens.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use gateway_api::gateways::{
    GatewayAddresses, GatewayListeners, GatewayListenersAllowedRoutes, GatewayListenersAllowedRoutesNamespaces,
    GatewayListenersAllowedRoutesNamespacesFrom, GatewayListenersTls, GatewayListenersTlsCertificateRefs, GatewaySpec,
};
use weir_model::{HostMatch, ListenerProtocol};

use crate::document::{Faults, Path};
use crate::grammar::name;
use crate::limits::{MAX_ADDRESSES, MAX_LISTENERS};
use crate::resource::field::{is_bounded, port};
use crate::suggest::quoted;
use crate::written::{GATEWAY_GROUP, Kind};

/// The protocol of a listener for workloads of the mesh: HTTP in TLS, and both sides prove who they are.
const MESH_PROTOCOL: &str = "weir.dev/MTLS";
/// The protocol of a listener for bytes.
const TCP: &str = "TCP";
/// The same for workloads of the mesh: bytes in TLS, and both sides prove who they are.
const MESH_TCP: &str = "weir.dev/MTLS-TCP";

/// Where the proxy listens.
#[derive(Debug)]
pub(crate) struct Gateway {
    /// The name of its class.
    pub(crate) class: String,
    /// The addresses it listens on; none = the default.
    pub(crate) addresses: Vec<IpAddr>,
    /// Its listeners, in the order written.
    pub(crate) listeners: Vec<GatewayListener>,
}

/// One listener of a Gateway.
#[derive(Debug)]
pub(crate) struct GatewayListener {
    /// Its name in the Gateway.
    pub(crate) name: Arc<str>,
    /// The hosts it serves.
    pub(crate) host: HostMatch,
    /// Its port.
    pub(crate) port: u16,
    /// What its connections carry.
    pub(crate) protocol: ListenerProtocol,
    /// Who may connect, and how.
    pub(crate) security: Security,
    /// Whose routes may attach.
    pub(crate) admits: Admits,
}

/// Who may connect to a listener, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Security {
    /// Everybody, in plain text.
    Plain,
    /// Workloads of the mesh, by mutual TLS.
    Mesh,
    /// Everybody, by TLS with the certificate of this Secret of the Gateway's namespace.
    Https(Arc<str>),
}

impl Security {
    fn fits(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl GatewayListener {
    /// The kind of routes that can attach.
    pub(crate) const fn route_kind(&self) -> Kind {
        route_kind(self.protocol)
    }

    /// Whether two listeners can share a port.
    fn fits(&self, other: &Self) -> bool {
        self.protocol == other.protocol && self.security.fits(&other.security)
    }
}

const fn route_kind(protocol: ListenerProtocol) -> Kind {
    match protocol {
        ListenerProtocol::Http => Kind::HttpRoute,
        ListenerProtocol::Tcp => Kind::TcpRoute,
    }
}

/// Whose routes may attach to a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admits {
    /// Those of the Gateway's namespace.
    SameNamespace,
    /// All.
    AllNamespaces,
}

/// Checks the fields of a Gateway.
pub(crate) fn check(spec: GatewaySpec, path: &Path<'_>, faults: &mut Faults) -> Option<Gateway> {
    // Taken apart without `..`: a field that upstream adds must be decided upon. Those not used here are refused by
    // `schema::unsupported`.
    let GatewaySpec { addresses, allowed_listeners: _, gateway_class_name, infrastructure: _, listeners, tls: _ } =
        spec;
    let addresses = check_addresses(addresses.unwrap_or_default(), &path.field("addresses"), faults);
    let at = path.field("listeners");
    if listeners.is_empty() {
        faults.add(&at, "a Gateway without listeners", "add one: `{name: http, port: 8080, protocol: HTTP}`");
    }
    if !is_bounded(&listeners, MAX_LISTENERS, &at, faults) {
        return None;
    }
    let mut checked = Vec::with_capacity(listeners.len());
    for (index, listener) in listeners.into_iter().enumerate() {
        checked.extend(check_listener(listener, &at.entry(index), faults));
    }
    check_distinct(&checked, &at, faults);
    Some(Gateway { class: gateway_class_name, addresses: addresses?, listeners: checked })
}

fn check_addresses(addresses: Vec<GatewayAddresses>, path: &Path<'_>, faults: &mut Faults) -> Option<Vec<IpAddr>> {
    if !is_bounded(&addresses, MAX_ADDRESSES, path, faults) {
        return None;
    }
    let mut checked = Vec::with_capacity(addresses.len());
    for (index, GatewayAddresses { r#type, value }) in addresses.into_iter().enumerate() {
        let at = path.entry(index);
        if let Some(kind) = r#type.filter(|kind| kind != "IPAddress") {
            faults.add(&at.field("type"), format!("{} is not supported", quoted(&kind)), "write `IPAddress`");
            continue;
        }
        let Some(value) = value else {
            faults.add(&at.field("value"), "missing", "add `value`, as in `value: 0.0.0.0`");
            continue;
        };
        match value.parse::<IpAddr>() {
            Ok(address) if checked.contains(&address) => {
                faults.add(&at.field("value"), "the address is there already", "remove one of the two");
            }
            Ok(address) => checked.push(address),
            Err(_) => {
                let reason = format!("{} is not an IP address", quoted(&value));
                faults.add(&at.field("value"), reason, "write it without port, as in `0.0.0.0` or `::1`");
            }
        }
    }
    Some(checked)
}

fn check_listener(listener: GatewayListeners, path: &Path<'_>, faults: &mut Faults) -> Option<GatewayListener> {
    let GatewayListeners { allowed_routes, hostname, name: listener_name, port: number, protocol, tls } = listener;
    if let Err(objection) = name::object_name(&listener_name) {
        faults.object(&path.field("name"), objection);
    }
    let security = check_security(&protocol, tls, path, faults);
    let is_tcp = protocol == TCP || protocol == MESH_TCP;
    let protocol = if is_tcp { ListenerProtocol::Tcp } else { ListenerProtocol::Http };
    let host = match hostname.as_deref() {
        None | Some("") => Some(HostMatch::Any),
        Some(_) if protocol == ListenerProtocol::Tcp => {
            faults.add(&path.field("hostname"), "bytes name no host", "remove it: a TCP listener is known by its port");
            None
        }
        Some(hostname) => {
            let at = path.field("hostname");
            name::host_match(hostname).map_err(|objection| faults.object(&at, objection)).ok()
        }
    };
    let admits = check_allowed_routes(allowed_routes, route_kind(protocol), &path.field("allowedRoutes"), faults);
    let port = port(number.into(), &path.field("port"), faults);
    let name = Arc::from(listener_name);
    Some(GatewayListener { name, host: host?, port: port?, protocol, security: security?, admits })
}

fn check_security(
    protocol: &str,
    tls: Option<GatewayListenersTls>,
    path: &Path<'_>,
    faults: &mut Faults,
) -> Option<Security> {
    let at = path.field("tls");
    match (protocol, tls) {
        ("HTTPS", Some(tls)) => check_certificate(tls, &at, faults).map(Security::Https),
        ("HTTPS", None) => {
            faults.add(&at, "HTTPS without a certificate", "add `tls: {certificateRefs: [{name: my-secret}]}`");
            None
        }
        ("HTTP" | TCP | MESH_PROTOCOL | MESH_TCP, Some(_)) => {
            faults.add(&at, format!("{protocol} takes no certificate"), "remove it, or write `protocol: HTTPS`");
            None
        }
        ("HTTP" | TCP, None) => Some(Security::Plain),
        (MESH_PROTOCOL | MESH_TCP, None) => Some(Security::Mesh),
        (other, _) => {
            let hint =
                "write `HTTP`, `HTTPS`, `TCP`, or for workloads of the mesh `weir.dev/MTLS` or `weir.dev/MTLS-TCP`";
            faults.add(&path.field("protocol"), format!("{} is not supported", quoted(other)), hint);
            None
        }
    }
}

/// The Secret of a listener.
fn check_certificate(tls: GatewayListenersTls, path: &Path<'_>, faults: &mut Faults) -> Option<Arc<str>> {
    // What else there is has been refused by `schema::unsupported`.
    let GatewayListenersTls { certificate_refs, mode: _, options: _ } = tls;
    let at = path.field("certificateRefs");
    let mut certificates = certificate_refs.unwrap_or_default();
    let (Some(certificate), true) = (certificates.pop(), certificates.is_empty()) else {
        let hint = "name one Secret; another host is another listener on the same port";
        faults.add(&at, "is not one certificate", hint);
        return None;
    };
    let at = at.entry(0);
    let GatewayListenersTlsCertificateRefs { group, kind, name, namespace } = certificate;
    if group.is_some_and(|group| !group.is_empty()) || kind.is_some_and(|kind| kind != Kind::Secret.name()) {
        faults.add(&at.field("kind"), "is no Secret", "leave `group` and `kind` out");
    }
    if namespace.is_some() {
        let hint = "leave it out, and have the Secret in the Gateway's namespace";
        faults.add(&at.field("namespace"), "Secrets are used in their own namespace alone", hint);
    }
    Some(Arc::from(name))
}

fn check_allowed_routes(
    written: Option<GatewayListenersAllowedRoutes>,
    own: Kind,
    path: &Path<'_>,
    faults: &mut Faults,
) -> Admits {
    let Some(GatewayListenersAllowedRoutes { kinds, namespaces }) = written else { return Admits::SameNamespace };
    let at = path.field("kinds");
    for (index, kind) in kinds.iter().flatten().enumerate() {
        let group = kind.group.as_deref().unwrap_or(GATEWAY_GROUP);
        if kind.kind != own.name() || group != GATEWAY_GROUP {
            let reason = format!("{} is not a kind that can attach", quoted(&kind.kind));
            faults.add(&at.entry(index), reason, format!("write `kind: {}`, or leave `kinds` out", own.name()));
        }
    }
    let Some(GatewayListenersAllowedRoutesNamespaces { from, selector: _ }) = namespaces else {
        return Admits::SameNamespace;
    };
    match from {
        Some(GatewayListenersAllowedRoutesNamespacesFrom::All) => Admits::AllNamespaces,
        // A selector has been refused by now.
        Some(
            GatewayListenersAllowedRoutesNamespacesFrom::Same | GatewayListenersAllowedRoutesNamespacesFrom::Selector,
        )
        | None => Admits::SameNamespace,
    }
}

/// Two listeners of a Gateway differ in name, and in port or host name (Gateway API, "distinct listeners"). On one port
/// all of them say who may connect in the same way.
fn check_distinct(listeners: &[GatewayListener], path: &Path<'_>, faults: &mut Faults) {
    let mut names = HashMap::new();
    let mut places = HashMap::new();
    for (index, listener) in listeners.iter().enumerate() {
        let at = path.entry(index);
        if names.insert(&listener.name, index).is_some() {
            let reason = format!("another listener is named {}", quoted(&listener.name));
            faults.add(&at.field("name"), reason, "give each listener a name of its own");
        }
        if let Some(other) = places.insert((listener.port, &listener.host), index) {
            let reason = format!("the same port and host name as listener {}", quoted(&listeners[other].name));
            faults.add(&at.field("port"), reason, "change the port, or the host name");
        }
        if let Some(other) = listeners[..index].iter().find(|it| it.port == listener.port && !it.fits(listener)) {
            let reason = format!("listener {} on the same port has another protocol", quoted(&other.name));
            faults.add(&at.field("protocol"), reason, "give both the same protocol, or one of them another port");
        }
    }
}
