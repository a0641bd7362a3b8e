//! The compiled filter in the real proxy: headers, logs, metrics, and a new configuration.

use weir_sdk::testing::http::Message;
use weir_sdk::testing::{self, Error, Harness, Origin, Response, Running};

fn start(config: &str) -> Result<Running, Error> {
    harness(config)?.start()
}

fn harness(config: &str) -> Result<Harness, Error> {
    let module = testing::build_with_profile(env!("CARGO_MANIFEST_DIR"), "plugin")?;
    Ok(Harness::new(module).config(config))
}

fn quota_headers(answer: &Response) -> [Option<String>; 4] {
    ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after"].map(|name| answer.header(name))
}

fn some(values: [&str; 4]) -> [Option<String>; 4] {
    values.map(|value| (!value.is_empty()).then(|| value.to_owned()))
}

#[test]
fn rejection_with_429_names_the_limit_and_is_not_forwarded() -> Result<(), Error> {
    let harness = start(r#"{"limits": [{"name": "per-hour", "requests": 2, "per": "hour"}]}"#)?;
    let first = harness.get("/").send()?;
    assert_eq!((first.status(), quota_headers(&first)), (200, some(["2", "1", "1800", ""])));
    let second = harness.get("/").send()?;
    assert_eq!((second.status(), quota_headers(&second)[1].as_deref()), (200, Some("0")));
    let third = harness.get("/").send()?;
    assert_eq!((third.status(), third.text().as_str()), (429, "too many requests: limit per-hour\n"));
    let [limit, remaining, reset, retry_after] = quota_headers(&third);
    assert_eq!((limit.as_deref(), remaining.as_deref()), (Some("2"), Some("0")));
    let seconds = |text: Option<String>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
    assert!((1_700..=1_800).contains(&seconds(retry_after)), "{:?}", third.response());
    assert!((3_500..=3_600).contains(&seconds(reset)), "{:?}", third.response());
    assert_eq!(third.response().values("ratelimit-remaining").count(), 1);
    assert!(third.upstream().is_none());
    harness.proxy().wait_until("the rejection is logged", |proxy| proxy.log().contains("rate_limit_per_hour"))?;
    let page = harness.proxy().page("/stats/prometheus")?.text();
    let counted = |name: &str, value: &str| {
        page.lines().any(|line| line.contains(name) && !line.starts_with('#') && line.ends_with(value))
    };
    assert!(counted("rate_limit_allowed_total", " 2") && counted("rate_limit_rejected_total", " 1"), "{page}");
    Ok(())
}

#[test]
fn each_value_of_a_key_has_its_own_bucket() -> Result<(), Error> {
    let harness = start(
        r#"{"limits": [{"name": "a", "requests": 1, "per": "hour", "key": [
            {"source": "address"}, {"header": "x-user"}, {"path": true}
        ]}]}"#,
    )?;
    let status =
        |path: &str, user: &[u8]| harness.get(path).header("x-user", user).send().map(|answer| answer.status());
    let rows: [(&str, &[u8], u16); 8] = [
        ("/a", b"ann", 200),
        ("/a", b"ann", 429),
        ("/a?page=2", b"ann", 429),
        ("/b", b"ann", 200),
        ("/a", b"bob", 200),
        ("/a", b"\xfe\xff", 200),
        ("/a", b"\xfe\xff", 429),
        ("/a", b"\xfe\xfe", 200),
    ];
    for (path, user, expected) in rows {
        assert_eq!(status(path, user)?, expected, "{path} {user:?}");
    }
    Ok(())
}

#[test]
fn spellings_of_a_limited_path_are_counted() -> Result<(), Error> {
    let harness = start(
        r#"{"limits": [{"name": "login", "requests": 1, "per": "hour", "match": {"paths": [{"exact": "/login"}]}}]}"#,
    )?;
    assert_eq!(harness.get("/login").send()?.status(), 200);
    for spelling in ["/login;x", "/login/", "/%256cogin", "/login%20", "/;/login"] {
        let answer = harness.get(spelling).send()?;
        assert_eq!((answer.status(), answer.upstream().is_none()), (429, true), "{spelling}");
    }
    assert_eq!(harness.get("/logins").send()?.status(), 200);
    Ok(())
}

#[test]
fn missing_value_is_shared_skipped_or_rejected() -> Result<(), Error> {
    let config = |policy: &str| {
        format!(
            r#"{{"limits": [{{"name": "by-user", "requests": 1, "per": "hour", "key": [{{"claim": "sub"}}],
                "missingKey": "{policy}"}}]}}"#
        )
    };
    for (policy, first, second) in [("share", 200, 429), ("skip", 200, 200), ("refuse", 400, 400)] {
        let harness = start(&config(policy))?;
        let statuses = (harness.get("/").send()?.status(), harness.get("/").send()?.status());
        assert_eq!(statuses, (first, second), "{policy}");
        assert_eq!(harness.get("/").header("x-auth-claim-sub", "ann").send()?.status(), 200, "{policy}");
        assert_eq!(harness.get("/").header("x-auth-claim-sub", "ann").send()?.status(), 429, "{policy}");
    }
    Ok(())
}

#[test]
fn response_reports_the_strictest_limit() -> Result<(), Error> {
    let harness = start(
        r#"{"limits": [
            {"name": "all", "requests": 3, "per": "hour"},
            {"name": "writes", "requests": 1, "per": "hour", "match": {"methods": ["POST"]}}
        ]}"#,
    )?;
    let write = harness.request("POST", "/").send()?;
    assert_eq!((write.status(), quota_headers(&write)), (200, some(["1", "0", "3600", ""])));
    assert_eq!(harness.request("POST", "/").send()?.text(), "too many requests: limit writes\n");
    let read = harness.get("/").send()?;
    assert_eq!(
        (read.status(), quota_headers(&read)[1].as_deref()),
        (200, Some("1")),
        "the rejected write takes no token"
    );
    assert_eq!(harness.get("/").send()?.status(), 200);
    assert_eq!(harness.get("/").send()?.text(), "too many requests: limit all\n");
    Ok(())
}

#[test]
fn headers_can_be_disabled_and_stricter_ones_of_the_upstream_stay() -> Result<(), Error> {
    let limit = r#""limits": [{"name": "a", "requests": 2, "per": "hour"}]"#;
    let quiet = start(&format!(r#"{{{limit}, "headers": false}}"#))?;
    assert_eq!(quota_headers(&quiet.get("/").send()?), some(["", "", "", ""]));
    assert_eq!(quiet.get("/").send()?.status(), 200);
    let rejected = quiet.get("/").send()?;
    assert_eq!(rejected.status(), 429);
    assert!(matches!(quota_headers(&rejected), [None, None, None, Some(_)]), "{:?}", rejected.response());

    let answer =
        |request: &Message| Message::response(200, "").with_header("ratelimit-remaining", &request.path()[1..]);
    let origin = Origin::answering(answer)?;
    let beside = harness(&format!("{{{limit}}}"))?.origin(origin).start()?;
    assert_eq!(quota_headers(&beside.get("/0").send()?), some(["", "0", "", ""]));
    assert_eq!(quota_headers(&beside.get("/7").send()?)[..2], some(["2", "0", "", ""])[..2]);
    Ok(())
}

#[test]
fn new_configuration_continues_the_count_and_invalid_one_is_rejected() -> Result<(), Error> {
    let config = |requests: u32| {
        format!(
            r#"{{"limits": [{{"name": "a", "requests": {requests}, "per": "hour", "key": [{{"header": "x-user"}}]}}]}}"#
        )
    };
    let harness = start(&config(1))?;
    let as_user = |user: &str| harness.get("/").header("x-user", user).send();
    assert_eq!(as_user("ann")?.status(), 200);
    assert_eq!(as_user("ann")?.status(), 429);
    harness.reconfigure(&config(2))?;
    let has_two =
        |user: &str| as_user(user).is_ok_and(|answer| answer.header("ratelimit-limit").as_deref() == Some("2"));
    harness.proxy().wait_until("the new limit serves", |_| has_two("bob"))?;
    assert_eq!(as_user("ann")?.status(), 429, "the tokens that ann took are still missing");

    harness.reconfigure(&config(1).replace("\"hour\"", "\"day\""))?;
    let error = "limits[0].per: must be second, minute or hour";
    harness.proxy().wait_until("the rejection is logged", |proxy| proxy.log().contains(error))?;
    assert!(has_two("cat"), "the last valid configuration keeps serving");
    Ok(())
}
