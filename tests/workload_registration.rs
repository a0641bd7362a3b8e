//! Workloads that register themselves as endpoints, for as long as they renew their lease.

use std::net::SocketAddr;
use std::time::Duration;

use harness::{ClientResponse, ControlPlane, Origin, Proxy, Resources, wait_until};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Returns a ServiceEntry without endpoints, behind the Gateway.
fn empty_service() -> Resources {
    Resources::new().service("origin", &[]).route_everything()
}

async fn register(control: &ControlPlane, token: &str, path: &str, registration: &Value) -> ClientResponse {
    control.request_as(Some(token), "PUT", &format!("workloads/{path}"), &registration.to_string()).await
}

fn registration(address: SocketAddr, lease: u32) -> Value {
    json!({"address": address.to_string(), "leaseSeconds": lease})
}

/// Waits until the proxy responds with a status, and with a text if the status is 200.
async fn wait_for_response(proxy: &Proxy, status: u16, text: &str) {
    wait_until(&format!("{status} {text:?}"), async || {
        proxy.find_listener("default/edge/http").await?;
        let response = proxy.get("/").await;
        (response.status == status && (status != 200 || response.text() == text)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn registered_workload_is_endpoint_until_removed() {
    let (one, two) = (Origin::text("one").await, Origin::text("two").await);
    let mut control = ControlPlane::start().await;
    control.apply(&empty_service()).await;
    let proxy = control.proxy("p1", &[]).await;
    wait_for_response(&proxy, 503, "").await;
    let token = control.admin_token();
    let path = "default/origin/one";
    let mut first = registration(one.address(), 600);
    assert_eq!(register(&control, &token, path, &first).await.status, 200);
    wait_for_response(&proxy, 200, "one").await;
    let revision = control.get("revisions").await[0]["id"].clone();
    assert_eq!(revision, 1, "a registration is no revision");

    first["healthy"] = json!(false);
    assert_eq!(register(&control, &token, path, &first).await.status, 200);
    wait_for_response(&proxy, 503, "").await;
    assert_eq!(register(&control, &token, "default/origin/two", &registration(two.address(), 600)).await.status, 200);
    wait_for_response(&proxy, 200, "two").await;

    // Registrations survive a restart, and can be deleted.
    control.kill().await;
    control.restart().await;
    assert_eq!(control.get("workloads").await.as_array().unwrap().len(), 2);
    wait_for_response(&control.proxy("p2", &[]).await, 200, "two").await;
    let gone = control.request_as(Some(&token), "DELETE", "workloads/default/origin/two", "").await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    wait_for_response(&proxy, 503, "").await;
}

#[tokio::test]
async fn expired_lease_removes_workload() {
    let origin = Origin::text("one").await;
    let control = ControlPlane::start().await;
    control.apply(&empty_service()).await;
    let proxy = control.proxy("p1", &[]).await;
    let token = control.admin_token();
    for _ in 0..3 {
        assert_eq!(
            register(&control, &token, "default/origin/one", &registration(origin.address(), 2)).await.status,
            200
        );
        wait_for_response(&proxy, 200, "one").await;
    }
    wait_for_response(&proxy, 503, "").await;
    assert_eq!(control.get("workloads").await, json!([]));
    // Only the first registration is in the audit log.
    let audit = std::fs::read_to_string(control.store().join("audit.log")).unwrap();
    assert_eq!(audit.matches("Workload default/origin/one").count(), 1, "{audit}");
}

#[tokio::test]
async fn registration_requires_matching_identity() {
    let origin = Origin::text("one").await;
    let control = ControlPlane::start().await;
    control.apply(&empty_service()).await;
    let join = control.join_token("shop/origin").await;
    let made = |body: &str| {
        let (body, control) = (body.to_owned(), &control);
        async move {
            let made: Value = serde_json::from_str(&control.request("POST", "tokens", &body).await.text()).unwrap();
            made["secret"].as_str().unwrap().to_owned()
        }
    };
    let viewer = made(r#"{"name": "v", "role": "viewer"}"#).await;
    let other = made(r#"{"name": "e", "role": "editor", "namespaces": ["shop"]}"#).await;
    let (path, good) = ("default/origin/one", registration(origin.address(), 60));
    // A workload may register at ServiceEntries with its identity only.
    let own = control.join_token("default/reviews").await;
    for token in [&join, &viewer, &other, &own] {
        assert_eq!(register(&control, token, path, &good).await.status, 403);
    }
    let service = "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {name: reviews}\nspec: {ports: [{port: 80}], \
                   endpoints: [], identity: {serviceAccount: reviews}}\n";
    control.apply(&Resources::empty().yaml(service)).await;
    assert_eq!(register(&control, &own, "default/reviews/one", &good).await.status, 200);
    assert_eq!(register(&control, &join, "default/reviews/one", &good).await.status, 403);
    let gone = control.request_as(Some(&own), "DELETE", "workloads/default/reviews/one", "").await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    assert_eq!(
        control.request_as(Some(&join), "GET", "workloads", "").await.status,
        403,
        "a join token may read nothing"
    );
    let admin = control.admin_token();
    for (path, registration, status, expected) in [
        ("default/unknown/one", good.clone(), 404, "no ServiceEntry default/unknown"),
        (path, registration(origin.address(), 1), 422, "between 2 and 3600"),
        (path, json!({"address": "0.0.0.0:80", "leaseSeconds": 60}), 422, "is not an address with a port"),
        (path, json!({"address": "127.0.0.1:80", "leaseSeconds": 60, "version": "a b"}), 422, "is not a version"),
        (
            path,
            json!({"address": "169.254.169.254:80", "leaseSeconds": 60}),
            422,
            "is a link-local or multicast address",
        ),
        (path, json!({"address": "127.0.0.1:80", "leaseSeconds": 60, "port": 1}), 400, "unknown field"),
    ] {
        let response = register(&control, &admin, path, &registration).await;
        assert_eq!(response.status, status, "{}", response.text());
        assert!(response.text().contains(expected), "{}", response.text());
    }
    assert_eq!(control.get("workloads").await, json!([]));
    for number in 0..16 {
        let registration = json!({"address": "127.0.0.1:80", "leaseSeconds": 60, "version": format!("v{number}")});
        let response = register(&control, &admin, &format!("default/origin/w{number}"), &registration).await;
        assert_eq!(response.status, 200, "{}", response.text());
    }
    let registration = json!({"address": "127.0.0.1:80", "leaseSeconds": 60, "version": "v16"});
    let response = register(&control, &admin, "default/origin/w16", &registration).await;
    assert!(
        response.status == 409 && response.text().contains("16 versions"),
        "{} {}",
        response.status,
        response.text()
    );
}

/// A lease is measured from the start of the control plane, not from a time that was stored before.
#[tokio::test]
async fn restarted_control_plane_gives_one_more_lease() {
    let origin = Origin::text("one").await;
    let mut control = ControlPlane::start().await;
    control.apply(&empty_service()).await;
    let token = control.admin_token();
    let lease = registration(origin.address(), 4);
    assert_eq!(register(&control, &token, "default/origin/one", &lease).await.status, 200);
    let stored = Instant::now();
    control.kill().await;
    wait_until("the end of the stored lease", async || (stored.elapsed() > Duration::from_secs(4)).then_some(())).await;
    control.restart().await;
    assert_eq!(control.get("workloads").await.as_array().unwrap().len(), 1);
    wait_until("the end of the new lease", async || (control.get("workloads").await == json!([])).then_some(())).await;
}
