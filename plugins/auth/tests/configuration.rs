//! Invalid configurations: every error is reported, all at once.

mod tokens;

use serde_json::json;
use weir_plugin_auth::config::Config;

#[track_caller]
fn check(json: &str, expected: &[&str]) {
    let errors = weir_sdk::config::parse::<Config>(json.as_bytes()).expect_err("must be rejected");
    assert_eq!(errors.errors(), expected, "{json}");
}

#[test]
fn empty_configuration_is_rejected() {
    check("", &["config: needs at least one of jwt, apiKeys, basic, rules; without them everything would pass"]);
}

#[test]
fn every_error_is_reported() {
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
            "apiKeys.keys[4].key: conflicts with sha256; use one of them",
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
            "rules[1].anonymous: is for allow rules; a deny rule applies to every consumer",
            "rules[1].paths[0]: must begin with /",
            "rules[1].paths[1]: must be in normal form: without %XX, //, /./, /../, ;, \\ and spaces at the ends of a segment",
            "rules[1].paths[2]: needs exactly one of exact, prefix",
            "rules[1].paths[2].regex: unknown field; known are: exact, prefix",
            "rules[2].paths[0]: is compared without the query, so it must not hold ? or #",
            "rules[2].paths[1]: needs exactly one of exact, prefix",
            "rules[3].name: is the name of an earlier rule",
            "rules[3].headers[0].name: is not a legal header name",
            "rules[3].headers[1]: needs exactly one of exact, prefix, present: true",
            "rules[3].path: unknown field; known are: name, action, anonymous, methods, paths, headers, principals, ipBlocks, consumers, issuers, claims",
            "apikeys: unknown field; known are: realm, dryRun, jwt, apiKeys, basic, rules",
        ],
    );
}

#[test]
fn empty_lists_are_rejected() {
    check(r#"{"apiKeys": {}}"#, &["apiKeys.keys: needs at least one key; without one no request could pass"]);
    check(r#"{"basic": {"users": []}}"#, &["basic.users: needs at least one user; without one no request could pass"]);
}

const SHORT_RSA: &str = "-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDGSGKzD1IWcvqGCJ5kTdCSI1Yx
emaYlYDluvZJlgWLeAyYl+2nt+O/tw3gmr5W9Ppk8UHv9C6I3UuYH8AERieO1w/f
IEBthAbjUPGyS4i37Sl+P6oZc0pM6YSjw4j1/0+AVnApGzY6/3MSIO30OJV+lujl
nz7Hjf195SlrRWdQDwIDAQAB
-----END PUBLIC KEY-----";

const RSA_WITH_EXPONENT_3: &str = "-----BEGIN PUBLIC KEY-----
MIIBIDANBgkqhkiG9w0BAQEFAAOCAQ0AMIIBCAKCAQEAvEgYpWY/ronlT8tYP7xT
OxE38RFzRBufI6UYAto8cghQtX08zMuihi0AYJ0MNr8aCE4lSnyg6Z7Go1ihafd4
y4EFnp7HZrLLPPlQ8vQpylDewK2R1wmSeZYCYTyOy3pZGW3lepd/Lw/FPJwClGfH
JeR8Vwk9CYNZJp9yE21z0L2Wd+36eAA33m+BA95mhfso8GtldIs5crDSLVhd3cvJ
wZNztnO6xLLXjvDUD+O2R1hP4GPBOn/mnfW6KdSmNJfbA3s5aOmS/xi33OjZbbi3
t81zZ7FO89BvO7FglfyepQfYplOyl3NA+qj2aUK9/9lF/zYHgGHKyo795k7FUAa6
CQIBAw==
-----END PUBLIC KEY-----";

const P384: &str = "-----BEGIN PUBLIC KEY-----
MHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEaBc4DDIrX/TwCX/xDqfYUYg7gSRq4IXL
8zhxCnk3lugi51Bqg30WTKVOXc4NKMX+7Thx74UecRx02DkA8w5Zj6S0zy4U0uox
eLZhr67nJ2D08vvc8TxRSua6Z6uuUBz4
-----END PUBLIC KEY-----";

/// Returns 2^2048 - 1 as a modulus.
fn composite() -> String {
    "_".repeat(341) + "w"
}

#[test]
fn every_error_of_tokens_is_reported() {
    let secret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";
    let key = json!({"alg": "HS256", "secret": secret});
    let json = json!({
        "jwt": {"query": "t", "leewaySeconds": 301, "prefix": "", "provider": [], "providers": [
            {"issuer": "a", "keys": [key, 7], "claimsToHeaders": [
                {"claim": "b", "header": "X-Auth_Consumer"}, {"claim": "b", "header": "x-b"},
                {"claim": "c", "header": "x_b"}, {"claim": "d", "header": "a b"}, {"header": "Host", "x": 1}
            ]},
            {"issuer": "a", "audiences": ["x"], "anyAudience": true, "keys": []},
            {"audiences": ["x"], "keys": (0..9).map(|_| &key).collect::<Vec<_>>(), "name": "n"}
        ]},
        "apiKeys": {"header": "x-b", "keys": [{"id": "k", "key": "k"}]},
        "rules": [
            {"name": "a", "action": "allow", "anonymous": true, "claims": [{"claim": "x", "present": true}]},
            {"name": "b", "action": "deny", "issuers": ["z"], "headers": [{"name": "x-auth-consumer", "exact": "q"}]},
            {"name": "c", "action": "deny", "claims": [{"exact": "x"}, {"claim": "x"},
             {"claim": "x", "exact": "x", "contains": "y"}, {"claim": "x", "exact": true}, {"claim": "x", "regex": ""}]}
        ]
    });
    check(
        &json.to_string(),
        &[
            "jwt.prefix: is required in authorization, which other schemes use too",
            "jwt.query: needs forward: true, because a token is not removed from a path",
            "jwt.leewaySeconds: must be 300 at most",
            "jwt.providers[0].audiences: needs at least one audience, or anyAudience: true in its place",
            "jwt.providers[0].keys[1]: must be an object, not a number",
            "jwt.providers[0].claimsToHeaders[0].header: must not be set from a claim",
            "jwt.providers[0].claimsToHeaders[2].header: is set by an earlier entry",
            "jwt.providers[0].claimsToHeaders[3].header: is not a legal header name",
            "jwt.providers[0].claimsToHeaders[4].claim: is required",
            "jwt.providers[0].claimsToHeaders[4].header: must not be set from a claim",
            "jwt.providers[0].claimsToHeaders[4].x: unknown field; known are: claim, header",
            "jwt.providers[1].audiences: needs at least one audience, or anyAudience: true in its place",
            "jwt.providers[1].keys: needs 1 to 8 keys",
            "jwt.providers[1].issuer: is the issuer of an earlier provider",
            "jwt.providers[2].issuer: is required",
            "jwt.providers[2].keys: needs 1 to 8 keys",
            "jwt.providers[2].name: unknown field; known are: issuer, audiences, anyAudience, keys, claimsToHeaders",
            "jwt.provider: unknown field; known are: header, prefix, query, forward, leewaySeconds, requireSubject, maxTokenBytes, maxClaimValues, maxHeaderBytes, providers",
            "rules[0].anonymous: requires no credentials, so it cannot be combined with consumers, issuers or claims",
            "rules[1].headers[0].name: is removed from every request; match on consumers or claims in its place",
            "rules[1].issuers[0]: is the issuer of no provider",
            "rules[2].claims[0].claim: is required",
            "rules[2].claims[1]: needs exactly one of exact, oneOf, contains, present: true",
            "rules[2].claims[2]: needs exactly one of exact, oneOf, contains, present: true",
            "rules[2].claims[3].exact: must be a text, not true or false",
            "rules[2].claims[3]: needs exactly one of exact, oneOf, contains, present: true",
            "rules[2].claims[4]: needs exactly one of exact, oneOf, contains, present: true",
            "rules[2].claims[4].regex: unknown field; known are: claim, exact, oneOf, contains, present",
            "apiKeys.header: is removed from every request, because this filter sets it",
        ],
    );
}

#[test]
fn weak_and_invalid_keys_are_rejected() {
    let n = composite();
    let rsa = |n: &str, e: &str| json!({"alg": "RS256", "jwk": {"kty": "RSA", "n": n, "e": e}});
    let point = |x: &str, y: &str| json!({"alg": "ES256", "jwk": {"kty": "EC", "crv": "P-256", "x": x, "y": y}});
    let zeros = "A".repeat(43);
    let rows = [
        (json!({"alg": "none"}), "alg: must be HS256, RS256 or ES256"),
        (json!({"alg": "hs256", "secret": "x"}), "alg: must be HS256, RS256 or ES256"),
        (json!({"secret": "x"}), "alg: is required"),
        (json!({"alg": "HS256"}), ": needs secret and nothing else for HS256"),
        (json!({"alg": "HS256", "secret": "x", "pem": SHORT_RSA}), ": needs secret and nothing else for HS256"),
        (json!({"alg": "HS256", "secret": "not base64!"}), "secret: must be base64url without padding"),
        (
            json!({"alg": "HS256", "secret": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHg"}),
            "secret: stands for less than 32 bytes, so it could be guessed",
        ),
        (json!({"alg": "HS256", "secret": zeros}), "secret: is one byte again and again, so it could be guessed"),
        (json!({"alg": "RS256"}), ": needs exactly one of pem, jwk for RS256 and ES256"),
        (json!({"alg": "RS256", "secret": "x"}), ": needs exactly one of pem, jwk for RS256 and ES256"),
        (json!({"alg": "RS256", "pem": SHORT_RSA}), "pem: is an RSA key of less than 2048 or more than 4096 bits"),
        (json!({"alg": "RS256", "pem": RSA_WITH_EXPONENT_3}), "pem: is an RSA key with another exponent than 65537"),
        (json!({"alg": "RS256", "pem": P384}), "pem: holds neither an RSA key nor one of the curve P-256"),
        (json!({"alg": "ES256", "pem": tokens::RSA_PEM}), "alg: is for another kind of key"),
        (
            json!({"alg": "RS256", "pem": "MIIB"}),
            "pem: must be a PEM text of BEGIN PUBLIC KEY, one key and nothing else",
        ),
        (
            json!({"alg": "RS256", "pem": tokens::RSA_PEM.replace("PUBLIC", "RSA PUBLIC")}),
            "pem: must be a PEM text of BEGIN PUBLIC KEY, one key and nothing else",
        ),
        (
            json!({"alg": "RS256", "pem": tokens::RSA_PEM.repeat(2)}),
            "pem: must be a PEM text of BEGIN PUBLIC KEY, one key and nothing else",
        ),
        (
            json!({"alg": "ES256", "pem": "-----BEGIN EC PRIVATE KEY-----"}),
            "pem: is a private key, which only the issuer may have; use the public key",
        ),
        (rsa(&n, "AQAB"), "jwk: is no RSA key: a small number divides its modulus"),
        (rsa("AQAB", "AQAB"), "jwk: is an RSA key of less than 2048 or more than 4096 bits"),
        (rsa(&n, "Aw"), "jwk: is an RSA key with another exponent than 65537"),
        (point("AA", "AA"), "jwk: needs an x and a y of 32 bytes each"),
        (point(&zeros, &zeros), "jwk: is not a point of the curve P-256"),
        (json!({"alg": "ES256", "jwk": {"kty": "oct"}}), "jwk: must be of kty RSA or EC"),
        (
            json!({"alg": "ES256", "jwk": {"kty": "EC", "crv": "P-384", "x": "", "y": ""}}),
            "jwk: is on another curve than P-256",
        ),
        (json!({"id": "", "alg": "RS256", "pem": tokens::RSA_PEM}), "id: must not be empty"),
    ];
    for (key, expected) in rows {
        let json = json!({"jwt": {"providers": [{"issuer": "a", "anyAudience": true, "keys": [key]}]}});
        let dot = if expected.starts_with(':') { "" } else { "." };
        check(&json.to_string(), &[&format!("jwt.providers[0].keys[0]{dot}{expected}")]);
    }
}

#[test]
fn private_jwk_is_rejected() {
    let (x, y) = tokens::es256_coordinates(7);
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "d": "AA", "use": "enc", "alg": "HS256"});
    let key = json!({"id": "a", "alg": "ES256", "jwk": jwk});
    let json = json!({"jwt": {"providers": [{"issuer": "a", "anyAudience": true, "keys": [key]}]}});
    check(
        &json.to_string(),
        &[
            "jwt.providers[0].keys[0].jwk.alg: differs from the alg of the key",
            "jwt.providers[0].keys[0].jwk.use: must be sig",
            "jwt.providers[0].keys[0].jwk.d: unknown field; known are: kty, kid, alg, use, crv, x, y",
        ],
    );
}

#[test]
fn identity_rules_need_credentials() {
    check(
        r#"{"rules": [{"name": "a", "action": "deny", "consumers": ["x"]}]}"#,
        &["rules[0]: matches on an identity, which needs jwt, apiKeys or basic"],
    );
    check(
        r#"{"apiKeys": {"keys": [{"id": "a", "key": "b"}]},
            "rules": [{"name": "a", "action": "deny", "claims": [{"claim": "x", "present": true}]}]}"#,
        &["rules[0].claims: needs jwt"],
    );
    check(r#"{"jwt": {}}"#, &["jwt.providers: needs at least one provider; without one no request could pass"]);
}

#[test]
fn former_field_names_are_rejected_with_the_current_ones() {
    check(
        r#"{"shadow": true, "rules": [{"name": "a", "action": "deny", "networks": ["::1"], "workloads": ["/ns/a/*"]}]}"#,
        &[
            "rules[0].networks: unknown field; known are: name, action, anonymous, methods, paths, headers, principals, ipBlocks, consumers, issuers, claims",
            "rules[0].workloads: unknown field; known are: name, action, anonymous, methods, paths, headers, principals, ipBlocks, consumers, issuers, claims",
            "shadow: unknown field; known are: realm, dryRun, jwt, apiKeys, basic, rules",
        ],
    );
}

#[test]
fn options_of_tokens_are_checked() {
    check(
        r#"{"jwt": {"requireSubject": 1, "maxTokenBytes": 65537, "maxClaimValues": 15, "maxHeaderBytes": "1",
            "providers": [{"issuer": "a", "anyAudience": true, "keys": [
            {"alg": "HS256", "secret": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}]}]}}"#,
        &[
            "jwt.requireSubject: must be true or false, not a number",
            "jwt.maxTokenBytes: must be from 256 to 65536",
            "jwt.maxClaimValues: must be from 16 to 16384",
            "jwt.maxHeaderBytes: must be a whole number that is not negative, not a text",
        ],
    );
}

#[test]
fn principals_and_ip_blocks_are_checked() {
    check(
        r#"{"dryRun": 1, "rules": [{"name": "a", "action": "allow", "principals": ["web", "/ns/*/sa"], "ipBlocks":
           ["10.0.0.1/8", "10.0.0.0/33", "here", "::/0"]}]}"#,
        &[
            "dryRun: must be true or false, not a number",
            "rules[0].principals: must be a workload like /ns/shop/sa/web, or a namespace like /ns/shop/*",
            "rules[0].principals: must be a workload like /ns/shop/sa/web, or a namespace like /ns/shop/*",
            "rules[0].ipBlocks: has bits beyond its length; write its first address",
            "rules[0].ipBlocks: has more bits than an address, or none",
            "rules[0].ipBlocks: must be an IP block like 10.0.0.0/8 or fd00::/8",
        ],
    );
}
