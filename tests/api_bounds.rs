//! Bounds of the control plane's listeners: slow clients of one listener keep out no other client, there and elsewhere.

use harness::{ControlOptions, ControlPlane, Origin, RawConnection, Resources, wait_until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Opens connections that send `bytes` and nothing more.
async fn open_connections(address: std::net::SocketAddr, count: usize, bytes: &str) -> Vec<RawConnection> {
    let mut connections = Vec::with_capacity(count);
    for _ in 0..count {
        let mut connection = RawConnection::connect(address).await;
        connection.send(bytes).await;
        connections.push(connection);
    }
    connections
}

/// Waits until the server has closed every connection, and returns what it has sent on the last one.
async fn wait_until_closed(connections: Vec<RawConnection>) -> String {
    let mut last = String::new();
    for mut connection in connections {
        last = connection.rest().await;
    }
    last
}

/// Starts a control plane that may open 256 files.
async fn start() -> ControlPlane {
    // This process opens more files than that.
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    ControlPlane::start_with(ControlOptions { file_descriptors: Some(256), ..ControlOptions::default() }).await
}

#[tokio::test]
async fn half_sent_requests_are_closed_and_keep_out_no_client() {
    let origin = Origin::text("origin").await;
    let control = start().await;
    control.apply(&Resources::forward_to(origin.address())).await;
    let half_sent = open_connections(control.api(), 900, "GET /api/v1/status HTTP/1.1\r\nhost: a\r\nx-a").await;

    assert_eq!(control.get("status").await["revision"], 1, "the API answers another client");
    let proxy = control.proxy("p1", &[]).await;
    wait_until("a response", async || {
        proxy.find_listener("default/edge/http").await?;
        (proxy.get("/").await.text() == "origin").then_some(())
    })
    .await;
    wait_until_closed(half_sent).await;
    let log = control.log();
    assert!(log.contains("connections closed by their limits") && log.contains("timed_out="), "{log}");
    let lines = log.lines().filter(|line| line.contains("connections closed by their limits")).count();
    assert!(lines <= 10, "one line for many connections: {log}");
    assert!(!log.contains("cannot accept connection"), "the file descriptors are enough: {log}");
    assert_eq!(control.get("status").await["proxies"], 1);
}

#[tokio::test]
async fn silent_xds_and_module_connections_keep_out_no_client() {
    let origin = Origin::text("origin").await;
    let control = start().await;
    control.apply(&Resources::forward_to(origin.address())).await;
    let mut silent = open_connections(control.xds(), 300, "PRI * HTTP/2").await;
    silent.extend(open_connections(control.modules(), 300, "GET /modules").await);
    silent.extend(open_connections(control.xds_mtls(), 100, "").await);

    let proxy = control.proxy("p1", &[]).await;
    wait_until("a response", async || {
        proxy.find_listener("default/edge/http").await?;
        (proxy.get("/").await.text() == "origin").then_some(())
    })
    .await;
    assert_eq!(control.get("status").await["proxies"], 1);
    wait_until_closed(silent).await;
    assert!(!control.log().contains("cannot accept connection"), "{}", control.log());
}

#[tokio::test]
async fn connection_serves_several_requests() {
    let control = ControlPlane::start().await;
    let token = control.admin_token();
    let mut connection = RawConnection::connect(control.api()).await;
    for _ in 0..3 {
        let head = format!("GET /api/v1/status HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n");
        connection.send(head).await;
        let (head, body) = connection.response().await;
        assert!(head.starts_with("HTTP/1.1 200") && body.contains("revision"), "{head}{body}");
    }
    assert_eq!(wait_until_closed(vec![connection]).await, "", "an idle connection is closed");
}
