//! Invalid configurations: every error is reported, all at once. And the defaults of absent fields.

use weir_plugin_rate_limit::config::Config;
use weir_plugin_rate_limit::key::KeyPart;

#[track_caller]
fn check(json: &str, expected: &[&str]) {
    let errors = weir_sdk::config::parse::<Config>(json.as_bytes()).expect_err("must be rejected");
    assert_eq!(errors.errors(), expected, "{json}");
}

#[test]
fn empty_configuration_is_rejected() {
    let expected = ["limits: needs at least one limit; without one everything would pass"];
    check("", &expected);
    check(r#"{"limits": []}"#, &expected);
    check("[]", &["config: must be an object, not a list"]);
    check(r#"{"limits": {}}"#, &["limits: must be a list, not an object"]);
}

#[test]
fn every_error_is_reported() {
    check(
        r#"{
          "limits": [
            {"name": "a", "requests": 1, "per": "second", "key": [
              {"source": "adress"}, {"header": "x y"}, {"path": false}, {"claim": ""}, {"claim": "https://sub"},
              {"consumer": true, "path": true}, {"cookie": "a"}, {"header": 1}
            ]},
            {"name": "a", "requests": 0, "per": "day", "burst": 0, "missingKey": "deny"},
            {"name": "B", "requests": 1000001, "burst": 1000001, "key": {"source": "address"}},
            {"requests": "10", "per": "hour", "match": {}, "keys": []},
            {"name": "m", "requests": -1, "per": "hour", "match": {"methods": ["get", ""], "path": "/",
              "paths": [{"exact": "a"}, {"prefix": "/a?b"}, {}]}},
            7,
            {"name": "k", "per": "hour", "key": [{"path": true}, {"path": true}, {"path": true}, {"path": true},
              {"path": true}, {"path": true}, {"path": true}, {"path": true}, {"path": true}]}
          ],
          "maxKeys": 7, "headers": "no", "onError": "open", "max": 1
        }"#,
        &[
            "limits[5]: must be an object, not a number",
            "limits[0].key[0].source: must be address",
            "limits[0].key[1].header: is not a legal header name",
            "limits[0].key[2]: needs exactly one of source: address, header: NAME, path: true, consumer: true, claim: NAME",
            "limits[0].key[3].claim: is not a legal header name",
            "limits[0].key[4].claim: is not a legal header name",
            "limits[0].key[5]: needs exactly one of source: address, header: NAME, path: true, consumer: true, claim: NAME",
            "limits[0].key[6]: needs exactly one of source: address, header: NAME, path: true, consumer: true, claim: NAME",
            "limits[0].key[6].cookie: unknown field; known are: source, header, claim, consumer, path",
            "limits[0].key[7].header: must be a text, not a number",
            "limits[0].key[7]: needs exactly one of source: address, header: NAME, path: true, consumer: true, claim: NAME",
            "limits[1].name: is the name of an earlier limit",
            "limits[1].requests: is required, from 1 to 1000000",
            "limits[1].per: must be second, minute or hour",
            "limits[1].burst: must be from 1 to 1000000",
            "limits[1].missingKey: must be share, skip or refuse",
            "limits[2].name: may hold at most 63 of a-z, 0-9 and -",
            "limits[2].requests: must be from 1 to 1000000",
            "limits[2].per: is required",
            "limits[2].burst: must be from 1 to 1000000",
            "limits[2].key: must be a list, not an object",
            "limits[3].name: is required",
            "limits[3].requests: must be a whole number that is not negative, not a text",
            "limits[3].match: needs methods or paths; leave it out for a limit on every request",
            "limits[3].keys: unknown field; known are: name, requests, per, burst, key, missingKey, match",
            "limits[4].requests: must be a whole number that is not negative, not a number",
            "limits[4].match.methods[0]: must be a method in capital letters, like GET",
            "limits[4].match.methods[1]: must be a method in capital letters, like GET",
            "limits[4].match.paths[0]: must begin with /",
            "limits[4].match.paths[1]: is compared without the query, so it must not hold ? or #",
            "limits[4].match.paths[2]: needs exactly one of exact, prefix",
            "limits[4].match.path: unknown field; known are: methods, paths",
            "limits[6].requests: is required, from 1 to 1000000",
            "limits[6].key: may hold at most 8 values",
            "maxKeys: must be from 8 to 149796 for this number of limits",
            "headers: must be true or false, not a text",
            "onError: must be refuse or allow",
            "max: unknown field; known are: limits, maxKeys, headers, onError",
        ],
    );
}

#[test]
fn number_of_limits_and_keys_is_bounded() {
    let limit = |number| format!(r#"{{"name": "a{number}", "requests": 1, "per": "second"}}"#);
    let limits = |count: usize| (0..count).map(limit).collect::<Vec<_>>().join(",");
    check(&format!(r#"{{"limits": [{}]}}"#, limits(17)), &["limits: may hold at most 16 limits"]);
    let most = |keys| format!(r#"{{"maxKeys": {keys}, "limits": [{}]}}"#, limits(16));
    assert!(weir_sdk::config::parse::<Config>(most(65_536).as_bytes()).is_ok());
    check(&most(65_537), &["maxKeys: must be from 8 to 65536 for this number of limits"]);
}

#[test]
fn absent_field_has_a_default() {
    let json =
        r#"{"headers": null, "limits": [{"name": "a", "requests": 3, "per": "minute", "key": [{"consumer": true}]}]}"#;
    let config = weir_sdk::config::parse::<Config>(json.as_bytes()).expect("a right configuration");
    assert_eq!((config.slots, config.emit_headers), (8_192, true));
    assert_eq!(config.limits[0].key, [KeyPart::Header("x-auth-consumer".to_owned())]);
    let explicit = json.replace("null", "false").replace("\"minute\"", "\"minute\", \"burst\": 3");
    let explicit = weir_sdk::config::parse::<Config>(explicit.as_bytes()).expect("a right configuration");
    assert_eq!((explicit.emit_headers, explicit.limits == config.limits), (false, true));
}
