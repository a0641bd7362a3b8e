//! Encodes TLS contexts. Mutual TLS of the mesh names two secrets, `default` and `ROOTCA`, which each proxy resolves to
//! its own workload identity (Envoy by SDS). They are Istio's names, so Istio's SDS agents work, too.

use weir_model::{HostCertificate, HostMatch, Secret, UpstreamTls};

use super::{ads_config_source, bool_value, cluster_config_source};
use crate::client_type::ClientType;
use crate::proto::tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
use crate::proto::{Any, TlsInspector, core, listener as pb_listener, matcher, pack, tls as pb};

/// Envoy's name of the transport socket.
const TLS_SOCKET: &str = "envoy.transport_sockets.tls";
/// The name of the secret with the proxy's workload certificate.
const OWN_CERTIFICATE: &str = "default";
/// The name of the secret with the trust bundle.
const ROOTS: &str = "ROOTCA";
/// The bootstrap cluster of the SDS agent (`weir-proxy agent`) that serves an Envoy's identity.
const IDENTITY_CLUSTER: &str = "weir_identity";
/// ALPN protocols of HTTP listeners, in order of preference.
const HTTP: [&str; 2] = ["h2", "http/1.1"];

/// The config source of a proxy's workload identity. `weir-proxy` resolves the names itself; Envoy fetches the secrets
/// from its SDS agent. ADS never carries the private key of a workload.
pub(crate) fn identity_source(client_type: ClientType) -> core::ConfigSource {
    match client_type {
        ClientType::Weir => ads_config_source(),
        ClientType::Envoy | ClientType::Grpc => cluster_config_source(IDENTITY_CLUSTER),
    }
}

/// Encodes a workload identity as the two secrets that an SDS agent serves, with their names. All parameters are PEM:
/// certificate chain, private key, and trust bundle.
pub fn workload_secrets(certificates: &str, key: &str, roots: &str) -> [(&'static str, Any); 2] {
    let roots = pb::CertificateValidationContext {
        trusted_ca: Some(inline(roots)),
        ..pb::CertificateValidationContext::default()
    };
    let roots = pb::Secret { name: ROOTS.to_owned(), r#type: Some(pb::secret::Type::ValidationContext(roots)) };
    [(OWN_CERTIFICATE, pack(&certificate(OWN_CERTIFICATE, certificates, key))), (ROOTS, pack(&roots))]
}

/// The transport socket of a mesh listener: mutual TLS with the workload identity.
pub(crate) fn mesh(identity: &core::ConfigSource) -> core::TransportSocket {
    socket(pack(&pb::DownstreamTlsContext {
        common_tls_context: Some(common(Vec::new(), &HTTP, identity)),
        require_client_certificate: Some(bool_value(true)),
        ..pb::DownstreamTlsContext::default()
    }))
}

/// The transport socket of an HTTPS filter chain: TLS with one certificate from SDS.
pub(crate) fn https(certificate: &HostCertificate) -> core::TransportSocket {
    let secret = pb::SdsSecretConfig { name: certificate.secret.to_string(), sds_config: Some(ads_config_source()) };
    let common = pb::CommonTlsContext {
        tls_params: Some(tls13()),
        tls_certificate_sds_secret_configs: vec![secret],
        alpn_protocols: HTTP.map(str::to_owned).to_vec(),
        ..pb::CommonTlsContext::default()
    };
    socket(pack(&pb::DownstreamTlsContext { common_tls_context: Some(common), ..pb::DownstreamTlsContext::default() }))
}

/// The filter chain match of a certificate: SNI equals the host. `None` when it serves every host.
pub(crate) fn server_name(host: &HostMatch) -> Option<pb_listener::FilterChainMatch> {
    let name = match host {
        HostMatch::Any => return None,
        HostMatch::Exact(name) => name.to_string(),
        HostMatch::Suffix(suffix) => format!("*{suffix}"),
    };
    Some(pb_listener::FilterChainMatch { server_names: vec![name], ..pb_listener::FilterChainMatch::default() })
}

/// The listener filter that reads SNI before a filter chain is chosen.
pub(crate) fn inspector() -> pb_listener::ListenerFilter {
    pb_listener::ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        config_type: Some(pb_listener::listener_filter::ConfigType::TypedConfig(pack(&TlsInspector::default()))),
        ..pb_listener::ListenerFilter::default()
    }
}

/// Encodes the certificate and private key of an HTTPS listener.
pub(crate) fn secret(secret: &Secret) -> pb::Secret {
    certificate(secret.name.as_str(), &secret.certificates, &secret.key.0)
}

fn certificate(name: &str, chain: &str, key: &str) -> pb::Secret {
    let certificate = pb::TlsCertificate {
        certificate_chain: Some(inline(chain)),
        private_key: Some(inline(key)),
        ..pb::TlsCertificate::default()
    };
    pb::Secret { name: name.to_owned(), r#type: Some(pb::secret::Type::TlsCertificate(certificate)) }
}

fn inline(text: &str) -> core::DataSource {
    core::DataSource {
        specifier: Some(core::data_source::Specifier::InlineString(text.to_owned())),
        ..core::DataSource::default()
    }
}

/// The transport socket of a mesh cluster: mutual TLS with an endpoint whose SPIFFE ID ends with the workload's path.
pub(crate) fn upstream(tls: &UpstreamTls, identity: &core::ConfigSource) -> core::TransportSocket {
    let pattern = matcher::string_matcher::MatchPattern::Suffix(tls.workload.as_str().to_owned());
    let name = pb::SubjectAltNameMatcher {
        san_type: pb::subject_alt_name_matcher::SanType::Uri as i32,
        matcher: Some(matcher::StringMatcher { match_pattern: Some(pattern), ..matcher::StringMatcher::default() }),
        ..pb::SubjectAltNameMatcher::default()
    };
    socket(pack(&pb::UpstreamTlsContext {
        common_tls_context: Some(common(vec![name], &[], identity)),
        ..pb::UpstreamTlsContext::default()
    }))
}

fn common(
    names: Vec<pb::SubjectAltNameMatcher>,
    protocols: &[&str],
    identity: &core::ConfigSource,
) -> pb::CommonTlsContext {
    let secret = |name: &str| pb::SdsSecretConfig { name: name.to_owned(), sds_config: Some(identity.clone()) };
    let combined = CombinedCertificateValidationContext {
        default_validation_context: Some(pb::CertificateValidationContext {
            match_typed_subject_alt_names: names,
            ..pb::CertificateValidationContext::default()
        }),
        validation_context_sds_secret_config: Some(secret(ROOTS)),
        ..CombinedCertificateValidationContext::default()
    };
    pb::CommonTlsContext {
        tls_params: Some(tls13()),
        tls_certificate_sds_secret_configs: vec![secret(OWN_CERTIFICATE)],
        alpn_protocols: protocols.iter().map(|protocol| (*protocol).to_owned()).collect(),
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(combined)),
        ..pb::CommonTlsContext::default()
    }
}

/// Parameters that allow TLS 1.3 only.
fn tls13() -> pb::TlsParameters {
    let version = pb::tls_parameters::TlsProtocol::TlSv13 as i32;
    pb::TlsParameters {
        tls_minimum_protocol_version: version,
        tls_maximum_protocol_version: version,
        ..pb::TlsParameters::default()
    }
}

fn socket(context: Any) -> core::TransportSocket {
    core::TransportSocket {
        name: TLS_SOCKET.to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(context)),
    }
}
