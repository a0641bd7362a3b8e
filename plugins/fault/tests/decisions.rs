//! The decision on a request, the draws, and the table of active delays.

use std::time::Duration;

use proptest::prelude::*;
use weir_plugin_fault::active;
use weir_plugin_fault::config::Config;
use weir_plugin_fault::decide::{AbortReply, Decision, decide};
use weir_plugin_fault::grpc;
use weir_plugin_fault::percentage::Percentage;
use weir_plugin_fault::request::Request;

/// The headers of a request.
struct Headers<'a>(&'a [(&'a str, &'a [u8])]);

impl Request for Headers<'_> {
    fn header(&self, name: &str) -> Option<Vec<u8>> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_vec())
    }
}

fn config(json: &str) -> Config {
    weir_sdk::config::parse(json.as_bytes()).expect("is valid")
}

/// Decides with random numbers that hit any percentage but 0.
fn decided(config: &Config, headers: &[(&str, &[u8])]) -> Decision {
    decide(config, &Headers(headers), || 0)
}

fn delay(milliseconds: u64) -> Option<Duration> {
    Some(Duration::from_millis(milliseconds))
}

#[test]
fn condition_selects_requests() {
    let config = config(
        r#"{"match": {"methods": ["GET"], "paths": [{"prefix": "/a"}, {"exact": "/b"}], "headers": [
            {"name": "X-User", "exact": "ann"}, {"name": "x-any", "present": true}
        ]}, "abort": {"httpStatus": 500, "percentage": 100}}"#,
    );
    let rows: [([&[u8]; 3], bool); 8] = [
        ([b"GET", b"/a/x?y", b"ann"], true),
        ([b"get", b"/b/", b"ann"], true),
        ([b"GET", b"/a;v=1", b"ann"], true),
        ([b"GET", b"/%61", b"ann"], true),
        ([b"POST", b"/a", b"ann"], false),
        ([b"GET", b"/ab", b"ann"], false),
        ([b"GET", b"/a", b"Ann"], false),
        ([b"GET", b"/a", b"\xff"], false),
    ];
    for ([method, path, user], expected) in rows {
        let headers: [(&str, &[u8]); 4] = [(":method", method), (":path", path), ("x-user", user), ("x-any", b"")];
        assert_eq!(decided(&config, &headers).abort.is_some(), expected, "{headers:?}");
        assert_eq!(decided(&config, &headers[..3]), Decision::default(), "x-any is absent");
    }
}

#[test]
fn draws_are_independent() {
    let config =
        config(r#"{"delay": {"fixedDelay": "5ms", "percentage": 50}, "abort": {"httpStatus": 500, "percentage": 50}}"#);
    for (draws, expected) in [
        ([0, 0], (true, true)),
        ([0, u64::MAX], (true, false)),
        ([u64::MAX, 0], (false, true)),
        ([u64::MAX; 2], (false, false)),
    ] {
        let mut random = draws.into_iter();
        let Decision { delay, abort, .. } = decide(&config, &Headers(&[]), || random.next().expect("two draws"));
        assert_eq!((delay.is_some(), abort.is_some()), expected, "{draws:?}");
    }
}

#[test]
fn delay_header_is_bounded_by_the_fixed_delay() {
    let config = config(r#"{"delay": {"fixedDelay": "2s", "percentage": 100, "header": "X-Delay"}}"#);
    let rows: [(&[u8], Option<Duration>, u32); 9] = [
        (b"150", delay(150), 0),
        (b" 1s500ms ", delay(1_500), 0),
        (b"2s", delay(2_000), 0),
        (b"2001", delay(2_000), 0),
        (b"99999h", delay(2_000), 0),
        (b"0", None, 1),
        (b"-5", None, 1),
        (b"", None, 1),
        (b"\xff", None, 1),
    ];
    for (value, expected, ignored) in rows {
        let Decision { delay, ignored_headers, .. } = decided(&config, &[("x-delay", value)]);
        assert_eq!((delay, ignored_headers), (expected, ignored), "{value:?}");
    }
    assert_eq!(decided(&config, &[]), Decision::default());
}

#[test]
fn abort_has_the_status_of_the_protocol() {
    const GRPC: (&str, &[u8]) = ("content-type", b"application/grpc+proto");
    const WEB: (&str, &[u8]) = ("content-type", b"application/grpc-web");
    let reply = |http_status, grpc_status| Some(AbortReply { http_status, grpc_status });
    let both = config(r#"{"abort": {"httpStatus": 503, "grpcStatus": "ABORTED", "percentage": 100}}"#);
    assert_eq!(decided(&both, &[GRPC]).abort, reply(503, Some(10)));
    assert_eq!(decided(&both, &[WEB]).abort, reply(503, None));
    let only = config(r#"{"abort": {"grpcStatus": "OK", "percentage": 100}}"#);
    assert_eq!(decided(&only, &[GRPC]).abort, reply(200, Some(0)));
    assert_eq!(decided(&only, &[]).abort, None);
    let http = config(r#"{"abort": {"httpStatus": 404, "percentage": 100}}"#);
    assert_eq!(decided(&http, &[GRPC]).abort, reply(404, None), "the host derives the gRPC status");
    let header = config(r#"{"abort": {"header": "x-status", "grpcStatus": "ABORTED", "percentage": 100}}"#);
    let rows: [(&[u8], _, u32); 6] = [
        (b"404", reply(404, None), 0),
        (b"200", reply(200, None), 0),
        (b"600", None, 1),
        (b"199", None, 1),
        (b"0404", None, 1),
        (b"+40", None, 1),
    ];
    for (value, expected, ignored) in rows {
        let Decision { abort, ignored_headers, .. } = decided(&header, &[("x-status", value)]);
        assert_eq!((abort, ignored_headers), (expected, ignored), "{value:?}");
    }
    assert_eq!(decided(&header, &[("x-status", b"404"), GRPC]).abort, reply(404, Some(10)));
    assert_eq!(decided(&header, &[GRPC]), Decision::default());
}

#[test]
fn grpc_codes_have_their_numbers() {
    for (name, number) in [("OK", 0), ("CANCELLED", 1), ("UNAVAILABLE", 14), ("UNAUTHENTICATED", 16)] {
        assert_eq!(grpc::code(name), Some(number));
    }
    assert_eq!((grpc::code("unavailable"), grpc::code("14"), grpc::code("")), (None, None, None));
}

#[test]
fn percentage_hits_its_share_of_random_numbers() {
    let hits = |percent: f64, random: u64| Percentage::new(percent).unwrap().hits(random);
    assert!(!hits(0.0, 0) && hits(100.0, u64::MAX) && Percentage::new(100.0) == Some(Percentage::ALL));
    for percent in [-0.1, 100.1, f64::NAN, f64::INFINITY] {
        assert_eq!(Percentage::new(percent), None, "{percent}");
    }
    // The numbers that hit begin at 0, and are p/100 of all: of 2^64 these, give or take the 2^11 of one chance.
    for (percent, limit) in [(25.0, 1_u64 << 62), (50.0, 1 << 63), (0.0001, 18_446_744_073_710)] {
        assert!(hits(percent, limit - (1 << 12)) && !hits(percent, limit + (1 << 12)), "{percent}");
    }
}

proptest! {
    /// The table has as many entries as a naive list of the delays that have neither ended nor expired.
    #[test]
    fn active_delays_are_those_of_a_naive_list(
        steps in prop::collection::vec((0_u64..3_000, 0_u64..5_000, any::<bool>()), 1..100),
        max in 1_usize..6,
    ) {
        let (mut table, mut naive, mut now) = (Vec::new(), Vec::new(), Duration::ZERO);
        for (step_ms, delay_ms, begins) in steps {
            now += Duration::from_millis(step_ms);
            naive.retain(|expires_at| Duration::from_nanos(*expires_at) > now);
            if begins {
                let expires_at = active::expiry(now, Duration::from_millis(delay_ms));
                let added = active::add(&table, expires_at, now, max);
                prop_assert_eq!(added.is_some(), naive.len() < max);
                if let Some(added) = added {
                    table = added;
                    naive.push(expires_at);
                }
            } else if let Some(ended) = naive.pop() {
                table = active::remove(&table, ended, now);
            }
            prop_assert_eq!(active::remove(&table, u64::MAX, now).len(), naive.len() * 8);
        }
    }

    #[test]
    fn any_bytes_are_a_table(bytes: Vec<u8>, expires_at: u64, now_ms: u32) {
        let now = Duration::from_millis(now_ms.into());
        let added = active::add(&bytes, expires_at, now, usize::MAX).expect("there is no limit");
        prop_assert!(active::remove(&added, expires_at, now).len() <= bytes.len());
    }
}
