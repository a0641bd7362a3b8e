//! The shipped filters in a real Envoy and in Weir: equal modules, configurations and requests must have equal
//! responses. `cargo xtask test` installs Envoy.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::SocketAddr;

use harness::{Body, Client, ClientResponse, Codec, Envoy, Filter, Module, Origin, Proxy, Resources, empty, full};
use http::{Request, Response};
use serde_json::{Value, json};

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
    harness::wait_until("the filter's metric in Envoy", async || {
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
