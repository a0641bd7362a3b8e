//! TLS to upstreams (BackendTLSPolicy): nginx, OpenSSL, and a real Envoy that serves the same resources. Needs nginx,
//! OpenSSL and Envoy; see `cargo xtask test`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod upstream_tls_rotation; // Certificates and CAs that change under requests.
mod upstream_tls_unix; // Endpoints on Unix sockets.
mod upstream_tls_in_envoy; // The control plane drives a proxy and an Envoy.

use std::net::SocketAddr;
use std::process::Stdio;

use harness::{
    Authority, CertificateRequest, Client, Filter, Issued, Nginx, Origin, Proxy, RawConnection, RawOrigin, Resources,
    own_address, wait_until,
};
use http::{HeaderValue, Request};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// The host of most certificates.
const HOST: &str = "backend.shop.example";

/// Returns an nginx server with TLS that answers each request on a connection of its own, and reports the connection.
fn server(address: SocketAddr, certificate: &Issued, directives: &str) -> String {
    format!(
        "server {{ listen {address} ssl; ssl_certificate {}; ssl_certificate_key {}; ssl_protocols TLSv1.2 TLSv1.3; \
         {directives} location / {{ return 200 \"$server_protocol $ssl_protocol reused=$ssl_session_reused \
         sni=$ssl_server_name client=$ssl_client_verify\"; }} }}\n",
        certificate.certificate_file.display(),
        certificate.key_file.display()
    )
}

/// Returns a BackendTLSPolicy for the Service `target`, whose CA is in the ConfigMap `ca`. `rest` is more of its
/// `validation`.
fn policy(target: &str, hostname: &str, rest: &str) -> String {
    policy_with(
        target,
        &format!("hostname: {hostname}, caCertificateRefs: [{{group: '', kind: ConfigMap, name: ca}}]{rest}"),
        "",
    )
}

/// Returns a BackendTLSPolicy with this `validation`, and more of its `spec`.
fn policy_with(target: &str, validation: &str, rest: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: BackendTLSPolicy\nmetadata: {{name: tls-{target}}}\nspec: \
         {{targetRefs: [{{group: '', kind: Service, name: {target}}}], validation: {{{validation}}}{rest}}}\n"
    )
}

/// Returns the resources that forward every request to a server with TLS whose CA is `ca`.
fn resources(address: SocketAddr, ca: &Authority) -> Resources {
    Resources::forward_to(address).yaml(&ca.config_map("ca"))
}

async fn assert_tls_failure(proxy: &Proxy, path: &str, reason: &str) {
    let response = proxy.get(path).await;
    assert_eq!(response.status, 503, "{reason}: {}", response.text());
    let line = proxy.access_log_for(path).await;
    assert_eq!(
        (&line["response_code_details"], &line["response_flags"]),
        (&json!("upstream_tls_failed"), &json!("UF"))
    );
    assert_eq!(line["who_failed"], "Upstream", "{line}");
    let cause = line["cause"].as_str().unwrap_or_default();
    assert!(cause.contains(reason), "{cause:?} lacks {reason:?}");
}

/// A running `openssl s_server`. Dropping it kills the process.
struct OpenSslServer {
    _process: Child,
}

impl OpenSslServer {
    async fn start(address: SocketAddr, certificate: &Issued, arguments: &[&str]) -> Self {
        let server = Self::start_with(&["-accept", &address.to_string()], certificate, arguments);
        wait_until("openssl to listen", async || TcpStream::connect(address).await.ok().map(drop)).await;
        server
    }

    /// Starts a server that listens at the address of the arguments `listen`. Does not wait until it listens.
    fn start_with(listen: &[&str], certificate: &Issued, arguments: &[&str]) -> Self {
        let mut command = Command::new("openssl");
        command.args(["s_server", "-www", "-quiet"]).args(listen);
        command.arg("-cert").arg(&certificate.certificate_file).arg("-key").arg(&certificate.key_file).args(arguments);
        command.kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { _process: command.spawn().unwrap() }
    }
}

#[tokio::test]
async fn sessions_with_nginx_are_resumed() {
    let (ca, address) = (Authority::new("ca"), own_address());
    let certificate = ca.for_host(HOST);
    let _nginx = Nginx::start(&server(address, &certificate, "keepalive_requests 1;"), &[address]).await;
    let proxy = Proxy::start(&resources(address, &ca).yaml(&policy("origin", HOST, ""))).await;
    assert_eq!(proxy.get("/").await.text(), format!("HTTP/1.1 TLSv1.3 reused=. sni={HOST} client=NONE"));
    wait_until("a resumed session", async || {
        let text = proxy.get("/").await.text();
        (text == format!("HTTP/1.1 TLSv1.3 reused=r sni={HOST} client=NONE")).then_some(())
    })
    .await;
    let older = policy_with(
        "origin",
        &format!("hostname: {HOST}, caCertificateRefs: [{{group: '', kind: ConfigMap, name: ca}}]"),
        ", options: {weir.dev/tls-max-version: '1.2'}",
    );
    proxy.apply_and_wait(&resources(address, &ca).yaml(&older)).await;
    wait_until("a resumed session of TLS 1.2", async || {
        let text = proxy.get("/").await.text();
        text.starts_with("HTTP/1.1 TLSv1.2 reused=r").then_some(())
    })
    .await;
}

#[tokio::test]
async fn server_with_tls_1_2_is_used_unless_1_3_is_required() {
    let (ca, address) = (Authority::new("ca"), own_address());
    let _server = OpenSslServer::start(address, &ca.for_host(HOST), &["-tls1_2"]).await;
    let proxy = Proxy::start(&resources(address, &ca).yaml(&policy("origin", HOST, ""))).await;
    let response = proxy.get("/old").await;
    assert!(response.status == 200 && response.text().contains("Protocol  : TLSv1.2"), "{}", response.text());
    let validation = format!("hostname: {HOST}, caCertificateRefs: [{{group: '', kind: ConfigMap, name: ca}}]");
    let strict = policy_with("origin", &validation, ", options: {weir.dev/tls-min-version: '1.3'}");
    proxy.apply_and_wait(&resources(address, &ca).yaml(&strict)).await;
    assert_tls_failure(&proxy, "/strict", "ProtocolVersion").await;
}

#[tokio::test]
async fn unacceptable_certificates_are_answered_503_with_reason() {
    let (ca, other) = (Authority::new("ca"), Authority::new("other"));
    let expired = ca.issue(&CertificateRequest { hosts: &[HOST], is_expired: true, ..CertificateRequest::default() });
    let wrong_name = ca.for_host("else.example");
    let unknown = other.for_host(HOST);
    for (certificate, reason) in [
        (&expired, "the certificate has expired"),
        (&wrong_name, "the certificate is not valid for name backend.shop.example"),
        (&unknown, "no trusted CA has signed the certificate (unknown issuer)"),
    ] {
        let address = own_address();
        let _server = OpenSslServer::start(address, certificate, &[]).await;
        let proxy = Proxy::start(&resources(address, &ca).yaml(&policy("origin", HOST, ""))).await;
        assert_tls_failure(&proxy, "/", reason).await;
        let clusters = proxy.json("/clusters").await;
        assert_eq!(
            (&clusters[0]["tlsFailures"], &clusters[0]["connectFailures"]),
            (&json!(1), &json!(1)),
            "{clusters}"
        );
        assert_eq!(proxy.metric("weir_upstream_tls_failures_total{cluster=\"default/origin:80\"}").await, 1.0);
        let last = clusters[0]["endpoints"][0]["lastFailure"].as_str().unwrap_or_default();
        assert!(last.contains(reason), "{clusters}");
    }
}

#[tokio::test]
async fn server_that_speaks_no_tls_is_answered_503() {
    let (ca, origin) = (Authority::new("ca"), Origin::text("plain").await);
    let proxy = Proxy::start(&resources(origin.address(), &ca).yaml(&policy("origin", HOST, ""))).await;
    let response = proxy.get("/").await;
    assert_eq!(response.status, 503, "{}", response.text());
    assert_eq!(proxy.access_log_for("/").await["response_code_details"], "upstream_tls_failed");
    assert_eq!(origin.count(), 0);
}

#[tokio::test]
async fn system_authorities_do_not_include_a_test_authority() {
    let (ca, address) = (Authority::new("ca"), own_address());
    let _server = OpenSslServer::start(address, &ca.for_host(HOST), &[]).await;
    let system = policy_with("origin", &format!("hostname: {HOST}, wellKnownCACertificates: System"), "");
    let proxy = Proxy::start(&Resources::forward_to(address).yaml(&system)).await;
    assert_tls_failure(&proxy, "/", "unknown issuer").await;
}

#[tokio::test]
async fn client_certificate_of_gateway_is_presented() {
    let (ca, address) = (Authority::new("ca"), own_address());
    let verify = format!("ssl_verify_client on; ssl_client_certificate {};", ca.file().display());
    let _nginx = Nginx::start(&server(address, &ca.for_host(HOST), &verify), &[address]).await;
    let all = resources(address, &ca).yaml(&policy("origin", HOST, ""));
    let proxy = Proxy::start(&all).await;
    assert_eq!(proxy.get("/").await.status, 400, "nginx requires a certificate");
    let with_certificate = all.text().replace(
        "spec:\n  gatewayClassName: weir\n",
        "spec:\n  gatewayClassName: weir\n  tls: {backend: {clientCertificateRef: {name: me}}}\n",
    );
    assert_ne!(with_certificate, all.text());
    let mine = ca.for_host("client.example");
    proxy.apply_and_wait(&Resources::empty().yaml(&with_certificate).yaml(&mine.secret("me"))).await;
    let response = proxy.get("/").await;
    assert!(response.text().ends_with("client=SUCCESS"), "{}", response.text());
    let dump = proxy.page("/config_dump").await.text();
    assert!(dump.contains("default/me") && !dump.contains("PRIVATE KEY"), "{dump}");
    assert!(!proxy.log().contains("PRIVATE KEY"));
    // The certificate of another CA.
    let foreign = Authority::new("other").for_host("client.example");
    proxy.apply_and_wait(&Resources::empty().yaml(&with_certificate).yaml(&foreign.secret("me"))).await;
    assert_eq!(proxy.get("/").await.status, 400, "nginx rejects the certificate");
}

#[tokio::test]
async fn subject_alt_names_replace_the_host_name() {
    let (ca, address) = (Authority::new("ca"), own_address());
    let uris = &["spiffe://mesh.example/ns/a/sa/b"];
    let certificate =
        ca.issue(&CertificateRequest { hosts: &["*.own.example"], uris, ..CertificateRequest::default() });
    let _nginx = Nginx::start(&server(address, &certificate, ""), &[address]).await;
    let proxy = Proxy::start(&resources(address, &ca)).await;
    let dns = |name: &str| format!("{{type: Hostname, hostname: {name}}}");
    let uri = |uri: &str| format!("{{type: URI, uri: '{uri}'}}");
    for (names, expected) in [
        (uri(uris[0]), 200),
        (dns("x.own.example"), 200),
        (format!("{}, {}", dns(HOST), uri(uris[0])), 200),
        (dns(HOST), 503),
        (uri("spiffe://mesh.example/ns/a/sa/c"), 503),
    ] {
        let rest = format!(", subjectAltNames: [{names}]");
        proxy.apply_and_wait(&resources(address, &ca).yaml(&policy("origin", HOST, &rest))).await;
        let response = proxy.get("/").await;
        assert_eq!(response.status, expected, "{names}: {}", response.text());
        if expected == 200 {
            assert!(response.text().contains(&format!("sni={HOST}")), "{}", response.text());
        }
    }
}

#[tokio::test]
async fn http2_is_spoken_over_tls() {
    let (ca, address) = (Authority::new("ca"), own_address());
    let nginx = server(address, &ca.for_host(HOST), "").replace(" ssl;", " ssl http2;");
    let _nginx = Nginx::start(&nginx, &[address]).await;
    let all = Resources::forward_to_http2(address).yaml(&ca.config_map("ca")).yaml(&policy("origin", HOST, ""));
    let proxy = Proxy::start(&all).await;
    let response = proxy.get("/").await;
    assert!(response.text().starts_with("HTTP/2.0 TLSv1.3"), "{}", response.text());
}

#[tokio::test]
async fn server_selects_the_protocol_by_alpn() {
    let (ca, address) = (Authority::new("ca"), own_address());
    let http1 = server(address, &ca.for_host(HOST), "add_header x-host $http_host; add_header x-te $http_te;");
    let http2 = http1.replace(" ssl;", " ssl http2;");
    let all = Resources::new().service_without_protocol("origin", &[address]).route_everything();
    let proxy = Proxy::start(&all.yaml(&ca.config_map("ca")).yaml(&policy("origin", HOST, ""))).await;
    for (configuration, version) in [(&http2, "HTTP/2.0"), (&http1, "HTTP/1.1"), (&http2, "HTTP/2.0")] {
        let nginx = Nginx::start(configuration, &[address]).await;
        let mut client = Client::http1(proxy.address().await).await;
        // The first request meets a connection of the server before, which is closed.
        for body in ["", "some", &"long".repeat(50_000)] {
            let request = Request::post("/").header("host", "a.example").header("te", "trailers");
            let request = match body {
                "" => request.method("GET").body(harness::empty()),
                _ => request.body(harness::full(body.to_owned())),
            };
            let response = client.send(request.unwrap()).await;
            assert!(response.text().starts_with(&format!("{version} TLSv1.3")), "{}", response.text());
            let sent = (&response.headers["x-host"], &response.headers["x-te"]);
            assert_eq!(sent, (&HeaderValue::from_static("a.example"), &HeaderValue::from_static("trailers")));
        }
        let many = (0..20).map(|_| proxy.get("/many"));
        for response in futures_util::future::join_all(many).await {
            assert!(response.text().starts_with(version), "{}", response.text());
        }
        nginx.stop().await;
    }
}

/// nginx with HTTP/2 switches protocols in HTTP/1.1 only, as most servers do.
#[tokio::test]
async fn upgrade_uses_http1_where_the_server_selects_http2() {
    let (ca, address) = (Authority::new("ca"), own_address());
    let origin = RawOrigin::start(|mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
        let message = wire.exactly(4).await;
        wire.send(message).await;
    })
    .await;
    let forward = format!(
        "location /chat {{ proxy_pass http://{}; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; \
         proxy_set_header Connection upgrade; }}",
        origin.address()
    );
    let configuration = server(address, &ca.for_host(HOST), &forward).replace(" ssl;", " ssl http2;");
    let _nginx = Nginx::start(&configuration, &[address]).await;
    let all = Resources::new().service_without_protocol("origin", &[address]).route_everything();
    let proxy = Proxy::start(&all.yaml(&ca.config_map("ca")).yaml(&policy("origin", HOST, ""))).await;
    for _ in 0..2 {
        assert!(proxy.get("/").await.text().starts_with("HTTP/2.0 "));
        let mut wire = RawConnection::connect(proxy.address().await).await;
        wire.send("GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
        let head = wire.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        wire.send("ping").await;
        assert_eq!(wire.exactly(4).await, b"ping");
    }
}

#[tokio::test]
async fn tcp_route_is_encrypted_towards_the_upstream() {
    let (ca, address) = (Authority::new("ca"), own_address());
    let _server = OpenSslServer::start(address, &ca.for_host(HOST), &[]).await;
    let all =
        |host: &str| Resources::forward_tcp_to(address).yaml(&ca.config_map("ca")).yaml(&policy("origin", host, ""));
    let proxy = Proxy::start(&all(HOST)).await;
    let exchange = async || {
        let mut wire = RawConnection::connect(proxy.listener("default/edge/tcp").await).await;
        wire.send("GET / HTTP/1.0\r\n\r\n").await;
        wire.rest().await
    };
    let text = exchange().await;
    assert!(text.starts_with("HTTP/1.0 200") && text.contains("Protocol  : TLSv1.3"), "{text}");
    proxy.apply_and_wait(&all("else.example")).await;
    assert_eq!(exchange().await, "");
    let line = wait_until("the second line", async || proxy.access_log().get(1).cloned()).await;
    assert_eq!(line["response_code_details"], "upstream_tls_failed", "{line}");
}

#[tokio::test]
async fn callout_of_a_filter_uses_the_tls_of_the_service() {
    let (ca, address) = (Authority::new("ca"), own_address());
    let origin = Origin::text("here").await;
    let _nginx = Nginx::start(&server(address, &ca.for_host(HOST), ""), &[address]).await;
    let call = json!({"do": "call", "service": "default/policy:80", "to": "/decide", "timeout_ms": 5000});
    let resume = json!({"do": "resume", "direction": "request"});
    let all = |host: &str| {
        Resources::forward_to(origin.address())
            .service("policy", &[address])
            .filter(Filter::test("asks", json!({"request_headers": [call], "call_response": [resume]})))
            .yaml(&ca.config_map("ca"))
            .yaml(&policy("policy", host, ""))
    };
    let proxy = Proxy::start(&all(HOST)).await;
    assert_eq!(proxy.get("/").await.status, 200);
    assert_eq!(cluster(&proxy, "default/policy:80").await["requests"], 1);
    assert_eq!(cluster(&proxy, "default/policy:80").await["failures"], 0);
    proxy.apply_and_wait(&all("else.example")).await;
    proxy.get("/").await;
    wait_until("the failed callout", async || {
        (cluster(&proxy, "default/policy:80").await["tlsFailures"] == 1).then_some(())
    })
    .await;
}

/// Returns the state of a cluster.
async fn cluster(proxy: &Proxy, name: &str) -> Value {
    let clusters = proxy.json("/clusters").await;
    clusters.as_array().unwrap().iter().find(|cluster| cluster["name"] == name).unwrap().clone()
}
