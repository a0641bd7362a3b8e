//! Workload identities: proxies authenticate each other by mutual TLS. Peers that are expired, of another trust domain,
//! unexpected or signed by an unknown root are rejected with a reason. Certificates survive an outage of the control
//! plane.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use harness::mesh::{EDGE_ARGS, resources};
use harness::{Client, ControlOptions, ControlPlane, MeshPair, Origin, Proxy, Resources, wait_until};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn proxies_authenticate_each_other() {
    let origin = Origin::text("here").await;
    let control = ControlPlane::start().await;
    let mesh = MeshPair::start(&control, origin.address()).await;
    assert_eq!(mesh.edge.get("/who").await.text(), "here");
    let line = mesh.inner.access_log_for("/who").await;
    assert_eq!(line["peer_identity"], "spiffe://weir.local/ns/default/sa/edge");
    assert_eq!(origin.last().header("x-forwarded-proto"), Some("https"));
    let line = mesh.edge.access_log_for("/who").await;
    assert_eq!(line["peer_identity"], Value::Null, "the downstream of edge uses plaintext");

    let proxies = control.get("proxies").await;
    let identities: Vec<&Value> = proxies.as_array().unwrap().iter().map(|proxy| &proxy["identity"]).collect();
    assert_eq!(
        identities,
        [&json!("spiffe://weir.local/ns/default/sa/inner"), &json!("spiffe://weir.local/ns/default/sa/edge")]
    );
}

#[tokio::test]
async fn endpoint_with_unexpected_identity_gets_no_request() {
    let origin = Origin::text("here").await;
    let control = ControlPlane::start().await;
    let mesh = MeshPair::start(&control, origin.address()).await;
    let inner = mesh.inner.listener("default/inner/mesh").await;
    control.apply(&resources(origin.address(), inner, "other")).await;
    let response = wait_until("the change", async || {
        let response = mesh.edge.get("/").await;
        (response.status == 503).then_some(response)
    })
    .await;
    let expected = "the peer is spiffe://weir.local/ns/default/sa/inner, but spiffe://weir.local/ns/default/sa/other";
    let line = wait_until("the line of the failure", async || {
        mesh.edge.access_log().into_iter().find(|line| line.to_string().contains(expected))
    })
    .await;
    assert_eq!(line["status"], 503);
    assert!(!response.text().contains("spiffe"), "the downstream gets no identities: {}", response.text());
    // The upstream gets no request, either.
    let requests = origin.count();
    assert_eq!(mesh.edge.get("/").await.status, 503);
    assert_eq!(origin.count(), requests);
}

/// A client certificate and its key (PKCS #8).
struct PresentedCert(CertificateDer<'static>, Vec<u8>);

/// Connects to `inner` with a client certificate or without one, sends a request, and returns the response.
async fn request_as_peer(address: SocketAddr, presented: Option<&PresentedCert>) -> std::io::Result<String> {
    let mut stream = connect(address, presented, b"http/1.1").await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await?;
    Ok(String::from_utf8_lossy(&response).into_owned())
}

/// Connects with a client certificate or without one, to a server that is not verified.
async fn connect(
    address: SocketAddr,
    presented: Option<&PresentedCert>,
    protocol: &[u8],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let builder = rustls::ClientConfig::builder_with_provider(weir_identity::crypto_provider());
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let verifier = Arc::new(AcceptAllVerifier(weir_identity::crypto_provider()));
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match presented {
        Some(PresentedCert(certificate, key)) => {
            let key = PrivateKeyDer::Pkcs8(key.clone().into());
            builder.with_client_auth_cert(vec![certificate.clone()], key).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    let socket = TcpStream::connect(address).await?;
    let name = ServerName::IpAddress(address.ip().into());
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await
}

/// Accepts every server certificate, since tests verify how the server treats the client.
#[derive(Debug)]
struct AcceptAllVerifier(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AcceptAllVerifier {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A root that signs certificates for tests.
struct Signer(Issuer<'static, KeyPair>);

impl Signer {
    /// Returns the CA of a control plane, from its store.
    fn from_store(control: &ControlPlane) -> Self {
        let text = std::fs::read_to_string(control.store().join("authority.json")).unwrap();
        let stored: Value = serde_json::from_str(&text).unwrap();
        let [certificate, key] =
            ["certificate", "key"].map(|name| stored["roots"][0][name].as_str().unwrap().to_owned());
        Self(Issuer::from_ca_cert_pem(&certificate, KeyPair::from_pem(&key).unwrap()).unwrap())
    }

    /// Returns a CA that no workload trusts.
    fn unknown() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "root of weir.local"); // The subject of the real root.
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(Issuer::new(params, key))
    }

    /// Signs a certificate with these URIs. It expires after the duration of `Ok`, or expired before that of `Err`.
    fn sign(&self, uris: &[&str], ends: Result<Duration, Duration>) -> PresentedCert {
        let (now, two_hours) = (SystemTime::now(), Duration::from_secs(7_200));
        let not_after = ends.map_or_else(|ago| now - ago, |left| now + left);
        let lifetime = not_after.duration_since(now - two_hours).unwrap();
        self.sign_from(uris, now - two_hours, lifetime)
    }

    /// Signs a certificate with these URIs that is valid from a time on.
    fn sign_from(&self, uris: &[&str], not_before: SystemTime, lifetime: Duration) -> PresentedCert {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = not_before.into();
        params.not_after = (not_before + lifetime).into();
        PresentedCert(params.signed_by(&key, &self.0).unwrap().der().clone(), key.serialize_der())
    }
}

#[tokio::test]
async fn invalid_peer_certificates_are_rejected_with_reason() {
    let origin = Origin::text("here").await;
    let control = ControlPlane::start().await;
    let mesh = MeshPair::start(&control, origin.address()).await;
    let address = mesh.inner.listener("default/inner/mesh").await;
    let (own, hour) = (Signer::from_store(&control), Duration::from_secs(3_600));
    let me = "spiffe://weir.local/ns/default/sa/me";

    // A valid certificate is accepted, so each of the following is rejected for its defect.
    let response = request_as_peer(address, Some(&own.sign(&[me], Ok(hour)))).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");

    let requests = origin.count();
    let unknown = Signer::unknown();
    let bad = [
        (own.sign(&[me], Err(hour)), format!("the certificate of {me} is not valid: it has expired at ")),
        (own.sign(&[me], Err(hour)), ", and this machine's clock is 2".to_owned()),
        (
            own.sign_from(&[me], SystemTime::now() + hour, hour),
            format!("the certificate of {me} is not valid: it is valid from "),
        ),
        (
            unknown.sign(&["spiffe://other.example/ns/a/sa/b"], Ok(hour)),
            "spiffe://other.example/ns/a/sa/b is of another trust domain than weir.local".to_owned(),
        ),
        (
            unknown.sign(&[me], Ok(hour)),
            format!("the certificate of {me} is not valid: no root of weir.local has signed"),
        ),
        (own.sign(&[], Ok(hour)), "its certificate has no SPIFFE ID: there is no URI in it".to_owned()),
        (own.sign(&[me, "spiffe://weir.local/b"], Ok(hour)), "there are several URIs in it".to_owned()),
    ];
    for (presented, expected) in bad {
        assert_eq!(request_as_peer(address, Some(&presented)).await.unwrap_or_default(), "", "{expected}");
        mesh.inner.wait_for_log(&expected).await;
    }
    assert_eq!(request_as_peer(address, None).await.unwrap_or_default(), "");
    mesh.inner.wait_for_log("the peer sent no certificate").await;
    // Plaintext is rejected.
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut response = Vec::new();
    drop(socket.read_to_end(&mut response).await);
    assert!(!response.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&response));
    assert_eq!(origin.count(), requests, "no rejected peer reached the origin");
    assert_eq!(mesh.edge.get("/").await.status, 200);
}

#[tokio::test]
async fn invalid_join_tokens_get_no_identity() {
    let (control, other) = (ControlPlane::start().await, ControlPlane::start().await);
    let foreign = other.join_token("default/edge").await;
    let proxy = control.mesh_proxy_with(&foreign, "edge", &EDGE_ARGS).await;
    proxy.wait_for_log("the root that the join token names has not signed it").await;
    drop(proxy);

    let token = control.join_token("default/edge").await;
    let id = token.split('_').nth(1).unwrap().to_owned();
    assert_eq!(control.request("DELETE", &format!("tokens/{id}"), "").await.status, 200);
    let proxy = control.mesh_proxy_with(&token, "edge", &EDGE_ARGS).await;
    proxy.wait_for_log("the join token is unknown or has expired").await;
    drop(proxy);

    // An API token is no join token, and a join token has no access to the API.
    let pin = token.rsplit('.').next().unwrap();
    let admin = format!("{}.{pin}", control.admin_token());
    let proxy = control.mesh_proxy_with(&admin, "edge", &EDGE_ARGS).await;
    proxy.wait_for_log("the token `admin` is for the API, not for a workload").await;
    drop(proxy);
    let joining = control.join_token("default/edge").await;
    let secret = joining.rsplit_once('.').unwrap().0;
    assert_eq!(control.request_as(Some(secret), "GET", "resources", "").await.status, 403);
}

#[tokio::test]
async fn modules_are_fetched_by_mutual_tls() {
    let origin = Origin::text("here").await;
    let control = ControlPlane::start().await;
    let mesh = MeshPair::start(&control, origin.address()).await;
    let guard = "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {name: guard}\nspec: {targetRefs: [{kind: \
                 Gateway, name: inner}], module: {builtin: auth}, config: {apiKeys: {keys: [{id: me, key: \
                 let-me-in}]}, rules: [{name: all, action: allow}]}}\n";
    control.apply(&Resources::empty().yaml(guard)).await;
    wait_until("the filter", async || (mesh.edge.get("/").await.status == 401).then_some(())).await;
    mesh.inner.wait_for_log("by mutual TLS").await;

    let modules = control.store().parent().unwrap().join("cache-inner/modules");
    let name = std::fs::read_dir(modules).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    let path = format!("/modules/{name}");
    let signer = Signer::from_store(&control);
    let now = Duration::from_secs(600);
    for (presented, status) in
        [(None, 401), (Some(signer.sign(&["spiffe://weir.local/ns/shop/sa/other"], Ok(now))), 200)]
    {
        let stream = connect(control.xds_mtls(), presented.as_ref(), b"h2").await.unwrap();
        let mut client = Client::http2_over(stream, control.xds_mtls()).await;
        assert_eq!(client.get(&path).await.status, status, "{}", presented.is_some());
        let unknown = format!("/modules/{}.wasm", "0".repeat(64));
        let expected = if status == 200 { 404 } else { status };
        assert_eq!(client.get(&unknown).await.status, expected);
    }
}

#[tokio::test]
async fn workload_may_follow_gateways_of_own_namespace_only() {
    let control = ControlPlane::start().await;
    let origin = Origin::text("here").await;
    control.apply(&Resources::forward_to(origin.address())).await;
    let token = control.join_token("shop/edge").await;
    let proxy = control.mesh_proxy_with(&token, "edge", &EDGE_ARGS).await;
    let reason = "spiffe://weir.local/ns/shop/sa/edge may follow the Gateways of its own namespace, not default/edge";
    proxy.wait_for_log(reason).await;
    assert_eq!(control.get("proxies").await, json!([]));
    assert!(proxy.find_listener("default/edge/http").await.is_none());
}

#[tokio::test]
async fn certificates_survive_control_plane_outage() {
    let origin = Origin::text("here").await;
    let arguments = ["--certificate-lifetime", "30s"].map(str::to_owned).to_vec();
    let mut control = ControlPlane::start_with(ControlOptions { arguments, ..ControlOptions::default() }).await;
    let mut mesh = MeshPair::start(&control, origin.address()).await;
    control.kill().await;
    let mut client = Client::http1(mesh.edge.address().await).await;
    // Both proxies fail to renew more than once, and serve requests.
    for proxy in [&mesh.edge, &mesh.inner] {
        wait_until("failed renewals", async || {
            assert_eq!(client.get("/").await.status, 200);
            (proxy.log().matches("the certificate is not renewed yet").count() >= 3).then_some(())
        })
        .await;
    }
    // A proxy that starts now reads its configuration and its identity from its cache.
    let cache_token = "weir_0_0.".to_owned() + &"0".repeat(64);
    mesh.edge = control.mesh_proxy_with(&cache_token, "edge", &EDGE_ARGS).await;
    mesh.wait_until_it_serves().await;
    mesh.edge.wait_for_log("starting with the stored identity").await;

    let issued = |proxy: &Proxy| proxy.log().matches("certificate issued by the control plane").count();
    let before = [issued(&mesh.edge), issued(&mesh.inner)];
    control.restart().await;
    wait_until("both to have new certificates", async || {
        (issued(&mesh.edge) > before[0] && issued(&mesh.inner) > before[1]).then_some(())
    })
    .await;
    let proxies = wait_until("both to be back", async || {
        let proxies = control.get("proxies").await;
        (proxies.as_array()?.len() == 2).then_some(proxies)
    })
    .await;
    assert!(proxies.to_string().contains("spiffe://weir.local/ns/default/sa/edge"));
    assert_eq!(mesh.edge.get("/").await.status, 200);
}

#[tokio::test]
async fn proxy_with_ended_certificate_is_not_ready_until_it_is_renewed() {
    let origin = Origin::text("here").await;
    let arguments = ["--certificate-lifetime", "6s"].map(str::to_owned).to_vec();
    let mut control = ControlPlane::start_with(ControlOptions { arguments, ..ControlOptions::default() }).await;
    let mesh = MeshPair::start(&control, origin.address()).await;
    let expiry = "weir_certificate_expiry_seconds";
    for proxy in [&mesh.edge, &mesh.inner] {
        assert_eq!(proxy.page("/ready").await.status, 200);
        assert!(proxy.metric(expiry).await > 0.0);
    }
    control.kill().await;
    // `inner` has a listener that needs a certificate, `edge` a cluster.
    for (proxy, name, user) in
        [(&mesh.inner, "inner", "1 listeners and 0 clusters"), (&mesh.edge, "edge", "0 listeners and 1 clusters")]
    {
        let page = wait_until("the end of the certificate", async || {
            let page = proxy.page("/ready").await;
            (page.status == 503).then_some(page)
        })
        .await;
        let text = page.text();
        for expected in [
            &format!(
                "mutual TLS of {user} fails: the certificate of spiffe://weir.local/ns/default/sa/{name} has ended at "
            ),
            "and this machine's clock is ",
            &format!("Check that the control plane {} is reachable", control.xds_mtls()),
        ] {
            assert!(text.contains(expected), "{expected:?} in {text}");
        }
        proxy.wait_for_log("mutual TLS fails: the certificate of ").await;
        assert!(proxy.metric(expiry).await <= 0.0);
        assert!(proxy.metric("weir_certificate_renewal_failures_total").await > 0.0);
    }
    assert_eq!(mesh.edge.get("/").await.status, 503);

    control.restart().await;
    for proxy in [&mesh.edge, &mesh.inner] {
        wait_until("the proxy to be ready", async || (proxy.page("/ready").await.status == 200).then_some(())).await;
    }
    mesh.wait_until_it_serves().await;
}

#[tokio::test]
async fn proxy_that_starts_during_outage_serves_until_its_certificate_ends() {
    let origin = Origin::text("here").await;
    let arguments = ["--certificate-lifetime", "16s"].map(str::to_owned).to_vec();
    let mut control = ControlPlane::start_with(ControlOptions { arguments, ..ControlOptions::default() }).await;
    let MeshPair { edge, inner } = MeshPair::start(&control, origin.address()).await;
    control.kill().await;
    let expiry = "weir_certificate_expiry_seconds";
    edge.wait_for_metric(expiry, |left| left < 7.0).await; // Past half of its life: its renewals fail.
    assert_eq!((edge.get("/").await.status, edge.page("/ready").await.status), (200, 200));
    drop(edge);
    // A new process has the identity, the configuration and the modules of its cache.
    let useless = format!("weir_0_0.{}", "0".repeat(64));
    let edge = control.mesh_proxy_with(&useless, "edge", &EDGE_ARGS).await;
    wait_until("a response of the new process", async || {
        edge.find_listener("default/edge/http").await?;
        (edge.get("/").await.status == 200).then_some(())
    })
    .await;
    assert_eq!(edge.page("/ready").await.status, 200);
    wait_until("the end of the certificates", async || {
        let ready = [edge.page("/ready").await.status, inner.page("/ready").await.status];
        (ready == [503, 503] && edge.get("/").await.status == 503).then_some(())
    })
    .await;
}

#[tokio::test]
async fn root_is_renewed_before_its_end() {
    let origin = Origin::text("here").await;
    let arguments = ["--certificate-lifetime", "4s", "--root-lifetime", "24s"].map(str::to_owned).to_vec();
    let control = ControlPlane::start_with(ControlOptions { arguments, ..ControlOptions::default() }).await;
    let mesh = MeshPair::start(&control, origin.address()).await;
    let first = control.get("authority").await["roots"][0].clone();
    let (_, shown, _) = control.weir(&["ca", "status"]).await;
    let end = first["certificateEnds"].as_str().unwrap();
    assert!(shown.contains(end), "{shown}");
    let name = format!("weir_control_root_expiry_timestamp_seconds{{sha256={}}}", first["sha256"]);
    let metrics = control.page("/metrics").await.text();
    assert!(metrics.contains(&name), "{metrics}");
    control.wait_for_log("a rotation to a new one has begun").await;
    wait_until("the first root to be replaced", async || {
        assert_eq!(mesh.edge.get("/").await.status, 200);
        let roots = control.get("authority").await["roots"].clone();
        let is_gone = roots.as_array()?.iter().all(|root| root["sha256"] != first["sha256"]);
        is_gone.then_some(())
    })
    .await;
    assert_eq!(mesh.edge.get("/").await.status, 200);
}

#[tokio::test]
async fn new_join_token_replaces_stored_identity() {
    let control = ControlPlane::start().await;
    let origin = Origin::text("here").await;
    control.apply(&Resources::forward_to(origin.address())).await;
    let proxy = control.mesh_proxy("edge", &EDGE_ARGS).await;
    proxy.wait_for_log("certificate issued by the control plane id=spiffe://weir.local/ns/default/sa/edge").await;
    wait_until("the listener", async || proxy.find_listener("default/edge/http").await).await;
    drop(proxy);
    let token = control.join_token("default/other").await;
    let proxy = control.mesh_proxy_with(&token, "edge", &EDGE_ARGS).await;
    proxy.wait_for_log("certificate issued by the control plane id=spiffe://weir.local/ns/default/sa/other").await;
}

#[tokio::test]
async fn change_to_mutual_tls_rejects_open_plaintext_connections() {
    let control = ControlPlane::start().await;
    let origin = Origin::text("here").await;
    let resources = Resources::forward_to(origin.address());
    control.apply(&resources).await;
    let proxy = control.mesh_proxy("edge", &EDGE_ARGS).await;
    let address = wait_until("the listener", async || proxy.find_listener("default/edge/http").await).await;
    let (mut http1, mut http2) = (Client::http1(address).await, Client::http2(address).await);
    assert_eq!((http1.get("/").await.status, http2.get("/").await.status), (200, 200));
    let version = proxy.version().await;
    let text = resources.text().replace("protocol: HTTP}", "protocol: weir.dev/MTLS}");
    let gateway = text.split("---").find(|document| document.contains("kind: Gateway\n")).unwrap().to_owned();
    assert_eq!(control.request("POST", "apply", &gateway).await.status, 200);
    wait_until("the change", async || (proxy.version().await != version).then_some(())).await;
    for client in [&mut http1, &mut http2] {
        let response = client.get("/").await;
        assert_eq!(response.status, 400, "{}", response.text());
    }
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn keys_and_join_tokens_are_not_exposed() {
    use std::os::unix::fs::PermissionsExt;
    let origin = Origin::text("here").await;
    let control = ControlPlane::start().await;
    let mesh = MeshPair::start(&control, origin.address()).await;
    let folder = control.store().parent().unwrap().join("cache-edge/identity");
    let path = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let stored = std::fs::read_to_string(&path).unwrap();
    let key = stored.split("-----BEGIN PRIVATE KEY-----").nth(1).unwrap().trim().lines().next().unwrap().to_owned();
    let audit = std::fs::read_to_string(control.store().join("audit.log")).unwrap();
    let token = std::fs::read_to_string(control.store().parent().unwrap().join("edge.token")).unwrap();
    let secret = token.split('_').nth(2).unwrap().split('.').next().unwrap().to_owned();
    let dump = mesh.edge.page("/config_dump").await.text();
    for text in [control.log(), mesh.edge.log(), mesh.inner.log(), audit, dump] {
        assert!(!text.contains(&key) && !text.contains(&secret), "{text}");
    }
}
