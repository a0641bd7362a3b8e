//! Decodes the TLS of clusters: mutual TLS of the mesh, which must equal what `encode` makes, and TLS with servers that a
//! CA has signed, from any control plane.

use prost::Message;
use weir_model::{
    SecretName, ServerTls, ServerTrust, SubjectAltName, TlsVersion, UpstreamProtocol, UpstreamTls, Workload,
};

use super::field_cursor::{FieldCursor, unsupported};
use super::value::config_source;
use crate::client_type::ClientType;
use crate::encode;
use crate::proto::tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
use crate::proto::{self, core, matcher, tls as pb};

/// Decodes the transport socket of a cluster; `None` for plaintext, and after a rejection.
pub(super) fn upstream(
    socket: Option<core::TransportSocket>,
    protocol: UpstreamProtocol,
    cursor: &FieldCursor<'_>,
) -> Option<UpstreamTls> {
    let Some(socket) = socket else {
        if protocol == UpstreamProtocol::Auto {
            cursor.reject("is missing: `auto_config` selects the protocol by TLS", "use `explicit_http_config`");
        }
        return None;
    };
    let mesh = mesh_path(&socket).and_then(|path| Some(UpstreamTls::Mesh { workload: Workload::new(&path).ok()? }));
    if let Some(mesh) = mesh.filter(|tls| socket == encode::upstream_tls(tls, ClientType::Weir)) {
        if protocol == UpstreamProtocol::Auto {
            cursor.reject("is mutual TLS of the mesh, which selects no protocol", "use `explicit_http_config`");
        }
        return Some(mesh);
    }
    let core::TransportSocket { name: _, config_type } = socket; // The type URL decides.
    let cursor = cursor.field("typed_config");
    let core::transport_socket::ConfigType::TypedConfig(config) = cursor.required(config_type)?;
    if config.type_url != proto::type_url::<pb::UpstreamTlsContext>() {
        return cursor.reject_value("is not supported", "use an UpstreamTlsContext, or leave it out for plaintext");
    }
    let context = cursor.checked(pb::UpstreamTlsContext::decode(&*config.value))?;
    server(context, protocol, &cursor).map(UpstreamTls::Server)
}

/// Returns the path with which the endpoint's SPIFFE ID must end.
fn mesh_path(socket: &core::TransportSocket) -> Option<String> {
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

fn server(context: pb::UpstreamTlsContext, protocol: UpstreamProtocol, cursor: &FieldCursor<'_>) -> Option<ServerTls> {
    let pb::UpstreamTlsContext {
        common_tls_context,
        sni,
        auto_host_sni,
        auto_sni_san_validation,
        allow_renegotiation,
        max_session_keys,
        enforce_rsa_key_usage: _, // Envoy ignores it, too.
    } = context;
    unsupported!(cursor; auto_host_sni, allow_renegotiation, max_session_keys);
    let sni = (!sni.is_empty()).then(|| sni.into());
    let common = cursor.field("common_tls_context");
    let pb::CommonTlsContext {
        tls_params,
        tls_certificates,
        tls_certificate_sds_secret_configs,
        tls_certificate_provider_instance,
        custom_tls_certificate_selector,
        tls_certificate_certificate_provider,
        tls_certificate_certificate_provider_instance,
        alpn_protocols,
        custom_handshaker,
        key_log,
        validation_context_type,
    } = common.required(common_tls_context)?;
    unsupported!(common; tls_certificates, tls_certificate_provider_instance, custom_tls_certificate_selector,
        tls_certificate_certificate_provider, tls_certificate_certificate_provider_instance, custom_handshaker, key_log);
    check_alpn(&alpn_protocols, protocol, &common.field("alpn_protocols"));
    let versions = versions(tls_params.unwrap_or_default(), &common.field("tls_params"));
    let certificates = tls_certificate_sds_secret_configs;
    let client_certificate = client_certificate(certificates, &common.field("tls_certificate_sds_secret_configs"));
    let validation = validation(validation_context_type, &common)?;
    let names = match (auto_sni_san_validation, &sni) {
        (false, _) => validation.names,
        (true, Some(sni)) => vec![SubjectAltName::Dns(std::sync::Arc::clone(sni))],
        (true, None) => return cursor.field("auto_sni_san_validation").reject_value("needs `sni`", "set `sni`"),
    };
    if names.is_empty() {
        let hint = "add `match_typed_subject_alt_names`, or `auto_sni_san_validation`: a certificate of any name would \
                    be accepted";
        return common.reject_value("has no name to verify", hint);
    }
    let (min_version, max_version) = versions?;
    Some(ServerTls {
        sni,
        trust: validation.trust,
        names,
        client_certificate: client_certificate?.0,
        min_version,
        max_version,
    })
}

/// Checks that ALPN is that of the cluster's HTTP version, which the proxy uses without this field, too.
fn check_alpn(protocols: &[String], protocol: UpstreamProtocol, cursor: &FieldCursor<'_>) {
    let own: &[&str] = match protocol {
        UpstreamProtocol::Http1 => &["http/1.1"],
        UpstreamProtocol::Http2 => &["h2"],
        UpstreamProtocol::Auto => &["h2", "http/1.1"],
    };
    if !protocols.is_empty() && protocols != own {
        cursor.reject("is not the protocol of the cluster", &format!("leave it out, or write {own:?}"));
    }
}

/// Returns the lowest and the highest version.
fn versions(params: pb::TlsParameters, cursor: &FieldCursor<'_>) -> Option<(TlsVersion, TlsVersion)> {
    let pb::TlsParameters {
        tls_minimum_protocol_version,
        tls_maximum_protocol_version,
        cipher_suites,
        ecdh_curves,
        signature_algorithms,
        compliance_policies,
    } = params;
    unsupported!(cursor; cipher_suites, ecdh_curves, signature_algorithms, compliance_policies);
    let version = |number: i32, field: &str| match pb::tls_parameters::TlsProtocol::try_from(number) {
        // Envoy's default for clients, as the lowest and as the highest version.
        Ok(pb::tls_parameters::TlsProtocol::TlsAuto | pb::tls_parameters::TlsProtocol::TlSv12) => {
            Some(TlsVersion::V1_2)
        }
        Ok(pb::tls_parameters::TlsProtocol::TlSv13) => Some(TlsVersion::V1_3),
        _ => cursor.field(field).reject_value("is not supported", "use TLSv1_2 or TLSv1_3"),
    };
    let min = version(tls_minimum_protocol_version, "tls_minimum_protocol_version");
    let max = version(tls_maximum_protocol_version, "tls_maximum_protocol_version");
    let versions = min.zip(max)?;
    if versions.0 > versions.1 {
        let hint = "raise it to at least `tls_minimum_protocol_version`; Envoy's default is TLSv1_2";
        return cursor.field("tls_maximum_protocol_version").reject_value("is below the lowest version", hint);
    }
    Some(versions)
}

/// A client certificate, or none.
struct ClientCertificate(Option<SecretName>);

fn client_certificate(secrets: Vec<pb::SdsSecretConfig>, cursor: &FieldCursor<'_>) -> Option<ClientCertificate> {
    let mut secrets = secrets.into_iter();
    match (secrets.next(), secrets.next()) {
        (None, _) => Some(ClientCertificate(None)),
        (Some(secret), None) => Some(ClientCertificate(Some(sds_secret(secret, &cursor.entry(0))?))),
        (Some(_), Some(_)) => cursor.reject_value("has several certificates", "give one"),
    }
}

fn sds_secret(secret: pb::SdsSecretConfig, cursor: &FieldCursor<'_>) -> Option<SecretName> {
    let pb::SdsSecretConfig { name, sds_config } = secret;
    config_source(sds_config, &cursor.field("sds_config"))?;
    cursor.field("name").checked(SecretName::new(&name))
}

/// The CAs and names of a server's certificate.
struct Validation {
    trust: ServerTrust,
    names: Vec<SubjectAltName>,
}

fn validation(kind: Option<ValidationContextType>, common: &FieldCursor<'_>) -> Option<Validation> {
    match kind {
        Some(ValidationContextType::ValidationContext(context)) => {
            let cursor = common.field("validation_context");
            let context = validation_context(context, &cursor)?;
            let Some(trust) = context.trust else {
                return cursor
                    .field("trusted_ca")
                    .reject_value("is missing", "a certificate of any CA would be accepted");
            };
            Some(Validation { trust, names: context.names })
        }
        Some(ValidationContextType::ValidationContextSdsSecretConfig(secret)) => {
            let secret = sds_secret(secret, &common.field("validation_context_sds_secret_config"))?;
            Some(Validation { trust: ServerTrust::Secret(secret), names: Vec::new() })
        }
        Some(ValidationContextType::CombinedValidationContext(combined)) => {
            let cursor = common.field("combined_validation_context");
            let CombinedCertificateValidationContext {
                default_validation_context,
                validation_context_sds_secret_config,
                validation_context_certificate_provider,
                validation_context_certificate_provider_instance,
            } = combined;
            unsupported!(cursor; validation_context_certificate_provider,
                validation_context_certificate_provider_instance);
            let default = default_validation_context.unwrap_or_default();
            let context = validation_context(default, &cursor.field("default_validation_context"))?;
            let at = cursor.field("validation_context_sds_secret_config");
            let secret = sds_secret(at.required(validation_context_sds_secret_config)?, &at)?;
            if context.trust.is_some() {
                let at = cursor.field("default_validation_context").field("trusted_ca");
                return at.reject_value("is not supported beside a secret", "leave it out: the secret replaces it");
            }
            Some(Validation { trust: ServerTrust::Secret(secret), names: context.names })
        }
        Some(
            ValidationContextType::ValidationContextCertificateProvider(_)
            | ValidationContextType::ValidationContextCertificateProviderInstance(_),
        ) => common.reject_value("has CAs of a certificate provider", "give the CAs as a secret by ADS"),
        None => {
            let hint = "add `combined_validation_context`: a certificate of any CA would be accepted";
            common.reject_value("has no validation context", hint)
        }
    }
}

/// The supported parts of a `CertificateValidationContext`.
struct ValidationContext {
    /// `None` without `trusted_ca`.
    trust: Option<ServerTrust>,
    names: Vec<SubjectAltName>,
}

fn validation_context(
    context: pb::CertificateValidationContext,
    cursor: &FieldCursor<'_>,
) -> Option<ValidationContext> {
    let pb::CertificateValidationContext {
        trusted_ca,
        ca_certificate_provider_instance,
        system_root_certs,
        watched_directory,
        verify_certificate_spki,
        verify_certificate_hash,
        match_typed_subject_alt_names,
        match_subject_alt_names,
        require_signed_certificate_timestamp,
        crl,
        allow_expired_certificate,
        trust_chain_verification,
        custom_validator_config,
        only_verify_leaf_cert_crl,
        max_verify_depth,
        suppress_client_ca_list: _, // For servers.
    } = context;
    unsupported!(cursor; ca_certificate_provider_instance, watched_directory, verify_certificate_spki,
        verify_certificate_hash, match_subject_alt_names, require_signed_certificate_timestamp, crl,
        allow_expired_certificate, trust_chain_verification, custom_validator_config, only_verify_leaf_cert_crl,
        max_verify_depth);
    let trust = match (trusted_ca, system_root_certs) {
        (None, None) => None,
        (None, Some(_)) => Some(ServerTrust::System),
        (Some(source), _) => match source.specifier {
            Some(core::data_source::Specifier::Filename(path)) if path == encode::SYSTEM_ROOTS => {
                Some(ServerTrust::System)
            }
            _ => {
                let hint = format!("give the CAs as a secret by ADS, or write `filename: {}`", encode::SYSTEM_ROOTS);
                return cursor.field("trusted_ca").reject_value("is not supported", &hint);
            }
        },
    };
    let list = cursor.field("match_typed_subject_alt_names");
    let names: Vec<_> = match_typed_subject_alt_names.into_iter().enumerate().collect();
    let names: Vec<_> = names.into_iter().map(|(index, name)| subject_alt_name(name, &list.entry(index))).collect();
    Some(ValidationContext { trust, names: names.into_iter().collect::<Option<_>>()? })
}

fn subject_alt_name(name: pb::SubjectAltNameMatcher, cursor: &FieldCursor<'_>) -> Option<SubjectAltName> {
    let pb::SubjectAltNameMatcher { san_type, matcher: pattern, oid } = name;
    unsupported!(cursor; oid);
    let at = cursor.field("matcher");
    let matcher::StringMatcher { ignore_case, match_pattern } = at.required(pattern)?;
    unsupported!(at; ignore_case);
    let Some(matcher::string_matcher::MatchPattern::Exact(text)) = match_pattern else {
        return at.reject_value("is not supported", "use `exact`");
    };
    match pb::subject_alt_name_matcher::SanType::try_from(san_type) {
        Ok(pb::subject_alt_name_matcher::SanType::Dns) => Some(SubjectAltName::Dns(text.into())),
        Ok(pb::subject_alt_name_matcher::SanType::Uri) => Some(SubjectAltName::Uri(text.into())),
        _ => cursor.field("san_type").reject_value("is not supported", "use DNS or URI"),
    }
}
