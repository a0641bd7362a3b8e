//! Invalid configurations: every error is reported with its path.

use weir_plugin_routing::config::Config;

fn errors(json: &str) -> Vec<String> {
    weir_sdk::config::parse::<Config>(json.as_bytes()).map_or_else(|error| error.errors().to_vec(), |_| Vec::new())
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn every_error_is_reported() {
    const TARGET: &str = "must be namespace/service:port, namespace/service:port@version or @version";
    let rows: [(&str, &[&str]); 17] = [
        (r"{}", &["rules: needs at least one rule; without one the filter does nothing"]),
        (r#"{"rules": [{"to": "@v2"}]}"#, &["rules[0].name: is required"]),
        (r#"{"rules": [{"name": "a"}]}"#, &["rules[0]: needs either `to`, or `sticky` and `split`"]),
        (
            r#"{"rules": [{"name": "a", "to": "@v2", "sticky": {"address": true}}]}"#,
            &["rules[0]: needs either `to`, or `sticky` and `split`"],
        ),
        (
            r#"{"rules": [{"name": "a", "to": "@v2"}, {"name": "a", "to": "@v3"}]}"#,
            &["rules[1].name: is the name of an earlier rule"],
        ),
        (
            r#"{"rules": [{"name": "a", "to": "@v2", "When": 1}]}"#,
            &["rules[0].When: unknown field; known are: name, headers, cookies, to, sticky, split"],
        ),
        (
            r#"{"rules": [{"name": "a", "to": "@v2", "headers": [{"name": "x y", "exact": "1"}, {"name": "b"}]}]}"#,
            &[
                "rules[0].headers[0].name: is not a legal name",
                "rules[0].headers[1]: needs exactly one of exact, present: true",
            ],
        ),
        (
            r#"{"rules": [{"name": "a", "sticky": {}, "split": [{"percent": 1, "to": "@v2"}]}]}"#,
            &["rules[0].sticky: needs exactly one of cookie, header, address: true"],
        ),
        (
            r#"{"rules": [{"name": "a", "sticky": {"header": "x", "maxAgeSeconds": 5}, "split": [{"percent": 1, "to": "@v2"}]}]}"#,
            &["rules[0].sticky.maxAgeSeconds: is for cookies"],
        ),
        (
            r#"{"rules": [{"name": "a", "sticky": {"cookie": "x", "maxAgeSeconds": 0}, "split": [{"percent": 1, "to": "@v2"}]}]}"#,
            &["rules[0].sticky.maxAgeSeconds: must be 1 to 34560000"],
        ),
        (
            r#"{"rules": [{"name": "a", "sticky": {"address": true, "sameSite": "Lax", "secure": true}, "split": [{"percent": 1, "to": "@v2"}]}]}"#,
            &["rules[0].sticky.sameSite: is for cookies", "rules[0].sticky.secure: is for cookies"],
        ),
        (
            r#"{"rules": [{"name": "a", "sticky": {"cookie": "x", "sameSite": "none", "secure": "no"}, "split": [{"percent": 1, "to": "@v2"}]}]}"#,
            &[
                "rules[0].sticky.secure: must be true or false, not a text",
                "rules[0].sticky.sameSite: must be Strict, Lax or None",
            ],
        ),
        (
            r#"{"rules": [{"name": "a", "sticky": {"cookie": "x", "sameSite": "None", "secure": false}, "split": [{"percent": 1, "to": "@v2"}]}]}"#,
            &["rules[0].sticky.secure: must not be false with sameSite: None, which browsers accept with Secure only"],
        ),
        (
            r#"{"rules": [{"name": "a", "sticky": {"header": "x"}, "split": [{"to": "@v2"}, {"percent": "5", "to": "@v2"}]}]}"#,
            &["rules[0].split[0].percent: is required", "rules[0].split[1].percent: must be a number, not a text"],
        ),
        (
            r#"{"rules": [{"name": "a", "sticky": {"header": "x"}, "split": [{"percent": -1, "to": "@v2"}, {"percent": 0.00001, "to": "@v2"}]}]}"#,
            &[
                "rules[0].split[0].percent: must be 0 to 100, with at most four decimals",
                "rules[0].split[1].percent: must be 0 to 100, with at most four decimals",
            ],
        ),
        (
            r#"{"rules": [{"name": "a", "sticky": {"header": "x"}, "split": [{"percent": 60, "to": "@v2"}, {"percent": 41, "to": "@v3"}]}]}"#,
            &["rules[0].split: comes to more than 100 percent"],
        ),
        ("[1]", &["config: must be an object, not a list"]),
    ];
    for (json, expected) in rows {
        assert_eq!(errors(json), expected, "{json}");
    }
    let many: Vec<String> = (0..65).map(|number| format!(r#"{{"name": "r{number}", "to": "@v2"}}"#)).collect();
    assert_eq!(errors(&format!(r#"{{"rules": [{}]}}"#, many.join(","))), ["rules: has more than 64 rules"]);
    assert!(errors(&format!(r#"{{"rules": [{}]}}"#, many[1..].join(","))).is_empty());
    for target in ["", "v2", "@", "a/b", "a/b:0", "a/b:x", "/b:1", "a/:1", "a/b:80@", "a b/c:1", "a/b:80@v 2"] {
        let expected = format!("rules[0].to: {TARGET}");
        assert_eq!(errors(&format!(r#"{{"rules": [{{"name": "a", "to": "{target}"}}]}}"#)), [expected], "{target}");
    }
    for target in ["@v2", "a/b:80", "a-1/b.c:8080@2024_01"] {
        assert!(errors(&format!(r#"{{"rules": [{{"name": "a", "to": "{target}"}}]}}"#)).is_empty(), "{target}");
    }
}

#[test]
fn rule_on_target_header_is_rejected() {
    let found = errors(
        r#"{"rules": [{"name": "a", "headers": [{"name": "X-Weir-Target", "present": true}],
            "sticky": {"header": "x-weir-target"}, "split": [{"percent": 1, "to": "@v2"}]}]}"#,
    );
    let error = "is the header that this filter sets; match on another one";
    assert_eq!(found, [format!("rules[0].headers[0].name: {error}"), format!("rules[0].sticky.header: {error}")]);
}
