//! Endpoints on Unix sockets: every protocol over them, their names in logs and properties, and paths that are none.

use std::path::{Path, PathBuf};

use harness::{
    Codec, ControlPlane, Filter, Origin, Proxy, RawConnection, Resources, full, spawn_background, wait_until,
};
use http::Response;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("weir-unix-").tempdir().unwrap()
}

/// Returns a ServiceEntry with one endpoint.
fn service(name: &str, address: &str, protocol: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80, \
         protocol: {protocol}}}], endpoints: [{{address: \"{address}\"}}]}}\n"
    )
}

fn uri(path: &Path) -> String {
    format!("unix://{}", path.display())
}

/// Starts an origin on a socket that responds with a text.
fn origin_on(path: &Path, codec: Codec) -> Origin {
    Origin::start_unix(path, codec, |_| async move { Ok(Response::new(full("from a socket"))) })
}

fn socket_in(folder: &TempDir) -> PathBuf {
    folder.path().join("app.sock")
}

#[tokio::test]
async fn requests_reach_an_endpoint_on_a_unix_socket() {
    for (codec, protocol) in [(Codec::Http1, "HTTP"), (Codec::Http2, "HTTP2")] {
        let folder = folder();
        let path = socket_in(&folder);
        let origin = origin_on(&path, codec);
        let property = |name: &str| {
            let header = format!("x-{name}");
            json!({"do": "property", "property": ["upstream", name], "name": header, "map": "response"})
        };
        let steps = json!({"response_headers": [property("address"), property("port")]});
        let all = Resources::new().yaml(&service("origin", &uri(&path), protocol)).route_everything();
        let proxy = Proxy::start(&all.filter(Filter::test("shows", steps))).await;
        let mut client = proxy.client().await;
        for _ in 0..3 {
            let response = client.get("/").await;
            assert_eq!((response.status, response.text().as_str()), (200, "from a socket"), "{codec:?}");
            assert_eq!(
                (response.headers["x-address"].to_str().unwrap(), &response.headers["x-port"]),
                (path.to_str().unwrap(), &http::HeaderValue::from_static("-"))
            );
        }
        assert_eq!((origin.connections(), origin.count()), (1, 3), "{codec:?}: the connection is reused");
        let name = format!("unix:{}", path.display());
        let line = proxy.access_log_for("/").await;
        assert_eq!(line["endpoint"], json!(name), "{line}");
        let clusters = proxy.json("/clusters").await;
        assert_eq!(clusters[0]["endpoints"][0]["address"], json!(name), "{clusters}");
        let dump = proxy.page("/config_dump").await.text();
        assert!(dump.contains(&name), "{dump}");
    }
}

#[tokio::test]
async fn missing_socket_is_answered_503_until_it_exists() {
    let folder = folder();
    let path = socket_in(&folder);
    let all = Resources::new().yaml(&service("origin", &uri(&path), "HTTP")).route_everything();
    let proxy = Proxy::start(&all).await;
    assert_eq!(proxy.get("/missing").await.status, 503);
    let line = proxy.access_log_for("/missing").await;
    assert_eq!(line["response_code_details"], "upstream_connect_failed", "{line}");
    assert!(line["cause"].as_str().unwrap().contains("No such file"), "{line}");
    let origin = origin_on(&path, Codec::Http1);
    assert_eq!(proxy.get("/").await.status, 200);
    // A server that has ended leaves its socket behind.
    drop(origin);
    wait_until("the end of the origin", async || (tokio::net::UnixStream::connect(&path).await.is_err()).then_some(()))
        .await;
    assert_eq!(proxy.get("/gone").await.status, 503);
    std::fs::remove_file(&path).unwrap();
    let _origin = origin_on(&path, Codec::Http1);
    assert_eq!(proxy.get("/").await.status, 200);
}

#[tokio::test]
async fn tcp_route_reaches_a_unix_socket() {
    let folder = folder();
    let path = socket_in(&folder);
    let listener = UnixListener::bind(&path).unwrap();
    spawn_background(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut ping = [0; 4];
            socket.read_exact(&mut ping).await.unwrap();
            socket.write_all(b"pong").await.unwrap();
        }
    });
    let all = Resources::empty()
        .tcp_gateway()
        .yaml(&service("origin", &uri(&path), "TCP"))
        .tcp_route("rules: [{backendRefs: [{name: origin, port: 80}]}]");
    let proxy = Proxy::start(&all).await;
    let mut wire = RawConnection::connect(proxy.listener("default/edge/tcp").await).await;
    wire.send("ping").await;
    assert_eq!(wire.rest().await, "pong");
    drop(wire);
    let line = proxy.access_log_line(|line| line["protocol"] == "TCP").await;
    assert_eq!(line["endpoint"], json!(format!("unix:{}", path.display())), "{line}");
}

#[tokio::test]
async fn callout_of_a_filter_reaches_a_unix_socket() {
    let folder = folder();
    let path = socket_in(&folder);
    let (policy, origin) = (origin_on(&path, Codec::Http1), Origin::text("here").await);
    let call = json!({"do": "call", "service": "default/policy:80", "to": "/decide", "timeout_ms": 5000});
    let resume = json!({"do": "resume", "direction": "request"});
    let all = Resources::forward_to(origin.address())
        .yaml(&service("policy", &uri(&path), "HTTP"))
        .filter(Filter::test("asks", json!({"request_headers": [call], "call_response": [resume]})));
    let proxy = Proxy::start(&all).await;
    assert_eq!(proxy.get("/").await.status, 200);
    assert_eq!(policy.last().path, "/decide");
}

#[tokio::test]
async fn paths_that_are_no_sockets_are_rejected() {
    let long = format!("unix:///{}", "a".repeat(107));
    for (address, reason) in [
        ("unix:run/app.sock", "is not the absolute path of a socket; hint: write it as in unix:///run/app.sock"),
        ("unix:///run/", "is not the absolute path of a socket"),
        ("unix://host/app.sock", "is not the absolute path of a socket"),
        ("unix:@app", "names an abstract socket, which is not supported"),
        (long.as_str(), "is longer than the path of a socket can be; hint: at most 107 bytes"),
        ("/run/app.sock", "is not an address with a port"),
    ] {
        let all = Resources::new().yaml(&service("origin", address, "HTTP")).route_everything();
        let (status, log) = Proxy::fail_to_start(&all, harness::ProxyOptions::default()).await;
        assert!(!status.success() && log.contains(reason), "{address}: {log}");
        assert!(log.contains("spec.endpoints[0].address"), "{log}");
    }
}

#[tokio::test]
async fn unix_socket_is_sent_by_the_control_plane_and_not_registered() {
    let folder = folder();
    let path = socket_in(&folder);
    let _origin = origin_on(&path, Codec::Http1);
    let control = ControlPlane::start().await;
    let all = Resources::new().yaml(&service("origin", &uri(&path), "HTTP")).route_everything();
    control.apply(&all).await;
    let proxy = control.proxy("p1", &[]).await;
    wait_until("the listener", async || proxy.find_listener("default/edge/http").await).await;
    assert_eq!(proxy.get("/").await.text(), "from a socket");
    let token = control.admin_token();
    let registration: Value = json!({"address": uri(&path), "leaseSeconds": 60});
    let response =
        control.request_as(Some(&token), "PUT", "workloads/default/origin/one", &registration.to_string()).await;
    assert_eq!(response.status, 400, "{}", response.text());
    let reason = "is a Unix socket, which other hosts cannot reach; register an address as in `10.0.0.5:8080`";
    assert!(response.text().contains(reason), "{}", response.text());
}
