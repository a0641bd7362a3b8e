//! The shipped filter `routing`: versions of a ServiceEntry, backends of weight 0 that only the filter picks,
//! percentages of users.

use std::collections::HashMap;

use harness::{Body, Client, Filter, Module, Origin, Proxy, Resources, empty};
use http::Request;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// The number of users, unless `WEIR_USERS` sets another one.
const USERS: usize = 10_000;

/// The versions of `reviews`, and another service.
struct Origins {
    v1: Origin,
    v2: Origin,
    other: Origin,
}

async fn origins() -> Origins {
    Origins { v1: Origin::text("v1").await, v2: Origin::text("v2").await, other: Origin::text("other").await }
}

fn resources(origins: &Origins, config: &Value) -> Resources {
    let Origins { v1, v2, other } = origins;
    let service = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {{name: reviews}}\nspec:\n  ports: [{{name: http, port: \
         80, protocol: HTTP}}]\n  endpoints: [{{address: \"{}\", version: v1}}, {{address: \"{}\", version: v2}}]\n",
        v1.address(),
        v2.address()
    );
    let rules = "rules: [{backendRefs: [{name: reviews, port: 80}, {name: other, port: 80, weight: 0}]}]";
    let filter = Filter { config: config.clone(), ..Filter::new("canary", Module::Builtin("routing")) };
    Resources::new().yaml(&service).service("other", &[other.address()]).route("everything", rules).filter(filter)
}

fn with_header(name: &str, value: &str) -> Request<Body> {
    Request::get("/").header("host", "a.test").header(name, value).body(empty()).unwrap()
}

#[tokio::test]
async fn routing_filter_picks_only_targets_of_its_route() {
    let origins = origins().await;
    let to = |value: &str, to: &str| json!({"name": value, "headers": [{"name": "x-to", "exact": value}], "to": to});
    let config = json!({"rules": [
        to("version", "@v2"), to("named", "default/reviews:80@v1"), to("hidden", "default/other:80"),
        to("unknown", "default/strange:80"), to("no-version", "@v9"),
        {"name": "cookie", "cookies": [{"name": "tier", "exact": "gold"}], "to": "@v2"},
    ]});
    let proxy = Proxy::start(&resources(&origins, &config)).await;
    let mut client = proxy.client().await;
    for _ in 0..20 {
        for (value, expected) in [("version", "v2"), ("named", "v1"), ("hidden", "other")] {
            let response = client.send(with_header("x-to", value)).await;
            assert_eq!((response.status, response.text().as_str()), (200, expected), "{value}");
        }
        assert_eq!(client.send(with_header("cookie", "a=b; tier=gold")).await.text(), "v2");
        // `x-weir-target` of a downstream is removed: the route's weights decide, and `other` has weight 0.
        assert!(
            ["v1", "v2"].contains(&client.send(with_header("x-weir-target", "default/other:80")).await.text().as_str())
        );
    }
    assert!(origins.v2.received().iter().all(|request| request.header("x-weir-target").is_none()));
    for value in ["unknown", "no-version"] {
        let response = client.send(with_header("x-to", value)).await;
        assert_eq!(response.status, 500, "{value}");
    }
    let line = proxy.access_log_line(|line| line["response_code_details"] == "routing_mark_unknown").await;
    assert_eq!((&line["cause"], &line["response_flags"]), (&json!("default/strange:80"), &json!("FF")));
    for (field, lacks) in
        [("rules[3]", "lacks the backend `default/strange:80`"), ("rules[4]", "lacks the version `v9`")]
    {
        let warning =
            format!("Filter default/canary: spec.config.{field}.to: rule 0 of HTTPRoute default/everything {lacks}");
        proxy.wait_for_log(&warning).await;
    }
    assert_eq!(proxy.log().matches("configuration warning").count(), 2);
}

#[tokio::test]
async fn new_user_gets_sticky_cookie() {
    let origins = origins().await;
    let split = json!([{"percent": 50, "to": "@v2"}, {"percent": 50, "to": "@v1"}]);
    let config = json!({"rules": [{"name": "ab", "sticky": {"cookie": "group"}, "split": split}]});
    let proxy = Proxy::start(&resources(&origins, &config)).await;
    let mut client = proxy.client().await;
    let mut sides = HashMap::new();
    for _ in 0..40 {
        let first = client.get("/").await;
        let cookie = first.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        for _ in 0..3 {
            let again = client.send(with_header("cookie", &cookie)).await;
            assert_eq!((again.text(), again.header("set-cookie")), (first.text(), None), "{cookie}");
        }
        *sides.entry(first.text()).or_insert(0) += 1;
    }
    assert_eq!(sides.len(), 2, "{sides:?}");
}

fn canary(percent: u32) -> Value {
    json!({"rules": [{"name": "canary", "sticky": {"header": "x-user"}, "split": [
        {"percent": percent, "to": "@v2"}, {"percent": 100 - percent, "to": "@v1"}]}]})
}

/// Sends a request for each user, and returns whether `v2` responded to it.
async fn users_on_v2(proxy: &Proxy, users: usize) -> Vec<bool> {
    const CONNECTIONS: usize = 8;
    let address = proxy.address().await;
    let mut tasks = JoinSet::new();
    for part in 0..CONNECTIONS {
        tasks.spawn(async move {
            let mut client = Client::http1(address).await;
            let mut results = Vec::new();
            for user in (part..users).step_by(CONNECTIONS) {
                let response = client.send(with_header("x-user", &format!("user-{user}"))).await;
                assert_eq!(response.status, 200);
                results.push((user, response.text() == "v2"));
            }
            results
        });
    }
    let mut on_v2 = vec![false; users];
    for (user, is_v2) in tasks.join_all().await.into_iter().flatten() {
        on_v2[user] = is_v2;
    }
    on_v2
}

fn share(on_v2: &[bool]) -> f64 {
    let count = u32::try_from(on_v2.iter().filter(|is_v2| **is_v2).count()).unwrap();
    f64::from(count) * 100.0 / f64::from(u32::try_from(on_v2.len()).unwrap())
}

#[tokio::test]
async fn larger_canary_moves_users_in_one_direction() {
    let users = std::env::var("WEIR_USERS").ok().and_then(|text| text.parse().ok()).unwrap_or(USERS);
    let origins = origins().await;
    let proxy = Proxy::start(&resources(&origins, &canary(10))).await;
    let ten = users_on_v2(&proxy, users).await;
    assert_eq!(users_on_v2(&proxy, users.min(USERS)).await, ten[..users.min(USERS)], "users are not sticky");
    proxy.apply_and_wait(&resources(&origins, &canary(20))).await;
    let twenty = users_on_v2(&proxy, users).await;
    assert!(ten.iter().zip(&twenty).all(|(before, after)| *after || !before), "a user was moved back");
    // Three standard deviations are 0.9 points of 10,000 users, and 0.3 of 100,000.
    let allowed = if users >= 100_000 { 0.5 } else { 1.2 };
    let (before, after) = (share(&ten), share(&twenty));
    assert!((before - 10.0).abs() <= allowed && (after - 20.0).abs() <= allowed, "{before} % and {after} %");
}
