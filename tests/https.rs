//! HTTPS: certificates by host, renewed without the end of a connection, in no log and no dump.

use std::net::SocketAddr;

use harness::{Certificate, Codec, ControlPlane, Filter, Origin, Proxy, Resources, until};
use http::Request;
use serde_json::json;

/// A Gateway `edge` that serves these hosts on one port, each with the Secret of its own name.
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
    Resources::nothing().yaml(&edge(hosts)).service("origin", &[origin]).route_everything()
}

fn for_host(host: &str) -> Request<harness::Body> {
    Request::get("/").header("host", host).body(harness::empty()).unwrap()
}

#[tokio::test]
async fn each_host_has_its_certificate_in_both_protocols() {
    let origin = Origin::says("here").await;
    let (a, b) = (Certificate::of("a.example"), Certificate::of("*.b.example"));
    let property = |name: &str| json!({"do": "property", "property": ["connection", name], "name": format!("x-{name}"), "map": "response"});
    let told = ["requested_server_name", "tls_version"].map(property);
    let resources = resources(origin.address(), &[("a", "a.example"), ("b", "*.b.example")])
        .filter(Filter::test("tells", json!({"response_headers": told})))
        .yaml(&a.secret("a"))
        .yaml(&b.secret("b"))
        .bind("default/edge/a");
    let proxy = Proxy::start(&resources).await;
    let at = proxy.listener("default/edge/a").await;
    for codec in [Codec::Http1, Codec::Http2] {
        let mut client = a.connect(at, ("a.example", true), codec).await.unwrap();
        assert_eq!(client.send(for_host("a.example")).await.text(), "here");
        assert_eq!(origin.last().header("x-forwarded-proto"), Some("https"));
        let mut client = b.connect(at, ("x.b.example", true), codec).await.unwrap();
        let answer = client.send(for_host("x.b.example")).await;
        assert_eq!(answer.text(), "here");
        assert_eq!(answer.header("x-requested_server_name"), Some("x.b.example"));
        assert_eq!(answer.header("x-tls_version"), Some("TLSv1.3"));
    }
    for (certificate, host, asks) in [(&a, "x.b.example", true), (&a, "c.example", true), (&a, "a.example", false)] {
        let refused = certificate.connect(at, (host, asks), Codec::Http1).await;
        assert!(refused.is_err(), "{host} {asks}");
    }
    proxy.wait_for_log("there is no certificate for the host that it asks for (SNI)").await;
    // Plain text is not answered.
    let plain =
        harness::within("an end", async { harness::Client::http1(at).await.attempt(for_host("a.example")).await });
    assert!(plain.await.is_err());
    let dump = harness::Client::http1(proxy.admin()).await.get("/config_dump").await.text();
    assert!(dump.contains("BEGIN CERTIFICATE") && !dump.contains("PRIVATE KEY"), "{dump}");
    assert!(!proxy.log().contains("PRIVATE KEY"));
}

#[tokio::test]
async fn a_certificate_is_renewed_and_open_connections_go_on() {
    let origin = Origin::says("here").await;
    let control = ControlPlane::start().await;
    let (old, new) = (Certificate::of("a.example"), Certificate::of("a.example"));
    let all = resources(origin.address(), &[("a", "")]);
    control.apply(&all.clone().yaml(&old.secret("a"))).await;
    let proxy = control.proxy("p1", &["--bind", "default/edge/a=127.0.0.1:0"]).await;
    let at = until("the listener", async || proxy.find_listener("default/edge/a").await).await;
    let mut client = old.connect(at, ("a.example", false), Codec::Http1).await.unwrap();
    let mut streams = old.connect(at, ("a.example", true), Codec::Http2).await.unwrap();
    assert_eq!(client.send(for_host("a.example")).await.text(), "here");

    control.apply(&Resources::nothing().yaml(&new.secret("a"))).await;
    until("the new certificate", async || new.connect(at, ("a.example", true), Codec::Http1).await.ok()).await;
    assert!(old.connect(at, ("a.example", true), Codec::Http1).await.is_err());
    for open in [&mut client, &mut streams] {
        assert_eq!(open.send(for_host("a.example")).await.text(), "here", "what is open goes on");
    }
    let object = control.get("resources/Secret/default/a").await;
    assert!(object["status"]["programmed"]["message"].as_str().unwrap().starts_with("1/1 proxies"), "{object}");
    assert_eq!(object["stringData"]["tls.key"], "<hidden>", "not even for an admin");
    for page in ["revisions/1", "revisions/2", "resources"] {
        let text = control.get(page).await.to_string();
        assert!(!text.contains("PRIVATE KEY"), "{page}: {text}");
    }
    assert!(!control.log().contains("PRIVATE KEY"));
    let audit = std::fs::read_to_string(control.store().join("audit.log")).unwrap();
    assert!(!audit.contains("PRIVATE KEY"));
}

#[tokio::test]
async fn what_is_no_certificate_is_refused_where_it_was_written() {
    let origin = Origin::says("here").await;
    let control = ControlPlane::start().await;
    let (one, other) = (Certificate::of("a.example"), Certificate::of("a.example"));
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
        let answer = control.ask("POST", "apply?path=mine.yaml", &text).await;
        assert_eq!(answer.status, 422, "{what}: {}", answer.text());
        let text = answer.text();
        assert!(text.contains(object) && text.contains(reason), "{what}: {text}");
        assert!(!text.contains(other.key.lines().nth(1).unwrap()), "{what}: {text}");
    }
    control.apply(&all.clone().yaml(&one.secret("a"))).await;
    // What is shown cannot be deleted.
    let needed = control.ask("DELETE", "resources/Secret/default/a", "").await;
    assert_eq!(needed.status, 422, "{}", needed.text());
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}
