//! Encodes TLS contexts. Mutual TLS of the mesh names two secrets, `default` and `ROOTCA`, which each proxy resolves to
//! its own workload identity (Envoy by SDS). They are Istio's names, so Istio's SDS agents work, too.

use weir_model::{
    CertificateWithKey, HostCertificate, HostMatch, Secret, SecretContent, ServerTls, ServerTrust, SubjectAltName,
    TlsVersion, UpstreamTls, Workload,
};

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
/// The file with the CAs of a machine that Envoy reads, which is that of Debian and its descendants. `weir-proxy` uses
/// the CAs of its machine in its place.
pub(crate) const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";
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
    let roots = authorities(ROOTS, roots);
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
    let common = pb::CommonTlsContext {
        tls_params: Some(tls13()),
        tls_certificate_sds_secret_configs: vec![ads_secret(certificate.secret.as_str())],
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

/// Encodes a secret: a certificate with its private key, or CA certificates.
pub(crate) fn secret(secret: &Secret) -> pb::Secret {
    let name = secret.name.as_str();
    match &secret.content {
        SecretContent::Certificate(CertificateWithKey { certificates, key }) => certificate(name, certificates, &key.0),
        SecretContent::Authorities { authorities: text } => authorities(name, text),
    }
}

fn authorities(name: &str, text: &str) -> pb::Secret {
    let context = pb::CertificateValidationContext {
        trusted_ca: Some(inline(text)),
        ..pb::CertificateValidationContext::default()
    };
    pb::Secret { name: name.to_owned(), r#type: Some(pb::secret::Type::ValidationContext(context)) }
}

fn ads_secret(name: &str) -> pb::SdsSecretConfig {
    pb::SdsSecretConfig { name: name.to_owned(), sds_config: Some(ads_config_source()) }
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

/// The transport socket of a cluster with TLS.
pub(crate) fn upstream(tls: &UpstreamTls, client_type: ClientType) -> core::TransportSocket {
    match tls {
        UpstreamTls::Mesh { workload } => upstream_mesh(workload, &identity_source(client_type)),
        UpstreamTls::Server(server) => upstream_server(server),
    }
}

/// The transport socket of a cluster of servers outside the mesh. It has no ALPN protocols: Envoy, too, then uses that of
/// the cluster's HTTP version, and none for TCP.
fn upstream_server(tls: &ServerTls) -> core::TransportSocket {
    let exact = |name: &str| matcher::string_matcher::MatchPattern::Exact(name.to_owned());
    let name = |name: &SubjectAltName| match name {
        SubjectAltName::Dns(name) => subject_alt_name(pb::subject_alt_name_matcher::SanType::Dns, exact(name)),
        SubjectAltName::Uri(uri) => subject_alt_name(pb::subject_alt_name_matcher::SanType::Uri, exact(uri)),
    };
    let names = tls.names.iter().map(name).collect();
    let context = pb::CertificateValidationContext {
        match_typed_subject_alt_names: names,
        ..pb::CertificateValidationContext::default()
    };
    let validation = match &tls.trust {
        ServerTrust::System => {
            let file = core::data_source::Specifier::Filename(SYSTEM_ROOTS.to_owned());
            let trusted_ca = Some(core::DataSource { specifier: Some(file), ..core::DataSource::default() });
            ValidationContextType::ValidationContext(pb::CertificateValidationContext { trusted_ca, ..context })
        }
        ServerTrust::Secret(secret) => {
            ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
                default_validation_context: Some(context),
                validation_context_sds_secret_config: Some(ads_secret(secret.as_str())),
                ..CombinedCertificateValidationContext::default()
            })
        }
    };
    let common = pb::CommonTlsContext {
        tls_params: Some(pb::TlsParameters {
            tls_minimum_protocol_version: version(tls.min_version),
            tls_maximum_protocol_version: version(tls.max_version),
            ..pb::TlsParameters::default()
        }),
        tls_certificate_sds_secret_configs: tls
            .client_certificate
            .iter()
            .map(|name| ads_secret(name.as_str()))
            .collect(),
        validation_context_type: Some(validation),
        ..pb::CommonTlsContext::default()
    };
    socket(pack(&pb::UpstreamTlsContext {
        common_tls_context: Some(common),
        sni: tls.sni.as_deref().unwrap_or_default().to_owned(),
        ..pb::UpstreamTlsContext::default()
    }))
}

fn version(version: TlsVersion) -> i32 {
    match version {
        TlsVersion::V1_2 => pb::tls_parameters::TlsProtocol::TlSv12 as i32,
        TlsVersion::V1_3 => pb::tls_parameters::TlsProtocol::TlSv13 as i32,
    }
}

fn subject_alt_name(
    kind: pb::subject_alt_name_matcher::SanType,
    pattern: matcher::string_matcher::MatchPattern,
) -> pb::SubjectAltNameMatcher {
    pb::SubjectAltNameMatcher {
        san_type: kind as i32,
        matcher: Some(matcher::StringMatcher { match_pattern: Some(pattern), ..matcher::StringMatcher::default() }),
        ..pb::SubjectAltNameMatcher::default()
    }
}

/// The transport socket of a mesh cluster: mutual TLS with an endpoint whose SPIFFE ID ends with the workload's path.
fn upstream_mesh(workload: &Workload, identity: &core::ConfigSource) -> core::TransportSocket {
    let pattern = matcher::string_matcher::MatchPattern::Suffix(workload.as_str().to_owned());
    let name = subject_alt_name(pb::subject_alt_name_matcher::SanType::Uri, pattern);
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
