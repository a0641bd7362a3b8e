//! The admin pages, and errors of the command line.

use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;

use harness::{
    Codec, Filter, Module, Origin, Proxy, ProxyOptions, RawConnection, Resources, wait_until, with_deadline,
};
use rustix::process::Signal;
use serde_json::json;

async fn hello() -> (Origin, Proxy) {
    let origin = Origin::text("hello").await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    (origin, proxy)
}

#[tokio::test]
async fn admin_pages_accept_only_their_method() {
    let (_origin, proxy) = hello().await;
    for page in ["/ready", "/stats/prometheus", "/config_dump", "/clusters", "/listeners", "/plugins", "/"] {
        assert_eq!(proxy.page(page).await.status, 200, "{page}");
    }
    for page in ["/drain", "/quit", "/logging"] {
        assert_eq!(proxy.page(page).await.status, 405, "GET {page} changes nothing");
    }
    let unknown = proxy.page("/unknown").await;
    assert_eq!((unknown.status, unknown.text().contains("/config_dump")), (404, true));
}

#[tokio::test]
async fn cross_origin_requests_to_admin_are_rejected() {
    let (_origin, proxy) = hello().await;
    for head in ["host: evil.example", "host: 127.0.0.1\r\norigin: http://evil.example"] {
        let mut wire = RawConnection::connect(proxy.admin()).await;
        wire.send(format!("POST /quit HTTP/1.1\r\n{head}\r\n\r\n")).await;
        assert!(wire.response().await.0.starts_with("HTTP/1.1 403 "), "{head}");
    }
    assert_eq!(proxy.get("/").await.status, 200);
}

#[tokio::test]
async fn clusters_page_counts_requests_and_failures() {
    let (origin, proxy) = hello().await;
    proxy.get("/").await;
    let clusters = proxy.json("/clusters").await;
    let cluster = &clusters[0];
    assert_eq!((&cluster["name"], &cluster["requests"]), (&json!("default/origin:80"), &json!(1)), "{clusters}");
    assert_eq!(cluster["endpoints"][0]["address"], origin.address().to_string());
    let gone = Proxy::start(&Resources::forward_to(harness::own_address())).await;
    gone.get("/").await;
    let clusters = gone.json("/clusters").await;
    assert!(clusters[0]["connectFailures"].as_u64() >= Some(1), "{clusters}");
    assert!(clusters[0]["endpoints"][0]["lastFailure"].is_string(), "{clusters}");
}

#[tokio::test]
async fn config_dump_shows_active_config_without_secrets() {
    let origin = Origin::text("hello").await;
    let mut auth = Filter::new("auth", Module::Builtin("auth"));
    auth.config = json!({
        "apiKeys": {"keys": [{"id": "me", "key": "a-secret-key"}]},
        "rules": [{"name": "all", "action": "allow"}]
    });
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(auth)).await;
    let dump = proxy.page("/config_dump").await.text();
    for part in ["default/edge/http", "default/origin:80", "default/auth"] {
        assert!(dump.contains(part), "{part} in {dump}");
    }
    assert!(!dump.contains("a-secret-key"), "{dump}");
}

#[tokio::test]
async fn request_metrics_are_labeled_by_status() {
    let (_origin, proxy) = hello().await;
    for _ in 0..3 {
        proxy.get("/").await;
    }
    let counted = "weir_downstream_requests_total{listener=\"default/edge/http\",status_class=\"2xx\"}";
    proxy.wait_for_metric(counted, |count| count >= 3.0).await;
    let seconds = "weir_downstream_request_seconds_count{listener=\"default/edge/http\"}";
    assert_eq!((proxy.metric(counted).await, proxy.metric(seconds).await), (3.0, 3.0));
}

#[tokio::test]
async fn log_level_can_be_changed() {
    let (_origin, proxy) = hello().await;
    assert_eq!(proxy.command("/logging?level=loud").await.status, 400);
    assert_eq!(proxy.command("/logging?level=debug").await.status, 200);
    let wire = RawConnection::connect(proxy.address().await).await;
    drop(wire); // Logged at this level only.
    proxy.wait_for_log("connection closed before its first request").await;
}

#[tokio::test]
async fn failed_start_logs_reason_and_exits() {
    let broken = Resources::empty().yaml("kind: Nothing\n");
    let (status, log) = Proxy::fail_to_start(&broken, ProxyOptions::default()).await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("resources.yaml:1:"), "{log}");
    for (arguments, expected) in [
        (&["--config", "x", "--admin", "0.0.0.0:0"][..], "not a loopback address"),
        (&["--config", "x", "--workers", "0"], "--workers"),
        (&["--config", "x", "--nonsense"], "--nonsense"),
        (&[], "--config PATH"),
    ] {
        let output = std::process::Command::new(harness::binary()).args(arguments).output().unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && errors.contains(expected), "{arguments:?}: {errors}");
    }
}

#[tokio::test]
async fn sighup_reopens_access_log() {
    let origin = Origin::text("hello").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let arguments = vec!["--access-log".to_owned(), path.display().to_string()];
    let options = ProxyOptions { arguments, ..ProxyOptions::default() };
    let proxy = Proxy::start_with(&Resources::forward_to(origin.address()), options).await;
    let lines = || std::fs::read_to_string(&path).unwrap_or_default().lines().count();
    proxy.get("/one").await;
    wait_until("the first line", async || (lines() == 1).then_some(())).await;
    std::fs::rename(&path, folder.path().join("access.log.1")).unwrap();
    proxy.signal(Signal::HUP);
    wait_until("the file to be created again", async || path.is_file().then_some(())).await;
    proxy.get("/two").await;
    wait_until("the second line", async || (lines() == 1).then_some(())).await;
}

#[tokio::test]
async fn blocked_log_delays_no_request() {
    let (reader, writer) = std::io::pipe().unwrap();
    let options = ProxyOptions { log: Some(Arc::new(writer.into())), ..ProxyOptions::default() };
    let origin = Origin::echo(Codec::Http1).await;
    let steps = json!({"log": [{"do": "log", "text": "a long line ".repeat(3_000)}]});
    let filter = Filter::test("talkative", steps).with_fields("limits: {logBytesPerSecond: 64Mi}").targeting("all");
    let rules = "rules: [{backendRefs: [{name: origin, port: 80}]}]";
    let resources = Resources::new().service("origin", &[origin.address()]).route("all", rules).filter(filter);
    let mut proxy = Proxy::start_with(&resources, options).await;
    let mut client = proxy.client().await;
    for _ in 0..300 {
        assert_eq!(client.get("/").await.status, 200);
    }
    proxy.wait_for_metric("weir_log_lines_dropped_total", |dropped| dropped > 0.0).await;

    // A reader that comes late gets the buffered lines, a count of the dropped ones, and all later lines.
    let mut log = BufReader::new(reader);
    let reading = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        let mut passed = 0;
        while !line.contains("lines of this log were dropped") {
            passed += usize::from(line.contains("a long line a long line"));
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "the log ends without a count of dropped lines");
        }
        (log, passed)
    });
    let (mut log, passed) = with_deadline("the count of dropped lines", reading).await.unwrap();
    assert!(passed > 10, "{passed} lines were logged before the count");
    proxy.signal(Signal::TERM);
    let reading = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        log.read_to_string(&mut text).map(|_| text).unwrap()
    });
    let text = with_deadline("the end of the log", reading).await.unwrap();
    assert!(proxy.wait_for_exit().await.success());
    assert!(text.trim_end().ends_with("drained"), "the last line is there: {:?}", text.lines().last());
}
