//! Changes of resources in files: each way of writing a file is applied, a bad change is rejected and changes nothing,
//! and requests complete on the configuration with which they started.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;

use harness::{Codec, Filter, Module, Origin, Proxy, Resources, body_channel, wait_until};
use http::{Request, Response};
use serde_json::json;

const REJECTED: &str = "weir_config_updates_total{result=\"rejected\"}";
const OUT_OF_SYNC: &str = "weir_config_out_of_sync";

/// Returns resources that forward everything to `origin`.
fn resources(origin: &Origin) -> Resources {
    Resources::forward_to(origin.address())
}

async fn wait_until_served_by(proxy: &Proxy, text: &str) {
    wait_until(&format!("a response from {text}"), async || {
        let response = proxy.get("/").await;
        assert_eq!(response.status, 200, "a change loses no request: {}", response.text());
        (response.text() == text).then_some(())
    })
    .await;
}

async fn two_origins() -> (Origin, Origin) {
    (Origin::text("old").await, Origin::text("new").await)
}

#[tokio::test]
async fn file_replaced_by_rename_is_applied() {
    let (old, new) = two_origins().await;
    let proxy = Proxy::start(&resources(&old)).await;
    let version = proxy.version().await;
    proxy.write("resources.yaml", resources(&new).text());
    wait_until_served_by(&proxy, "new").await;
    assert_ne!(proxy.version().await, version);
    proxy.write("resources.yaml", resources(&old).text());
    wait_until_served_by(&proxy, "old").await;
    assert_eq!(proxy.version().await, version, "equal resources have equal versions");
    assert_eq!(proxy.metric(REJECTED).await, 0.0);
}

#[tokio::test]
async fn file_written_in_place_is_applied_when_complete() {
    let (old, new) = two_origins().await;
    let proxy = Proxy::start(&resources(&old)).await;
    let path = proxy.config().join("resources.yaml");
    for (origin, text) in [(&new, "new"), (&old, "old"), (&new, "new")] {
        let written = resources(origin);
        let (first, second) = written.text().split_at(written.text().len() / 2);
        let mut file = fs::File::create(&path).unwrap();
        file.write_all(first.as_bytes()).unwrap();
        file.flush().unwrap();
        tokio::task::yield_now().await;
        file.write_all(second.as_bytes()).unwrap();
        drop(file);
        wait_until_served_by(&proxy, text).await;
    }
    assert_eq!(proxy.metric(REJECTED).await, 0.0, "a partly written file is not rejected:\n{}", proxy.log());
}

#[tokio::test]
async fn switched_symbolic_link_is_applied() {
    // Kubernetes updates a mounted ConfigMap in this way: files link through `..data` to a folder that is replaced.
    let (old, new) = two_origins().await;
    let proxy = Proxy::start(&Resources::new()).await;
    let folder = proxy.config();
    let put = |version: &str, origin: &Origin| {
        let text = resources(origin).text().to_owned();
        let text = text.split_once("---\n").unwrap().1.to_owned(); // The Gateway is in resources.yaml.
        fs::create_dir(folder.join(version)).unwrap();
        fs::write(folder.join(version).join("shop.yaml"), text).unwrap();
        symlink(version, folder.join("..data_tmp")).unwrap();
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    };
    put("..2024_1", &old);
    symlink("..data/shop.yaml", folder.join("shop.yaml")).unwrap();
    wait_until("the first version", async || (proxy.get("/").await.status == 200).then_some(())).await;
    put("..2024_2", &new);
    fs::remove_dir_all(folder.join("..2024_1")).unwrap();
    wait_until_served_by(&proxy, "new").await;
    assert_eq!(proxy.metric(REJECTED).await, 0.0, "{}", proxy.log());
}

#[tokio::test]
async fn added_and_removed_files_are_applied() {
    let (old, new) = two_origins().await;
    let proxy = Proxy::start(&resources(&old).service("new", &[new.address()])).await;
    let route = Resources::empty().route(
        "special",
        "rules: [{matches: [{path: {type: Exact, value: /}}], backendRefs: [{name: new, port: 80}]}]",
    );
    proxy.write("special.yaml", route.text());
    wait_until_served_by(&proxy, "new").await;
    fs::remove_file(proxy.config().join("special.yaml")).unwrap();
    wait_until_served_by(&proxy, "old").await;
    // Hidden files and files that are not YAML are ignored.
    proxy.write("notes.txt", "not: [yaml");
    proxy.write(".hidden.yaml", "not: [yaml");
    proxy.write("special.yaml", route.text());
    wait_until_served_by(&proxy, "new").await;
    assert_eq!(proxy.metric(REJECTED).await, 0.0, "{}", proxy.log());
}

#[tokio::test]
async fn rejected_change_keeps_active_config() {
    let (old, new) = two_origins().await;
    let proxy = Proxy::start(&resources(&old)).await;
    let version = proxy.version().await;
    proxy.write("resources.yaml", resources(&new).text().replace("kind: HTTPRoute", "kind: HTTPRuote"));
    let line = proxy.wait_for_log("configuration rejected").await;
    assert!(line.contains("resources.yaml:") && line.contains("HTTPRuote") && line.contains("hint: "), "{line}");
    proxy.wait_for_metric(OUT_OF_SYNC, |value| value > 0.5).await;
    assert_eq!(proxy.metric(REJECTED).await, 1.0);
    let dump = proxy.json("/config_dump").await;
    assert_eq!((dump["version"].as_str(), dump["inSync"].as_bool()), (Some(version.as_str()), Some(false)));
    assert!(dump["lastRefusal"]["text"].as_str().unwrap().contains("HTTPRuote"), "{dump}");
    assert_eq!(proxy.get("/").await.text(), "old");
    assert_eq!(proxy.page("/ready").await.status, 200, "the active configuration is unchanged");
    // The corrected file is applied.
    proxy.write("resources.yaml", resources(&new).text());
    wait_until_served_by(&proxy, "new").await;
    proxy.wait_for_metric(OUT_OF_SYNC, |value| value < 0.5).await;
    assert_eq!(proxy.json("/config_dump").await["inSync"], true);
}

#[tokio::test]
async fn requests_complete_on_config_they_started_with() {
    let new = Origin::text("new").await;
    let (step, body) = body_channel();
    let body = parking_lot::Mutex::new(Some(body));
    let old = Origin::start(Codec::Http1, move |_| {
        let body = body.lock().take().unwrap_or_else(|| harness::full("again"));
        std::future::ready(Ok(Response::new(body)))
    })
    .await;
    let mark = |text: &str| {
        json!({
            "response_headers": [{"do": "set", "name": "x-config", "value": text}],
            "response_body": [{"do": "append_body", "text": format!(", by the {text} filter")}]
        })
    };
    let before = resources(&old).filter(Filter::test("mark", mark("old")));
    let proxy = Proxy::start(&before).await;
    let mut client = proxy.client().await;
    assert!(step.data("begun").await);
    let response = client.send_head(Request::get("/").body(harness::empty()).unwrap()).await;
    assert_eq!(response.headers()["x-config"], "old");
    proxy.apply_and_wait(&resources(&new).filter(Filter::test("mark", mark("new")))).await;
    assert_eq!(proxy.get("/").await.text(), "new, by the new filter");
    step.data(", ended").await;
    drop(step);
    let response = harness::with_deadline("the old request's end", harness::read(response)).await.unwrap();
    assert_eq!(response.text(), "begun, ended, by the old filter");
    // The connection's next request uses the new configuration.
    assert_eq!(client.get("/").await.text(), "new, by the new filter");
}

#[tokio::test]
async fn filter_configuration_change_is_applied() {
    let origin = Origin::text("ok").await;
    let with = |value: &str| {
        let config = json!({"response_headers": [{"do": "set", "name": "x-value", "value": value}]});
        resources(&origin).filter(Filter::test("one", config))
    };
    let proxy = Proxy::start(&with("1")).await;
    for value in ["2", "3"] {
        proxy.apply_and_wait(&with(value)).await;
        assert_eq!(proxy.get("/").await.header("x-value"), Some(value));
    }
    proxy.apply_and_wait(&resources(&origin)).await;
    assert_eq!(proxy.get("/").await.header("x-value"), None);
    wait_until("the old plugins to be gone", async || {
        (proxy.json("/plugins").await.as_array().is_some_and(Vec::is_empty)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn replaced_module_is_applied() {
    // Modules that differ in the status of their local reply.
    let module = |status: u16| {
        harness::wasm_from_wat(&include_str!("wat/local_reply.wat").replace("STATUS", &status.to_string()))
    };
    let origin = Origin::text("never").await;
    let filter = |status| Filter::new("answers", Module::Bytes("answers.wasm", module(status)));
    let proxy = Proxy::start(&resources(&origin).filter(filter(401))).await;
    assert_eq!(proxy.get("/").await.status, 401);
    for status in [402, 403, 404] {
        // The YAML file does not change.
        proxy.write("answers.wasm", module(status));
        wait_until(&format!("the filter that responds {status}"), async || {
            let response = proxy.get("/").await.status;
            assert!((401..=404).contains(&response), "a change loses no request: {response}");
            (response == status).then_some(())
        })
        .await;
    }
    // A module that does not load is rejected, and the old one stays.
    proxy.write("answers.wasm", "not a module");
    proxy.wait_for_log("configuration rejected").await;
    assert_eq!(proxy.get("/").await.status, 404);
    proxy.write("answers.wasm", module(405));
    wait_until("the filter that responds 405", async || (proxy.get("/").await.status == 405).then_some(())).await;
}

#[tokio::test]
async fn many_changes_lose_no_request() {
    let (old, new) = two_origins().await;
    let proxy = Proxy::start(&resources(&old)).await;
    let address = proxy.address().await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let asking = async {
        let mut client = harness::Client::http1(address).await;
        let mut count = 0_u32;
        while !*stopped.borrow() {
            assert_eq!(client.get("/").await.status, 200);
            count += 1;
        }
        count
    };
    let changing = async {
        for round in 0..50 {
            let (origin, text) = if round % 2 == 0 { (&new, "new") } else { (&old, "old") };
            proxy.write("resources.yaml", resources(origin).text());
            wait_until_served_by(&proxy, text).await;
        }
        stop.send_replace(true);
    };
    let (count, ()) = tokio::join!(asking, changing);
    assert!(count > 50, "{count} requests");
    assert_eq!(proxy.metric(REJECTED).await, 0.0);
}

#[tokio::test]
async fn endpoint_change_preserves_pools_of_other_clusters() {
    let (old, new) = two_origins().await;
    let route = "rules: [{matches: [{path: {value: /a}}], backendRefs: [{name: a, port: 80}]}, {backendRefs: [{name: b, port: 80}]}]";
    let both =
        |b: &Origin| Resources::new().service("a", &[old.address()]).service("b", &[b.address()]).route("both", route);
    let proxy = Proxy::start(&both(&old)).await;
    let mut client = proxy.client().await;
    assert_eq!(client.get("/a").await.text(), "old");
    let connections = old.connections();
    proxy.apply_and_wait(&both(&new)).await;
    assert_eq!((client.get("/b").await.text(), client.get("/a").await.text()), ("new".to_owned(), "old".to_owned()));
    assert_eq!(old.connections(), connections, "the pool of the unchanged cluster is preserved");
}
