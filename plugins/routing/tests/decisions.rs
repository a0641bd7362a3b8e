//! The decision without a host: the targets of users, before and after shares change.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
use std::collections::HashMap;

use weir_plugin_routing::config::Config;
use weir_plugin_routing::decide::{Decision, RequestView, decide};

/// A request as plain values.
#[derive(Default)]
struct Request {
    headers: HashMap<String, Vec<u8>>,
    cookies: Vec<u8>,
    address: Option<String>,
    is_https: bool,
    time: u128,
}

impl RequestView for Request {
    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.headers.get(name).cloned()
    }

    fn cookies(&self) -> Vec<u8> {
        self.cookies.clone()
    }

    fn address(&self) -> Option<String> {
        self.address.clone()
    }

    fn is_https(&self) -> bool {
        self.is_https
    }

    fn nanoseconds(&self) -> u128 {
        self.time
    }
}

fn with_header(name: &str, value: &str) -> Request {
    Request { headers: [(name.to_owned(), value.into())].into(), ..Request::default() }
}

fn with_cookies(cookies: &str) -> Request {
    Request { cookies: cookies.into(), ..Request::default() }
}

fn config(json: &str) -> Config {
    weir_sdk::config::parse(json.as_bytes()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn canary(percent: f64) -> Config {
    config(&format!(
        r#"{{"rules": [{{"name": "canary", "sticky": {{"header": "x-user"}}, "split": [{{"percent": {percent}, "to": "@v2"}}]}}]}}"#
    ))
}

fn is_canary(config: &Config, user: usize) -> bool {
    decide(config, &with_header("x-user", &format!("user-{user}"))).target == Some("@v2")
}

#[test]
fn share_is_exact_and_sticky_and_growth_moves_no_other_users() {
    let users = 100_000;
    let (ten, twenty) = (canary(10.0), canary(20.0));
    let mut counts = (0, 0);
    for user in 0..users {
        let (before, after) = (is_canary(&ten, user), is_canary(&twenty, user));
        assert_eq!(before, is_canary(&ten, user), "user {user} does not stick");
        assert!(after || !before, "user {user} was moved back");
        counts = (counts.0 + usize::from(before), counts.1 + usize::from(after));
    }
    println!("10 %: {} of {users}, 20 %: {}", counts.0, counts.1);
    assert!(counts.0.abs_diff(10_000) <= 500, "10 % came to {} of {users}", counts.0);
    assert!(counts.1.abs_diff(20_000) <= 500, "20 % came to {} of {users}", counts.1);
}

#[test]
fn share_of_zero_matches_no_user_and_share_of_100_every_user() {
    let (none, all, small) = (canary(0.0), canary(100.0), canary(0.01));
    assert!((0..10_000).all(|user| !is_canary(&none, user) && is_canary(&all, user)));
    let hit = (0..1_000_000).filter(|user| is_canary(&small, *user)).count();
    assert!((60..=140).contains(&hit), "0.01 % of a million came to {hit}");
}

#[test]
fn rules_divide_users_independently() {
    let two = config(
        r#"{"rules": [
          {"name": "one", "headers": [{"name": "x-which", "exact": "1"}],
           "sticky": {"header": "x-user"}, "split": [{"percent": 50, "to": "@a"}]},
          {"name": "two", "headers": [{"name": "x-which", "exact": "2"}],
           "sticky": {"header": "x-user"}, "split": [{"percent": 50, "to": "@a"}]}]}"#,
    );
    let goes = |which: &str, user: usize| {
        let mut request = with_header("x-user", &user.to_string());
        request.headers.insert("x-which".to_owned(), which.into());
        decide(&two, &request).target.is_some()
    };
    let both = (0..10_000).filter(|user| goes("1", *user) && goes("2", *user)).count();
    assert!((2_200..=2_800).contains(&both), "half of a half is a quarter, not {both} of 10000");
}

#[test]
fn first_rule_with_a_target_wins() {
    let config = config(
        r#"{"rules": [
          {"name": "staff", "headers": [{"name": "X-Beta", "exact": "yes"}], "to": "shop/reviews:80@v3"},
          {"name": "gold", "cookies": [{"name": "tier", "exact": "gold"}], "to": "shop/gold:80"},
          {"name": "any-cookie", "cookies": [{"name": "seen", "present": true}], "to": "@v2"}]}"#,
    );
    let rows: [(&str, Request, Option<&str>); 9] = [
        ("nothing", Request::default(), None),
        ("header", with_header("x-beta", "yes"), Some("shop/reviews:80@v3")),
        ("another value", with_header("x-beta", "yes please"), None),
        ("cookie", with_cookies("a=1; tier=gold"), Some("shop/gold:80")),
        ("quoted", with_cookies("tier=\"gold\""), Some("shop/gold:80")),
        ("two headers joined", with_cookies("a=1,tier=gold"), Some("shop/gold:80")),
        ("a name in a name", with_cookies("xtier=gold; tierx=gold; tier =silver"), None),
        ("present", with_cookies("seen="), Some("@v2")),
        ("no equals sign", with_cookies("seen; tier"), None),
    ];
    for (what, request, expected) in rows {
        assert_eq!(decide(&config, &request), Decision { target: expected, set_cookie: None }, "{what}");
    }
}

#[test]
fn user_without_cookie_gets_one_that_keeps_the_target() {
    let config = config(
        r#"{"rules": [{"name": "canary", "sticky": {"cookie": "group", "maxAgeSeconds": 60},
            "split": [{"percent": 30, "to": "@v2"}, {"percent": 30, "to": "@v3"}]}]}"#,
    );
    let mut sides: HashMap<Option<String>, usize> = HashMap::new();
    for user in 0..10_000_u32 {
        let new = Request { time: u128::from(user), address: Some("10.0.0.1:80".to_owned()), ..Request::default() };
        let first = decide(&config, &new);
        let cookie = first.set_cookie.expect("a new user gets an id");
        let (pair, rest) = cookie.split_once("; ").expect("attributes follow");
        assert_eq!(rest, "Path=/; Max-Age=60; HttpOnly; SameSite=Lax");
        let next = decide(&config, &with_cookies(&format!("theme=dark; {pair}")));
        assert_eq!((next.target, next.set_cookie), (first.target, None), "{pair}");
        *sides.entry(first.target.map(str::to_owned)).or_default() += 1;
    }
    assert_eq!(sides.len(), 3);
    assert!(sides[&None].abs_diff(4_000) < 250 && sides[&Some("@v2".to_owned())].abs_diff(3_000) < 250, "{sides:?}");
}

#[test]
fn cookie_is_secure_over_tls_and_as_configured() {
    for (options, is_https, expected) in [
        ("", false, "SameSite=Lax"),
        ("", true, "SameSite=Lax; Secure"),
        (r#", "secure": true"#, false, "SameSite=Lax; Secure"),
        (r#", "secure": false"#, true, "SameSite=Lax"),
        (r#", "sameSite": "Strict""#, true, "SameSite=Strict; Secure"),
        (r#", "sameSite": "None""#, false, "SameSite=None; Secure"),
    ] {
        let config = config(&format!(
            r#"{{"rules": [{{"name": "a", "sticky": {{"cookie": "group", "maxAgeSeconds": 60{options}}},
                "split": [{{"percent": 50, "to": "@v2"}}]}}]}}"#
        ));
        let cookie = decide(&config, &Request { is_https, ..Request::default() }).set_cookie.unwrap();
        let (_, attributes) = cookie.split_once("; ").unwrap();
        assert_eq!(attributes, format!("Path=/; Max-Age=60; HttpOnly; {expected}"), "{options} {is_https}");
    }
}

#[test]
fn address_is_sticky_across_ports() {
    let config =
        config(r#"{"rules": [{"name": "c", "sticky": {"address": true}, "split": [{"percent": 50, "to": "@v2"}]}]}"#);
    let from = |address: String| {
        let request = Request { address: Some(address), ..Request::default() };
        decide(&config, &request).target.is_some()
    };
    let hit = (0..1_000).filter(|host| {
        let host = format!("10.0.{}.{}", host / 250, host % 250);
        let first = from(format!("{host}:1"));
        assert_eq!(first, from(format!("{host}:65535")));
        first
    });
    assert!((400..=600).contains(&hit.count()));
    assert_eq!(from("[2001:db8::1]:1".to_owned()), from("[2001:db8::1]:2".to_owned()));
    assert!(decide(&config, &Request::default()).target.is_none(), "a request without an address skips the rule");
}
