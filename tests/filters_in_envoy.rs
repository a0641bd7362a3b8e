//! The shipped filters in a real Envoy and in Weir: equal modules, configurations and requests must have equal
//! responses. `cargo xtask test` installs Envoy.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use harness::{
    Body, Client, ClientResponse, Codec, Envoy, Filter, Module, Origin, Proxy, RawConnection, Resources, empty, full,
    wait_until,
};
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Headers that a filter may set on a response.
const RESPONSE_HEADERS: [&str; 6] =
    ["www-authenticate", "retry-after", "ratelimit-limit", "ratelimit-remaining", "set-cookie", "x-seen"];

/// Headers that a filter may set on a request.
const REQUEST_HEADERS: [&str; 6] =
    ["x-auth-consumer", "x-auth-claim-sub", "x-role", "tracestate", "x-weir-target", "authorization"];

/// Starts an origin that responds with the request headers that a filter may set.
async fn echo() -> Origin {
    Origin::start(Codec::Http1, |request| async move {
        let text = |name: &str| {
            let values = request.headers().get_all(name).iter();
            values.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect::<Vec<_>>()
        };
        let mut seen: BTreeMap<String, Vec<String>> =
            REQUEST_HEADERS.iter().map(|name| ((*name).to_owned(), text(name))).collect();
        // The parent id is random; the trace id and the flags must be equal.
        let trace = text("traceparent")
            .iter()
            .filter_map(|value| Some((value.get(3..35)?.to_owned(), value.get(53..)?.to_owned())))
            .collect::<Vec<_>>();
        seen.insert("flags".to_owned(), trace.iter().map(|(_, flags)| flags.clone()).collect());
        let continued = trace.iter().filter(|(id, _)| id == "0af7651916cd43dd8448eb211c80319c");
        seen.insert("trace".to_owned(), continued.map(|(id, _)| id.clone()).collect());
        Ok(Response::new(full(serde_json::to_string(&seen).unwrap())))
    })
    .await
}

/// A request: method, path, headers.
type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

fn request(row: &Row<'_>) -> Request<Body> {
    let (method, path, headers) = row;
    let request = Request::builder().method(*method).uri(*path).header("host", "a.test");
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(empty()).unwrap()
}

/// Returns the parts of a response that must be equal in both proxies.
fn comparable(response: &ClientResponse) -> Value {
    let headers = RESPONSE_HEADERS.map(|name| {
        let values =
            response.headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        json!([name, values.collect::<Vec<_>>()])
    });
    json!({"status": response.status, "text": response.text(), "headers": headers})
}

async fn weir(name: &'static str, config: &Value, origin: SocketAddr) -> Proxy {
    let filter = Filter { config: config.clone(), ..Filter::new("one", Module::Builtin(name)) };
    Proxy::start(&Resources::forward_to(origin).filter(filter)).await
}

/// Sends every row to both proxies, compares the responses, and returns their statuses.
async fn compare(name: &'static str, config: &Value, rows: &[Row<'_>]) -> Vec<u16> {
    let origin = echo().await;
    let weir = weir(name, config, origin.address()).await;
    let envoy = Envoy::start(&[(name, config.clone())], origin.address()).await;
    let mut statuses = Vec::new();
    for row in rows {
        // A connection for each request, since the proxies close connections after different errors.
        let mine = weir.client().await.send(request(row)).await;
        let peers = Client::http1(envoy.address()).await.send(request(row)).await;
        assert_eq!(comparable(&mine), comparable(&peers), "{row:?}: Weir is left, Envoy right\n{}", envoy.log());
        statuses.push(mine.status);
    }
    statuses
}

#[tokio::test]
async fn auth() {
    let config = json!({
        "realm": "shop",
        "apiKeys": {"query": "key", "keys": [{"id": "mobile", "key": "m0bile"}]},
        "basic": {"users": [{"name": "alice", "password": "sha256:x1:4facee6dc712dcabd01930c93263e367b8b439f0a2bc0caff33676e21debdd5b"}]},
        "rules": [
            {"name": "deny-admin", "action": "deny", "paths": [{"prefix": "/admin"}]},
            {"name": "health", "action": "allow", "anonymous": true, "paths": [{"exact": "/healthz"}]},
            {"name": "reads", "action": "allow", "methods": ["GET"]},
        ],
    });
    let rows: [Row<'_>; 11] = [
        ("GET", "/", &[]),
        ("GET", "/", &[("x-api-key", "m0bile"), ("x-auth-consumer", "root")]),
        ("GET", "/", &[("x-api-key", "guess")]),
        ("GET", "/", &[("x-api-key", "m0bile"), ("x-api-key", "guess")]),
        ("GET", "/?key=m0bile", &[]),
        ("GET", "/", &[("authorization", "Basic YWxpY2U6d29uZGVybGFuZA==")]),
        ("GET", "/", &[("authorization", "Basic YWxpY2U6d3Jvbmc=")]),
        ("GET", "/admin/users", &[("x-api-key", "m0bile")]),
        ("GET", "/x/../admin", &[("x-api-key", "m0bile")]),
        ("GET", "/healthz", &[("x_auth_consumer", "root")]),
        ("POST", "/", &[("x-api-key", "m0bile")]),
    ];
    let statuses = compare("auth", &config, &rows).await;
    assert_eq!(statuses, [401, 200, 401, 401, 200, 200, 401, 403, 403, 200, 403]);
}

#[tokio::test]
async fn rate_limit() {
    let config = json!({"limits": [
        {"name": "users", "requests": 2, "per": "hour", "key": [{"header": "x-user"}], "missingKey": "refuse"},
        {"name": "writes", "requests": 1, "per": "hour", "match": {"methods": ["POST"]}},
    ]});
    let rows: [Row<'_>; 8] = [
        ("GET", "/", &[("x-user", "ada")]),
        ("GET", "/", &[("x-user", "ada")]),
        ("GET", "/", &[("x-user", "ada")]),
        ("GET", "/", &[("x-user", "bob")]),
        ("POST", "/", &[("x-user", "bob")]),
        ("POST", "/", &[("x-user", "eve")]),
        ("GET", "/", &[]),
        ("GET", "/", &[("x-user", "eve")]),
    ];
    let statuses = compare("rate-limit", &config, &rows).await;
    assert_eq!(statuses, [200, 200, 429, 200, 200, 429, 400, 200]);
}

#[tokio::test]
async fn fault() {
    let config = json!({
        "match": {"methods": ["GET"]},
        "delay": {"fixedDelay": "400ms", "percentage": 100, "header": "x-fault-delay"},
        "abort": {"percentage": 100, "header": "x-fault-status"},
    });
    let rows: [Row<'_>; 7] = [
        ("GET", "/", &[]),
        ("GET", "/", &[("x-fault-status", "404")]),
        ("GET", "/", &[("x-fault-status", "999")]),
        ("GET", "/", &[("x-fault-delay", "50ms")]),
        ("GET", "/", &[("x-fault-delay", "50"), ("x-fault-status", "503")]),
        ("GET", "/", &[("x-fault-delay", "never")]),
        ("POST", "/", &[("x-fault-status", "404")]),
    ];
    assert_eq!(compare("fault", &config, &rows).await, [200, 404, 200, 200, 503, 200, 200]);
}

#[tokio::test]
async fn fault_holds_requests_back_in_envoy() {
    let config = json!({
        "delay": {"fixedDelay": "1h", "percentage": 100, "header": "x-fault-delay"},
        "abort": {"httpStatus": 503, "grpcStatus": "RESOURCE_EXHAUSTED", "percentage": 0},
        "maxActiveFaults": 3,
    });
    let origin = Origin::echo(Codec::Http1).await;
    let envoy = Envoy::start(&[("fault", config)], origin.address()).await;
    let active = async |count: u32| {
        let line = format!("wasmcustom.fault_active: {count}\n");
        let reached = async || envoy.page("/stats?filter=fault_active").await.contains(&line).then_some(());
        wait_until(&format!("{count} active delays\n{}", envoy.log()), reached).await;
    };
    // Uploads that are delayed at the same time, each for its own time.
    let upload = async |delay_ms: u32| {
        let mut client = Client::http1(envoy.address()).await;
        let request = Request::post("/").header("x-fault-delay", delay_ms.to_string());
        let sent = Instant::now();
        let response = client.send(request.body(full(vec![b'x'; 100_000])).unwrap()).await;
        assert_eq!((response.status, response.body.len()), (200, 100_000), "{}", envoy.log());
        assert!(sent.elapsed() >= Duration::from_millis(delay_ms.into()), "{delay_ms} ms: {:?}", sent.elapsed());
    };
    tokio::join!(upload(1_500), upload(700), upload(1_100), active(3));
    active(0).await;
    // Requests that end before their delays.
    for _ in 0..4 {
        let mut wire = RawConnection::connect(envoy.address()).await;
        wire.send("GET / HTTP/1.1\r\nhost: a\r\nx-fault-delay: 1h\r\n\r\n").await;
        active(1).await;
        wire.reset();
        active(0).await;
    }
    assert_eq!(origin.count(), 3);

    let abort = json!({"httpStatus": 503, "grpcStatus": "RESOURCE_EXHAUSTED", "percentage": 100});
    let delay = json!({"fixedDelay": "50ms", "percentage": 100});
    let envoy = Envoy::start(&[("fault", json!({"delay": delay, "abort": abort}))], origin.address()).await;
    let mut client = Client::http1(envoy.address()).await;
    let grpc = Request::post("/").header("content-type", "application/grpc").body(full("message")).unwrap();
    let response = client.send(grpc).await;
    assert_eq!((response.status, response.header("grpc-status")), (200, Some("8")), "{}", envoy.log());
    assert_eq!(Client::http1(envoy.address()).await.get("/").await.status, 503);
    assert_eq!(origin.count(), 3);
}

#[tokio::test]
async fn telemetry() {
    let config = json!({"metrics": {}, "tracing": {"sampleRatio": 1.0}});
    let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let rows: [Row<'_>; 6] = [
        ("GET", "/", &[]),
        ("GET", "/", &[("traceparent", valid), ("tracestate", "a=1")]),
        (
            "GET",
            "/",
            &[("traceparent", "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), ("tracestate", "a=1")],
        ),
        ("GET", "/", &[("traceparent", "00-00000000000000000000000000000000-b7ad6b7169203331-01")]),
        ("GET", "/", &[("traceparent", valid), ("traceparent", valid)]),
        ("GET", "/", &[("traceparent", "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more")]),
    ];
    compare("telemetry", &config, &rows).await;
    let origin = echo().await;
    let envoy = Envoy::start(&[("telemetry", config)], origin.address()).await;
    Client::http1(envoy.address()).await.get("/").await;
    wait_until("the filter's metric in Envoy", async || {
        envoy.page("/stats?filter=requests_total").await.contains("2xx").then_some(())
    })
    .await;
}

#[tokio::test]
async fn routing() {
    let config = json!({"rules": [
        {"name": "testers", "headers": [{"name": "x-beta", "exact": "yes"}], "to": "@v2"},
        {"name": "gold", "cookies": [{"name": "tier", "exact": "gold"}], "to": "default/origin:80@v2"},
        {"name": "canary", "sticky": {"header": "x-user"}, "split": [{"percent": 30, "to": "@v2"}]},
        {"name": "rest", "to": "@v1"},
    ]});
    let (v1, v2) = (Origin::text("v1").await, Origin::text("v2").await);
    let service = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {{name: origin}}\nspec:\n  ports: [{{name: http, port: 80, \
         protocol: HTTP}}]\n  endpoints: [{{address: \"{}\", version: v1}}, {{address: \"{}\", version: v2}}]\n",
        v1.address(),
        v2.address()
    );
    let filter = Filter { config: config.clone(), ..Filter::new("one", Module::Builtin("routing")) };
    let weir = Proxy::start(&Resources::new().yaml(&service).route_everything().filter(filter)).await;
    // Envoy has one upstream, which responds with the version that the filter picked.
    let marked = Origin::start(Codec::Http1, |request| async move {
        let mark = request.headers().get("x-weir-target").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let version = mark.rsplit('@').next().unwrap_or_default().to_owned();
        Ok(Response::new(full(version)))
    })
    .await;
    let envoy = Envoy::start(&[("routing", config)], marked.address()).await;
    let (mut ours, mut theirs) = (weir.client().await, Client::http1(envoy.address()).await);
    let users: Vec<String> = (0..200).map(|user| format!("user-{user}")).collect();
    let users: Vec<[(&str, &str); 1]> = users.iter().map(|user| [("x-user", user.as_str())]).collect();
    let mut rows: Vec<Row<'_>> = vec![
        ("GET", "/", &[("x-beta", "yes")]),
        ("GET", "/", &[("x-beta", "no")]),
        ("GET", "/", &[("cookie", "a=b; tier=gold")]),
        ("GET", "/", &[("cookie", "a=b"), ("cookie", "tier=gold")]),
        ("GET", "/", &[("x-weir-target", "@v2")]),
    ];
    rows.extend(users.iter().map(|headers| ("GET", "/", &headers[..])));
    let mut on_v2 = 0;
    for row in &rows {
        let (mine, peers) = (ours.send(request(row)).await, theirs.send(request(row)).await);
        assert_eq!((mine.status, mine.text()), (peers.status, peers.text()), "{row:?}\n{}", envoy.log());
        on_v2 += usize::from(mine.text() == "v2");
    }
    assert!((33..100).contains(&on_v2), "{on_v2} of {} on v2", rows.len());
}
