//! `ReferenceGrant`, which lets one namespace refer to another's objects, and `GatewayClass`.

use gateway_api::gatewayclasses::GatewayClassSpec;
use gateway_api::referencegrants::{ReferenceGrantFrom, ReferenceGrantSpec, ReferenceGrantTo};

use crate::document::{Faults, Path};
use crate::suggest::quoted;
use crate::written::{GATEWAY_GROUP, Kind, WEIR_GROUP};

/// Who may refer to the Services of the grant's namespace.
#[derive(Debug)]
pub(crate) struct ReferenceGrant {
    /// Kinds of routes, and namespaces, that may.
    pub(crate) from: Vec<(Kind, String)>,
    /// The Services they may refer to; `None` = all.
    pub(crate) services: Vec<Option<String>>,
}

/// A class of Gateways.
#[derive(Debug)]
pub(crate) struct GatewayClass {
    /// Who makes them real.
    pub(crate) controller: String,
}

/// Checks the fields of a ReferenceGrant. Only what can be used is accepted: routes to Services.
pub(crate) fn check(spec: ReferenceGrantSpec, path: &Path<'_>, faults: &mut Faults) -> ReferenceGrant {
    let ReferenceGrantSpec { from, to } = spec;
    let at = path.field("from");
    let mut granted = Vec::new();
    for (index, ReferenceGrantFrom { group, kind, namespace }) in from.into_iter().enumerate() {
        let known = [Kind::HttpRoute, Kind::TcpRoute].into_iter().find(|known| kind == known.name());
        match known.filter(|_| group == GATEWAY_GROUP) {
            Some(kind) => granted.push((kind, namespace)),
            None => {
                let reason = format!("{} refers to nothing across namespaces", quoted(&format!("{group}/{kind}")));
                let hint = format!("write `group: {GATEWAY_GROUP}` and `kind: HTTPRoute` or `kind: TCPRoute`");
                faults.add(&at.entry(index), reason, hint);
            }
        }
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
    ReferenceGrant { from: granted, services }
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
