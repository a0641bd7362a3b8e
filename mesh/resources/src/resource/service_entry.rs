//! `ServiceEntry`: validation.

use std::net::SocketAddr;
use std::sync::Arc;

use weir_model::limits::{MAX_ENDPOINTS, MAX_WEIGHT};
use weir_model::{Endpoint, EndpointAddress, UnixPath, UnixPathError, UpstreamProtocol, Weight};

use crate::limits::MAX_PORTS;
use crate::resource::field::{is_bounded, port};
use crate::spec::{DnsSpec, EndpointSpec, IdentitySpec, PortSpec, Protocol, ServiceEntrySpec};
use crate::suggest::{hint, quoted};
use crate::syntax::{SyntaxError, name};
use crate::yaml::{FieldErrors, FieldPathRef};

/// A validated ServiceEntry.
#[derive(Debug)]
pub(crate) struct ServiceEntry {
    /// The ports, at least one.
    pub(crate) ports: Vec<ServicePort>,
    /// The endpoints.
    pub(crate) endpoints: Endpoints,
    /// The service account that the endpoints must prove by mutual TLS.
    pub(crate) account: Option<String>,
}

/// A port of a ServiceEntry.
#[derive(Debug)]
pub(crate) struct ServicePort {
    /// The name.
    pub(crate) name: Option<String>,
    /// The number.
    pub(crate) port: u16,
    /// The HTTP version of the endpoints; `None` if the port names no protocol.
    pub(crate) protocol: Option<UpstreamProtocol>,
    /// True for a port of TCPRoutes only.
    pub(crate) is_tcp: bool,
}

/// The endpoints of a ServiceEntry.
#[derive(Debug)]
pub(crate) enum Endpoints {
    /// Addresses, each for the port of this name, or for all ports.
    Listed(Vec<(Endpoint, Option<String>)>),
    /// The addresses of a DNS name.
    Dns { host: Arc<str>, port: u16 },
}

/// Validates a ServiceEntry.
pub(crate) fn check(spec: ServiceEntrySpec, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<ServiceEntry> {
    let ServiceEntrySpec { ports, endpoints, dns, identity } = spec;
    let ports = check_ports(ports, &path.field("ports"), errors)?;
    let endpoints = match (endpoints, dns) {
        (Some(endpoints), None) => check_endpoints(endpoints, &ports, &path.field("endpoints"), errors)?,
        (None, Some(dns)) => check_dns(&dns, &path.field("dns"), errors)?,
        (Some(_), Some(_)) => {
            errors.add(&path.field("dns"), "both `endpoints` and `dns`", "keep one of the two");
            return None;
        }
        (None, None) => {
            let hint = "add `endpoints: [{address: \"127.0.0.1:9001\"}]`, or `dns: {host: ..., port: ...}`";
            errors.add(path, "neither `endpoints` nor `dns`", hint);
            return None;
        }
    };
    let account = identity.map(|IdentitySpec { service_account }| service_account);
    if let Some(Err(error)) = account.as_deref().map(name::object_name) {
        errors.add_syntax_error(&path.field("identity").field("serviceAccount"), error);
    }
    Some(ServiceEntry { ports, endpoints, account })
}

fn check_ports(ports: Vec<PortSpec>, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Vec<ServicePort>> {
    if ports.is_empty() {
        errors.add(path, "a Service without ports", "add one: `{port: 80}`");
    }
    if !is_bounded(&ports, MAX_PORTS, path, errors) {
        return None;
    }
    let several = ports.len() > 1;
    let mut checked: Vec<ServicePort> = Vec::with_capacity(ports.len());
    for (index, PortSpec { name: port_name, port: number, protocol, app_protocol }) in ports.into_iter().enumerate() {
        let at = path.entry(index);
        match &port_name {
            None if several => errors.add(&at.field("name"), "missing", "name each port when there are several"),
            None => {}
            Some(text) => {
                if let Err(error) = name::label(text) {
                    errors.add_syntax_error(&at.field("name"), error);
                }
                if checked.iter().any(|other| other.name == port_name) {
                    let reason = format!("another port is named {}", quoted(text));
                    errors.add(&at.field("name"), reason, "give each port a name of its own");
                }
            }
        }
        let Some(number) = port(number, &at.field("port"), errors) else { continue };
        if checked.iter().any(|other| other.port == number) {
            errors.add(&at.field("port"), format!("port {number} is there already"), "remove one of the two");
        }
        let is_tcp = protocol == Some(Protocol::Tcp);
        if protocol.is_some() && app_protocol.is_some() {
            errors.add(&at.field("appProtocol"), "both `protocol` and `appProtocol`", "keep one of the two");
        }
        let named = match protocol {
            None => None,
            Some(Protocol::Http | Protocol::Tcp) => Some(UpstreamProtocol::Http1),
            Some(Protocol::Http2 | Protocol::Grpc) => Some(UpstreamProtocol::Http2),
        };
        let app_protocol = app_protocol.and_then(|text| check_app_protocol(&text, &at.field("appProtocol"), errors));
        let protocol = named.or(app_protocol);
        checked.push(ServicePort { name: port_name, port: number, protocol, is_tcp });
    }
    Some(checked)
}

/// Validates an `appProtocol`: the names of GEP-1911, and those of the field's own documentation in Kubernetes.
fn check_app_protocol(text: &str, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<UpstreamProtocol> {
    match text {
        "http" | "kubernetes.io/ws" => return Some(UpstreamProtocol::Http1),
        "kubernetes.io/h2c" | "grpc" => return Some(UpstreamProtocol::Http2),
        _ => {}
    }
    let hint = match text {
        "https" | "kubernetes.io/wss" => "TLS is a matter of the endpoints' policy: write `http`",
        _ => "write `http`, `kubernetes.io/h2c`, `kubernetes.io/ws` or `grpc`",
    };
    errors.add(path, format!("{} is not supported", quoted(text)), hint);
    None
}

fn check_endpoints(
    endpoints: Vec<EndpointSpec>,
    ports: &[ServicePort],
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<Endpoints> {
    if !is_bounded(&endpoints, MAX_ENDPOINTS, path, errors) {
        return None;
    }
    let mut checked = Vec::with_capacity(endpoints.len());
    for (index, endpoint) in endpoints.into_iter().enumerate() {
        let at = path.entry(index);
        let EndpointSpec { address, weight, version, port_name } = endpoint;
        if let Some(version) = &version
            && let Err(error) = name::version(version)
        {
            errors.add_syntax_error(&at.field("version"), error);
        }
        if let Some(port_name) = &port_name
            && !ports.iter().any(|port| port.name.as_ref() == Some(port_name))
        {
            let names = ports.iter().filter_map(|port| port.name.as_deref());
            let hint = hint(port_name, names, "the ports are");
            errors.add(&at.field("portName"), format!("no port {}", quoted(port_name)), hint);
        }
        let weight = check_weight(weight, &at.field("weight"), errors);
        let address = endpoint_address(&address).map_err(|error| errors.add_syntax_error(&at.field("address"), error));
        if let (Ok(address), Some(weight)) = (address, weight) {
            checked.push((Endpoint { address, weight, version: version.map(Arc::from) }, port_name));
        }
    }
    Some(Endpoints::Listed(checked))
}

fn check_dns(dns: &DnsSpec, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Endpoints> {
    if let Err(error) = name::hostname(&dns.host) {
        let hint = match dns.host.parse::<std::net::IpAddr>() {
            Ok(_) => "write the address under `endpoints`".to_owned(),
            Err(_) => error.hint,
        };
        errors.add(&path.field("host"), error.reason, hint);
    }
    let port = port(dns.port, &path.field("port"), errors)?;
    Some(Endpoints::Dns { host: Arc::from(dns.host.as_str()), port })
}

/// Validates a weight. Default: 1.
pub(crate) fn check_weight(weight: Option<i64>, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Weight> {
    let Some(number) = weight else { return Some(Weight::ONE) };
    let weight = u32::try_from(number).ok().and_then(Weight::new);
    if weight.is_none() {
        errors.add(path, format!("{number} is not a weight"), format!("weights are between 0 and {MAX_WEIGHT}"));
    }
    weight
}

fn endpoint_address(text: &str) -> Result<EndpointAddress, SyntaxError> {
    let Some(path) = text.strip_prefix("unix:") else { return socket_address(text).map(EndpointAddress::Socket) };
    // `unix:///run/app.sock` and `unix:/run/app.sock` are the same URI (RFC 3986 §3.2).
    let path = path.strip_prefix("//").unwrap_or(path);
    UnixPath::new(path).map(EndpointAddress::Unix).map_err(|UnixPathError { reason, hint }| {
        let hint = hint.replace(" /", " unix:///");
        SyntaxError::new(format!("{} {reason}", quoted(text)), &hint)
    })
}

fn socket_address(text: &str) -> Result<SocketAddr, SyntaxError> {
    let bad = |hint: &str| Err(SyntaxError::new(format!("{} is not an address with a port", quoted(text)), hint));
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() == 0 => bad("ports are between 1 and 65535"),
        Ok(address) => Ok(address),
        Err(_) if text.parse::<std::net::IpAddr>().is_ok() => {
            bad("add the port, as in `127.0.0.1:9001` or `[::1]:9001`")
        }
        Err(_) if text.rsplit_once(':').is_some_and(|(host, _)| name::hostname(host).is_ok()) => {
            bad("an endpoint is an IP address; for a name write `dns: {host: ..., port: ...}` instead of `endpoints`")
        }
        Err(_) => bad("write it as in `127.0.0.1:9001` or `[::1]:9001`"),
    }
}
