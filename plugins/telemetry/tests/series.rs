//! Which requests are counted together, and what the metrics are called.

use weir_plugin_telemetry::config::{Config, Metrics};
use weir_plugin_telemetry::series::{Key, Series, name};
use weir_sdk::metrics::Family;

fn metrics(json: &str) -> Metrics {
    weir_sdk::config::parse::<Config>(json.as_bytes()).expect("is accepted").metrics
}

#[test]
fn names_have_route_and_class() {
    let plain = metrics("{}");
    for (route, status, expected) in [
        ("shop/web", 200, r#"n{route="shop/web",class="2xx"}"#),
        ("shop/web", 101, r#"n{route="shop/web",class="1xx"}"#),
        ("shop/web", 399, r#"n{route="shop/web",class="3xx"}"#),
        ("shop/web", 404, r#"n{route="shop/web",class="4xx"}"#),
        ("shop/web", 599, r#"n{route="shop/web",class="5xx"}"#),
        ("shop/web", 0, r#"n{route="shop/web",class="0"}"#),
        ("shop/web", 99, r#"n{route="shop/web",class="0"}"#),
        ("shop/web", 600, r#"n{route="shop/web",class="0"}"#),
        ("shop/web", u64::MAX, r#"n{route="shop/web",class="0"}"#),
        ("", 200, r#"n{route="none",class="2xx"}"#),
        ("a\"b\\c\nd}", 200, r#"n{route="a\"b\\c\nd}",class="2xx"}"#),
    ] {
        let key = Key::new(route.into(), status, None);
        assert_eq!(name("n", Some(key.bytes()), &plain), expected);
    }
    assert_eq!(
        name("n", Some(Key::new(b"\xff".to_vec(), 200, None).bytes()), &plain),
        "n{route=\"\u{fffd}\",class=\"2xx\"}"
    );
    assert_eq!(name("n", None, &plain), r#"n{route="other",class="other"}"#);
}

#[test]
fn the_label_has_a_closed_set_of_values() {
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
        let key = Key::new(b"r".to_vec(), 200, Some(label.place_of(value)));
        assert_eq!(name("n", Some(key.bytes()), &config), format!(r#"n{{route="r",class="2xx",tier="{expected}"}}"#));
    }
    assert_eq!(name("n", None, &config), r#"n{route="other",class="other",tier="other"}"#);
}

#[test]
fn series_past_the_cap_are_one() {
    let config = metrics(r#"{"metrics": {"maxSeries": 3}}"#);
    let family: Family<String> = Family::new(config.max_series);
    let series = |route: &str, status| {
        let key = Key::new(route.into(), status, None);
        family.series(key.bytes(), |key| name("n", key, &config)).to_string()
    };
    for (route, status, expected) in [
        ("a", 200, r#"n{route="a",class="2xx"}"#),
        ("a", 500, r#"n{route="a",class="5xx"}"#),
        ("b", 200, r#"n{route="b",class="2xx"}"#),
        ("b", 500, r#"n{route="other",class="other"}"#),
        ("c", 200, r#"n{route="other",class="other"}"#),
        ("a", 201, r#"n{route="a",class="2xx"}"#),
    ] {
        assert_eq!(series(route, status), expected);
    }
}

#[test]
fn bytes_are_counted_on_demand() {
    assert!(Series::of(None, &metrics("{}")).bytes.is_none());
    assert!(Series::of(None, &metrics(r#"{"metrics": {"bytes": true}}"#)).bytes.is_some());
}
