//! The shipped `routing` filter: versions of a Service, targets that only a mark chooses, shares of users that move.

use std::collections::HashMap;

use harness::{Body, Client, Filter, Module, Origin, Proxy, Resources, empty};
use http::Request;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// Users in the suite; `WEIR_USERS` for more.
const USERS: usize = 10_000;

async fn origins() -> (Origin, Origin, Origin) {
    (Origin::says("v1").await, Origin::says("v2").await, Origin::says("other").await)
}

fn resources((v1, v2, other): &(Origin, Origin, Origin), config: &Value) -> Resources {
    let service = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Service\nmetadata: {{name: reviews}}\nspec:\n  ports: [{{name: http, port: \
         80, protocol: HTTP}}]\n  endpoints: [{{address: \"{}\", version: v1}}, {{address: \"{}\", version: v2}}]\n",
        v1.address(),
        v2.address()
    );
    let rules = "rules: [{backendRefs: [{name: reviews, port: 80}, {name: other, port: 80, weight: 0}]}]";
    let filter = Filter { config: config.clone(), ..Filter::of("canary", Module::Builtin("routing")) };
    Resources::new().yaml(&service).service("other", &[other.address()]).route("everything", rules).filter(filter)
}

fn with(name: &str, value: &str) -> Request<Body> {
    Request::get("/").header("host", "a.test").header(name, value).body(empty()).unwrap()
}

#[tokio::test]
async fn marks_choose_among_the_rules_own_targets_only() {
    let origins = origins().await;
    let to = |value: &str, to: &str| json!({"name": value, "headers": [{"name": "x-to", "exact": value}], "to": to});
    let config = json!({"rules": [
        to("version", "@v2"), to("named", "default/reviews:80@v1"), to("hidden", "default/other:80"),
        to("stranger", "default/strange:80"), to("no-version", "@v9"),
        {"name": "cookie", "cookies": [{"name": "tier", "exact": "gold"}], "to": "@v2"},
    ]});
    let proxy = Proxy::start(&resources(&origins, &config)).await;
    let mut client = proxy.client().await;
    for _ in 0..20 {
        for (value, expected) in [("version", "v2"), ("named", "v1"), ("hidden", "other")] {
            let answer = client.send(with("x-to", value)).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, expected), "{value}");
        }
        assert_eq!(client.send(with("cookie", "a=b; tier=gold")).await.text(), "v2");
        // From outside a mark says nothing: the route's weights decide, which never pick `other`.
        assert!(["v1", "v2"].contains(&client.send(with("x-weir-target", "default/other:80")).await.text().as_str()));
    }
    assert!(origins.1.received().iter().all(|seen| seen.header("x-weir-target").is_none()));
    for value in ["stranger", "no-version"] {
        let answer = client.send(with("x-to", value)).await;
        assert_eq!(answer.status, 500, "{value}");
    }
    let line = proxy.access_log_line(|line| line["details"] == "routing_mark_unknown").await;
    assert_eq!((&line["cause"], &line["response_flags"]), (&json!("default/strange:80"), &json!("FF")));
}

#[tokio::test]
async fn a_new_user_gets_a_cookie_and_stays() {
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
            let again = client.send(with("cookie", &cookie)).await;
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

/// Who is on `v2`, by asking for every user.
async fn asked(proxy: &Proxy, users: usize) -> Vec<bool> {
    const CONNECTIONS: usize = 8;
    let address = proxy.address().await;
    let mut tasks = JoinSet::new();
    for part in 0..CONNECTIONS {
        tasks.spawn(async move {
            let mut client = Client::http1(address).await;
            let mut seen = Vec::new();
            for user in (part..users).step_by(CONNECTIONS) {
                let answer = client.send(with("x-user", &format!("user-{user}"))).await;
                assert_eq!(answer.status, 200);
                seen.push((user, answer.text() == "v2"));
            }
            seen
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
async fn a_canary_moves_only_the_right_users() {
    let users = std::env::var("WEIR_USERS").ok().and_then(|text| text.parse().ok()).unwrap_or(USERS);
    let origins = origins().await;
    let proxy = Proxy::start(&resources(&origins, &canary(10))).await;
    let ten = asked(&proxy, users).await;
    assert_eq!(asked(&proxy, users.min(USERS)).await, ten[..users.min(USERS)], "users do not stick");
    proxy.change(&resources(&origins, &canary(20))).await;
    let twenty = asked(&proxy, users).await;
    assert!(ten.iter().zip(&twenty).all(|(before, after)| *after || !before), "somebody was moved back");
    // Of 10,000 users three standard deviations are 0.9 points; of 100,000 they are 0.3.
    let allowed = if users >= 100_000 { 0.5 } else { 1.2 };
    let (before, after) = (share(&ten), share(&twenty));
    assert!((before - 10.0).abs() <= allowed && (after - 20.0).abs() <= allowed, "{before} % and {after} %");
}
