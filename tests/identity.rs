//! Identities: proxies that prove who they are reach each other; whoever is expired, of another domain, somebody else or
//! unknown is refused, with a reason that names what is wrong. Certificates outlive their control plane.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use harness::mesh::{EDGE, resources};
use harness::{Client, ControlOptions, ControlPlane, Mesh, Origin, Proxy, Resources, until};
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test]
async fn two_proxies_prove_to_each_other_who_they_are() {
    let origin = Origin::says("here").await;
    let control = ControlPlane::start().await;
    let mesh = Mesh::start(&control, origin.address()).await;
    assert_eq!(mesh.edge.get("/who").await.text(), "here");
    let line = mesh.inner.logged("/who").await;
    assert_eq!(line["peer_identity"], "spiffe://weir.local/ns/default/sa/edge");
    assert_eq!(origin.last().header("x-forwarded-proto"), Some("https"));
    let line = mesh.edge.logged("/who").await;
    assert_eq!(line["peer_identity"], Value::Null, "the edge takes plain text from anybody");

    let proxies = control.get("proxies").await;
    let identities: Vec<&Value> = proxies.as_array().unwrap().iter().map(|proxy| &proxy["identity"]).collect();
    assert_eq!(
        identities,
        [&json!("spiffe://weir.local/ns/default/sa/inner"), &json!("spiffe://weir.local/ns/default/sa/edge")]
    );
}

#[tokio::test]
async fn an_endpoint_that_is_somebody_else_gets_no_request() {
    let origin = Origin::says("here").await;
    let control = ControlPlane::start().await;
    let mesh = Mesh::start(&control, origin.address()).await;
    let inner = mesh.inner.listener("default/inner/mesh").await;
    control.apply(&resources(origin.address(), inner, "somebody")).await;
    let answer = until("the change", async || {
        let answer = mesh.edge.get("/").await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    let expected =
        "it is spiffe://weir.local/ns/default/sa/inner, and spiffe://weir.local/ns/default/sa/somebody should";
    let line = until("the line of the failure", async || {
        mesh.edge.access_log().into_iter().find(|line| line.to_string().contains(expected))
    })
    .await;
    assert_eq!(line["status"], 503);
    assert!(!answer.text().contains("spiffe"), "a stranger learns nothing of it: {}", answer.text());
    // The other way round: who should not be there is told nothing either.
    let requests = origin.count();
    assert_eq!(mesh.edge.get("/").await.status, 503);
    assert_eq!(origin.count(), requests);
}

/// A certificate and its key (PKCS #8).
struct Shown(CertificateDer<'static>, Vec<u8>);

/// One who connects to `inner`, shows this or nothing, and asks for something: the answer.
async fn knock(address: SocketAddr, shown: Option<&Shown>) -> std::io::Result<String> {
    let mut stream = connect(address, shown, b"http/1.1").await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A connection that shows this or nothing, to whoever is there.
async fn connect(
    address: SocketAddr,
    shown: Option<&Shown>,
    protocol: &[u8],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let builder = rustls::ClientConfig::builder_with_provider(weir_identity::provider());
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let trusting = Arc::new(Trusting(weir_identity::provider()));
    let builder = builder.dangerous().with_custom_certificate_verifier(trusting);
    let mut config = match shown {
        Some(Shown(certificate, key)) => {
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

/// Believes every server: it is the client that is on trial.
#[derive(Debug)]
struct Trusting(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for Trusting {
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

/// A root that signs whatever a test wants.
struct Signer(Issuer<'static, KeyPair>);

impl Signer {
    /// The authority of a control plane itself: its file lies there.
    fn of(control: &ControlPlane) -> Self {
        let text = std::fs::read_to_string(control.store().join("authority.json")).unwrap();
        let kept: Value = serde_json::from_str(&text).unwrap();
        let [certificate, key] = ["certificate", "key"].map(|name| kept["roots"][0][name].as_str().unwrap().to_owned());
        Self(Issuer::from_ca_cert_pem(&certificate, KeyPair::from_pem(&key).unwrap()).unwrap())
    }

    /// One that nobody knows.
    fn unknown() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "root of weir.local"); // As the real one is named.
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(Issuer::new(params, key))
    }

    /// A certificate for whom it is told, which ends this long from now, or has ended.
    fn sign(&self, uris: &[&str], ends: Result<Duration, Duration>) -> Shown {
        let key = KeyPair::generate().unwrap();
        let now = SystemTime::now();
        let mut params = CertificateParams::default();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = (now - Duration::from_secs(7_200)).into();
        params.not_after = ends.map_or_else(|ago| now - ago, |left| now + left).into();
        Shown(params.signed_by(&key, &self.0).unwrap().der().clone(), key.serialize_der())
    }
}

#[tokio::test]
async fn whoever_is_not_of_the_mesh_is_refused_with_the_reason() {
    let origin = Origin::says("here").await;
    let control = ControlPlane::start().await;
    let mesh = Mesh::start(&control, origin.address()).await;
    let address = mesh.inner.listener("default/inner/mesh").await;
    let (own, hour) = (Signer::of(&control), Duration::from_secs(3_600));
    let me = "spiffe://weir.local/ns/default/sa/me";

    // What is right is let in: so what follows is refused for what is wrong with it.
    let answer = knock(address, Some(&own.sign(&[me], Ok(hour)))).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let requests = origin.count();
    let stranger = Signer::unknown();
    let bad = [
        (own.sign(&[me], Err(hour)), format!("the certificate of {me} is not valid: it has expired at ")),
        (
            stranger.sign(&["spiffe://other.example/ns/a/sa/b"], Ok(hour)),
            "spiffe://other.example/ns/a/sa/b is of another trust domain than weir.local".to_owned(),
        ),
        (
            stranger.sign(&[me], Ok(hour)),
            format!("the certificate of {me} is not valid: no root of weir.local has signed"),
        ),
        (own.sign(&[], Ok(hour)), "its certificate has no SPIFFE ID: there is no URI in it".to_owned()),
        (own.sign(&[me, "spiffe://weir.local/b"], Ok(hour)), "there are several URIs in it".to_owned()),
    ];
    for (shown, expected) in bad {
        assert_eq!(knock(address, Some(&shown)).await.unwrap_or_default(), "", "{expected}");
        mesh.inner.wait_for_log(&expected).await;
    }
    assert_eq!(knock(address, None).await.unwrap_or_default(), "");
    mesh.inner.wait_for_log("it has shown no certificate").await;
    // Plain text is no handshake.
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    drop(socket.read_to_end(&mut answer).await);
    assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(origin.count(), requests, "none of them reached it");
    assert_eq!(mesh.edge.get("/").await.status, 200);
}

#[tokio::test]
async fn who_cannot_prove_to_be_a_workload_becomes_none() {
    let (control, other) = (ControlPlane::start().await, ControlPlane::start().await);
    let foreign = other.join_token("default/edge").await;
    let proxy = control.mesh_proxy_with(&foreign, "edge", &EDGE).await;
    proxy.wait_for_log("the root that the join token names has not signed it").await;
    drop(proxy);

    let token = control.join_token("default/edge").await;
    let id = token.split('_').nth(1).unwrap().to_owned();
    assert_eq!(control.ask("DELETE", &format!("tokens/{id}"), "").await.status, 200);
    let proxy = control.mesh_proxy_with(&token, "edge", &EDGE).await;
    proxy.wait_for_log("the join token is not known here, or has ended").await;
    drop(proxy);

    // A token for people makes nobody a workload, and one for workloads opens nothing of the API.
    let pin = token.rsplit('.').next().unwrap();
    let admin = format!("{}.{pin}", control.admin_token());
    let proxy = control.mesh_proxy_with(&admin, "edge", &EDGE).await;
    proxy.wait_for_log("the token `admin` is for the API, not for a workload").await;
    drop(proxy);
    let joining = control.join_token("default/edge").await;
    let secret = joining.rsplit_once('.').unwrap().0;
    assert_eq!(control.ask_as(Some(secret), "GET", "resources", "").await.status, 403);
}

#[tokio::test]
async fn modules_come_over_the_connection_that_proves_who_asks() {
    let origin = Origin::says("here").await;
    let control = ControlPlane::start().await;
    let mesh = Mesh::start(&control, origin.address()).await;
    let guard = "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {name: guard}\nspec: {targetRefs: [{kind: \
                 Gateway, name: inner}], module: {builtin: auth}, config: {apiKeys: {keys: [{id: me, key: \
                 let-me-in}]}, rules: [{name: all, action: allow}]}}\n";
    control.apply(&Resources::nothing().yaml(guard)).await;
    until("the filter", async || (mesh.edge.get("/").await.status == 401).then_some(())).await;
    mesh.inner.wait_for_log("by mutual TLS").await;

    let modules = control.store().parent().unwrap().join("cache-inner/modules");
    let name = std::fs::read_dir(modules).unwrap().next().unwrap().unwrap().file_name().into_string().unwrap();
    let path = format!("/modules/{name}");
    let signer = Signer::of(&control);
    let now = Duration::from_secs(600);
    for (shown, status) in [(None, 401), (Some(signer.sign(&["spiffe://weir.local/ns/shop/sa/other"], Ok(now))), 200)] {
        let stream = connect(control.mutual(), shown.as_ref(), b"h2").await.unwrap();
        let mut client = Client::http2_over(stream, control.mutual()).await;
        assert_eq!(client.get(&path).await.status, status, "{}", shown.is_some());
        let unknown = format!("/modules/{}.wasm", "0".repeat(64));
        let expected = if status == 200 { 404 } else { status };
        assert_eq!(client.get(&unknown).await.status, expected);
    }
}

#[tokio::test]
async fn a_workload_is_told_of_its_own_namespace_alone() {
    let control = ControlPlane::start().await;
    let origin = Origin::says("here").await;
    control.apply(&Resources::forward_to(origin.address())).await;
    let token = control.join_token("shop/edge").await;
    let proxy = control.mesh_proxy_with(&token, "edge", &EDGE).await;
    let reason = "spiffe://weir.local/ns/shop/sa/edge may follow the Gateways of its own namespace, not default/edge";
    proxy.wait_for_log(reason).await;
    assert_eq!(control.get("proxies").await, json!([]));
    assert!(proxy.find_listener("default/edge/http").await.is_none());
}

#[tokio::test]
async fn certificates_outlive_their_control_plane_and_are_renewed_when_it_is_back() {
    let origin = Origin::says("here").await;
    let arguments = ["--certificate-lifetime", "30s"].map(str::to_owned).to_vec();
    let mut control = ControlPlane::start_with(ControlOptions { arguments, ..ControlOptions::default() }).await;
    let mut mesh = Mesh::start(&control, origin.address()).await;
    control.kill().await;
    let mut client = Client::http1(mesh.edge.address().await).await;
    // Both have tried to renew more than once, in vain, and requests go on.
    for proxy in [&mesh.edge, &mesh.inner] {
        until("renewals in vain", async || {
            assert_eq!(client.get("/").await.status, 200);
            (proxy.log().matches("our certificate is not renewed yet").count() >= 3).then_some(())
        })
        .await;
    }
    // One that starts now has what it was told and who it is from its disk.
    let cache_token = "weir_0_0.".to_owned() + &"0".repeat(64);
    mesh.edge = control.mesh_proxy_with(&cache_token, "edge", &EDGE).await;
    mesh.wait_until_it_serves().await;
    mesh.edge.wait_for_log("begins with the identity of the last process").await;

    let signed = |proxy: &Proxy| proxy.log().matches("the control plane has signed our certificate").count();
    let before = [signed(&mesh.edge), signed(&mesh.inner)];
    control.restart().await;
    until("both to have new certificates", async || {
        (signed(&mesh.edge) > before[0] && signed(&mesh.inner) > before[1]).then_some(())
    })
    .await;
    let proxies = until("both to be back", async || {
        let proxies = control.get("proxies").await;
        (proxies.as_array()?.len() == 2).then_some(proxies)
    })
    .await;
    assert!(proxies.to_string().contains("spiffe://weir.local/ns/default/sa/edge"));
    assert_eq!(mesh.edge.get("/").await.status, 200);
}

#[tokio::test]
async fn another_join_token_makes_a_proxy_somebody_else() {
    let control = ControlPlane::start().await;
    let origin = Origin::says("here").await;
    control.apply(&Resources::forward_to(origin.address())).await;
    let proxy = control.mesh_proxy("edge", &EDGE).await;
    proxy.wait_for_log("signed our certificate id=spiffe://weir.local/ns/default/sa/edge").await;
    until("the proxy to be told", async || proxy.find_listener("default/edge/http").await).await;
    drop(proxy);
    let token = control.join_token("default/other").await;
    let proxy = control.mesh_proxy_with(&token, "edge", &EDGE).await;
    proxy.wait_for_log("signed our certificate id=spiffe://weir.local/ns/default/sa/other").await;
}

#[tokio::test]
async fn an_open_connection_does_not_outlive_the_plain_text_of_its_listener() {
    let control = ControlPlane::start().await;
    let origin = Origin::says("here").await;
    let resources = Resources::forward_to(origin.address());
    control.apply(&resources).await;
    let proxy = control.mesh_proxy("edge", &EDGE).await;
    let address = until("the listener", async || proxy.find_listener("default/edge/http").await).await;
    let (mut http1, mut http2) = (Client::http1(address).await, Client::http2(address).await);
    assert_eq!((http1.get("/").await.status, http2.get("/").await.status), (200, 200));
    let version = proxy.version().await;
    let text = resources.text().replace("protocol: HTTP}", "protocol: weir.dev/MTLS}");
    let gateway = text.split("---").find(|document| document.contains("kind: Gateway\n")).unwrap().to_owned();
    assert_eq!(control.ask("POST", "apply", &gateway).await.status, 200);
    until("the change", async || (proxy.version().await != version).then_some(())).await;
    for client in [&mut http1, &mut http2] {
        let answer = client.get("/").await;
        assert_eq!(answer.status, 400, "{}", answer.text());
    }
    assert_eq!(origin.count(), 2);
}

#[tokio::test]
async fn keys_and_join_tokens_are_in_no_log_and_in_no_file_that_others_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let origin = Origin::says("here").await;
    let control = ControlPlane::start().await;
    let mesh = Mesh::start(&control, origin.address()).await;
    let folder = control.store().parent().unwrap().join("cache-edge/identity");
    let path = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let kept = std::fs::read_to_string(&path).unwrap();
    let key = kept.split("-----BEGIN PRIVATE KEY-----").nth(1).unwrap().trim().lines().next().unwrap().to_owned();
    let audit = std::fs::read_to_string(control.store().join("audit.log")).unwrap();
    let token = std::fs::read_to_string(control.store().parent().unwrap().join("edge.token")).unwrap();
    let secret = token.split('_').nth(2).unwrap().split('.').next().unwrap().to_owned();
    let dump = mesh.edge.page("/config_dump").await.text();
    for text in [control.log(), mesh.edge.log(), mesh.inner.log(), audit, dump] {
        assert!(!text.contains(&key) && !text.contains(&secret), "{text}");
    }
}
