//! `ReferenceGrant`, which lets one namespace refer to another's objects, and `GatewayClass`.

use gateway_api::gatewayclasses::GatewayClassSpec;
use gateway_api::referencegrants::{ReferenceGrantFrom, ReferenceGrantSpec, ReferenceGrantTo};

use crate::document::{Faults, Path};
use crate::suggest::quoted;
use crate::written::{GATEWAY_GROUP, Kind, WEIR_GROUP};

/// Who may refer to the Services of the grant's namespace.
#[derive(Debug)]
pub(crate) struct ReferenceGrant {
    /// Namespaces whose HTTPRoutes may.
    pub(crate) from_namespaces: Vec<String>,
    /// The Services they may refer to; `None` = all.
    pub(crate) services: Vec<Option<String>>,
}

/// A class of Gateways.
#[derive(Debug)]
pub(crate) struct GatewayClass {
    /// Who makes them real.
    pub(crate) controller: String,
}

/// Checks the fields of a ReferenceGrant. Only what can be used is accepted: HTTPRoute to Service.
pub(crate) fn check(spec: ReferenceGrantSpec, path: &Path<'_>, faults: &mut Faults) -> ReferenceGrant {
    let ReferenceGrantSpec { from, to } = spec;
    let at = path.field("from");
    let mut from_namespaces = Vec::new();
    for (index, ReferenceGrantFrom { group, kind, namespace }) in from.into_iter().enumerate() {
        if group != GATEWAY_GROUP || kind != Kind::HttpRoute.name() {
            let reason = format!("{} refers to nothing across namespaces", quoted(&format!("{group}/{kind}")));
            let hint = format!("write `group: {GATEWAY_GROUP}` and `kind: HTTPRoute`");
            faults.add(&at.entry(index), reason, hint);
        }
        from_namespaces.push(namespace);
    }
    let at = path.field("to");
    let mut services = Vec::new();
    for (index, ReferenceGrantTo { group, kind, name }) in to.into_iter().enumerate() {
        if !is_service(&group, &kind) {
            let reason = format!("{} is referred to by nothing across namespaces", quoted(&format!("{group}/{kind}")));
            faults.add(&at.entry(index), reason, format!("write `group: {WEIR_GROUP}` and `kind: Service`"));
        }
        services.push(name);
    }
    ReferenceGrant { from_namespaces, services }
}

/// Checks the fields of a GatewayClass.
pub(crate) fn check_class(spec: GatewayClassSpec) -> GatewayClass {
    let GatewayClassSpec { controller_name, description: _, parameters_ref: _ } = spec;
    GatewayClass { controller: controller_name }
}

/// True for a core Service too, which means the same.
pub(crate) fn is_service(group: &str, kind: &str) -> bool {
    kind == Kind::Service.name() && (group.is_empty() || group == WEIR_GROUP)
}
