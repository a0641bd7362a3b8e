//! TLS as Envoy has it. Of the mesh: certificate and roots come by names that the proxy resolves to its own identity
//! (Envoy: by SDS). The same names as Istio's, so that agents for it fit.

use weir_model::{HostCertificate, HostMatch, Secret, UpstreamTls};

use super::{by_ads, by_cluster, truth};
use crate::audience::Audience;
use crate::proto::tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
use crate::proto::{Any, TlsInspector, core, listener as pb_listener, matcher, pack, tls as pb};

/// Envoy's name of the transport socket.
const TLS_SOCKET: &str = "envoy.transport_sockets.tls";
/// What the proxy's own certificate is called.
const OWN_CERTIFICATE: &str = "default";
/// What the roots of its trust domain are called.
const ROOTS: &str = "ROOTCA";
/// The cluster by which an Envoy reaches whoever has its identity: a `weir-proxy agent` beside it.
const IDENTITY_CLUSTER: &str = "weir_identity";
/// What listeners speak, best first.
const HTTP: [&str; 2] = ["h2", "http/1.1"];

/// Where a proxy gets its own identity. One of ours has it, and takes the names for that; keys go to nobody by ADS. An Envoy
/// asks the agent beside it.
pub(crate) fn identity_of(audience: &Audience) -> core::ConfigSource {
    match audience {
        Audience::Weir => by_ads(),
        Audience::Envoy { .. } => by_cluster(IDENTITY_CLUSTER),
    }
}

/// An identity as an agent gives it to the Envoy beside it, each secret by its name: certificate with its key, and roots,
/// all PEM.
pub fn own_secrets(certificates: &str, key: &str, roots: &str) -> [(&'static str, Any); 2] {
    let roots = pb::CertificateValidationContext {
        trusted_ca: Some(inline(roots)),
        ..pb::CertificateValidationContext::default()
    };
    let roots = pb::Secret { name: ROOTS.to_owned(), r#type: Some(pb::secret::Type::ValidationContext(roots)) };
    [(OWN_CERTIFICATE, pack(&certificate(OWN_CERTIFICATE, certificates, key))), (ROOTS, pack(&roots))]
}

/// Mutual TLS: what a listener of the mesh asks of those that connect.
pub(crate) fn mesh(identity: &core::ConfigSource) -> core::TransportSocket {
    socket(pack(&pb::DownstreamTlsContext {
        common_tls_context: Some(common(Vec::new(), &HTTP, identity)),
        require_client_certificate: Some(truth(true)),
        ..pb::DownstreamTlsContext::default()
    }))
}

/// What is shown to those that ask for a host.
pub(crate) fn https(certificate: &HostCertificate) -> core::TransportSocket {
    let secret = pb::SdsSecretConfig { name: certificate.secret.to_string(), sds_config: Some(by_ads()) };
    let common = pb::CommonTlsContext {
        tls_params: Some(version()),
        tls_certificate_sds_secret_configs: vec![secret],
        alpn_protocols: HTTP.map(str::to_owned).to_vec(),
        ..pb::CommonTlsContext::default()
    };
    socket(pack(&pb::DownstreamTlsContext { common_tls_context: Some(common), ..pb::DownstreamTlsContext::default() }))
}

/// Which connections a host's certificate is for.
pub(crate) fn server_name(host: &HostMatch) -> Option<pb_listener::FilterChainMatch> {
    let name = match host {
        HostMatch::Any => return None,
        HostMatch::Exact(name) => name.to_string(),
        HostMatch::Suffix(suffix) => format!("*{suffix}"),
    };
    Some(pb_listener::FilterChainMatch { server_names: vec![name], ..pb_listener::FilterChainMatch::default() })
}

/// Reads the name that is asked for before a filter chain is chosen.
pub(crate) fn inspector() -> pb_listener::ListenerFilter {
    pb_listener::ListenerFilter {
        name: "envoy.filters.listener.tls_inspector".to_owned(),
        config_type: Some(pb_listener::listener_filter::ConfigType::TypedConfig(pack(&TlsInspector::default()))),
        ..pb_listener::ListenerFilter::default()
    }
}

/// A certificate with its key.
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

/// What a cluster's endpoints are asked: a URI of the workload's path, signed by the proxy's own trust domain.
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
        tls_params: Some(version()),
        tls_certificate_sds_secret_configs: vec![secret(OWN_CERTIFICATE)],
        alpn_protocols: protocols.iter().map(|protocol| (*protocol).to_owned()).collect(),
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(combined)),
        ..pb::CommonTlsContext::default()
    }
}

/// TLS 1.3 and no other.
fn version() -> pb::TlsParameters {
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
