//! The compiled filter in the real proxy: what `decisions.rs` cannot see.

use weir_sdk::testing::http::Message;
use weir_sdk::testing::{self, Answer, Error, Harness, Origin, Running};

fn start(config: &str) -> Result<Running, Error> {
    harness(config)?.start()
}

fn harness(config: &str) -> Result<Harness, Error> {
    let module = testing::build_with_profile(env!("CARGO_MANIFEST_DIR"), "plugin")?;
    Ok(Harness::new(module).config(config))
}

fn told(answer: &Answer) -> [Option<String>; 4] {
    ["ratelimit-limit", "ratelimit-remaining", "ratelimit-reset", "retry-after"].map(|name| answer.header(name))
}

fn some(values: [&str; 4]) -> [Option<String>; 4] {
    values.map(|value| (!value.is_empty()).then(|| value.to_owned()))
}

#[test]
fn a_429_names_the_limit_and_never_reaches_the_upstream() -> Result<(), Error> {
    let harness = start(r#"{"limits": [{"name": "per-hour", "requests": 2, "per": "hour"}]}"#)?;
    let first = harness.get("/").send()?;
    assert_eq!((first.status(), told(&first)), (200, some(["2", "1", "1800", ""])));
    let second = harness.get("/").send()?;
    assert_eq!((second.status(), told(&second)[1].as_deref()), (200, Some("0")));
    let third = harness.get("/").send()?;
    assert_eq!((third.status(), third.text().as_str()), (429, "too many requests: limit per-hour\n"));
    let [limit, remaining, reset, retry_after] = told(&third);
    assert_eq!((limit.as_deref(), remaining.as_deref()), (Some("2"), Some("0")));
    let seconds = |text: Option<String>| text.and_then(|text| text.parse().ok()).unwrap_or(0);
    assert!((1_700..=1_800).contains(&seconds(retry_after)), "{:?}", third.response());
    assert!((3_500..=3_600).contains(&seconds(reset)), "{:?}", third.response());
    assert_eq!(third.response().values("ratelimit-remaining").count(), 1);
    assert!(third.upstream().is_none());
    harness.proxy().wait_until("the refusal is logged", |proxy| proxy.log().contains("rate_limit_per_hour"))?;
    let page = harness.proxy().page("/stats/prometheus")?.text();
    let counted = |name: &str, value: &str| {
        page.lines().any(|line| line.contains(name) && !line.starts_with('#') && line.ends_with(value))
    };
    assert!(counted("rate_limit_allowed_total", " 2") && counted("rate_limit_refused_total", " 1"), "{page}");
    Ok(())
}

#[test]
fn values_of_a_key_are_counted_apart() -> Result<(), Error> {
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
fn a_missing_value_is_shared_skipped_or_refused() -> Result<(), Error> {
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
fn of_two_limits_the_strictest_is_told() -> Result<(), Error> {
    let harness = start(
        r#"{"limits": [
            {"name": "all", "requests": 3, "per": "hour"},
            {"name": "writes", "requests": 1, "per": "hour", "match": {"methods": ["POST"]}}
        ]}"#,
    )?;
    let write = harness.request("POST", "/").send()?;
    assert_eq!((write.status(), told(&write)), (200, some(["1", "0", "3600", ""])));
    assert_eq!(harness.request("POST", "/").send()?.text(), "too many requests: limit writes\n");
    let read = harness.get("/").send()?;
    assert_eq!((read.status(), told(&read)[1].as_deref()), (200, Some("1")), "the refused write cost nothing");
    assert_eq!(harness.get("/").send()?.status(), 200);
    assert_eq!(harness.get("/").send()?.text(), "too many requests: limit all\n");
    Ok(())
}

#[test]
fn headers_can_be_left_out_and_the_upstreams_stricter_ones_stay() -> Result<(), Error> {
    let limit = r#""limits": [{"name": "a", "requests": 2, "per": "hour"}]"#;
    let quiet = start(&format!(r#"{{{limit}, "headers": false}}"#))?;
    assert_eq!(told(&quiet.get("/").send()?), some(["", "", "", ""]));
    assert_eq!(quiet.get("/").send()?.status(), 200);
    let refused = quiet.get("/").send()?;
    assert_eq!(refused.status(), 429);
    assert!(matches!(told(&refused), [None, None, None, Some(_)]), "{:?}", refused.response());

    let answer =
        |request: &Message| Message::response(200, "").with_header("ratelimit-remaining", &request.path()[1..]);
    let origin = Origin::answering(answer)?;
    let beside = harness(&format!("{{{limit}}}"))?.origin(origin).start()?;
    assert_eq!(told(&beside.get("/0").send()?), some(["", "0", "", ""]));
    assert_eq!(told(&beside.get("/7").send()?)[..2], some(["2", "0", "", ""])[..2]);
    Ok(())
}

#[test]
fn another_configuration_keeps_the_count_and_a_wrong_one_is_refused() -> Result<(), Error> {
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
    assert_eq!(as_user("ann")?.status(), 429, "she still owes what she took");

    harness.reconfigure(&config(1).replace("\"hour\"", "\"day\""))?;
    let refusal = "limits[0].per: must be second, minute or hour";
    harness.proxy().wait_until("the refusal is logged", |proxy| proxy.log().contains(refusal))?;
    assert!(has_two("cat"), "what served before goes on serving");
    Ok(())
}
