//! Targets and references of BackendTLSPolicies, and the client certificates of Gateways: the TLS of each port of a
//! Service.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::resolve::attach::Attachment;
use crate::resolve::errors::ReferenceErrors;
use crate::resolve::index::{Lookup, ObjectIndex};
use crate::resolve::policy_targets::certificate_problem;
use crate::resource::backend_tls_policy::{PolicyTrust, TlsTarget};
use crate::resource::{BackendRef, BackendTlsPolicy, Creation, ObjectId, Resource, RuleAction, ServiceEntry};
use crate::spec::Kind;
use crate::suggest::{hint, quoted};
use crate::yaml::FieldPathRef;

/// A line of every PEM text with a certificate.
const CERTIFICATE_MARKER: &str = "-----BEGIN CERTIFICATE-----";

/// A port: the index of the ServiceEntry's document, and the number.
type ServicePortKey = (usize, u16);

/// The TLS of ports of Services.
#[derive(Debug, Default)]
pub(crate) struct BackendTlsPolicies<'a> {
    by_port: HashMap<ServicePortKey, BackendTls<'a>>,
    /// Targets to which another policy applies.
    pub(crate) overridden: Vec<OverriddenTarget<'a>>,
}

/// The TLS of a port of a Service.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BackendTls<'a> {
    /// The identity of the policy.
    pub(crate) id: &'a ObjectId,
    /// The policy.
    pub(crate) policy: &'a BackendTlsPolicy,
    /// The namespace and the name of the Secret with the client certificate.
    pub(crate) client_certificate: Option<(&'a str, &'a str)>,
}

/// A target of a policy to which an older policy applies.
#[derive(Debug)]
pub(crate) struct OverriddenTarget<'a> {
    /// The index of the policy's document.
    pub(crate) document: usize,
    /// The index of the target.
    pub(crate) target: usize,
    /// The policy that applies.
    pub(crate) by: &'a ObjectId,
}

impl<'a> BackendTlsPolicies<'a> {
    /// Returns the TLS of a port of a Service, by the index of its document.
    pub(crate) fn tls(&self, service: usize, port: u16) -> Option<&BackendTls<'a>> {
        self.by_port.get(&(service, port))
    }

    /// Returns the policies that apply to a port.
    pub(crate) fn applied(&self) -> BTreeMap<&'a ObjectId, &'a BackendTlsPolicy> {
        self.by_port.values().map(|tls| (tls.id, tls.policy)).collect()
    }
}

/// A policy for a port.
struct Candidate<'a> {
    /// False for a policy that names the port, which precedes one for the whole Service.
    is_whole: bool,
    creation: &'a Creation,
    id: &'a ObjectId,
    policy: &'a BackendTlsPolicy,
    document: usize,
    target: usize,
}

/// Returns the TLS of all ports. Reports dangling references, and Gateways that disagree on the client certificate.
pub(crate) fn backend_tls<'a>(
    objects: &ObjectIndex<'a>,
    attachments: &[Attachment],
    errors: &mut ReferenceErrors,
) -> BackendTlsPolicies<'a> {
    check_client_certificates(objects, errors);
    let mut candidates: BTreeMap<ServicePortKey, Vec<Candidate<'a>>> = BTreeMap::new();
    for (document, id, policy) in objects.backend_tls_policies() {
        check_authorities(objects, document, policy, errors);
        for (target, TlsTarget { section, .. }) in policy.targets.iter().enumerate() {
            let creation = &objects.document(document).creation;
            for port in target_ports(objects, &PolicyTarget { document, id, policy, target }, errors) {
                let is_whole = section.is_none();
                let candidate = Candidate { is_whole, creation, id, policy, document, target };
                candidates.entry(port).or_default().push(candidate);
            }
        }
    }
    let mut policies = BackendTlsPolicies::default();
    for (port, mut candidates) in candidates {
        candidates.sort_by_key(|candidate| (candidate.is_whole, candidate.creation, &*candidate.id.name));
        let Some(first) = candidates.first() else { continue };
        let (id, policy) = (first.id, first.policy);
        policies.by_port.insert(port, BackendTls { id, policy, client_certificate: None });
        let others = candidates.iter().filter(|other| other.is_whole == first.is_whole && other.id != id);
        policies.overridden.extend(others.map(|other| OverriddenTarget {
            document: other.document,
            target: other.target,
            by: id,
        }));
    }
    policies.overridden.dedup_by_key(|overridden| (overridden.document, overridden.target));
    if objects.gateways().any(|(_, _, gateway)| gateway.client_certificate.is_some()) {
        set_client_certificates(objects, attachments, &mut policies, errors);
    }
    policies
}

/// One target of a policy.
struct PolicyTarget<'a> {
    /// The index of the policy's document.
    document: usize,
    id: &'a ObjectId,
    policy: &'a BackendTlsPolicy,
    /// The index of the target.
    target: usize,
}

/// Returns the ports that a target selects; none if it is invalid.
fn target_ports(
    objects: &ObjectIndex<'_>,
    target: &PolicyTarget<'_>,
    errors: &mut ReferenceErrors,
) -> Vec<ServicePortKey> {
    let PolicyTarget { document, id, policy, target } = *target;
    let TlsTarget { service: name, section } = &policy.targets[target];
    let root = FieldPathRef::ROOT;
    let spec = root.field("spec");
    let list = spec.field("targetRefs");
    let at = list.entry(target);
    let index = match objects.find(Kind::ServiceEntry, &id.namespace, name) {
        Lookup::Document(index) => index,
        Lookup::Unknown => return Vec::new(),
        Lookup::Missing => {
            let (reason, hint) = objects.missing(Kind::ServiceEntry, &id.namespace, name);
            errors.add(document, &at.field("name"), reason, hint);
            return Vec::new();
        }
    };
    let Some(Resource::ServiceEntry(service)) = &objects.document(index).resource else { return Vec::new() };
    if service.account.is_some() {
        let reason = format!("ServiceEntry {} has `identity`, so its TLS is that of the mesh", quoted(name));
        errors.add(document, &at.field("name"), reason, "remove `identity` from it, or this target");
        return Vec::new();
    }
    let Some(section) = section else { return service.ports.iter().map(|port| (index, port.port)).collect() };
    match named_port(service, section) {
        Some(port) => vec![(index, port)],
        None => {
            let names = service.ports.iter().filter_map(|port| port.name.as_deref());
            let reason = format!("ServiceEntry {} has no port {}", quoted(name), quoted(section));
            errors.add(document, &at.field("sectionName"), reason, hint(section, names, "its ports are"));
            Vec::new()
        }
    }
}

/// Returns the port of this name or number.
fn named_port(service: &ServiceEntry, section: &str) -> Option<u16> {
    let by_name = service.ports.iter().find(|port| port.name.as_deref() == Some(section));
    let by_number = || service.ports.iter().find(|port| section.parse() == Ok(port.port));
    by_name.or_else(by_number).map(|port| port.port)
}

/// Checks that the CA certificates of a policy exist.
fn check_authorities(
    objects: &ObjectIndex<'_>,
    document: usize,
    policy: &BackendTlsPolicy,
    errors: &mut ReferenceErrors,
) {
    let (PolicyTrust::References(references), Some(id)) = (&policy.trust, &objects.document(document).id) else {
        return;
    };
    let root = FieldPathRef::ROOT;
    let spec = root.field("spec");
    let validation = spec.field("validation");
    let list = validation.field("caCertificateRefs");
    for (index, (kind, name)) in references.iter().enumerate() {
        let problem = match objects.find(*kind, &id.namespace, name) {
            Lookup::Missing => Some(objects.missing(*kind, &id.namespace, name)),
            Lookup::Unknown => None,
            Lookup::Document(found) => match authorities_of(&objects.document(found).resource) {
                Some(text) if text.contains(CERTIFICATE_MARKER) => None,
                Some(_) => Some((
                    format!("`ca.crt` of {} {} is no PEM of certificates", kind.name(), quoted(name)),
                    format!("it has a line with `{CERTIFICATE_MARKER}`"),
                )),
                None => Some((
                    format!("{} {} has no `ca.crt`", kind.name(), quoted(name)),
                    "write the CA certificates as PEM into its key `ca.crt`".to_owned(),
                )),
            },
        };
        if let Some((reason, hint)) = problem {
            errors.add(document, &list.entry(index).field("name"), reason, hint);
        }
    }
}

fn authorities_of(resource: &Option<Resource>) -> Option<&str> {
    match resource.as_ref()? {
        Resource::ConfigMap(map) => map.authorities.as_deref(),
        Resource::Secret(secret) => secret.authorities(),
        _ => None,
    }
}

/// Returns the CA certificates of a policy as PEM; `None` for those of the machine.
pub(crate) fn authorities(objects: &ObjectIndex<'_>, id: &ObjectId, policy: &BackendTlsPolicy) -> Option<String> {
    let PolicyTrust::References(references) = &policy.trust else { return None };
    let text = |(kind, name): &(Kind, String)| {
        let Lookup::Document(found) = objects.find(*kind, &id.namespace, name) else { return None };
        authorities_of(&objects.document(found).resource)
    };
    Some(references.iter().filter_map(text).map(|text| format!("{}\n", text.trim_end())).collect())
}

/// Checks that the client certificates of Gateways exist.
fn check_client_certificates(objects: &ObjectIndex<'_>, errors: &mut ReferenceErrors) {
    for (document, id, gateway) in objects.gateways() {
        let Some(secret) = &gateway.client_certificate else { continue };
        if let Some((reason, hint)) = certificate_problem(objects, &id.namespace, secret) {
            add_certificate_error(document, reason, hint, errors);
        }
    }
}

fn add_certificate_error(gateway: usize, reason: String, hint: String, errors: &mut ReferenceErrors) {
    let root = FieldPathRef::ROOT;
    let spec = root.field("spec");
    let tls = spec.field("tls");
    let backend = tls.field("backend");
    errors.add(gateway, &backend.field("clientCertificateRef").field("name"), reason, hint);
}

/// Sets the client certificate of each port: that of the Gateways whose routes lead to it.
fn set_client_certificates<'a>(
    objects: &ObjectIndex<'a>,
    attachments: &[Attachment],
    policies: &mut BackendTlsPolicies<'a>,
    errors: &mut ReferenceErrors,
) {
    let routes: BTreeSet<(usize, usize)> =
        attachments.iter().map(|attachment| (attachment.gateway, attachment.route)).collect();
    let mut gateways: BTreeMap<ServicePortKey, BTreeSet<usize>> = BTreeMap::new();
    for (gateway, route) in routes {
        for port in route_ports(objects, route).filter(|port| policies.by_port.contains_key(port)) {
            gateways.entry(port).or_default().insert(gateway);
        }
    }
    for (port, gateways) in gateways {
        let certificates: Vec<_> =
            gateways.iter().map(|gateway| (*gateway, client_certificate(objects, *gateway))).collect();
        let Some((first, certificate)) = certificates.iter().find(|(_, certificate)| certificate.is_some()) else {
            continue;
        };
        match certificates.iter().find(|(_, other)| other != certificate) {
            None => {
                if let Some(tls) = policies.by_port.get_mut(&port) {
                    tls.client_certificate = *certificate;
                }
            }
            Some((other, _)) => {
                let label = |document: usize| {
                    objects.document(document).id.as_ref().map(ToString::to_string).unwrap_or_default()
                };
                let reason = format!(
                    "{} forwards to port {} of {}, too, with another client certificate or none",
                    quoted(&label(*other)),
                    port.1,
                    quoted(&label(port.0))
                );
                let hint = "give both Gateways the same client certificate, or each a ServiceEntry of its own";
                add_certificate_error(*first, reason, hint.to_owned(), errors);
            }
        }
    }
}

/// Returns namespace and name of the Secret with the client certificate of a Gateway; `None` without one.
fn client_certificate<'a>(objects: &ObjectIndex<'a>, document: usize) -> Option<(&'a str, &'a str)> {
    let document = objects.document(document);
    let (Some(Resource::Gateway(gateway)), Some(id)) = (&document.resource, &document.id) else { return None };
    gateway.client_certificate.as_deref().map(|secret| (&*id.namespace, secret))
}

/// Returns the ports that a route forwards to, mirrors included.
fn route_ports(objects: &ObjectIndex<'_>, route: usize) -> impl Iterator<Item = ServicePortKey> {
    let document = objects.document(route);
    let backends: Vec<&BackendRef> = match &document.resource {
        Some(Resource::HttpRoute(route) | Resource::GrpcRoute(route)) => {
            let mut all = Vec::new();
            for rule in &route.rules {
                let RuleAction::Forward { backends, mirrors, .. } = &rule.action else { continue };
                all.extend(backends.iter().map(|backend| &backend.reference));
                all.extend(mirrors.iter().map(|(backend, _, _)| backend));
            }
            all
        }
        Some(Resource::TcpRoute(route)) => route.backends.iter().map(|backend| &backend.reference).collect(),
        _ => Vec::new(),
    };
    let id = document.id.as_ref();
    let key = move |backend: &BackendRef| {
        let namespace = id?.reference_namespace(backend.namespace.as_deref());
        match objects.find(Kind::ServiceEntry, namespace, &backend.name) {
            Lookup::Document(service) => Some((service, backend.port)),
            Lookup::Unknown | Lookup::Missing => None,
        }
    };
    backends.into_iter().filter_map(key).collect::<Vec<_>>().into_iter()
}
