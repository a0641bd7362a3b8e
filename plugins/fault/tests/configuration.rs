//! Invalid configurations: every error is reported, all at once. And the values of valid ones.

use std::time::Duration;

use weir_plugin_fault::config::{Abort, AbortStatus, Config, Delay};
use weir_plugin_fault::duration;
use weir_plugin_fault::percentage::Percentage;

#[track_caller]
fn check(json: &str, expected: &[&str]) {
    let errors = weir_sdk::config::parse::<Config>(json.as_bytes()).expect_err("must be rejected");
    assert_eq!(errors.errors(), expected, "{json}");
}

#[track_caller]
fn parse(json: &str) -> Config {
    weir_sdk::config::parse(json.as_bytes()).expect("is valid")
}

#[test]
fn configuration_without_a_fault_is_rejected() {
    let expected = ["config: needs delay or abort; without one the filter does nothing"];
    check("", &expected);
    check(r#"{"maxActiveFaults": 1}"#, &expected);
    check("[]", &["config: must be an object, not a list"]);
}

#[test]
fn every_error_is_reported() {
    check(
        r#"{
          "match": {"methods": ["get"], "paths": [{"prefix": "a"}, {}], "header": "x", "headers": [
            {"name": "x y", "exact": "1"}, {"name": "x"}, {"name": "x", "exact": "1", "present": true}, {"exact": "a"}
          ]},
          "delay": {"fixedDelay": "0s", "percentage": -1, "header": "", "percent": 5},
          "abort": {"httpStatus": 99, "grpcStatus": "unavailable", "percentage": 100.1},
          "maxActiveFaults": 0, "faults": 1
        }"#,
        &[
            "match.methods[0]: must be a method in capital letters, like GET",
            "match.paths[0]: must begin with /",
            "match.paths[1]: needs exactly one of exact, prefix",
            "match.headers[0].name: is not a legal header name",
            "match.headers[1]: needs exactly one of exact, present: true",
            "match.headers[2]: needs exactly one of exact, present: true",
            "match.headers[3].name: is required",
            "match.header: unknown field; known are: methods, paths, headers",
            "delay.fixedDelay: must be a duration from 1ms to 1h, like 200ms or 1m30s",
            "delay.percentage: must be from 0 to 100",
            "delay.header: is not a legal header name",
            "delay.percent: unknown field; known are: fixedDelay, percentage, header",
            "abort.httpStatus: must be from 200 to 599",
            "abort.grpcStatus: must be one of OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, \
             ALREADY_EXISTS, PERMISSION_DENIED, RESOURCE_EXHAUSTED, FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE, \
             UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS, UNAUTHENTICATED",
            "abort.percentage: must be from 0 to 100",
            "maxActiveFaults: must be from 1 to 4096; leave it out for no limit",
            "faults: unknown field; known are: match, delay, abort, maxActiveFaults",
        ],
    );
    check(
        r#"{"match": {}, "delay": {}, "abort": {"percentage": {"value": 1}}}"#,
        &[
            "match: needs methods, paths or headers; leave it out for faults of every request",
            "delay.fixedDelay: is required",
            "delay.percentage: is required",
            "abort.percentage: must be a number, not an object",
            "abort: needs one of httpStatus, grpcStatus, header",
        ],
    );
    check(
        r#"{"delay": 5, "abort": {"httpStatus": 503, "header": "x-status", "percentage": 1}, "maxActiveFaults": 4097}"#,
        &[
            "delay: must be an object, not a number",
            "abort.httpStatus: has no effect with header, which sets the status; leave out one of them",
            "maxActiveFaults: must be from 1 to 4096; leave it out for no limit",
        ],
    );
}

#[test]
fn valid_configuration_has_its_values() {
    let config = parse(
        r#"{
          "delay": {"fixedDelay": "1m30s", "percentage": 0.0001, "header": "X-Fault-Delay"},
          "abort": {"httpStatus": 503, "grpcStatus": "UNAVAILABLE", "percentage": 100},
          "maxActiveFaults": 100
        }"#,
    );
    let percentage = Percentage::new(0.0001).unwrap();
    assert!(!percentage.is_zero());
    let header = Some("x-fault-delay".to_owned());
    assert_eq!(config.delay, Some(Delay { fixed: Duration::from_secs(90), percentage, header }));
    let abort = Abort { status: AbortStatus::Fixed(503), grpc_status: Some(14), percentage: Percentage::ALL };
    assert_eq!((config.abort, config.max_active), (Some(abort), Some(100)));
    let abort = |json: &str| parse(&format!(r#"{{"abort": {json}}}"#)).abort.unwrap().status;
    assert_eq!(abort(r#"{"grpcStatus": "OK", "percentage": 1}"#), AbortStatus::GrpcOnly);
    assert_eq!(abort(r#"{"header": "X-Status", "percentage": 1}"#), AbortStatus::Header("x-status".to_owned()));
}

#[test]
fn durations_have_the_format_of_the_gateway_api() {
    for (text, milliseconds) in
        [("1ms", 1), ("200ms", 200), ("1s", 1_000), ("1h2m3s4ms", 3_723_004), ("99999s", 99_999_000), ("0s", 0)]
    {
        assert_eq!(duration::parse(text), Some(Duration::from_millis(milliseconds)), "{text}");
        assert_eq!(duration::parse_header(text), Some(Duration::from_millis(milliseconds)), "{text}");
    }
    for text in ["", "1", "s", "1.5s", "-1s", "1s1m", "1s1s", "100000s", "1 s", "1S", "1us", "1d", "1ms2", "\u{661}s"] {
        assert_eq!(duration::parse(text), None, "{text}");
    }
    for (text, milliseconds) in [("0", Some(0)), ("250", Some(250)), ("9999999999", Some(9_999_999_999))] {
        assert_eq!(duration::parse_header(text), milliseconds.map(Duration::from_millis), "{text}");
    }
    for text in ["", "99999999999", "+1", "-1", "1e3", "soon"] {
        assert_eq!(duration::parse_header(text), None, "{text}");
    }
}
