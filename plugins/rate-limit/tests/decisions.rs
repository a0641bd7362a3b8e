//! The decision without a real host: buckets, keys, several limits, concurrent workers, and full slots.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fake;

use std::thread;

use fake::{Data, Fake, SECOND, START, config};
use weir_plugin_rate_limit::decide::Verdict;
use weir_plugin_rate_limit::rejection::Rejection;

/// A limit of ten requests a second with a burst of five, for each address.
const TEN: &str = r#"{"limits": [
    {"name": "ten", "requests": 10, "per": "second", "burst": 5, "key": [{"source": "address"}]}
]}"#;

#[track_caller]
fn check(config_json: &str, requests: &[(Fake<'_>, &str)]) {
    let config = config(config_json);
    for (number, (request, expected)) in requests.iter().enumerate() {
        assert_eq!(request.outcome(&config), *expected, "request {number}: {request:?}");
    }
}

#[test]
fn burst_passes_and_then_the_rate() {
    let data = Data::default();
    let at = |since| Fake::new(&data).at(since);
    check(
        TEN,
        &[
            (at(0), "4 of 5, reset 1"),
            (at(0), "3 of 5, reset 1"),
            (at(0), "2 of 5, reset 1"),
            (at(0), "1 of 5, reset 1"),
            (at(0), "0 of 5, reset 1"),
            (at(0), "ten wait 1"),
            (at(SECOND / 10 - 1), "ten wait 1"),
            (at(SECOND / 10), "0 of 5, reset 1"),
            (at(SECOND / 10), "ten wait 1"),
            (at(60 * SECOND), "4 of 5, reset 1"),
        ],
    );
}

#[test]
fn seconds_are_rounded_up() {
    let data = Data::default();
    let at = |since| Fake::new(&data).at(since);
    let hourly = r#"{"limits": [{"name": "h", "requests": 2, "per": "hour"}]}"#;
    check(
        hourly,
        &[
            (at(0), "1 of 2, reset 1800"),
            (at(1), "0 of 2, reset 3600"),
            (at(SECOND), "h wait 1799"),
            (at(SECOND + 1), "h wait 1799"),
            (at(1_800 * SECOND - 1), "h wait 1"),
            (at(1_800 * SECOND), "0 of 2, reset 3600"),
        ],
    );
}

#[test]
fn load_beyond_the_limit_passes_burst_and_rate() {
    for (requests, per, burst, period) in [(300, "second", 300, 1), (700, "minute", 3, 60), (999_983, "hour", 50, 3600)]
    {
        let json =
            format!(r#"{{"limits": [{{"name": "a", "requests": {requests}, "per": "{per}", "burst": {burst}}}]}}"#);
        let (data, config) = (Data::default(), config(&json));
        let sent = 3 * 60 * requests / period;
        let passed =
            (0..sent).filter(|number| Fake::new(&data).at(60 * SECOND * number / sent).passes(&config)).count();
        let expected = burst + 60 * requests / period;
        let error = u64::try_from(passed).unwrap().abs_diff(expected);
        assert!(error <= 1 + expected / 1000, "{json}: {passed} passed of {sent}, {expected} expected");
    }
}

#[test]
fn clock_set_back_adds_no_tokens() {
    let data = Data::default();
    let at = |since| Fake::new(&data).at(since);
    check(TEN, &[(at(SECOND), "4 of 5, reset 1"), (at(SECOND), "3 of 5, reset 1")]);
    check(TEN, &[(at(SECOND - SECOND / 10), "1 of 5, reset 1"), (at(0), "ten wait 1")]);
    // An hour back: the bucket is empty, but refills from then on instead of an hour later.
    let back = |since| {
        let mut request = Fake::new(&data);
        request.now = START - 3_600 * SECOND + since;
        request
    };
    check(TEN, &[(back(0), "ten wait 1"), (back(SECOND / 10), "0 of 5, reset 1"), (back(SECOND / 10), "ten wait 1")]);
    // A host without a clock, and the last possible time.
    for now in [0, 1, u64::MAX] {
        let mut request = Fake::new(&data);
        request.now = now;
        request.passes(&config(TEN));
    }
}

#[test]
fn spellings_of_a_path_are_counted_together() {
    // A limit on one path, on a prefix, on a path with a space, and one that counts each path apart.
    let exact = r#""match": {"paths": [{"exact": "/login"}]}"#;
    let prefix = r#""match": {"paths": [{"prefix": "/login"}]}"#;
    let by_path = r#""key": [{"path": true}]"#;
    let limit =
        |condition: &str| format!(r#"{{"limits": [{{"name": "a", "requests": 1, "per": "hour", {condition}}}]}}"#);
    for condition in [exact, prefix, by_path] {
        for spelling in [
            "/login",
            "/login/",
            "/login?x=1",
            "/login;x",
            "/login;/",
            "/;/login",
            "/%6cogin",
            "/%256cogin",
            "/login%20",
            "/login%2f",
            "//login",
            "/x/../login",
            "/x/..;/login",
            "/x\\..\\login",
        ] {
            let data = Data::default();
            let of = |path| Fake::new(&data).with(":path", path);
            check(&limit(condition), &[(of("/login"), "0 of 1, reset 3600"), (of(spelling), "a wait 3600")]);
        }
    }
    let data = Data::default();
    let of = |path| Fake::new(&data).with(":path", path);
    let others = ["/loginx", "/x/login", "/", "*", "/login%2fx"].map(|other| (of(other), "free"));
    check(&limit(exact), &others);
    check(&limit(prefix), &others[..4]);
    let escaped = r#""match": {"paths": [{"exact": "/log%20in"}]}"#;
    for spelling in ["/log%20in", "/log%2520in", "/log%20in;x"] {
        let data = Data::default();
        let of = |path| Fake::new(&data).with(":path", path);
        check(&limit(escaped), &[(of(spelling), "0 of 1, reset 3600"), (of("/log%20in"), "a wait 3600")]);
    }
}

#[test]
fn methods_are_counted_in_any_case() {
    let data = Data::default();
    let json = r#"{"limits": [{"name": "a", "requests": 1, "per": "hour", "match": {"methods": ["POST"]}}]}"#;
    let of = |method| Fake::new(&data).with(":method", method);
    check(json, &[(of("post"), "0 of 1, reset 3600"), (of("POST"), "a wait 3600"), (of("GET"), "free")]);
}

#[test]
fn each_key_has_its_own_bucket() {
    let data = Data::default();
    let json = r#"{"limits": [{"name": "a", "requests": 2, "per": "hour", "key": [
        {"source": "address"}, {"header": "X-User"}, {"path": true}, {"consumer": true}, {"claim": "sub"}
    ]}]}"#;
    let of = |user, path| Fake::new(&data).with("x-user", user).with(":path", path);
    let fresh = "1 of 2, reset 1800";
    check(
        json,
        &[
            (of("ann", "/a?x=1"), fresh),
            (of("ann", "/a?x=2"), "0 of 2, reset 3600"),
            (of("ann", "/a#y"), "a wait 1800"),
            (of("ann", "/a").from("192.0.2.7:9999"), "a wait 1800"),
            (of("ann", "/a").from("[::ffff:192.0.2.7]:9999"), "a wait 1800"),
            (of("bob", "/a"), fresh),
            (of("ann", "/b"), fresh),
            (of("ann/", "b"), fresh),
            (of("", "/a"), fresh),
            (Fake::new(&data).with(":path", "/a"), fresh),
            (of("ann", "/a").from("192.0.2.8:1234"), fresh),
            (of("ann", "/a").with("x-auth-consumer", "shop"), fresh),
            (of("ann", "/a").with("x-auth-claim-sub", "shop"), fresh),
            (of("ann", "/a").from("[2001:db8::1]:1"), fresh),
            (of("ann", "/a").from("[2001:db8::2]:2"), "0 of 2, reset 3600"),
            (of("ann", "/a").from("[2001:db8:0:1::]:2"), fresh),
            (of("ann", "/a").from("/run/a.sock"), fresh),
            (of("ann", "/a").from("/run/b.sock"), fresh),
        ],
    );
}

#[test]
fn missing_value_is_shared_skipped_or_rejected() {
    let json = |policy: &str| {
        format!(r#"{{"limits": [{{"name": "a", "requests": 1, "per": "hour", "key": [{{"header": "u"}}]{policy}}}]}}"#)
    };
    let check = |policy: &str, first: &str, second: &str| {
        let data = Data::default();
        let other = || Fake::new(&data).from("192.0.2.99:1");
        check(&json(policy), &[(Fake::new(&data), first), (other(), second)]);
        check(&json(policy), &[(other().with("u", "ann"), "0 of 1, reset 3600")]);
    };
    check("", "0 of 1, reset 3600", "a wait 3600");
    check(r#", "missingKey": "share""#, "0 of 1, reset 3600", "a wait 3600");
    check(r#", "missingKey": "skip""#, "free", "free");
    check(r#", "missingKey": "refuse""#, "a MissingKey", "a MissingKey");
}

#[test]
fn strictest_limit_is_reported_and_rejection_takes_no_token() {
    let data = Data::default();
    let json = r#"{"limits": [
        {"name": "all", "requests": 6, "per": "minute"},
        {"name": "user", "requests": 2, "per": "hour", "key": [{"header": "u"}]},
        {"name": "writes", "requests": 1, "per": "hour", "match": {"methods": ["POST"], "paths": [{"prefix": "/a"}]}}
    ]}"#;
    let of = |user| Fake::new(&data).with("u", user);
    let post = |user, path| of(user).with(":method", "POST").with(":path", path);
    check(
        json,
        &[
            (of("ann"), "1 of 2, reset 1800"),
            (of("ann"), "0 of 2, reset 3600"),
            (of("ann"), "user wait 1800"),
            (of("ann"), "user wait 1800"),
            (post("bob", "/a/b?c"), "0 of 1, reset 3600"),
            (post("bob", "/a"), "writes wait 3600"),
            (post("bob", "/ab"), "0 of 2, reset 3600"),
            (post("ann", "/a"), "writes wait 3600"),
            (of("cat"), "1 of 2, reset 1800"),
            (of("dan"), "0 of 6, reset 60"),
            (of("eve"), "all wait 10"),
            (of("ann"), "user wait 1800"),
        ],
    );
}

#[test]
fn concurrent_workers_pass_exactly_the_burst() {
    let data = Data::default();
    let json =
        r#"{"limits": [{"name": "a", "requests": 500, "per": "hour"}, {"name": "b", "requests": 600, "per": "hour"}]}"#;
    let worker = || {
        let config = config(json);
        let pass = |_: &i32| {
            let decision = Fake::new(&data).decide(&config);
            assert_eq!(decision.failed, 0, "no more than {} attempts are needed", 64);
            matches!(decision.verdict, Verdict::Allowed(_))
        };
        (0..400).filter(pass).count()
    };
    let passed: usize = thread::scope(|scope| {
        let workers = [scope.spawn(worker), scope.spawn(worker), scope.spawn(worker), scope.spawn(worker)];
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    assert_eq!(passed, 500);
    // Requests that `a` rejected took no token of `b`, and refunds added none.
    let b = config(r#"{"limits": [{"name": "b", "requests": 600, "per": "hour"}]}"#);
    let left = (0..200).filter(|_| Fake::new(&data).passes(&b)).count();
    assert_eq!(left, 100);
}

#[test]
fn uncountable_request_is_rejected_or_allowed_by_on_error() {
    let data = Data::default();
    let open = TEN.replace("{\"limits\"", "{\"onError\": \"allow\", \"limits\"");
    let contended = |conflicts| {
        let request = Fake::new(&data);
        request.conflicts.set(conflicts);
        request
    };
    let broken = || Fake { is_broken: true, ..Fake::new(&data) };
    check(TEN, &[(contended(63), "4 of 5, reset 1"), (contended(64), "ten Contended"), (broken(), "ten Unavailable")]);
    check(&open, &[(contended(64), "free"), (broken(), "free")]);
    assert_eq!(broken().decide(&config(&open)).failed, 1);
}

#[test]
fn flood_of_keys_takes_bounded_memory_and_evicts_the_fullest_first() {
    let data = Data::default();
    let json = r#"{"maxKeys": 256, "limits": [{"name": "a", "requests": 5, "per": "hour", "key": [{"header": "u"}]}]}"#;
    let config = config(json);
    let limited: Vec<String> = (0..20).map(|number| format!("limited-{number}")).collect();
    for user in &limited {
        for _ in 0..5 {
            assert!(Fake::new(&data).with("u", user).passes(&config));
        }
    }
    let mut evicted = 0;
    for number in 0..20_000 {
        let user = format!("flood-{number}");
        let decision = Fake::new(&data).with("u", &user).at(number).decide(&config);
        assert!(matches!(decision.verdict, Verdict::Allowed(_)));
        evicted += decision.evicted;
    }
    assert!(evicted > 19_000, "{evicted}");
    let slots = data.names().iter().filter(|name| name.as_str() != "rl-seed").count();
    assert_eq!(slots, 32);
    assert!(data.bytes() <= 32 * 281 + 7 + 16 + 128, "{}", data.bytes());
    for user in &limited {
        let request = Fake::new(&data).with("u", user).at(SECOND);
        assert!(!request.passes(&config), "{user} was evicted by keys with fuller buckets");
    }
    // An hour later all buckets are full, so the next write removes them.
    Fake::new(&data).with("u", "later").at(3_600 * SECOND + 20_000).decide(&config);
    let expired = Fake::new(&data).with("u", "later").at(2 * 3_600 * SECOND).decide(&config);
    assert_eq!(expired.evicted, 0);
}

#[test]
fn new_configuration_continues_the_count() {
    let data = Data::default();
    let json =
        |requests, name| format!(r#"{{"limits": [{{"name": "{name}", "requests": {requests}, "per": "hour"}}]}}"#);
    check(&json(2, "a"), &[(Fake::new(&data), "1 of 2, reset 1800"), (Fake::new(&data), "0 of 2, reset 3600")]);
    check(
        &json(2, "a").replace("\"requests\": 2", "\"requests\": 2, \"burst\": 3"),
        &[(Fake::new(&data), "0 of 3, reset 5400")],
    );
    // 5400 s until full is more than an empty bucket of one token at 10 s needs. The bucket is corrected to empty.
    check(
        &json(360, "a").replace("360", "360, \"burst\": 1"),
        &[(Fake::new(&data), "a wait 10"), (Fake::new(&data).at(10 * SECOND), "0 of 1, reset 10")],
    );
    check(&json(2, "b"), &[(Fake::new(&data), "1 of 2, reset 1800")]);
}

#[test]
fn rejection_names_the_limit() {
    let data = Data::default();
    let config = config(
        r#"{"limits": [
            {"name": "per-user", "requests": 1, "per": "minute", "key": [{"header": "u"}], "missingKey": "refuse"}
        ]}"#,
    );
    let answer = |request: &Fake<'_>| match request.decide(&config).verdict {
        Verdict::Allowed(quota) => panic!("allowed: {quota:?}"),
        Verdict::Rejected(limit, reason) => Rejection::new(limit, reason),
    };
    let named = || Fake::new(&data).with("u", "ann");
    assert!(named().passes(&config));
    let limited = answer(&named());
    assert_eq!((limited.status, limited.retry_after_s), (429, Some(60)));
    assert_eq!(
        (limited.details.as_str(), limited.text.as_str()),
        ("rate_limit_per_user", "too many requests: limit per-user\n")
    );
    assert_eq!(limited.quota.map(|quota| quota.remaining), Some(0));
    let missing = answer(&Fake::new(&data));
    assert_eq!((missing.status, missing.details.as_str()), (400, "rate_limit_per_user_missing_key"));
    let broken = answer(&Fake { is_broken: true, ..named() });
    assert_eq!((broken.status, broken.details.as_str()), (503, "rate_limit_unavailable"));
    let contended = named().at(120 * SECOND);
    contended.conflicts.set(1_000);
    let contended = answer(&contended);
    assert_eq!((contended.status, contended.details.as_str()), (429, "rate_limit_contended"));
}
