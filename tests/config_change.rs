//! A change of configuration: it serves, however it is written; a bad one is refused and changes nothing; requests end
//! on the configuration that they began with.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;

use harness::{Codec, Filter, Module, Origin, Proxy, Resources, in_steps, until};
use http::{Request, Response};
use serde_json::json;

const REFUSED: &str = "config_updates_total{result=\"refused\"}";
const OUT_OF_SYNC: &str = "config_out_of_sync";

/// Everything goes to the Service `origin`, which is this one.
fn resources(origin: &Origin) -> Resources {
    Resources::forward_to(origin.address())
}

async fn wait_until_served_by(proxy: &Proxy, text: &str) {
    until(&format!("an answer from {text}"), async || {
        let answer = proxy.get("/").await;
        assert_eq!(answer.status, 200, "a change loses no request: {}", answer.text());
        (answer.text() == text).then_some(())
    })
    .await;
}

async fn two_origins() -> (Origin, Origin) {
    (Origin::says("old").await, Origin::says("new").await)
}

#[tokio::test]
async fn written_by_rename() {
    let (old, new) = two_origins().await;
    let proxy = Proxy::start(&resources(&old)).await;
    let version = proxy.version().await;
    proxy.write("resources.yaml", resources(&new).text());
    wait_until_served_by(&proxy, "new").await;
    assert_ne!(proxy.version().await, version);
    proxy.write("resources.yaml", resources(&old).text());
    wait_until_served_by(&proxy, "old").await;
    assert_eq!(proxy.version().await, version, "the same text is the same version");
    assert_eq!(proxy.metric(REFUSED).await, 0.0);
}

#[tokio::test]
async fn written_in_place_in_two_parts() {
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
    assert_eq!(proxy.metric(REFUSED).await, 0.0, "nothing half written is refused:\n{}", proxy.log());
}

#[tokio::test]
async fn switched_by_a_symbolic_link() {
    // As Kubernetes updates a mounted ConfigMap: files link through `..data` to a folder that is replaced as a whole.
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
    until("the first version", async || (proxy.get("/").await.status == 200).then_some(())).await;
    put("..2024_2", &new);
    fs::remove_dir_all(folder.join("..2024_1")).unwrap();
    wait_until_served_by(&proxy, "new").await;
    assert_eq!(proxy.metric(REFUSED).await, 0.0, "{}", proxy.log());
}

#[tokio::test]
async fn a_file_is_added_and_removed() {
    let (old, new) = two_origins().await;
    let proxy = Proxy::start(&resources(&old).service("new", &[new.address()])).await;
    let route = Resources::nothing().route(
        "special",
        "rules: [{matches: [{path: {type: Exact, value: /}}], backendRefs: [{name: new, port: 80}]}]",
    );
    proxy.write("special.yaml", route.text());
    wait_until_served_by(&proxy, "new").await;
    fs::remove_file(proxy.config().join("special.yaml")).unwrap();
    wait_until_served_by(&proxy, "old").await;
    // Files that are no resources are nobody's business.
    proxy.write("notes.txt", "not: [yaml");
    proxy.write(".hidden.yaml", "not: [yaml");
    proxy.write("special.yaml", route.text());
    wait_until_served_by(&proxy, "new").await;
    assert_eq!(proxy.metric(REFUSED).await, 0.0, "{}", proxy.log());
}

#[tokio::test]
async fn a_refused_change_leaves_everything_as_it_was() {
    let (old, new) = two_origins().await;
    let proxy = Proxy::start(&resources(&old)).await;
    let version = proxy.version().await;
    proxy.write("resources.yaml", resources(&new).text().replace("kind: HTTPRoute", "kind: HTTPRuote"));
    let line = proxy.wait_for_log("configuration refused").await;
    assert!(line.contains("resources.yaml:") && line.contains("HTTPRuote") && line.contains("hint: "), "{line}");
    proxy.wait_for_metric(OUT_OF_SYNC, |value| value > 0.5).await;
    assert_eq!(proxy.metric(REFUSED).await, 1.0);
    let dump = proxy.json("/config_dump").await;
    assert_eq!((dump["version"].as_str(), dump["inSync"].as_bool()), (Some(version.as_str()), Some(false)));
    assert!(dump["lastRefusal"]["text"].as_str().unwrap().contains("HTTPRuote"), "{dump}");
    assert_eq!(proxy.get("/").await.text(), "old");
    assert_eq!(proxy.page("/ready").await.status, 200, "what serves is as good as before");
    // Put right, it serves.
    proxy.write("resources.yaml", resources(&new).text());
    wait_until_served_by(&proxy, "new").await;
    proxy.wait_for_metric(OUT_OF_SYNC, |value| value < 0.5).await;
    assert_eq!(proxy.json("/config_dump").await["inSync"], true);
}

#[tokio::test]
async fn requests_end_on_the_configuration_they_began_with() {
    let new = Origin::says("new").await;
    let (step, body) = in_steps();
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
    let response = client.begin(Request::get("/").body(harness::empty()).unwrap()).await;
    assert_eq!(response.headers()["x-config"], "old");
    proxy.change(&resources(&new).filter(Filter::test("mark", mark("new")))).await;
    assert_eq!(proxy.get("/").await.text(), "new, by the new filter");
    step.data(", ended").await;
    drop(step);
    let answer = harness::within("the old request's end", harness::read(response)).await.unwrap();
    assert_eq!(answer.text(), "begun, ended, by the old filter");
    // The same connection goes on with the new one.
    assert_eq!(client.get("/").await.text(), "new, by the new filter");
}

#[tokio::test]
async fn a_filters_configuration_changes() {
    let origin = Origin::says("ok").await;
    let with = |value: &str| {
        let config = json!({"response_headers": [{"do": "set", "name": "x-value", "value": value}]});
        resources(&origin).filter(Filter::test("one", config))
    };
    let proxy = Proxy::start(&with("1")).await;
    for value in ["2", "3"] {
        proxy.change(&with(value)).await;
        assert_eq!(proxy.get("/").await.header("x-value"), Some(value));
    }
    proxy.change(&resources(&origin)).await;
    assert_eq!(proxy.get("/").await.header("x-value"), None);
    until("the old plugins to be gone", async || {
        (proxy.json("/plugins").await.as_array().is_some_and(Vec::is_empty)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_module_is_replaced() {
    // The same filter but for the status that it answers with.
    let module =
        |status: u16| harness::module_of_wat(&include_str!("wat/answers.wat").replace("STATUS", &status.to_string()));
    let origin = Origin::says("never").await;
    let filter = |status| Filter::of("answers", Module::Bytes("answers.wasm", module(status)));
    let proxy = Proxy::start(&resources(&origin).filter(filter(401))).await;
    assert_eq!(proxy.get("/").await.status, 401);
    for status in [402, 403, 404] {
        // Only the module's file changes.
        proxy.write("answers.wasm", module(status));
        until(&format!("the filter that answers {status}"), async || {
            let answer = proxy.get("/").await.status;
            assert!((401..=404).contains(&answer), "a change loses no request: {answer}");
            (answer == status).then_some(())
        })
        .await;
    }
    // A module that does not load is refused, the old one goes on.
    proxy.write("answers.wasm", "not a module");
    proxy.wait_for_log("configuration refused").await;
    assert_eq!(proxy.get("/").await.status, 404);
    proxy.write("answers.wasm", module(405));
    until("the filter that answers 405", async || (proxy.get("/").await.status == 405).then_some(())).await;
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
    assert_eq!(proxy.metric(REFUSED).await, 0.0);
}

#[tokio::test]
async fn an_endpoint_change_keeps_the_pool_of_the_others() {
    let (old, new) = two_origins().await;
    let route = "rules: [{matches: [{path: {value: /a}}], backendRefs: [{name: a, port: 80}]}, {backendRefs: [{name: b, port: 80}]}]";
    let both =
        |b: &Origin| Resources::new().service("a", &[old.address()]).service("b", &[b.address()]).route("both", route);
    let proxy = Proxy::start(&both(&old)).await;
    let mut client = proxy.client().await;
    assert_eq!(client.get("/a").await.text(), "old");
    let connections = old.connections();
    proxy.change(&both(&new)).await;
    assert_eq!((client.get("/b").await.text(), client.get("/a").await.text()), ("new".to_owned(), "old".to_owned()));
    assert_eq!(old.connections(), connections, "the cluster that did not change keeps its connection");
}
