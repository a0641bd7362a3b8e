//! Endpoints from DNS: answers that change, their TTL, failures, and addresses that do not respond.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use domain::base::Rtype;
use harness::{
    Codec, DnsServer, Origin, Proxy, ProxyOptions, RawConnection, RawOrigin, Resources, Silenced, full, own_addresses,
    wait_until,
};
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

/// Returns a policy of the Service `origin` with a connect timeout that is longer than a test.
fn patient_connects() -> &'static str {
    "apiVersion: weir.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: origin}\nspec: {targetRefs: [{kind: \
     Service, name: origin}], timeouts: {connect: 5m}}\n"
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

#[cfg_attr(not(feature = "tools"), ignore = "needs iptables")]
#[tokio::test]
async fn address_that_does_not_respond_is_overtaken() {
    for codec in [Codec::Http1, Codec::Http2] {
        let [silent, live] = own_addresses();
        let _silent = origin_at(silent, codec, "silent").await;
        let _live = origin_at(live, codec, "live").await;
        let _silenced = Silenced::new(silent);
        let server = DnsServer::start().await;
        server.set(NAME, &[silent.ip(), live.ip()], 300);
        let protocol = if codec == Codec::Http1 { "HTTP" } else { "HTTP2" };
        let all = Resources::new().yaml(&service("origin", NAME, live.port(), protocol)).route_everything();
        let proxy = start(&all.yaml(patient_connects()), &server).await;
        for _ in 0..4 {
            assert_eq!(proxy.get("/").await.text(), "live", "{codec:?}");
        }
        let lines = wait_until("four lines", async || Some(proxy.access_log()).filter(|lines| lines.len() == 4)).await;
        for line in lines {
            assert_eq!((&line["endpoint"], &line["attempts"]), (&json!(live.to_string()), &json!(1)), "{line}");
        }
        let cluster = cluster(&proxy).await;
        assert_eq!(
            (&cluster["retries"], &cluster["failures"], &cluster["inFlight"]),
            (&json!(0), &json!(0), &json!(0))
        );
        let connects = proxy.metric("weir_upstream_connections_total{cluster=\"default/origin:80\"}").await;
        assert!(connects >= 2.0, "the silent address was tried: {connects}");
    }
}

#[cfg_attr(not(feature = "tools"), ignore = "needs iptables")]
#[tokio::test]
async fn tcp_connection_overtakes_address_that_does_not_respond() {
    let [silent, live] = own_addresses();
    let _listening = std::net::TcpListener::bind(silent).unwrap();
    let _silenced = Silenced::new(silent);
    let _origin = RawOrigin::start_at(live, |mut wire| async move {
        let ping = wire.exactly(4).await;
        wire.send(ping).await;
    })
    .await;
    let server = DnsServer::start().await;
    server.set(NAME, &[silent.ip(), live.ip()], 300);
    let all = Resources::empty()
        .tcp_gateway()
        .yaml(&service("origin", NAME, live.port(), "TCP"))
        .yaml(patient_connects())
        .tcp_route("rules: [{backendRefs: [{name: origin, port: 80}]}]");
    let proxy = start(&all, &server).await;
    for _ in 0..2 {
        let mut wire = RawConnection::connect(proxy.listener("default/edge/tcp").await).await;
        wire.send("ping").await;
        assert_eq!(wire.exactly(4).await, b"ping");
    }
}

#[cfg_attr(not(feature = "tools"), ignore = "needs iptables")]
#[tokio::test]
async fn name_without_an_address_that_responds_is_answered_after_the_connect_timeout() {
    let addresses = own_addresses();
    let _listening = addresses.map(|address| std::net::TcpListener::bind(address).unwrap());
    let _silenced = addresses.map(Silenced::new);
    let server = DnsServer::start().await;
    server.set(NAME, &addresses.map(|address| address.ip()), 300);
    let policy = patient_connects().replace("5m", "600ms");
    let all = Resources::new().yaml(&service("origin", NAME, addresses[0].port(), "HTTP")).route_everything();
    let proxy = start(&all.yaml(&policy), &server).await;
    assert_eq!(proxy.get("/").await.status, 503);
    let line = proxy.access_log_for("/").await;
    assert_eq!(line["response_code_details"], "upstream_connect_timeout", "{line}");
    let cluster = cluster(&proxy).await;
    for endpoint in cluster["endpoints"].as_array().unwrap() {
        assert_eq!(endpoint["failures"], 1, "{cluster}");
    }
}
