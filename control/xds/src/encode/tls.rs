//! Mutual TLS of the mesh, as Envoy has it: certificate and roots come by names that the proxy resolves to its own identity
//! (Envoy: by SDS). The same names as Istio's, so that agents for it fit.

use weir_model::{DownstreamTls, UpstreamTls};

use super::{by_ads, truth};
use crate::proto::tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
use crate::proto::{core, matcher, pack, tls as pb};

/// Envoy's name of the transport socket.
const TLS_SOCKET: &str = "envoy.transport_sockets.tls";
/// What the proxy's own certificate is called.
const OWN_CERTIFICATE: &str = "default";
/// What the roots of its trust domain are called.
const ROOTS: &str = "ROOTCA";

/// What a listener asks of those that connect.
pub(crate) fn downstream(tls: &DownstreamTls) -> core::TransportSocket {
    let DownstreamTls::Mesh = tls;
    socket(pack(&pb::DownstreamTlsContext {
        common_tls_context: Some(common(Vec::new(), &["h2", "http/1.1"])),
        require_client_certificate: Some(truth(true)),
        ..pb::DownstreamTlsContext::default()
    }))
}

/// What a cluster's endpoints are asked: a URI of the workload's path, signed by the proxy's own trust domain.
pub(crate) fn upstream(tls: &UpstreamTls) -> core::TransportSocket {
    let pattern = matcher::string_matcher::MatchPattern::Suffix(tls.workload.as_str().to_owned());
    let name = pb::SubjectAltNameMatcher {
        san_type: pb::subject_alt_name_matcher::SanType::Uri as i32,
        matcher: Some(matcher::StringMatcher { match_pattern: Some(pattern), ..matcher::StringMatcher::default() }),
        ..pb::SubjectAltNameMatcher::default()
    };
    socket(pack(&pb::UpstreamTlsContext {
        common_tls_context: Some(common(vec![name], &[])),
        ..pb::UpstreamTlsContext::default()
    }))
}

fn common(names: Vec<pb::SubjectAltNameMatcher>, protocols: &[&str]) -> pb::CommonTlsContext {
    let version = pb::tls_parameters::TlsProtocol::TlSv13 as i32;
    let secret = |name: &str| pb::SdsSecretConfig { name: name.to_owned(), sds_config: Some(by_ads()) };
    let combined = CombinedCertificateValidationContext {
        default_validation_context: Some(pb::CertificateValidationContext {
            match_typed_subject_alt_names: names,
            ..pb::CertificateValidationContext::default()
        }),
        validation_context_sds_secret_config: Some(secret(ROOTS)),
        ..CombinedCertificateValidationContext::default()
    };
    pb::CommonTlsContext {
        tls_params: Some(pb::TlsParameters {
            tls_minimum_protocol_version: version,
            tls_maximum_protocol_version: version,
            ..pb::TlsParameters::default()
        }),
        tls_certificate_sds_secret_configs: vec![secret(OWN_CERTIFICATE)],
        alpn_protocols: protocols.iter().map(|protocol| (*protocol).to_owned()).collect(),
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(combined)),
        ..pb::CommonTlsContext::default()
    }
}

fn socket(context: crate::proto::Any) -> core::TransportSocket {
    core::TransportSocket {
        name: TLS_SOCKET.to_owned(),
        config_type: Some(core::transport_socket::ConfigType::TypedConfig(context)),
    }
}
