//! Decodes the TLS of listeners, and secrets: mutual TLS of the mesh, and HTTPS with certificates from SDS. A transport
//! socket is accepted only when it equals, field by field, the one that `encode` makes for the same values.

use std::sync::Arc;

use prost::Message;
use weir_model::{
    CertificateWithKey, HostCertificate, HostMatch, Rejection, ResourceId, ResourceKind, Secret, SecretContent,
    SecretName, SecretString,
};

use super::decode_resource;
use super::field_cursor::FieldCursor;
use crate::client_type::ClientType;
use crate::encode;
use crate::proto::{core, listener as pb_listener, tls as pb};

const HINT: &str = "use mutual TLS with the secrets `default` and `ROOTCA` by ADS, as `weir-control` does; \
                    or TLS 1.3 with one secret by ADS";

/// The TLS of one filter chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ChainTls {
    Plain,
    Mesh,
    Https(HostCertificate),
}

/// Decodes the TLS of a filter chain and its filter chain match.
pub(super) fn downstream(
    chain_match: Option<pb_listener::FilterChainMatch>,
    socket: Option<core::TransportSocket>,
    cursor: &FieldCursor<'_>,
) -> Option<ChainTls> {
    // An empty match matches every connection.
    let chain_match = chain_match.filter(|chain_match| *chain_match != pb_listener::FilterChainMatch::default());
    let Some(socket) = socket else {
        return match chain_match {
            None => Some(ChainTls::Plain),
            Some(_) => cursor.field("filter_chain_match").reject_value("is not supported", "leave it out, or use TLS"),
        };
    };
    if socket == encode::mesh_tls(&encode::identity_source(ClientType::Weir)) && chain_match.is_none() {
        return Some(ChainTls::Mesh);
    }
    let host = match chain_match.as_ref().map(|chain_match| chain_match.server_names.as_slice()) {
        None => HostMatch::Any,
        Some([name]) => match name.strip_prefix('*') {
            Some(suffix) if suffix.starts_with('.') => HostMatch::Suffix(suffix.into()),
            _ => HostMatch::Exact(name.as_str().into()),
        },
        Some(_) => {
            return cursor.field("filter_chain_match").reject_value("is not one server name", "give each a chain");
        }
    };
    let certificate = secret_of(&socket).map(|secret| HostCertificate { host, secret });
    let is_ours =
        |host: &HostCertificate| socket == encode::https(host) && chain_match == encode::server_name(&host.host);
    match certificate.filter(is_ours) {
        Some(certificate) => Some(ChainTls::Https(certificate)),
        None => cursor.field("transport_socket").reject_value("is not supported", HINT),
    }
}

/// Returns the name of the first SDS certificate; `None` without one.
fn secret_of(socket: &core::TransportSocket) -> Option<SecretName> {
    let core::transport_socket::ConfigType::TypedConfig(context) = socket.config_type.as_ref()?;
    let context = pb::DownstreamTlsContext::decode(&*context.value).ok()?.common_tls_context?;
    SecretName::new(&context.tls_certificate_sds_secret_configs.into_iter().next()?.name).ok()
}

/// Decodes a `Secret` that is a certificate with its key, or CA certificates; all inline.
pub(crate) fn secret(name: &str, bytes: &[u8]) -> Result<Secret, Vec<Rejection>> {
    let resource = ResourceId { kind: ResourceKind::Secret, name: name.to_owned() };
    decode_resource(&resource, bytes, |message: pb::Secret, cursor| {
        let name = cursor.field("name").checked(SecretName::new(&message.name))?;
        let content = match message.r#type {
            Some(pb::secret::Type::TlsCertificate(certificate)) => certificate_with_key(certificate, cursor)?,
            Some(pb::secret::Type::ValidationContext(context)) => authorities(context, cursor)?,
            Some(pb::secret::Type::SessionTicketKeys(_) | pb::secret::Type::GenericSecret(_)) | None => {
                return cursor.reject_value("is no certificate", "give a certificate with its key, or CA certificates");
            }
        };
        Some(Secret { name, content })
    })
}

fn certificate_with_key(certificate: pb::TlsCertificate, cursor: &FieldCursor<'_>) -> Option<SecretContent> {
    let (chain, key) = (inline(&certificate.certificate_chain), inline(&certificate.private_key));
    let rest = pb::TlsCertificate { certificate_chain: None, private_key: None, ..certificate };
    match (chain, key) {
        (Some(certificates), Some(key)) if rest == pb::TlsCertificate::default() => {
            Some(SecretContent::Certificate(CertificateWithKey { certificates, key: SecretString(key) }))
        }
        _ => {
            let hint = "give a certificate chain and a private key, inline, as PEM";
            cursor.field("tls_certificate").reject_value("is not supported", hint)
        }
    }
}

fn authorities(context: pb::CertificateValidationContext, cursor: &FieldCursor<'_>) -> Option<SecretContent> {
    let authorities = inline(&context.trusted_ca);
    let rest = pb::CertificateValidationContext { trusted_ca: None, ..context };
    match authorities {
        Some(authorities) if rest == pb::CertificateValidationContext::default() => {
            Some(SecretContent::Authorities { authorities })
        }
        _ => {
            let hint = "give `trusted_ca` alone, inline, as PEM; the names of certificates are in the cluster";
            cursor.field("validation_context").reject_value("is not supported", hint)
        }
    }
}

fn inline(source: &Option<core::DataSource>) -> Option<Arc<str>> {
    match source.as_ref()?.specifier.as_ref()? {
        core::data_source::Specifier::InlineString(text) => Some(Arc::from(text.as_str())),
        core::data_source::Specifier::InlineBytes(bytes) => std::str::from_utf8(bytes).ok().map(Arc::from),
        core::data_source::Specifier::Filename(_) | core::data_source::Specifier::EnvironmentVariable(_) => None,
    }
}
