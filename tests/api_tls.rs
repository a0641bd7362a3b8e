//! The control API by TLS: for whoever believes its certificate, and in plain text for nobody.

use harness::{Certificate, ControlOptions, ControlPlane};

#[tokio::test]
async fn the_api_is_served_by_tls_and_a_token_goes_to_nobody_in_plain_text() {
    let folder = tempfile::tempdir().unwrap();
    let certificate = Certificate::of("localhost");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let other = Certificate::of("localhost");
    for (name, text) in [("cert", &certificate.certificate), ("key", &certificate.key), ("other", &other.certificate)] {
        std::fs::write(path(name), text).unwrap();
    }
    let arguments = vec!["--api-tls-cert".to_owned(), path("cert"), "--api-tls-key".to_owned(), path("key")];
    let control = ControlPlane::start_with(ControlOptions { arguments, ..ControlOptions::default() }).await;
    let port = control.api().port();
    let url = format!("https://localhost:{port}");
    let asks = async |url: &str, ca: &str| control.weir(&["--api", url, "--api-ca", ca, "get", "Service"]).await;
    let (good, _, error) = asks(&url, &path("cert")).await;
    assert!(good, "{error}");
    let (good, _, error) = asks(&url, &path("other")).await;
    assert!(!good && error.contains("cannot be reached"), "somebody else has signed it: {error}");
    let (good, _, error) = asks(&format!("http://127.0.0.1:{port}"), &path("cert")).await;
    assert!(!good, "plain text is not answered: {error}");
    let (good, _, error) = asks("http://10.0.0.1:15080", &path("cert")).await;
    assert!(!good && error.contains("the token would go there in plain text"), "{error}");
    // Who says nothing holds nobody up.
    let silent = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    assert!(asks(&url, &path("cert")).await.0);
    drop(silent);
    assert!(!control.log().contains("PRIVATE"), "{}", control.log());
}
