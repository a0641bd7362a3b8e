//! Mutual TLS of the mesh, and HTTPS with certificates by name: what is sent must be what we send, to the last field.

use std::sync::Arc;

use prost::Message;
use weir_model::{
    HostCertificate, HostMatch, Rejection, ResourceId, ResourceKind, Secret, SecretName, SecretText, UpstreamTls,
    Workload,
};

use super::fault::Spot;
use super::whole;
use crate::audience::Audience;
use crate::encode;
use crate::proto::tls::common_tls_context::ValidationContextType;
use crate::proto::{core, listener as pb_listener, matcher, tls as pb};

const HINT: &str = "use mutual TLS with the secrets `default` and `ROOTCA` by ADS, as `weir-control` does; or TLS 1.3 with one \
                    secret by ADS";

/// What the connections of one filter chain get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ChainTls {
    Plain,
    Mesh,
    Https(HostCertificate),
}

/// What the connections of a filter chain get, and which they are.
pub(super) fn downstream(
    asked: Option<pb_listener::FilterChainMatch>,
    socket: Option<core::TransportSocket>,
    spot: &Spot<'_>,
) -> Option<ChainTls> {
    // A match that asks for nothing matches everything.
    let asked = asked.filter(|asked| *asked != pb_listener::FilterChainMatch::default());
    let Some(socket) = socket else {
        return match asked {
            None => Some(ChainTls::Plain),
            Some(_) => spot.field("filter_chain_match").none("is not supported", "leave it out, or use TLS"),
        };
    };
    if socket == encode::mesh_tls(&encode::identity_of(&Audience::Weir)) && asked.is_none() {
        return Some(ChainTls::Mesh);
    }
    let host = match asked.as_ref().map(|asked| asked.server_names.as_slice()) {
        None => HostMatch::Any,
        Some([name]) => match name.strip_prefix('*') {
            Some(suffix) if suffix.starts_with('.') => HostMatch::Suffix(suffix.into()),
            _ => HostMatch::Exact(name.as_str().into()),
        },
        Some(_) => return spot.field("filter_chain_match").none("is not one server name", "give each a chain"),
    };
    let certificate = secret_of(&socket).map(|secret| HostCertificate { host, secret });
    let is_ours = |it: &HostCertificate| socket == encode::https(it) && asked == encode::server_name(&it.host);
    match certificate.filter(is_ours) {
        Some(certificate) => Some(ChainTls::Https(certificate)),
        None => spot.field("transport_socket").none("is not supported", HINT),
    }
}

/// The only certificate of a chain.
fn secret_of(socket: &core::TransportSocket) -> Option<SecretName> {
    let core::transport_socket::ConfigType::TypedConfig(context) = socket.config_type.as_ref()?;
    let context = pb::DownstreamTlsContext::decode(&*context.value).ok()?.common_tls_context?;
    SecretName::new(&context.tls_certificate_sds_secret_configs.into_iter().next()?.name).ok()
}

/// Decodes a `Secret` that is a certificate with its key, both inline.
pub(crate) fn secret(name: &str, bytes: &[u8]) -> Result<Secret, Vec<Rejection>> {
    let resource = ResourceId { kind: ResourceKind::Secret, name: name.to_owned() };
    whole(&resource, bytes, |message: pb::Secret, spot| {
        let name = spot.field("name").checked(SecretName::new(&message.name))?;
        let inline = |source: &Option<core::DataSource>| match source.as_ref()?.specifier.as_ref()? {
            core::data_source::Specifier::InlineString(text) => Some(Arc::<str>::from(text.as_str())),
            core::data_source::Specifier::InlineBytes(bytes) => std::str::from_utf8(bytes).ok().map(Arc::from),
            _ => None,
        };
        let hint = "give a certificate chain and a private key, inline, as PEM";
        let Some(pb::secret::Type::TlsCertificate(certificate)) = message.r#type else {
            return spot.none("is no certificate", hint);
        };
        let (chain, key) = (inline(&certificate.certificate_chain), inline(&certificate.private_key));
        let rest = pb::TlsCertificate { certificate_chain: None, private_key: None, ..certificate };
        match (chain, key) {
            (Some(certificates), Some(key)) if rest == pb::TlsCertificate::default() => {
                Some(Secret { name, certificates, key: SecretText(key) })
            }
            _ => spot.field("tls_certificate").none("is not supported", hint),
        }
    })
}

/// What a cluster's endpoints are asked.
pub(super) fn upstream(socket: Option<core::TransportSocket>, spot: &Spot<'_>) -> Option<UpstreamTls> {
    let socket = socket?;
    let tls = path(&socket).and_then(|path| Some(UpstreamTls { workload: Workload::new(&path).ok()? }));
    match tls.filter(|tls| socket == encode::upstream_tls(tls, &encode::identity_of(&Audience::Weir))) {
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
