//! Wrong configurations: each error is named, all of them at once.

use weir_plugin_auth::config::Config;

#[track_caller]
fn check(json: &str, expected: &[&str]) {
    let refusal = weir_sdk::config::parse::<Config>(json.as_bytes()).expect_err("must be refused");
    assert_eq!(refusal.errors(), expected, "{json}");
}

#[test]
fn nothing_is_refused() {
    check("", &["config: needs at least one of apiKeys, basic, rules; without them everything would pass"]);
}

#[test]
fn every_error_is_named() {
    check(
        r#"{
          "realm": "a\"b",
          "apikeys": {},
          "apiKeys": {"header": "x y", "keys": [
            {"key": "a"}, {"id": "b", "key": "a"}, {"id": "c"}, {"id": "d", "sha256": "12"},
            {"id": "é", "key": "b", "sha256": "c"}, {"id": "f", "key": ""}, 7
          ]},
          "basic": {"users": [
            {"name": "a:b", "password": "hunter2"}, {"name": "c", "password": "sha256::00"}, {"name": "c"}
          ], "relm": "x"},
          "rules": [
            {"name": "Bad Name", "action": "refuse", "methods": ["get"], "anonymous": "yes"},
            {"action": "deny", "anonymous": true, "paths": [{"exact": "admin"}, {"prefix": "/a//b"}, {"regex": "x"}]},
            {"name": "q", "action": "allow", "paths": [{"exact": "/a?b"}, {"exact": "/a", "prefix": "/b"}]},
            {"name": "q", "action": "allow", "headers": [{"name": "a b", "exact": "x"}, {"name": "c"}], "path": "/x"}
          ]
        }"#,
        &[
            "realm: may hold visible ASCII without quotes and backslashes only",
            "apiKeys.header: is not a legal header name",
            "apiKeys.keys[6]: must be an object, not a number",
            "apiKeys.keys[0].id: is required",
            "apiKeys.keys[2].key: is required, or sha256 in its place",
            "apiKeys.keys[3].sha256: must be 64 hexadecimal digits",
            "apiKeys.keys[4].id: is sent upstream as a header, so it may hold visible ASCII only",
            "apiKeys.keys[4].key: stands beside sha256; give one of them",
            "apiKeys.keys[5].key: must not be empty",
            "apiKeys.keys[1]: is the same key as an earlier one",
            "basic.users[0].name: must not hold a colon, which ends the name in HTTP basic",
            "basic.users[0].password: must be sha256:SALT:HEX, where HEX is the SHA-256 of SALT and password",
            "basic.users[1].password: must be sha256:SALT:HEX, where HEX is the SHA-256 of SALT and password",
            "basic.users[2].password: is required",
            "basic.users[2].name: is the name of an earlier user",
            "basic.relm: unknown field; known are: users",
            "rules[0].name: may hold at most 63 of a-z, 0-9 and -",
            "rules[0].action: must be allow or deny",
            "rules[0].anonymous: must be true or false, not a text",
            "rules[0].methods[0]: must be a method in capital letters, like GET",
            "rules[1].name: is required",
            "rules[1].anonymous: is for allow rules; a deny rule is against everybody",
            "rules[1].paths[0]: must begin with /",
            "rules[1].paths[1]: must be written plainly: without %XX, //, /./, /../, ; and \\",
            "rules[1].paths[2]: needs exactly one of exact, prefix",
            "rules[1].paths[2].regex: unknown field; known are: exact, prefix",
            "rules[2].paths[0]: is compared without the query, so it must not hold ? or #",
            "rules[2].paths[1]: needs exactly one of exact, prefix",
            "rules[3].name: is the name of an earlier rule",
            "rules[3].headers[0].name: is not a legal header name",
            "rules[3].headers[1]: needs exactly one of exact, prefix, present: true",
            "rules[3].path: unknown field; known are: name, action, anonymous, methods, paths, headers",
            "apikeys: unknown field; known are: realm, apiKeys, basic, rules",
        ],
    );
}

#[test]
fn empty_lists_let_nobody_pass_and_are_refused() {
    check(r#"{"apiKeys": {}}"#, &["apiKeys.keys: needs at least one key; without one nobody could pass"]);
    check(r#"{"basic": {"users": []}}"#, &["basic.users: needs at least one user; without one nobody could pass"]);
}
