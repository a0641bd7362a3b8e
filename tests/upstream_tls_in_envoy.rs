//! The control plane drives a `weir-proxy` and a real Envoy with BackendTLSPolicies: both serve the same.

use harness::{
    Authority, CertificateRequest, Client, ControlPlane, Envoy, Nginx, Resources, config_map, free_address,
    own_address, wait_until,
};

use crate::{HOST, policy, policy_with, server};

/// A Service with TLS, and the status of the responses through it.
struct Case {
    name: &'static str,
    directives: String,
    certificate: harness::Issued,
    policy: String,
    protocol: &'static str,
    status: u16,
}

impl Case {
    fn new(name: &'static str, certificate: harness::Issued, status: u16) -> Self {
        let (directives, policy) = (String::new(), policy(name, HOST, ""));
        Self { name, directives, certificate, policy, protocol: "HTTP", status }
    }
}

fn cases(ca: &Authority, other: &Authority) -> Vec<Case> {
    let uris = &["spiffe://mesh.example/ns/a/sa/b"];
    let with_uri = || ca.issue(&CertificateRequest { hosts: &["own.example"], uris, ..CertificateRequest::default() });
    let names = |uri: &str| format!(", subjectAltNames: [{{type: URI, uri: '{uri}'}}]");
    let expired = ca.issue(&CertificateRequest { hosts: &[HOST], is_expired: true, ..CertificateRequest::default() });
    let verify = format!("ssl_verify_client on; ssl_client_certificate {};", ca.file().display());
    let system = format!("hostname: {HOST}, wellKnownCACertificates: System");
    vec![
        Case::new("plain-name", ca.for_host(HOST), 200),
        Case::new("wildcard", ca.for_host("*.shop.example"), 200),
        Case::new("wrong-name", ca.for_host("else.example"), 503),
        Case::new("expired", expired, 503),
        Case::new("unknown", other.for_host(HOST), 503),
        Case { policy: policy("uri", HOST, &names(uris[0])), ..Case::new("uri", with_uri(), 200) },
        Case {
            policy: policy("other-uri", HOST, &names("spiffe://mesh.example/x")),
            ..Case::new("other-uri", with_uri(), 503)
        },
        Case { directives: verify, ..Case::new("client", ca.for_host(HOST), 200) },
        Case { protocol: "HTTP2", ..Case::new("http2", ca.for_host(HOST), 200) },
        Case { protocol: "", ..Case::new("alpn", ca.for_host(HOST), 200) },
        Case { policy: policy_with("system", &system, ""), ..Case::new("system", ca.for_host(HOST), 503) },
    ]
}

#[tokio::test]
async fn envoy_and_proxy_accept_and_reject_the_same_servers() {
    // Their files exist as long as they do.
    let (ca, other, edge) = (Authority::new("ca"), Authority::new("other"), free_address());
    let cases = cases(&ca, &other);
    let (mut servers, mut addresses) = (String::new(), Vec::new());
    let gateway = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec: {{gatewayClassName: \
         weir, tls: {{backend: {{clientCertificateRef: {{name: me}}}}}}, listeners: [{{name: http, port: {}, protocol: \
         HTTP}}]}}\n",
        edge.port()
    );
    let mut resources = Resources::empty().yaml(&gateway).yaml(&ca.for_host("client.example").secret("me"));
    resources = resources.yaml(&config_map("ca", &ca.certificate));
    for Case { name, directives, certificate, policy, protocol, status: _ } in &cases {
        let address = own_address();
        let http2 = if *protocol == "HTTP" { " ssl;" } else { " ssl http2;" };
        servers.push_str(&server(address, certificate, directives).replace(" ssl;", http2));
        addresses.push(address);
        resources = match *protocol {
            "HTTP2" => resources.http2_service(name, &[address]),
            "" => resources.service_without_protocol(name, &[address]),
            _ => resources.service(name, &[address]),
        };
        let rule =
            format!("rules: [{{matches: [{{path: {{value: /{name}}}}}], backendRefs: [{{name: {name}, port: 80}}]}}]");
        resources = resources.route(name, &rule).yaml(policy);
    }
    let _nginx = Nginx::start(&servers, &addresses).await;
    let control = ControlPlane::start().await;
    control.apply(&resources).await;
    let envoy = Envoy::follow(control.xds(), "DELTA_GRPC", control.modules()).await;
    let proxy = control.proxy("p1", &["--bind", "default/edge/http=127.0.0.1:0"]).await;
    let at = wait_until("the listener", async || proxy.find_listener("default/edge/http").await).await;
    for Case { name, status, .. } in &cases {
        let path = format!("/{name}");
        for (peer, address) in [("weir-proxy", at), ("Envoy", envoy.address())] {
            wait_until(&format!("{status} of {peer} for {name}; the log of Envoy:\n{}", envoy.log()), async || {
                let response = Client::http1(address).await.get(&path).await;
                let text = response.text();
                let is_refused = text.contains("remote connection failure") || text.contains("upstream_tls_failed");
                (response.status == *status && is_refused == (*status == 503)).then_some(())
            })
            .await;
        }
    }
    let text = Client::http1(envoy.address()).await.get("/client").await.text();
    assert!(text.ends_with("client=SUCCESS"), "{text}");
    let text = Client::http1(at).await.get("/client").await.text();
    assert!(text.ends_with("client=SUCCESS"), "{text}");
    for address in [at, envoy.address()] {
        let text = Client::http1(address).await.get("/alpn").await.text();
        assert!(text.starts_with("HTTP/2.0 "), "{text}");
    }
    for reason in ["fail_verify_san", "fail_verify_error"] {
        let stats = envoy.page(&format!("/stats?filter=ssl.{reason}")).await;
        assert!(stats.lines().any(|line| !line.ends_with(": 0")), "Envoy has refused for another reason:\n{stats}");
    }
    let stats = envoy.page("/stats?filter=update_rejected").await;
    let rejected = stats.lines().find(|line| line.contains("rejected: ") && !line.ends_with(": 0"));
    assert_eq!(rejected, None, "Envoy rejected a resource:\n{}", envoy.log());
    // A CA that is exchanged reaches both.
    control.apply(&Resources::empty().yaml(&Authority::new("new").config_map("ca"))).await;
    for address in [at, envoy.address()] {
        wait_until("the other CA", async || {
            (Client::http1(address).await.get("/plain-name").await.status == 503).then_some(())
        })
        .await;
    }
    assert!(!control.log().contains("PRIVATE KEY") && !proxy.log().contains("PRIVATE KEY"));
}
