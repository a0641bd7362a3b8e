//! Endpoints on Unix sockets with TLS, and in a real Envoy that the control plane drives.

use std::path::Path;

use harness::{
    Authority, Client, Codec, ControlPlane, Envoy, Origin, Proxy, Resources, free_address, full, wait_until,
};
use http::Response;
use serde_json::json;
use tokio::net::UnixStream;

use crate::{HOST, OpenSslServer, policy};

/// Returns a ServiceEntry with an endpoint on a Unix socket.
fn service(name: &str, path: &Path, rest: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80, \
         protocol: HTTP}}], endpoints: [{{address: \"unix://{}\"}}{rest}]}}\n",
        path.display()
    )
}

#[tokio::test]
async fn server_on_a_unix_socket_is_verified() {
    let (ca, folder) = (Authority::new("ca"), tempfile::tempdir().unwrap());
    let path = folder.path().join("tls.sock");
    let certificate = ca.for_host(HOST);
    let _server = OpenSslServer::start_with(&["-unix", path.to_str().unwrap()], &certificate, &[]);
    wait_until("openssl to listen", async || UnixStream::connect(&path).await.ok().map(drop)).await;
    let all = |host: &str| {
        let services = Resources::new().yaml(&service("origin", &path, "")).route_everything();
        services.yaml(&ca.config_map("ca")).yaml(&policy("origin", host, ""))
    };
    let proxy = Proxy::start(&all(HOST)).await;
    let text = proxy.get("/").await.text();
    assert!(text.contains("Protocol  : TLSv1.3"), "{text}");
    proxy.apply_and_wait(&all("else.example")).await;
    assert_eq!(proxy.get("/wrong").await.status, 503);
    let line = proxy.access_log_for("/wrong").await;
    assert_eq!(line["response_code_details"], "upstream_tls_failed", "{line}");
    assert_eq!(line["endpoint"], json!(format!("unix:{}", path.display())), "{line}");
    assert!(line["cause"].as_str().unwrap().contains(&format!("unix:{}", path.display())), "{line}");
}

#[tokio::test]
async fn envoy_and_proxy_reach_the_same_unix_sockets() {
    let (folder, edge) = (tempfile::tempdir().unwrap(), free_address());
    let path = folder.path().join("app.sock");
    let answer = |_| async { Ok(Response::new(full("from a socket"))) };
    let origin = Origin::start_unix(&path, Codec::Http1, answer);
    let tcp = Origin::text("from TCP").await;
    let gateway = format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\nspec: {{gatewayClassName: \
         weir, listeners: [{{name: http, port: {}, protocol: HTTP}}]}}\n",
        edge.port()
    );
    let both = format!(", {{address: \"{}\"}}", tcp.address());
    let route = |name: &str| {
        format!("rules: [{{matches: [{{path: {{value: /{name}}}}}], backendRefs: [{{name: {name}, port: 80}}]}}]")
    };
    let all = Resources::empty()
        .yaml(&gateway)
        .yaml(&service("unix", &path, ""))
        .yaml(&service("mixed", &path, &both))
        .route("unix", &route("unix"))
        .route("mixed", &route("mixed"));
    let control = ControlPlane::start().await;
    control.apply(&all).await;
    let envoy = Envoy::follow(control.xds(), "DELTA_GRPC", control.modules()).await;
    let proxy = control.proxy("p1", &["--bind", "default/edge/http=127.0.0.1:0"]).await;
    let at = wait_until("the listener", async || proxy.find_listener("default/edge/http").await).await;
    for (peer, address) in [("weir-proxy", at), ("Envoy", envoy.address())] {
        let what = format!("200 of {peer}; the log of Envoy:\n{}", envoy.log());
        let get = async |path: &'static str| Client::http1(address).await.get(path).await.text();
        wait_until(&what, async || (get("/unix").await == "from a socket").then_some(())).await;
        for expected in ["from a socket", "from TCP"] {
            wait_until(&what, async || (get("/mixed").await == expected).then_some(())).await;
        }
    }
    assert!(origin.count() >= 4);
    let stats = envoy.page("/stats?filter=update_rejected").await;
    let rejected = stats.lines().find(|line| line.contains("rejected: ") && !line.ends_with(": 0"));
    assert_eq!(rejected, None, "Envoy rejected a resource:\n{}", envoy.log());
}
