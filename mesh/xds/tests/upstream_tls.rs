//! TLS of clusters from third-party control planes: what is applied, and the rejection of every other field.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
use envoy_types::pb::google::protobuf;
use prost::Name;
use tls::common_tls_context::{CombinedCertificateValidationContext, ValidationContextType};
use weir_model::{ServerTls, ServerTrust, SubjectAltName, TlsVersion};
use weir_xds::proto::Any;
use weir_xds::{ResourceCache, ResourceType};

fn pack<M: Name>(message: &M) -> Any {
    let type_url = format!("type.googleapis.com/{}.{}", M::PACKAGE, M::NAME);
    Any { type_url, value: message.encode_to_vec() }
}

fn ads() -> Option<core::ConfigSource> {
    let ads = core::config_source::ConfigSourceSpecifier::Ads(core::AggregatedConfigSource {});
    Some(core::ConfigSource { config_source_specifier: Some(ads), ..core::ConfigSource::default() })
}

fn by_ads(name: &str) -> tls::SdsSecretConfig {
    tls::SdsSecretConfig { name: name.to_owned(), sds_config: ads() }
}

fn san(
    kind: tls::subject_alt_name_matcher::SanType,
    pattern: matcher::string_matcher::MatchPattern,
) -> tls::SubjectAltNameMatcher {
    let matcher = matcher::StringMatcher { match_pattern: Some(pattern), ..matcher::StringMatcher::default() };
    tls::SubjectAltNameMatcher {
        san_type: kind as i32,
        matcher: Some(matcher),
        ..tls::SubjectAltNameMatcher::default()
    }
}

fn exact(text: &str) -> matcher::string_matcher::MatchPattern {
    matcher::string_matcher::MatchPattern::Exact(text.to_owned())
}

/// The parts of a context that tests change.
struct Parts {
    context: tls::UpstreamTlsContext,
    common: tls::CommonTlsContext,
    validation: tls::CertificateValidationContext,
    secret: Option<tls::SdsSecretConfig>,
}

impl Parts {
    fn good() -> Self {
        let params = tls::TlsParameters {
            tls_maximum_protocol_version: tls::tls_parameters::TlsProtocol::TlSv13 as i32,
            ..tls::TlsParameters::default()
        };
        Self {
            context: tls::UpstreamTlsContext { sni: "a.example".to_owned(), ..tls::UpstreamTlsContext::default() },
            common: tls::CommonTlsContext { tls_params: Some(params), ..tls::CommonTlsContext::default() },
            validation: tls::CertificateValidationContext {
                match_typed_subject_alt_names: vec![san(
                    tls::subject_alt_name_matcher::SanType::Dns,
                    exact("b.example"),
                )],
                ..tls::CertificateValidationContext::default()
            },
            secret: Some(by_ads("ca")),
        }
    }

    fn cluster(self) -> cluster::Cluster {
        let Self { context, mut common, validation, secret } = self;
        common.validation_context_type = Some(match secret {
            Some(secret) => ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
                default_validation_context: Some(validation),
                validation_context_sds_secret_config: Some(secret),
                ..CombinedCertificateValidationContext::default()
            }),
            None => ValidationContextType::ValidationContext(validation),
        });
        let context = tls::UpstreamTlsContext { common_tls_context: Some(common), ..context };
        let socket = core::TransportSocket {
            name: "tls".to_owned(),
            config_type: Some(core::transport_socket::ConfigType::TypedConfig(pack(&context))),
        };
        cluster::Cluster { name: "x".to_owned(), transport_socket: Some(socket), ..cluster::Cluster::default() }
    }
}

fn rejections(change: impl FnOnce(&mut Parts)) -> Vec<String> {
    let mut parts = Parts::good();
    change(&mut parts);
    match ResourceCache::default().upsert(ResourceType::Cluster, "x", &pack(&parts.cluster())) {
        Ok(()) => Vec::new(),
        Err(rejections) => rejections.iter().map(|one| format!("{}: {}", one.field, one.reason)).collect(),
    }
}

/// Returns the decoded TLS of a cluster whose secrets are there.
fn decoded(change: impl FnOnce(&mut Parts)) -> Option<ServerTls> {
    let (mut parts, mut cache) = (Parts::good(), ResourceCache::default());
    change(&mut parts);
    cache.upsert(ResourceType::Cluster, "x", &pack(&parts.cluster())).unwrap();
    let inline = |text: &str| {
        let specifier = Some(core::data_source::Specifier::InlineString(text.to_owned()));
        Some(core::DataSource { specifier, ..core::DataSource::default() })
    };
    let ca = tls::CertificateValidationContext {
        trusted_ca: inline("a certificate"),
        ..tls::CertificateValidationContext::default()
    };
    let certificate = tls::TlsCertificate {
        certificate_chain: inline("a certificate"),
        private_key: inline("a key"),
        ..tls::TlsCertificate::default()
    };
    for (name, content) in
        [("ca", tls::secret::Type::ValidationContext(ca)), ("me", tls::secret::Type::TlsCertificate(certificate))]
    {
        let secret = tls::Secret { name: name.to_owned(), r#type: Some(content) };
        cache.upsert(ResourceType::Secret, name, &pack(&secret)).unwrap();
    }
    let snapshot = cache.snapshot().unwrap();
    let cluster = snapshot.clusters.values().next().unwrap();
    cluster.tls.as_ref().and_then(|tls| tls.server()).cloned()
}

#[test]
fn third_party_contexts_are_decoded() {
    let good = decoded(|_| {}).unwrap();
    assert_eq!(good.sni.as_deref(), Some("a.example"));
    assert_eq!(good.names, [SubjectAltName::Dns("b.example".into())]);
    assert!(matches!(&good.trust, ServerTrust::Secret(name) if name.as_str() == "ca"));
    assert_eq!((good.min_version, good.max_version), (TlsVersion::V1_2, TlsVersion::V1_3));
    let auto = decoded(|parts| parts.context.auto_sni_san_validation = true).unwrap();
    assert_eq!(auto.names, [SubjectAltName::Dns("a.example".into())]);
    let default = decoded(|parts| parts.common.tls_params = None).unwrap();
    assert_eq!(default.max_version, TlsVersion::V1_2, "Envoy's default for clients");
    let without_sni = decoded(|parts| parts.context.sni.clear()).unwrap();
    assert_eq!(without_sni.sni, None);
    let system = decoded(|parts| {
        parts.secret = None;
        parts.validation.system_root_certs = Some(tls::certificate_validation_context::SystemRootCerts {});
    });
    assert_eq!(system.unwrap().trust, ServerTrust::System);
    let mutual = decoded(|parts| parts.common.tls_certificate_sds_secret_configs = vec![by_ads("me")]);
    assert_eq!(mutual.unwrap().client_certificate.unwrap().as_str(), "me");
    assert_eq!(rejections(|parts| parts.common.alpn_protocols = vec!["http/1.1".to_owned()]), Vec::<String>::new());
}

#[test]
fn cluster_without_its_secrets_has_no_endpoints_and_no_plaintext() {
    let mut cache = ResourceCache::default();
    cache.upsert(ResourceType::Cluster, "x", &pack(&Parts::good().cluster())).unwrap();
    assert_eq!(cache.unresolved(), [(ResourceType::Secret, "ca".to_owned())]);
    assert!(cache.prune_and_list_required(ResourceType::Secret).contains("ca"));
    cache.remove(ResourceType::Secret, "ca");
    let snapshot = cache.snapshot().unwrap();
    let cluster = snapshot.clusters.values().next().unwrap();
    assert!(matches!(&cluster.discovery, weir_model::Discovery::Static(endpoints) if endpoints.is_empty()));
}

/// A change of a context, and the rejection that it causes.
type Row = (fn(&mut Parts), &'static str);

const ROWS: [Row; 22] = [
    (|parts| parts.context.auto_host_sni = true, "auto_host_sni: is not supported"),
    (|parts| parts.context.allow_renegotiation = true, "allow_renegotiation: is not supported"),
    (
        |parts| parts.context.max_session_keys = Some(protobuf::UInt32Value { value: 0 }),
        "max_session_keys: is not supported",
    ),
    (
        |parts| {
            parts.context.auto_sni_san_validation = true;
            parts.context.sni.clear();
        },
        "auto_sni_san_validation: needs `sni`",
    ),
    (
        |parts| parts.common.alpn_protocols = vec!["h2".to_owned()],
        "common_tls_context.alpn_protocols: is not the protocol of the cluster",
    ),
    (
        |parts| parts.common.tls_certificates = vec![tls::TlsCertificate::default()],
        "common_tls_context.tls_certificates: is not supported",
    ),
    (|parts| parts.common.key_log = Some(tls::TlsKeyLog::default()), "common_tls_context.key_log: is not supported"),
    (
        |parts| parts.common.tls_certificate_sds_secret_configs = vec![by_ads("a"), by_ads("b")],
        "common_tls_context.tls_certificate_sds_secret_configs: has several certificates",
    ),
    (
        |parts| {
            parts.common.tls_certificate_sds_secret_configs =
                vec![tls::SdsSecretConfig { name: "a".to_owned(), sds_config: None }];
        },
        "common_tls_context.tls_certificate_sds_secret_configs[0].sds_config: is missing",
    ),
    (
        |parts| parts.common.tls_params.as_mut().unwrap().cipher_suites = vec!["A".to_owned()],
        "common_tls_context.tls_params.cipher_suites: is not supported",
    ),
    (
        |parts| parts.common.tls_params.as_mut().unwrap().ecdh_curves = vec!["A".to_owned()],
        "common_tls_context.tls_params.ecdh_curves: is not supported",
    ),
    (
        |parts| {
            parts.common.tls_params.as_mut().unwrap().tls_minimum_protocol_version =
                tls::tls_parameters::TlsProtocol::TlSv10 as i32;
        },
        "common_tls_context.tls_params.tls_minimum_protocol_version: is not supported",
    ),
    (
        |parts| {
            let params = parts.common.tls_params.as_mut().unwrap();
            params.tls_minimum_protocol_version = tls::tls_parameters::TlsProtocol::TlSv13 as i32;
            params.tls_maximum_protocol_version = 0;
        },
        "common_tls_context.tls_params.tls_maximum_protocol_version: is below the lowest version",
    ),
    (|parts| parts.validation.match_typed_subject_alt_names.clear(), "common_tls_context: has no name to verify"),
    (|parts| parts.secret = None, "common_tls_context.validation_context.trusted_ca: is missing"),
    (
        |parts| {
            parts.validation.match_typed_subject_alt_names[0].san_type =
                tls::subject_alt_name_matcher::SanType::Email as i32;
        },
        "common_tls_context.combined_validation_context.default_validation_context.match_typed_subject_alt_names[0].san_type: is not supported",
    ),
    (
        |parts| {
            let prefix = matcher::string_matcher::MatchPattern::Prefix("a".to_owned());
            parts.validation.match_typed_subject_alt_names =
                vec![san(tls::subject_alt_name_matcher::SanType::Dns, prefix)];
        },
        "common_tls_context.combined_validation_context.default_validation_context.match_typed_subject_alt_names[0].matcher: is not supported",
    ),
    (
        |parts| parts.validation.allow_expired_certificate = true,
        "common_tls_context.combined_validation_context.default_validation_context.allow_expired_certificate: is not supported",
    ),
    (
        |parts| parts.validation.trust_chain_verification = 1,
        "common_tls_context.combined_validation_context.default_validation_context.trust_chain_verification: is not supported",
    ),
    (
        |parts| parts.validation.verify_certificate_hash = vec!["a".to_owned()],
        "common_tls_context.combined_validation_context.default_validation_context.verify_certificate_hash: is not supported",
    ),
    (
        |parts| parts.validation.crl = Some(core::DataSource::default()),
        "common_tls_context.combined_validation_context.default_validation_context.crl: is not supported",
    ),
    (
        |parts| parts.validation.max_verify_depth = Some(protobuf::UInt32Value { value: 1 }),
        "common_tls_context.combined_validation_context.default_validation_context.max_verify_depth: is not supported",
    ),
];

#[test]
fn fields_that_are_not_applied_are_rejected_by_path() {
    assert_eq!(rejections(|_| {}), Vec::<String>::new());
    for (change, expected) in ROWS {
        assert_eq!(rejections(change), [format!("transport_socket.typed_config.{expected}")]);
    }
    let file = |parts: &mut Parts| {
        parts.secret = None;
        let specifier = Some(core::data_source::Specifier::Filename("/tmp/ca.pem".to_owned()));
        parts.validation.trusted_ca = Some(core::DataSource { specifier, ..core::DataSource::default() });
    };
    let at = "transport_socket.typed_config.common_tls_context.validation_context.trusted_ca";
    assert_eq!(rejections(file), [format!("{at}: is not supported")]);
}
