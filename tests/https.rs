//! HTTPS: certificates are selected by host, and renewed without closing connections. Keys are in no log and no dump.

use std::net::SocketAddr;

use harness::{Certificate, Codec, ControlPlane, Filter, Module, Origin, Proxy, Resources, wait_until};
use http::Request;
use serde_json::json;

/// Returns a Gateway `edge` with listeners (name, host) on one port. Each uses the Secret of its name.
fn edge(hosts: &[(&str, &str)]) -> String {
    let listener = |(name, host): &(&str, &str)| {
        let host = if host.is_empty() { String::new() } else { format!("hostname: \"{host}\", ") };
        format!("{{name: {name}, port: 8443, protocol: HTTPS, {host}tls: {{certificateRefs: [{{name: {name}}}]}}}}")
    };
    let listeners: Vec<String> = hosts.iter().map(listener).collect();
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec: {{gatewayClassName: \
         weir, listeners: [{}]}}\n",
        listeners.join(", ")
    )
}

fn resources(origin: SocketAddr, hosts: &[(&str, &str)]) -> Resources {
    Resources::empty().yaml(&edge(hosts)).service("origin", &[origin]).route_everything()
}

fn for_host(host: &str) -> Request<harness::Body> {
    Request::get("/").header("host", host).body(harness::empty()).unwrap()
}

#[tokio::test]
async fn certificate_is_selected_by_sni() {
    let origin = Origin::text("here").await;
    let (a, b) = (Certificate::for_host("a.example"), Certificate::for_host("*.b.example"));
    let property = |name: &str| json!({"do": "property", "property": ["connection", name], "name": format!("x-{name}"), "map": "response"});
    let properties = ["requested_server_name", "tls_version"].map(property);
    let resources = resources(origin.address(), &[("a", "a.example"), ("b", "*.b.example")])
        .filter(Filter::test("properties", json!({"response_headers": properties})))
        .yaml(&a.secret("a"))
        .yaml(&b.secret("b"))
        .bind("default/edge/a");
    let proxy = Proxy::start(&resources).await;
    let at = proxy.listener("default/edge/a").await;
    for codec in [Codec::Http1, Codec::Http2] {
        let mut client = a.connect(at, "a.example", codec).await.unwrap();
        assert_eq!(client.send(for_host("a.example")).await.text(), "here");
        assert_eq!(origin.last().header("x-forwarded-proto"), Some("https"));
        let mut client = b.connect(at, "x.b.example", codec).await.unwrap();
        let response = client.send(for_host("x.b.example")).await;
        assert_eq!(response.text(), "here");
        assert_eq!(response.header("x-requested_server_name"), Some("x.b.example"));
        assert_eq!(response.header("x-tls_version"), Some("TLSv1.3"));
    }
    for host in ["x.b.example", "c.example"] {
        assert!(a.connect(at, host, Codec::Http1).await.is_err(), "{host}");
    }
    assert!(a.connect_without_sni(at, "a.example", Codec::Http1).await.is_err(), "no SNI");
    proxy.wait_for_log("there is no certificate for the requested host (SNI)").await;
    // Plaintext is rejected.
    let plain = harness::with_deadline("the end of the connection", async {
        harness::Client::http1(at).await.try_send(for_host("a.example")).await
    });
    assert!(plain.await.is_err());
    let dump = harness::Client::http1(proxy.admin()).await.get("/config_dump").await.text();
    assert!(dump.contains("BEGIN CERTIFICATE") && !dump.contains("PRIVATE KEY"), "{dump}");
    assert!(!proxy.log().contains("PRIVATE KEY"));
}

#[tokio::test]
async fn sticky_cookie_is_secure_over_https_only() {
    let origin = Origin::text("here").await;
    let certificate = Certificate::for_host("a.example");
    let config = json!({"rules": [{"name": "all", "sticky": {"cookie": "group", "sameSite": "Strict"},
        "split": [{"percent": 100, "to": "default/origin:80"}]}]});
    let routing = || Filter { config: config.clone(), ..Filter::new("sticky", Module::Builtin("routing")) };
    let https = resources(origin.address(), &[("a", "a.example")])
        .filter(routing())
        .yaml(&certificate.secret("a"))
        .bind("default/edge/a");
    let proxy = Proxy::start(&https).await;
    let at = proxy.listener("default/edge/a").await;
    let mut client = certificate.connect(at, "a.example", Codec::Http2).await.unwrap();
    let response = client.send(for_host("a.example")).await;
    let cookie = response.header("set-cookie").unwrap();
    assert!(cookie.starts_with("group=") && cookie.ends_with("; HttpOnly; SameSite=Strict; Secure"), "{cookie}");
    let plain = Proxy::start(&Resources::forward_to(origin.address()).filter(routing())).await;
    let response = plain.get("/").await;
    let cookie = response.header("set-cookie").unwrap();
    assert!(cookie.ends_with("; HttpOnly; SameSite=Strict"), "{cookie}");
}

#[tokio::test]
async fn renewed_certificate_preserves_open_connections() {
    let origin = Origin::text("here").await;
    let control = ControlPlane::start().await;
    let (old, new) = (Certificate::for_host("a.example"), Certificate::for_host("a.example"));
    let all = resources(origin.address(), &[("a", "")]);
    control.apply(&all.clone().yaml(&old.secret("a"))).await;
    let proxy = control.proxy("p1", &["--bind", "default/edge/a=127.0.0.1:0"]).await;
    let at = wait_until("the listener", async || proxy.find_listener("default/edge/a").await).await;
    let mut client = old.connect_without_sni(at, "a.example", Codec::Http1).await.unwrap();
    let mut streams = old.connect(at, "a.example", Codec::Http2).await.unwrap();
    assert_eq!(client.send(for_host("a.example")).await.text(), "here");

    control.apply(&Resources::empty().yaml(&new.secret("a"))).await;
    wait_until("the new certificate", async || new.connect(at, "a.example", Codec::Http1).await.ok()).await;
    assert!(old.connect(at, "a.example", Codec::Http1).await.is_err());
    for open in [&mut client, &mut streams] {
        assert_eq!(open.send(for_host("a.example")).await.text(), "here", "open connections stay");
    }
    let object = control.get("resources/Secret/default/a").await;
    assert!(object["status"]["programmed"]["message"].as_str().unwrap().starts_with("1/1 proxies"), "{object}");
    assert_eq!(object["stringData"]["tls.key"], "<hidden>", "the key is redacted even for an admin");
    for page in ["revisions/1", "revisions/2", "resources"] {
        let text = control.get(page).await.to_string();
        assert!(!text.contains("PRIVATE KEY"), "{page}: {text}");
    }
    assert!(!control.log().contains("PRIVATE KEY"));
    let audit = std::fs::read_to_string(control.store().join("audit.log")).unwrap();
    assert!(!audit.contains("PRIVATE KEY"));
}

#[tokio::test]
async fn invalid_certificate_is_rejected_with_position() {
    let origin = Origin::text("here").await;
    let control = ControlPlane::start().await;
    let (one, other) = (Certificate::for_host("a.example"), Certificate::for_host("a.example"));
    let mixed = one.secret("a").replace(&indented(&one.key), &indented(&other.key));
    assert_ne!(mixed, one.secret("a"));
    let all = resources(origin.address(), &[("a", "")]);
    for (what, text, object, reason) in [
        (
            "another's key",
            all.clone().yaml(&mixed).text().to_owned(),
            "Secret default/a",
            "the key is not the certificate's",
        ),
        ("no secret", all.text().to_owned(), "Gateway default/edge", "no Secret `a` in namespace `default`"),
        (
            "no PEM",
            all.clone()
                .yaml("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {tls.crt: aGk=, tls.key: \"?\"}\n")
                .text()
                .to_owned(),
            "Secret default/a",
            "holds no PEM of it",
        ),
    ] {
        let response = control.request("POST", "apply?path=mine.yaml", &text).await;
        assert_eq!(response.status, 422, "{what}: {}", response.text());
        let text = response.text();
        assert!(text.contains(object) && text.contains(reason), "{what}: {text}");
        assert!(!text.contains(other.key.lines().nth(1).unwrap()), "{what}: {text}");
    }
    control.apply(&all.clone().yaml(&one.secret("a"))).await;
    // A Secret in use cannot be deleted.
    let needed = control.request("DELETE", "resources/Secret/default/a", "").await;
    assert_eq!(needed.status, 422, "{}", needed.text());
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
