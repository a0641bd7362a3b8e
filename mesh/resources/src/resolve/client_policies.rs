//! Targets of ClientTrafficPolicies: the settings of each port of a Gateway.

use std::collections::HashMap;

use weir_model::{DownstreamProtocolOptions, ListenerProtocol};

use crate::resolve::errors::ReferenceErrors;
use crate::resolve::index::{Lookup, ObjectIndex};
use crate::resource::{Gateway, ObjectId, Resource};
use crate::spec::Kind;
use crate::suggest::{hint, quoted};
use crate::yaml::FieldPathRef;

/// The settings of Gateways: by port, of a whole Gateway, and of the mesh.
#[derive(Debug, Default)]
pub(crate) struct ClientPolicies<'a> {
    by_target: HashMap<PolicyTarget, AppliedPolicy<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum PolicyTarget {
    Mesh,
    /// The index of the Gateway's document.
    Gateway(usize),
    /// The index of the Gateway's document, and a port of its listeners.
    Port(usize, u16),
}

#[derive(Debug)]
struct AppliedPolicy<'a> {
    id: &'a ObjectId,
    options: &'a DownstreamProtocolOptions,
}

impl ClientPolicies<'_> {
    /// Returns the settings of a port of a Gateway: those of the most specific policy, or the defaults.
    pub(crate) fn options(&self, gateway: usize, port: u16) -> DownstreamProtocolOptions {
        let targets = [PolicyTarget::Port(gateway, port), PolicyTarget::Gateway(gateway), PolicyTarget::Mesh];
        let applied = targets.iter().find_map(|target| self.by_target.get(target));
        applied.map(|applied| applied.options.clone()).unwrap_or_default()
    }
}

/// Returns the settings of all Gateways. Reports an error for a target that does not exist, and for a second policy of
/// one target.
pub(crate) fn client_policies<'a>(objects: &ObjectIndex<'a>, errors: &mut ReferenceErrors) -> ClientPolicies<'a> {
    let root = FieldPathRef::ROOT;
    let spec = root.field("spec");
    let list = spec.field("targetRefs");
    let mut policies = ClientPolicies::default();
    for (document, id, policy) in objects.client_traffic_policies() {
        let mut apply = |target: PolicyTarget, at: &FieldPathRef<'_>, noun: &str, errors: &mut ReferenceErrors| {
            let applied = AppliedPolicy { id, options: &policy.options };
            if let Some(other) = policies.by_target.insert(target, applied).filter(|other| other.id != id) {
                let reason = format!("{noun} has {} already", quoted(&other.id.to_string()));
                errors.add(document, at, reason, "put both into one policy");
            }
        };
        let Some(targets) = &policy.targets else {
            apply(PolicyTarget::Mesh, &spec, "the mesh", errors);
            continue;
        };
        for (index, target) in targets.iter().enumerate() {
            let at = list.entry(index);
            let gateway_document = match objects.find(Kind::Gateway, &id.namespace, &target.gateway) {
                Lookup::Document(index) => index,
                Lookup::Unknown => continue,
                Lookup::Missing => {
                    let (reason, hint) = objects.missing(Kind::Gateway, &id.namespace, &target.gateway);
                    errors.add(document, &at.field("name"), reason, hint);
                    continue;
                }
            };
            let Some(Resource::Gateway(gateway)) = &objects.document(gateway_document).resource else { continue };
            match &target.section {
                None => {
                    let noun = format!("Gateway {}", quoted(&target.gateway));
                    apply(PolicyTarget::Gateway(gateway_document), &at, &noun, errors);
                }
                Some(section) => {
                    let Some(port) = section_port(gateway, section, document, &at, errors) else { continue };
                    let noun = format!("port {port} of Gateway {}", quoted(&target.gateway));
                    apply(PolicyTarget::Port(gateway_document, port), &at, &noun, errors);
                }
            }
        }
    }
    policies
}

/// Returns the port of a listener.
fn section_port(
    gateway: &Gateway,
    section: &str,
    document: usize,
    at: &FieldPathRef<'_>,
    errors: &mut ReferenceErrors,
) -> Option<u16> {
    let at = at.field("sectionName");
    match gateway.listeners.iter().find(|listener| *listener.name == *section) {
        Some(listener) if listener.protocol == ListenerProtocol::Tcp => {
            let reason = format!("listener {} is not for HTTP", quoted(section));
            errors.add(document, &at, reason, "name an HTTP or HTTPS listener");
            None
        }
        Some(listener) => Some(listener.port),
        None => {
            let names = gateway.listeners.iter().map(|listener| &*listener.name);
            let reason = format!("the Gateway has no listener {}", quoted(section));
            errors.add(document, &at, reason, hint(section, names, "its listeners are"));
            None
        }
    }
}
