//! Endpoints from DNS: answers that change, their TTL, failures.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use domain::base::Rtype;
use harness::{Codec, DnsServer, Origin, Proxy, ProxyOptions, Resources, full, own_addresses, wait_until};
use http::Response;
use serde_json::{Value, json};

/// The name of most tests.
const NAME: &str = "origin.example";

/// Returns a ServiceEntry of a DNS name.
fn service(name: &str, host: &str, port: u16, protocol: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80, \
         protocol: {protocol}}}], dns: {{host: {host}, port: {port}}}}}\n"
    )
}

async fn start(resources: &Resources, server: &DnsServer) -> Proxy {
    let arguments = vec!["--dns-server".to_owned(), server.address().to_string()];
    Proxy::start_with(resources, ProxyOptions { arguments, ..ProxyOptions::default() }).await
}

/// Starts an origin that responds with a text.
async fn origin_at(address: SocketAddr, codec: Codec, text: &'static str) -> Origin {
    Origin::start_at(address, codec, move |_| async move { Ok(Response::new(full(text))) }).await
}

/// Returns the state of the only cluster.
async fn cluster(proxy: &Proxy) -> Value {
    proxy.json("/clusters").await[0].clone()
}

async fn wait_for_text(proxy: &Proxy, text: &str) {
    wait_until(text, async || (proxy.get("/").await.text() == text).then_some(())).await;
}

#[tokio::test]
async fn endpoints_follow_the_answers_of_the_name_server() {
    let [one, two] = own_addresses();
    let (_one, _two) = (origin_at(one, Codec::Http1, "one").await, origin_at(two, Codec::Http1, "two").await);
    let server = DnsServer::start().await;
    server.set(NAME, &[one.ip()], 1);
    let all = Resources::new().yaml(&service("origin", NAME, one.port(), "HTTP")).route_everything();
    let proxy = start(&all, &server).await;
    assert_eq!(proxy.get("/").await.text(), "one");
    server.set(NAME, &[two.ip()], 1);
    wait_for_text(&proxy, "two").await;
    assert_eq!(proxy.get("/").await.text(), "two", "the old address is not used again");
    let endpoints = cluster(&proxy).await["endpoints"].clone();
    assert_eq!((&endpoints[0]["address"], endpoints.as_array().unwrap().len()), (&json!(two.to_string()), 1));
}

#[tokio::test]
async fn next_lookup_follows_the_ttl() {
    let server = DnsServer::start().await;
    let address = [IpAddr::from([127, 0, 0, 1])];
    server.set("short.example", &address, 0);
    server.set("long.example", &address, 3600);
    let services =
        service("short", "short.example", 80, "HTTP") + "---\n" + &service("long", "long.example", 80, "HTTP");
    let _proxy = start(&Resources::new().yaml(&services), &server).await;
    wait_until("several lookups", async || (server.queries("short.example", Rtype::A) >= 5).then_some(())).await;
    // One when the cluster is created, and one when it serves.
    assert!(server.queries("long.example", Rtype::A) <= 2);
    assert!(server.queries("short.example", Rtype::AAAA) >= 4, "both families are queried");
}

#[tokio::test]
async fn failing_name_server_retains_the_last_answer() {
    let [one, two] = own_addresses();
    let (_one, _two) = (origin_at(one, Codec::Http1, "one").await, origin_at(two, Codec::Http1, "two").await);
    let server = DnsServer::start().await;
    server.set(NAME, &[one.ip()], 1);
    let all = Resources::new().yaml(&service("origin", NAME, one.port(), "HTTP")).route_everything();
    let proxy = start(&all, &server).await;
    server.fail(&[Rtype::A, Rtype::AAAA]);
    let line = proxy.wait_for_log("cluster name does not resolve, endpoints unchanged").await;
    assert!(line.contains("SERVFAIL") && line.contains(&server.address().to_string()), "{line}");
    let before = server.queries(NAME, Rtype::A);
    wait_until("further lookups", async || (server.queries(NAME, Rtype::A) > before + 2).then_some(())).await;
    assert_eq!(proxy.get("/").await.text(), "one");
    server.set(NAME, &[two.ip()], 1);
    server.fail(&[]);
    wait_for_text(&proxy, "two").await;
    proxy.wait_for_log("cluster name resolves again").await;
    // A name without an address is a failure, too.
    server.set(NAME, &[], 1);
    proxy.wait_for_log("the name has no address").await;
    assert_eq!(proxy.get("/").await.text(), "two");
}

#[tokio::test]
async fn family_whose_lookup_fails_retains_its_addresses() {
    let [one, two] = own_addresses();
    let server = DnsServer::start().await;
    let ipv6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
    server.set(NAME, &[one.ip(), ipv6], 1);
    let proxy = start(&Resources::new().yaml(&service("origin", NAME, 80, "HTTP")), &server).await;
    let has = async |addresses: [IpAddr; 2]| {
        let endpoints = cluster(&proxy).await["endpoints"].clone();
        let expected = addresses.map(|address| json!(SocketAddr::new(address, 80).to_string()));
        let is_same = endpoints.as_array().unwrap().iter().map(|endpoint| &endpoint["address"]).eq(&expected);
        is_same.then_some(())
    };
    wait_until("both addresses", async || has([one.ip(), ipv6]).await).await;
    server.fail(&[Rtype::AAAA]);
    server.set(NAME, &[two.ip()], 1);
    wait_until("the other IPv4 address", async || has([two.ip(), ipv6]).await).await;
}

#[tokio::test]
async fn name_that_does_not_exist_is_answered_503_until_it_does() {
    let [one, _] = own_addresses();
    let _origin = origin_at(one, Codec::Http1, "here").await;
    let server = DnsServer::start().await;
    let all = Resources::new().yaml(&service("origin", NAME, one.port(), "HTTP")).route_everything();
    let proxy = start(&all, &server).await;
    assert_eq!(proxy.get("/").await.status, 503);
    server.set(NAME, &[one.ip()], 300);
    wait_for_text(&proxy, "here").await;
}
