//! Mutual TLS of the mesh, and no other: what is sent must be what we send, to the last field.

use prost::Message;
use weir_model::{DownstreamTls, UpstreamTls, Workload};

use super::fault::Spot;
use crate::encode;
use crate::proto::tls::common_tls_context::ValidationContextType;
use crate::proto::{core, matcher, tls as pb};

const HINT: &str = "use mutual TLS with the secrets `default` and `ROOTCA` by ADS, as `weir-control` does";

/// What a listener asks of those that connect.
pub(super) fn downstream(socket: Option<core::TransportSocket>, spot: &Spot<'_>) -> Option<DownstreamTls> {
    let socket = socket?;
    if socket != encode::downstream_tls(&DownstreamTls::Mesh) {
        spot.refuse("is not the mesh's own TLS", HINT);
    }
    Some(DownstreamTls::Mesh)
}

/// What a cluster's endpoints are asked.
pub(super) fn upstream(socket: Option<core::TransportSocket>, spot: &Spot<'_>) -> Option<UpstreamTls> {
    let socket = socket?;
    let tls = path(&socket).and_then(|path| Some(UpstreamTls { workload: Workload::new(&path).ok()? }));
    match tls.filter(|tls| socket == encode::upstream_tls(tls)) {
        Some(tls) => Some(tls),
        None => spot.none("is not the mesh's own TLS", HINT),
    }
}

/// The path that the endpoints' URI must end with.
fn path(socket: &core::TransportSocket) -> Option<String> {
    let core::transport_socket::ConfigType::TypedConfig(context) = socket.config_type.as_ref()?;
    let context = pb::UpstreamTlsContext::decode(&*context.value).ok()?;
    let Some(ValidationContextType::CombinedValidationContext(combined)) =
        context.common_tls_context?.validation_context_type
    else {
        return None;
    };
    let names = combined.default_validation_context?.match_typed_subject_alt_names;
    match names.into_iter().next()?.matcher?.match_pattern? {
        matcher::string_matcher::MatchPattern::Suffix(path) => Some(path),
        _ => None,
    }
}
