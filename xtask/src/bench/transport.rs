//! The protocols on both sides of a proxy, and what they add to the configuration of each proxy.
//!
//! | | to the proxy | to the origin |
//! |---|---|---|
//! | `Plain` | HTTP/1.1 | HTTP/1.1 |
//! | `UpstreamTls` | HTTP/1.1 | HTTP/1.1 over TLS 1.3, the origin's certificate verified |
//! | `UpstreamMutualTls` | HTTP/1.1 | the same, with a client certificate |
//! | `Http2` | HTTP/2 | HTTP/2 |
//! | `Grpc` | HTTP/2 | HTTP/2, with trailers |
//! | `WebSocket` | HTTP/1.1, then a tunnel | HTTP/1.1, then a tunnel |

use super::certificates::{Certificates, TLS_HOST};

/// The protocols on both sides of a proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Plain,
    UpstreamTls,
    UpstreamMutualTls,
    Http2,
    Grpc,
    WebSocket,
}

impl Transport {
    /// Returns true for HTTP/2 on both sides.
    pub(super) fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc)
    }

    fn is_tls(self) -> bool {
        matches!(self, Self::UpstreamTls | Self::UpstreamMutualTls)
    }

    /// Returns the values that fill the configurations. They may contain `{CA}`, `{CLIENT}` (a certificate),
    /// `{CLIENT_KEY}`, and `{CLIENT_PEM}` (both in one file).
    pub(super) fn values(self, certificates: &Certificates) -> Vec<(&'static str, String)> {
        let mut values = vec![
            ("LISTEN_OPTIONS", if self.is_http2() { " http2" } else { "" }.to_owned()),
            ("NGINX_PASS", self.nginx_pass()),
            ("SERVER_OPTIONS", self.haproxy_server()),
            ("MANAGER_OPTIONS", self.envoy_manager().to_owned()),
            ("CLUSTER_OPTIONS", self.envoy_cluster()),
            ("PROTOCOL", if self.is_http2() { "HTTP2" } else { "HTTP" }.to_owned()),
            ("GATEWAY_TLS", self.weir_gateway().to_owned()),
            ("POLICY", self.weir_policy(certificates)),
        ];
        values.extend(certificates.values());
        values
    }

    fn nginx_pass(self) -> String {
        let tls = format!(
            "proxy_ssl_verify on; proxy_ssl_trusted_certificate {{CA}}; proxy_ssl_server_name on; proxy_ssl_name \
             {TLS_HOST}; proxy_ssl_protocols TLSv1.3;"
        );
        match self {
            Self::Plain => "proxy_pass http://origin; proxy_set_header Connection \"\";".to_owned(),
            Self::UpstreamTls => format!("proxy_pass https://origin; proxy_set_header Connection \"\"; {tls}"),
            Self::UpstreamMutualTls => format!(
                "proxy_pass https://origin; proxy_set_header Connection \"\"; {tls} proxy_ssl_certificate {{CLIENT}}; \
                 proxy_ssl_certificate_key {{CLIENT_KEY}};"
            ),
            Self::Http2 | Self::Grpc => "grpc_pass grpc://origin;".to_owned(),
            Self::WebSocket => "proxy_pass http://origin; proxy_set_header Upgrade $http_upgrade; proxy_set_header \
                                Connection upgrade;"
                .to_owned(),
        }
    }

    fn haproxy_server(self) -> String {
        let tls =
            format!(" ssl verify required ca-file {{CA}} sni str({TLS_HOST}) verifyhost {TLS_HOST} alpn http/1.1");
        match self {
            Self::Plain | Self::WebSocket => String::new(),
            Self::UpstreamTls => tls,
            Self::UpstreamMutualTls => format!("{tls} crt {{CLIENT_PEM}}"),
            Self::Http2 | Self::Grpc => " proto h2".to_owned(),
        }
    }

    fn envoy_manager(self) -> &'static str {
        if self == Self::WebSocket { "upgrade_configs: [{upgrade_type: websocket}]" } else { "" }
    }

    fn envoy_cluster(self) -> String {
        const TYPE: &str = "\"@type\": type.googleapis.com/envoy.extensions";
        if self.is_http2() {
            return format!(
                "typed_extension_protocol_options: {{envoy.extensions.upstreams.http.v3.HttpProtocolOptions: \
                 {{{TYPE}.upstreams.http.v3.HttpProtocolOptions, explicit_http_config: {{http2_protocol_options: {{}}}}}}}}"
            );
        }
        if !self.is_tls() {
            return String::new();
        }
        let certificate = match self {
            Self::UpstreamMutualTls => {
                "tls_certificates: [{certificate_chain: {filename: {CLIENT}}, private_key: {filename: {CLIENT_KEY}}}], "
            }
            _ => "",
        };
        format!(
            "transport_socket: {{name: tls, typed_config: {{{TYPE}.transport_sockets.tls.v3.UpstreamTlsContext, sni: \
             {TLS_HOST}, common_tls_context: {{{certificate}tls_params: {{tls_maximum_protocol_version: TLSv1_3}}, \
             validation_context: {{trusted_ca: {{filename: {{CA}}}}, match_typed_subject_alt_names: [{{san_type: DNS, \
             matcher: {{exact: {TLS_HOST}}}}}]}}}}}}}}"
        )
    }

    fn weir_gateway(self) -> &'static str {
        if self == Self::UpstreamMutualTls { "tls: {backend: {clientCertificateRef: {name: client}}}" } else { "" }
    }

    /// Returns the BackendTLSPolicy, its ConfigMap, and the Secret of the client.
    fn weir_policy(self, pem: &Certificates) -> String {
        if !self.is_tls() {
            return String::new();
        }
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let policy = format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{name: origin, namespace: \
             bench}}\nspec: {{targetRefs: [{{group: '', kind: Service, name: origin}}], validation: {{hostname: \
             {TLS_HOST}, caCertificateRefs: [{{group: '', kind: ConfigMap, name: ca}}]}}}}\n---\napiVersion: v1\nkind: \
             ConfigMap\nmetadata: {{name: ca, namespace: bench}}\ndata: {{ca.crt: {}}}\n",
            quoted(&pem.authority)
        );
        if self != Self::UpstreamMutualTls {
            return policy;
        }
        format!(
            "{policy}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: client, namespace: bench}}\ntype: \
             kubernetes.io/tls\nstringData: {{tls.crt: {}, tls.key: {}}}\n",
            quoted(&pem.client),
            quoted(&pem.client_key)
        )
    }
}
