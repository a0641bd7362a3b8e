//! The series of requests, and the names of their metrics.

use weir_plugin_telemetry::config::{Config, Metrics};
use weir_plugin_telemetry::series::{Series, SeriesKey, name};
use weir_sdk::metrics::Family;

fn metrics(json: &str) -> Metrics {
    weir_sdk::config::parse::<Config>(json.as_bytes()).expect("is accepted").metrics
}

#[test]
fn name_has_route_and_response_code_class() {
    let plain = metrics("{}");
    for (route, status, expected) in [
        ("shop/web", 200, r#"n{route="shop/web",response_code_class="2xx"}"#),
        ("shop/web", 101, r#"n{route="shop/web",response_code_class="1xx"}"#),
        ("shop/web", 399, r#"n{route="shop/web",response_code_class="3xx"}"#),
        ("shop/web", 404, r#"n{route="shop/web",response_code_class="4xx"}"#),
        ("shop/web", 599, r#"n{route="shop/web",response_code_class="5xx"}"#),
        ("shop/web", 0, r#"n{route="shop/web",response_code_class="0"}"#),
        ("shop/web", 99, r#"n{route="shop/web",response_code_class="0"}"#),
        ("shop/web", 600, r#"n{route="shop/web",response_code_class="0"}"#),
        ("shop/web", u64::MAX, r#"n{route="shop/web",response_code_class="0"}"#),
        ("", 200, r#"n{route="none",response_code_class="2xx"}"#),
        ("a\"b\\c\nd}", 200, r#"n{route="a\"b\\c\nd}",response_code_class="2xx"}"#),
    ] {
        let key = SeriesKey::new(route.into(), status, None);
        assert_eq!(name("n", Some(key.bytes()), &plain), expected);
    }
    assert_eq!(
        name("n", Some(SeriesKey::new(b"\xff".to_vec(), 200, None).bytes()), &plain),
        "n{route=\"\u{fffd}\",response_code_class=\"2xx\"}"
    );
    assert_eq!(name("n", None, &plain), r#"n{route="other",response_code_class="other"}"#);
}

#[test]
fn label_has_a_closed_set_of_values() {
    let config = metrics(r#"{"metrics": {"label": {"name": "tier", "header": "X-Tier", "values": ["gold", "tin"]}}}"#);
    let label = config.label.as_ref().unwrap();
    assert_eq!(label.header, "x-tier");
    for (value, expected) in [
        (Some(b"gold".as_slice()), "gold"),
        (Some(b"tin"), "tin"),
        (Some(b"Gold"), "other"),
        (Some(b"gold,tin"), "other"),
        (Some(b"\xff"), "other"),
        (Some(b""), "other"),
        (None, "other"),
    ] {
        let key = SeriesKey::new(b"r".to_vec(), 200, Some(label.value_index(value)));
        assert_eq!(
            name("n", Some(key.bytes()), &config),
            format!(r#"n{{route="r",response_code_class="2xx",tier="{expected}"}}"#)
        );
    }
    assert_eq!(name("n", None, &config), r#"n{route="other",response_code_class="other",tier="other"}"#);
}

#[test]
fn series_beyond_the_limit_are_one() {
    let config = metrics(r#"{"metrics": {"maxSeries": 3}}"#);
    let family: Family<String> = Family::new(config.max_series);
    let series = |route: &str, status| {
        let key = SeriesKey::new(route.into(), status, None);
        family.series(key.bytes(), |key| name("n", key, &config)).to_string()
    };
    for (route, status, expected) in [
        ("a", 200, r#"n{route="a",response_code_class="2xx"}"#),
        ("a", 500, r#"n{route="a",response_code_class="5xx"}"#),
        ("b", 200, r#"n{route="b",response_code_class="2xx"}"#),
        ("b", 500, r#"n{route="other",response_code_class="other"}"#),
        ("c", 200, r#"n{route="other",response_code_class="other"}"#),
        ("a", 201, r#"n{route="a",response_code_class="2xx"}"#),
    ] {
        assert_eq!(series(route, status), expected);
    }
}

#[test]
fn bytes_are_counted_if_configured() {
    assert!(Series::new(None, &metrics("{}")).bytes.is_none());
    assert!(Series::new(None, &metrics(r#"{"metrics": {"bytes": true}}"#)).bytes.is_some());
}
