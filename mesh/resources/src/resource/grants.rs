//! `ReferenceGrant`, which permits references to objects of another namespace, and `GatewayClass`.

use gateway_api::gatewayclasses::GatewayClassSpec;
use gateway_api::referencegrants::{ReferenceGrantFrom, ReferenceGrantSpec, ReferenceGrantTo};

use crate::resource::service_ref::{SERVICE_ENTRY, is_service, renamed_service_hint};
use crate::spec::{GATEWAY_GROUP, Kind, WEIR_GROUP};
use crate::suggest::quoted;
use crate::yaml::{FieldErrors, FieldPathRef};

/// A validated ReferenceGrant.
#[derive(Debug)]
pub(crate) struct ReferenceGrant {
    /// The kinds and namespaces of the routes that may refer.
    pub(crate) from: Vec<(Kind, String)>,
    /// The Services that they may refer to; `None` for all.
    pub(crate) services: Vec<Option<String>>,
}

/// A validated GatewayClass.
#[derive(Debug)]
pub(crate) struct GatewayClass {
    /// The controller.
    pub(crate) controller: String,
}

/// Kinds of the Gateway API that may refer to objects of other namespaces. A grant for one that the proxy does not have
/// grants nothing here.
const REFERRING_KINDS: [&str; 6] = ["Gateway", "HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute", "UDPRoute"];

/// Validates a ReferenceGrant. Only references from routes to Services have an effect: a mesh has grants for other
/// implementations, too, which this one ignores (GEP-709).
///
/// # Errors
/// A kind that its own group does not have.
pub(crate) fn check(spec: ReferenceGrantSpec, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> ReferenceGrant {
    let ReferenceGrantSpec { from, to } = spec;
    let at = path.field("from");
    let mut granted = Vec::new();
    for (index, ReferenceGrantFrom { group, kind, namespace }) in from.into_iter().enumerate() {
        let known = [Kind::HttpRoute, Kind::GrpcRoute, Kind::TcpRoute].into_iter().find(|known| kind == known.name());
        match known.filter(|_| group == GATEWAY_GROUP) {
            Some(kind) => granted.push((kind, namespace)),
            None if group == GATEWAY_GROUP && !REFERRING_KINDS.contains(&kind.as_str()) => {
                let reason = format!("{} cannot refer across namespaces", quoted(&format!("{group}/{kind}")));
                errors.add(&at.entry(index), reason, "write `kind: HTTPRoute`, `kind: GRPCRoute` or `kind: TCPRoute`");
            }
            None => {}
        }
    }
    let at = path.field("to");
    let mut services = Vec::new();
    for (index, ReferenceGrantTo { group, kind, name }) in to.into_iter().enumerate() {
        if let Some(hint) = renamed_service_hint(&group, &kind) {
            errors.add(&at.entry(index), format!("no kind {} in group `{WEIR_GROUP}`", quoted(&kind)), hint);
        } else if is_service(&group, &kind) {
            services.push(name);
        } else if group == WEIR_GROUP {
            let reason = format!("{} cannot be referred to across namespaces", quoted(&format!("{group}/{kind}")));
            errors.add(&at.entry(index), reason, format!("write `kind: {SERVICE_ENTRY}`"));
        }
    }
    ReferenceGrant { from: granted, services }
}

/// Validates a GatewayClass.
pub(crate) fn check_class(spec: GatewayClassSpec) -> GatewayClass {
    let GatewayClassSpec { controller_name, description: _, parameters_ref: _ } = spec;
    GatewayClass { controller: controller_name }
}
