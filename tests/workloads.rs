//! Workloads that register themselves: they serve as long as they say so.

use std::net::SocketAddr;

use harness::{Answer, ControlPlane, Origin, Proxy, Resources, until};
use serde_json::{Value, json};

/// A Service that nobody is listed for, behind the Gateway.
fn empty_service() -> Resources {
    Resources::new().service("origin", &[]).route_everything()
}

async fn register(control: &ControlPlane, token: &str, path: &str, said: &Value) -> Answer {
    control.ask_as(Some(token), "PUT", &format!("workloads/{path}"), &said.to_string()).await
}

fn said(address: SocketAddr, lease: u32) -> Value {
    json!({"address": address.to_string(), "leaseSeconds": lease})
}

async fn answers(proxy: &Proxy, expected: (u16, &str)) {
    until(&format!("{expected:?}"), async || {
        proxy.find_listener("default/edge/http").await?;
        let answer = proxy.get("/").await;
        (answer.status == expected.0 && (expected.0 != 200 || answer.text() == expected.1)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn who_registers_serves_as_long_as_he_says_so() {
    let (one, two) = (Origin::says("one").await, Origin::says("two").await);
    let mut control = ControlPlane::start().await;
    control.apply(&empty_service()).await;
    let proxy = control.proxy("p1", &[]).await;
    answers(&proxy, (503, "")).await;
    let token = control.admin_token();
    let path = "default/origin/one";
    let mut first = said(one.address(), 600);
    assert_eq!(register(&control, &token, path, &first).await.status, 200);
    answers(&proxy, (200, "one")).await;
    let revision = control.get("revisions").await[0]["id"].clone();
    assert_eq!(revision, 1, "it is no revision");

    first["healthy"] = json!(false);
    assert_eq!(register(&control, &token, path, &first).await.status, 200);
    answers(&proxy, (503, "")).await;
    assert_eq!(register(&control, &token, "default/origin/two", &said(two.address(), 600)).await.status, 200);
    answers(&proxy, (200, "two")).await;

    // They are there after a restart, and go when they are asked to.
    control.kill().await;
    control.restart().await;
    assert_eq!(control.get("workloads").await.as_array().unwrap().len(), 2);
    answers(&control.proxy("p2", &[]).await, (200, "two")).await;
    let gone = control.ask_as(Some(&token), "DELETE", "workloads/default/origin/two", "").await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    answers(&proxy, (503, "")).await;
}

#[tokio::test]
async fn who_does_not_say_it_again_in_time_is_gone() {
    let origin = Origin::says("one").await;
    let control = ControlPlane::start().await;
    control.apply(&empty_service()).await;
    let proxy = control.proxy("p1", &[]).await;
    let token = control.admin_token();
    for _ in 0..3 {
        assert_eq!(register(&control, &token, "default/origin/one", &said(origin.address(), 2)).await.status, 200);
        answers(&proxy, (200, "one")).await;
    }
    answers(&proxy, (503, "")).await;
    assert_eq!(control.get("workloads").await, json!([]));
    // Saying it again is nothing to note; the first time is.
    let audit = std::fs::read_to_string(control.store().join("audit.log")).unwrap();
    assert_eq!(audit.matches("Workload default/origin/one").count(), 1, "{audit}");
}

#[tokio::test]
async fn who_may_register_what() {
    let origin = Origin::says("one").await;
    let control = ControlPlane::start().await;
    control.apply(&empty_service()).await;
    let join = control.join_token("shop/origin").await;
    let made = |body: &str| {
        let (body, control) = (body.to_owned(), &control);
        async move {
            let made: Value = serde_json::from_str(&control.ask("POST", "tokens", &body).await.text()).unwrap();
            made["secret"].as_str().unwrap().to_owned()
        }
    };
    let viewer = made(r#"{"name": "v", "role": "viewer"}"#).await;
    let other = made(r#"{"name": "e", "role": "editor", "namespaces": ["shop"]}"#).await;
    let (path, good) = ("default/origin/one", said(origin.address(), 60));
    // A workload is an endpoint of Services that ask for just that workload.
    let own = control.join_token("default/reviews").await;
    for token in [&join, &viewer, &other, &own] {
        assert_eq!(register(&control, token, path, &good).await.status, 403);
    }
    let service = "apiVersion: weir.dev/v1alpha1\nkind: Service\nmetadata: {name: reviews}\nspec: {ports: [{port: 80}], \
                   endpoints: [], identity: {serviceAccount: reviews}}\n";
    control.apply(&Resources::nothing().yaml(service)).await;
    assert_eq!(register(&control, &own, "default/reviews/one", &good).await.status, 200);
    assert_eq!(register(&control, &join, "default/reviews/one", &good).await.status, 403);
    let gone = control.ask_as(Some(&own), "DELETE", "workloads/default/reviews/one", "").await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    assert_eq!(control.ask_as(Some(&join), "GET", "workloads", "").await.status, 403, "it may read nothing");
    let admin = control.admin_token();
    for (path, said, status, expected) in [
        ("default/nobody/one", good.clone(), 404, "no Service default/nobody"),
        (path, said(origin.address(), 1), 422, "between 2 and 3600"),
        (path, json!({"address": "0.0.0.0:80", "leaseSeconds": 60}), 422, "is nowhere"),
        (path, json!({"address": "127.0.0.1:80", "leaseSeconds": 60, "version": "a b"}), 422, "is not a version"),
        (path, json!({"address": "169.254.169.254:80", "leaseSeconds": 60}), 422, "something else on each machine"),
        (path, json!({"address": "127.0.0.1:80", "leaseSeconds": 60, "port": 1}), 400, "unknown field"),
    ] {
        let answer = register(&control, &admin, path, &said).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        assert!(answer.text().contains(expected), "{}", answer.text());
    }
    assert_eq!(control.get("workloads").await, json!([]));
    for number in 0..16 {
        let said = json!({"address": "127.0.0.1:80", "leaseSeconds": 60, "version": format!("v{number}")});
        let answer = register(&control, &admin, &format!("default/origin/w{number}"), &said).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let said = json!({"address": "127.0.0.1:80", "leaseSeconds": 60, "version": "v16"});
    let answer = register(&control, &admin, "default/origin/w16", &said).await;
    assert!(answer.status == 409 && answer.text().contains("16 versions"), "{} {}", answer.status, answer.text());
}
