//! Valid configurations and their values, and invalid ones: every error is reported, all at once.

use weir_plugin_telemetry::config::{Config, Side};

fn read(json: &str) -> Config {
    weir_sdk::config::parse::<Config>(json.as_bytes()).expect("is accepted")
}

#[track_caller]
fn check(json: &str, expected: &[&str]) {
    let errors = weir_sdk::config::parse::<Config>(json.as_bytes()).expect_err("must be rejected");
    assert_eq!(errors.errors(), expected, "{json}");
}

#[test]
fn empty_configuration_counts_by_route_and_changes_no_header() {
    let config = read("");
    assert_eq!((config.metrics.max_series, config.metrics.bytes), (1_000, false));
    assert!(config.metrics.label.is_none() && config.tracing.is_none() && config.header_fields.is_empty());
    assert!(!config.logs_trace_id);
}

#[test]
fn trace_id_is_logged_with_tracing() {
    for (json, expected) in [
        (r#"{"tracing": {"sampleRatio": 0.5}}"#, true),
        (r#"{"tracing": {"sampleRatio": 1}, "accessLog": {}}"#, true),
        (r#"{"tracing": {"sampleRatio": 0}, "accessLog": {"traceId": true}}"#, true),
        (r#"{"tracing": {"sampleRatio": 0}, "accessLog": {"traceId": false}}"#, false),
        (r#"{"tracing": {"sampleRatio": 0}, "accessLog": {"traceId": null}}"#, true),
        (r#"{"accessLog": {"traceId": false}}"#, false),
    ] {
        assert_eq!(read(json).logs_trace_id, expected, "{json}");
    }
}

#[test]
fn header_fields_have_distinct_names() {
    let config = read(r#"{"accessLog": {"requestHeaders": ["User-Agent"], "responseHeaders": ["x.y", "user-agent"]}}"#);
    let fields: Vec<(&str, Side, &str)> =
        config.header_fields.iter().map(|field| (field.name.as_str(), field.side, field.header.as_str())).collect();
    assert_eq!(
        fields,
        [
            ("request_user_agent", Side::Request, "user-agent"),
            ("response_x_y", Side::Response, "x.y"),
            ("response_user_agent", Side::Response, "user-agent"),
        ]
    );
}

#[test]
fn every_error_is_reported() {
    let long = "x".repeat(49);
    check(
        &r#"{
          "metrics": {
            "label": {"name": "response_code_class", "header": "x y", "values": ["a", "", "a", 7], "value": "b"},
            "bytes": "yes", "maxSeries": 0, "max": 1
          },
          "tracing": {"sampleRatio": 1.5, "ratio": 1},
          "accessLog": {"requestHeaders": ["a b", "x-y", "X_Y", "LONG", ""], "traceId": 1},
          "trace": {}
        }"#
        .replace("LONG", &long),
        &[
            "metrics.label.name: is a label that every series has",
            "metrics.label.header: must be a header's name of at most 48 bytes",
            "metrics.label.values[3]: must be a text, not a number",
            "metrics.label.values[1]: must have 1 to 256 bytes",
            "metrics.label.values[2]: is an earlier value",
            "metrics.label.value: unknown field; known are: name, header, values",
            "metrics.bytes: must be true or false, not a text",
            "metrics.maxSeries: must be from 1 to 2000",
            "metrics.max: unknown field; known are: label, bytes, maxSeries",
            "tracing.sampleRatio: must be from 0 to 1",
            "tracing.ratio: unknown field; known are: sampleRatio",
            "accessLog.requestHeaders[0]: must be a header's name of at most 48 bytes",
            "accessLog.requestHeaders[2]: has the access log field request_x_y of an earlier header",
            "accessLog.requestHeaders[3]: must be a header's name of at most 48 bytes",
            "accessLog.requestHeaders[4]: must be a header's name of at most 48 bytes",
            "accessLog.traceId: must be true or false, not a number",
            "trace: unknown field; known are: metrics, tracing, accessLog",
        ],
    );
}

#[test]
fn single_errors_are_reported() {
    check(r#"{"tracing": {}}"#, &["tracing.sampleRatio: is required"]);
    check(r#"{"tracing": {"sampleRatio": "0.1"}}"#, &["tracing.sampleRatio: must be a number, not a text"]);
    check(r#"{"tracing": {"sampleRatio": -0.1}}"#, &["tracing.sampleRatio: must be from 0 to 1"]);
    check(r#"{"metrics": {"maxSeries": 2001}}"#, &["metrics.maxSeries: must be from 1 to 2000"]);
    check(r#"{"accessLog": {"traceId": true}}"#, &["accessLog.traceId: needs tracing"]);
    check(
        r#"{"metrics": {"label": {}}}"#,
        &[
            "metrics.label.name: is required",
            "metrics.label.header: is required",
            "metrics.label.values: needs from 1 to 32 values; all others are `other`",
        ],
    );
    check(
        r#"{"metrics": {"label": {"name": "__x", "header": "y", "values": ["z"]}}}"#,
        &["metrics.label.name: may hold a-z and _, and must not begin with __"],
    );
    let headers: Vec<String> = (0..16).map(|number| format!("\"x-{number}\"")).collect();
    let json = format!(r#"{{"accessLog": {{"responseHeaders": [{}]}}}}"#, headers.join(","));
    check(&json, &["accessLog: has more than 15 headers"]);
}
