//! The control plane's API by TLS: it accepts no plaintext, and `weir` sends no token to a remote plaintext address.

use harness::{Certificate, ControlOptions, ControlPlane};

#[tokio::test]
async fn tls_api_rejects_plaintext_and_untrusted_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::for_host("localhost");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let other = Certificate::for_host("localhost");
    for (name, text) in [("cert", &certificate.certificate), ("key", &certificate.key), ("other", &other.certificate)] {
        std::fs::write(path(name), text).unwrap();
    }
    let arguments = vec!["--api-tls-cert".to_owned(), path("cert"), "--api-tls-key".to_owned(), path("key")];
    let control = ControlPlane::start_with(ControlOptions { arguments, ..ControlOptions::default() }).await;
    let port = control.api().port();
    let url = format!("https://localhost:{port}");
    let get_services =
        async |url: &str, ca: &str| control.weir(&["--api", url, "--api-ca", ca, "get", "ServiceEntry"]).await;
    let (success, _, error) = get_services(&url, &path("cert")).await;
    assert!(success, "{error}");
    let (success, _, error) = get_services(&url, &path("other")).await;
    assert!(!success && error.contains("cannot be reached"), "the certificate is not trusted: {error}");
    let (success, _, error) = get_services(&format!("http://127.0.0.1:{port}"), &path("cert")).await;
    assert!(!success, "plaintext is rejected: {error}");
    let (success, _, error) = get_services("http://10.0.0.1:15080", &path("cert")).await;
    assert!(!success && error.contains("the token would go there in plain text"), "{error}");
    // A connection without a handshake delays no other one.
    let silent = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    assert!(get_services(&url, &path("cert")).await.0);
    drop(silent);
    assert!(!control.log().contains("PRIVATE"), "{}", control.log());
}
