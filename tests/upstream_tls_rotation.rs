//! Rotation: a changed CA or certificate is used by new connections, without a failed request and without a new cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use harness::{Authority, Client, Nginx, Proxy, Resources, config_map, own_address, wait_until};
use tokio::task::JoinSet;

use crate::{HOST, cluster, policy, server};

/// Sends requests one after another until `stop`, and returns the failed ones.
async fn request_until(address: SocketAddr, stop: Arc<AtomicBool>, done: Arc<AtomicUsize>) -> Vec<String> {
    let mut failed = Vec::new();
    let mut client = Client::http1(address).await;
    while !stop.load(Ordering::Relaxed) {
        let response = client.get("/").await;
        if response.status != 200 {
            failed.push(response.text());
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    failed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_of_authority_loses_no_request() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (first, second) = (own_address(), own_address());
    let servers = [server(first, &old.for_host(HOST), ""), server(second, &new.for_host(HOST), "")].concat();
    let _nginx = Nginx::start(&servers, &[first, second]).await;
    let resources = |address, certificates: &str| {
        Resources::forward_to(address).yaml(&config_map("ca", certificates)).yaml(&policy("origin", HOST, ""))
    };
    let proxy = Proxy::start(&resources(first, &old.certificate)).await;
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let address = proxy.address().await;
    let mut load = JoinSet::new();
    load.spawn(request_until(address, Arc::clone(&stop), Arc::clone(&done)));
    let more = async || {
        let before = done.load(Ordering::Relaxed);
        wait_until("more requests", async || (done.load(Ordering::Relaxed) > before + 20).then_some(())).await;
    };
    more().await;
    let both = format!("{}{}", old.certificate, new.certificate);
    let before = cluster(&proxy, "default/origin:80").await["requests"].as_u64().unwrap();
    proxy.apply_and_wait(&resources(first, &both)).await;
    more().await;
    let after = cluster(&proxy, "default/origin:80").await["requests"].as_u64().unwrap();
    assert!(after > before && before > 0, "the cluster keeps its state: {before}, {after}");
    proxy.apply_and_wait(&resources(second, &both)).await;
    more().await;
    proxy.apply_and_wait(&resources(second, &new.certificate)).await;
    more().await;
    stop.store(true, Ordering::Relaxed);
    assert_eq!(load.join_next().await.unwrap().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn removed_authority_retires_idle_connections() {
    let (old, new, address) = (Authority::new("old"), Authority::new("new"), own_address());
    let http1 = server(address, &old.for_host(HOST), "");
    let http2_address = own_address();
    let http2 = server(http2_address, &old.for_host(HOST), "").replace(" ssl;", " ssl http2;");
    let _nginx = Nginx::start(&[http1, http2].concat(), &[address, http2_address]).await;
    for (forward, path) in [(Resources::forward_to(address), "/1"), (Resources::forward_to_http2(http2_address), "/2")]
    {
        let resources = |ca: &Authority| forward.clone().yaml(&ca.config_map("ca")).yaml(&policy("origin", HOST, ""));
        let proxy = Proxy::start(&resources(&old)).await;
        // One connection, so that all requests are on one worker.
        let mut client = proxy.client().await;
        assert_eq!(client.get("/").await.status, 200);
        assert_eq!(client.get("/").await.status, 200);
        assert_eq!(cluster(&proxy, "default/origin:80").await["connections"], 1, "the connection is idle");
        // It was verified with a CA that is not trusted any more.
        proxy.apply_and_wait(&resources(&new)).await;
        assert_eq!(client.get(path).await.status, 503);
        assert_eq!(proxy.access_log_for(path).await["response_code_details"], "upstream_tls_failed");
        proxy.apply_and_wait(&resources(&old)).await;
        assert_eq!(client.get("/").await.status, 200);
    }
}

#[tokio::test]
async fn unusable_authorities_are_rejected_and_the_previous_ones_stay() {
    let (ca, address) = (Authority::new("ca"), own_address());
    let _nginx = Nginx::start(&server(address, &ca.for_host(HOST), ""), &[address]).await;
    let resources = |certificates: &str| {
        Resources::forward_to(address).yaml(&config_map("ca", certificates)).yaml(&policy("origin", HOST, ""))
    };
    let proxy = Proxy::start(&resources(&ca.certificate)).await;
    assert_eq!(proxy.get("/").await.status, 200);
    proxy.apply(&resources("-----BEGIN CERTIFICATE-----\naGk=\n-----END CERTIFICATE-----\n"));
    let log = proxy.wait_for_log("a CA certificate cannot be read").await;
    assert!(log.contains("BackendTLSPolicy default/tls-origin"), "{log}");
    assert_eq!(proxy.get("/").await.status, 200);
}
