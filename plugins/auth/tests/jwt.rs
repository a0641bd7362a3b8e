//! Rules on tokens, the token cache, and signatures of other implementations.

mod tokens;

use serde_json::json;
use tokens::{NOW, RSA_PEM, SECRETS, base64url, es256, es256_coordinates, hs256, rs256};
use weir_plugin_auth::base64::decode_url;
use weir_plugin_auth::config::Config;
use weir_plugin_auth::decide::{Decision, decide};
use weir_plugin_auth::jwt::{Key, MAX_TOKENS};
use weir_plugin_auth::request::Request;

const HS: &str = r#"{"alg":"HS256"}"#;

fn config(changes: &[(&str, serde_json::Value)]) -> Config {
    let (x, y) = es256_coordinates(7);
    let secret = json!({"alg": "HS256", "secret": base64url(SECRETS[0])});
    let mut json = json!({"realm": "shop",
    "jwt": {"providers": [
        {"issuer": "a", "anyAudience": true, "keys": [secret], "claimsToHeaders": [
            {"claim": "email", "header": "x-email"}, {"claim": "realm.roles", "header": "x-roles"},
            {"claim": "https://a/age", "header": "x-age"}]},
        {"issuer": "b", "audiences": ["shop"], "keys": [
            {"alg": "RS256", "pem": RSA_PEM},
            {"alg": "ES256", "jwk": {"kty": "EC", "crv": "P-256", "x": x, "y": y}}]},
    ]},
    "apiKeys": {"keys": [{"id": "mobile", "key": "m0bile"}]},
    "basic": {"users": [{"name": "x", "password": format!("sha256:s:{}", "0".repeat(64))}]},
    "rules": [
        {"name": "no-eve", "action": "deny", "consumers": ["eve"]},
        {"name": "no-guests", "action": "deny", "claims": [{"claim": "role", "exact": "guest"}]},
        {"name": "health", "action": "allow", "anonymous": true, "paths": [{"exact": "/healthz"}]},
        {"name": "admins", "action": "allow", "paths": [{"prefix": "/admin"}], "issuers": ["b"],
         "claims": [{"claim": "realm.roles", "contains": "admin"}, {"claim": "email_verified", "exact": "true"}]},
        {"name": "readers", "action": "allow", "paths": [{"prefix": "/read"}],
         "claims": [{"claim": "scope", "contains": "read"}]},
        {"name": "plans", "action": "allow", "paths": [{"prefix": "/plan"}],
         "claims": [{"claim": "plan", "oneOf": ["gold", "7"]}]},
        {"name": "known", "action": "allow", "paths": [{"prefix": "/known"}],
         "claims": [{"claim": "email", "present": true}]},
        {"name": "mobile", "action": "allow", "paths": [{"prefix": "/app"}], "consumers": ["mobile"]},
        {"name": "home", "action": "allow", "paths": [{"exact": "/"}]},
    ]});
    for (pointer, value) in changes {
        json[*pointer] = value.clone();
    }
    weir_sdk::config::parse(json.to_string().as_bytes()).expect("a right configuration")
}

/// Returns a token of issuer `a` with more claims.
fn of_a(more: &str) -> String {
    hs256(SECRETS[0], HS, &format!(r#"{{"iss":"a","sub":"ann","exp":1700000600{more}}}"#))
}

/// Returns a token of issuer `b` with more claims.
fn of_b(more: &str) -> String {
    es256(7, r#"{"alg":"ES256"}"#, &format!(r#"{{"iss":"b","aud":"shop","sub":"bob","exp":1700000600{more}}}"#))
}

fn headers(path: &str, more: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    let own = [(":method", "GET"), (":path", path)];
    own.iter().chain(more).map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
}

/// Returns `200 CONSUMER` or `STATUS DETAILS`.
fn outcome(config: &Config, now: u64, headers: &[(String, Vec<u8>)]) -> String {
    match decide(config, &Request::from_headers(headers, now)) {
        Decision::Allow { identity, .. } => {
            format!("200 {}", identity.as_ref().map_or("-", |identity| identity.consumer().unwrap_or_default()))
        }
        Decision::Deny(denial) => format!("{} {}", denial.status, denial.details),
    }
}

#[track_caller]
fn check(path: &str, token: &str, expected: &str) {
    let headers = headers(path, &[("authorization", &format!("Bearer {token}"))]);
    assert_eq!(outcome(&config(&[]), NOW, &headers), expected, "{path} {token}");
}

#[test]
fn allow_rule_matches_claims() {
    check("/", &of_a(""), "200 ann");
    check("/read", &of_a(r#","scope":"write read""#), "200 ann");
    check("/read", &of_a(r#","scope":["write","read"]"#), "200 ann");
    check("/read", &of_a(r#","scope":"reader unread""#), "403 auth_no_allow_rule");
    check("/read", &of_a(r#","scope":"write,read""#), "403 auth_no_allow_rule");
    check("/read", &of_a(r#","scope":{"read":true}"#), "403 auth_no_allow_rule");
    check("/read", &of_a(""), "403 auth_no_allow_rule");
    check("/plan", &of_a(r#","plan":"gold""#), "200 ann");
    check("/plan", &of_a(r#","plan":7"#), "200 ann");
    check("/plan", &of_a(r#","plan":7.0"#), "403 auth_no_allow_rule");
    check("/plan", &of_a(r#","plan":["gold"]"#), "403 auth_no_allow_rule");
    check("/plan", &of_a(r#","plan":"golden""#), "403 auth_no_allow_rule");
    check("/known", &of_a(r#","email":"""#), "200 ann");
    check("/known", &of_a(r#","email":null"#), "403 auth_no_allow_rule");
}

#[test]
fn rule_matches_nested_claims_and_issuers() {
    let admin = r#","realm":{"roles":["admin"]},"email_verified":true"#;
    check("/admin", &of_b(admin), "200 bob");
    check("/admin", &of_a(admin), "403 auth_no_allow_rule"); // The rule names the other issuer.
    check("/admin", &of_b(&admin.replace("true", "false")), "403 auth_no_allow_rule");
    check("/admin", &of_b(r#","realm.roles":["admin"],"email_verified":true"#), "200 bob");
    let two_readings = r#","realm.roles":["admin"],"realm":{"roles":["user"]},"email_verified":true"#;
    check("/admin", &of_b(two_readings), "403 auth_no_allow_rule");
    check("/admin", &of_b(r#","realm":["roles","admin"],"email_verified":true"#), "403 auth_no_allow_rule");
}

#[test]
fn deny_rule_matches_any_reading_of_a_claim() {
    for role in [r#""guest""#, r#"["admin","guest"]"#, r#""admin guest""#, r#""admin,guest""#, r#"[["guest"]]"#] {
        check("/", &of_a(&format!(r#","role":{role}"#)), "403 auth_rule_no_guests");
        check("/healthz", &of_a(&format!(r#","role":{role}"#)), "403 auth_rule_no_guests");
    }
    check("/", &of_a(r#","role":"guests""#), "200 ann");
    check("/", &hs256(SECRETS[0], HS, r#"{"iss":"a","sub":"eve","exp":1700000600}"#), "403 auth_rule_no_eve");
    check("/healthz", "nonsense", "200 -");
}

#[test]
fn token_precedes_api_key() {
    let (config, token) = (config(&[]), format!("Bearer {}", of_a("")));
    let of = |path: &str, more: &[(&str, &str)]| outcome(&config, NOW, &headers(path, more));
    assert_eq!(of("/app", &[("x-api-key", "m0bile")]), "200 mobile");
    assert_eq!(of("/app", &[("x-api-key", "m0bile"), ("authorization", &token)]), "403 auth_no_allow_rule");
    assert_eq!(of("/", &[("x-api-key", "m0bile"), ("authorization", "Bearer x")]), "401 auth_jwt_malformed");
    assert_eq!(of("/read", &[("x-api-key", "m0bile")]), "403 auth_no_allow_rule");
    assert_eq!(of("/", &[("authorization", "Basic x")]), "401 auth_invalid_basic");
    assert_eq!(of("/", &[]), "401 auth_missing_credentials");
}

#[test]
fn challenge_names_the_error_of_the_token() {
    let config = config(&[]);
    let challenge = |more: &[(&str, &str)]| {
        let headers = headers("/", more);
        let Decision::Deny(denial) = decide(&config, &Request::from_headers(&headers, NOW + 7000)) else {
            panic!("must be denied")
        };
        denial.challenges[0].clone()
    };
    assert_eq!(challenge(&[]), r#"Bearer realm="shop""#);
    assert_eq!(challenge(&[("x-api-key", "x")]), r#"Bearer realm="shop""#);
    let expired = r#"Bearer realm="shop", error="invalid_token", error_description="expired""#;
    assert_eq!(challenge(&[("authorization", &format!("Bearer {}", of_a("")))]), expired);
}

#[test]
fn claims_become_headers_for_the_upstream() {
    let config = config(&[]);
    let of = |token: &str| {
        let headers = headers("/", &[("authorization", &format!("Bearer {token}"))]);
        let decision = decide(&config, &Request::from_headers(&headers, NOW));
        let Decision::Allow { identity: Some(identity), removed_header } = decision else { panic!("must be allowed") };
        (identity.token().unwrap().headers.clone(), removed_header.map(str::to_owned))
    };
    let (set, removed) = of(&of_a(r#","email":"a@é.c","realm":{"roles":["x",1,true]},"https://a/age":42"#));
    let expected = [("x-email", "a@é.c"), ("x-roles", "x,1,true"), ("x-age", "42")];
    assert_eq!(set, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    assert_eq!(removed.as_deref(), Some("authorization"));
    assert_eq!(of(&of_a("")).0, []);
    for name in ["x-auth-consumer", "X_Auth_Consumer", "x-email", "X_EMAIL", "x_age"] {
        assert!(config.removes_header(name.as_bytes()), "{name}");
    }
    assert!(!config.removes_header(b"x-emails") && !config.removes_header(b"authorization"));
}

fn with_options(options: &serde_json::Value) -> Config {
    let mut jwt = json!({"providers": [{"issuer": "a", "anyAudience": true,
        "keys": [{"alg": "HS256", "secret": base64url(SECRETS[0])}],
        "claimsToHeaders": [{"claim": "groups", "header": "x-groups"}]}]});
    for (name, value) in options.as_object().expect("options are an object") {
        jwt[name] = value.clone();
    }
    let rules = json!([
        {"name": "no-eve", "action": "deny", "consumers": ["ann eve"]},
        {"name": "all", "action": "allow"},
    ]);
    config(&[("jwt", jwt), ("rules", rules)])
}

/// Returns a token with this `sub` as JSON, or without one.
fn of_subject(subject: Option<&str>) -> String {
    let subject = subject.map_or(String::new(), |subject| format!(r#""sub":{subject},"#));
    hs256(SECRETS[0], HS, &format!(r#"{{"iss":"a",{subject}"exp":1700000600}}"#))
}

#[test]
fn subject_of_any_text_is_sent_percent_encoded() {
    let config = with_options(&json!({}));
    for (subject, expected) in [
        (r#""auth0|ann@a.b""#, "auth0|ann@a.b"),
        (r#""ann smith""#, "ann%20smith"),
        (r#""ann%20smith""#, "ann%2520smith"),
        (r#"" ann ""#, "%20ann%20"),
        (r#""änn""#, "%C3%A4nn"),
        (r#""安""#, "%E5%AE%89"),
    ] {
        let headers = headers("/", &[("authorization", &format!("Bearer {}", of_subject(Some(subject))))]);
        let Decision::Allow { identity: Some(identity), .. } = decide(&config, &Request::from_headers(&headers, NOW))
        else {
            panic!("{subject} must be allowed")
        };
        assert_eq!(identity.consumer_header().as_deref(), Some(expected), "{subject}");
        assert_eq!(identity.consumer().map(|consumer| json!(consumer).to_string()).as_deref(), Some(subject));
    }
    let headers = headers("/", &[("authorization", &format!("Bearer {}", of_subject(Some(r#""ann eve""#))))]);
    assert_eq!(outcome(&config, NOW, &headers), "403 auth_rule_no_eve", "rules compare the subject itself");
}

#[test]
fn token_without_subject_is_valid_if_none_is_required() {
    for (options, expected) in [
        (json!({}), ["401 auth_jwt_missing_subject", "401 auth_jwt_wrong_claim", "401 auth_jwt_wrong_claim"]),
        (json!({"requireSubject": false}), ["200 ", "200 ", "200 "]),
    ] {
        let config = with_options(&options);
        for (subject, expected) in [None, Some("null"), Some(r#""""#)].into_iter().zip(expected) {
            let headers = headers("/", &[("authorization", &format!("Bearer {}", of_subject(subject)))]);
            assert_eq!(outcome(&config, NOW, &headers), expected, "{subject:?}");
        }
        let number = headers("/", &[("authorization", &format!("Bearer {}", of_subject(Some("7"))))]);
        assert_eq!(outcome(&config, NOW, &number), "401 auth_jwt_wrong_claim");
    }
}

#[test]
fn exceeded_limit_is_named_and_can_be_raised() {
    let groups: Vec<String> = (0..1100).map(|number| format!("g{number}")).collect();
    let many = of_a(&format!(r#","groups":{}"#, json!(groups)));
    let long = of_a(&format!(r#","x":"{}""#, "x".repeat(9000)));
    let wide = of_a(&format!(r#","groups":"{}""#, "x".repeat(3000)));
    let of = |options: &serde_json::Value, token: &str| {
        let headers = headers("/", &[("authorization", &format!("Bearer {token}"))]);
        match decide(&with_options(options), &Request::from_headers(&headers, NOW)) {
            Decision::Allow { .. } => "allowed".to_owned(),
            Decision::Deny(denial) => {
                let limit = denial.limit.clone().unwrap_or_default();
                assert_eq!(denial.text, format!("unauthorized: {limit}\n"));
                assert_eq!(denial.log_reason(), format!("{} ({limit})", denial.details));
                limit
            }
        }
    };
    let none = json!({});
    let bytes = long.len();
    assert_eq!(of(&none, &long), format!("the token has {bytes} bytes; `maxTokenBytes` of the filter is 8192"));
    let values = "the token has more values than `maxClaimValues` of the filter, which is 1024";
    assert_eq!(of(&json!({"maxTokenBytes": 32768}), &many), values);
    let claim = "a claim has more bytes than `maxHeaderBytes` of the filter, which is 2048";
    assert_eq!(of(&none, &wide), claim);
    let raised = json!({"maxTokenBytes": 32768, "maxClaimValues": 2000, "maxHeaderBytes": 8192});
    for token in [&many, &long, &wide] {
        assert_eq!(of(&raised, token), "allowed");
    }
}

#[test]
fn unverified_token_is_removed() {
    let provider = json!({"issuer": "a", "anyAudience": true,
        "keys": [{"alg": "HS256", "secret": base64url(SECRETS[0])}]});
    let forwarding = json!({"forward": true, "header": "x-token", "providers": [provider]});
    let config =
        config(&[("jwt", forwarding), ("rules", json!([{"name": "all", "action": "allow", "anonymous": true}]))]);
    let removed = |more: &[(&str, &str)]| {
        let headers = headers("/", more);
        match decide(&config, &Request::from_headers(&headers, NOW)) {
            Decision::Allow { removed_header, .. } => removed_header.map(str::to_owned),
            Decision::Deny(denial) => panic!("{}", denial.details),
        }
    };
    assert_eq!(removed(&[("x-token", &of_a(""))]), None);
    assert_eq!(removed(&[("x-token", "forged")]).as_deref(), Some("x-token"));
    assert_eq!(removed(&[("x-token", "a"), ("x-token", "b")]).as_deref(), Some("x-token"));
    assert_eq!(removed(&[("authorization", "Bearer other")]), None);
    assert!(config.removes_header(b"x_token"));
}

#[test]
fn cached_token_expires_and_is_not_confused_with_another() {
    let config = config(&[]);
    let of =
        |token: &str, now: u64| outcome(&config, now, &headers("/", &[("authorization", &format!("Bearer {token}"))]));
    let token = of_b(r#","nbf":1700000000"#);
    assert_eq!(of(&token, NOW), "200 bob");
    assert_eq!(of(&token, NOW + 659), "200 bob");
    assert_eq!(of(&token, NOW + 660), "401 auth_jwt_expired");
    assert_eq!(of(&token, NOW - 61), "401 auth_jwt_not_yet_valid");
    assert_eq!(of(&token, 0), "401 auth_jwt_no_clock");
    for number in 0..2 * MAX_TOKENS {
        assert_eq!(of(&of_a(&format!(r#","n":{number}"#)), NOW), "200 ann");
    }
    assert_eq!(of(&token, NOW), "200 bob");
    let (unsigned, _) = token.rsplit_once('.').expect("three parts");
    let (_, foreign) =
        of_b("").rsplit_once('.').map(|(start, end)| (start.len(), end.to_owned())).expect("three parts");
    assert_eq!(of(&format!("{unsigned}.{foreign}"), NOW), "401 auth_jwt_wrong_signature");
}

/// Verifies the tokens of RFC 7515, appendices A.1 to A.3.
#[test]
fn signatures_of_rfc_7515_are_verified() {
    let decode = |text: &str| decode_url(text.as_bytes()).unwrap();
    let claims = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let hs = Key::secret(&decode(secret)).unwrap();
    let message = format!("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{claims}");
    assert!(hs.verifies(message.as_bytes(), &decode("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")));
    let x = decode("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU");
    let es = Key::p256(&x, &decode("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0")).unwrap();
    let message = format!("eyJhbGciOiJFUzI1NiJ9.{claims}");
    let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    assert!(es.verifies(message.as_bytes(), &decode(signature)));
    assert!(!es.verifies(b"x", &decode(signature)));
}

/// Verifies signatures of the message `weir` by `openssl dgst -sha256 -sign`, with keys of several sizes.
#[test]
fn signatures_of_openssl_are_verified() {
    for (pem, signature) in OPENSSL {
        let key = Key::pem(pem).unwrap();
        let signature: Vec<u8> = weir_plugin_auth::base64::decode(signature.as_bytes()).unwrap();
        assert!(key.verifies(b"weir", &signature), "{pem}");
        assert!(!key.verifies(b"wier", &signature), "{pem}");
        assert_eq!(format!("{key:?}"), "Key(Rs256)");
    }
    assert!(!rs256(r#"{"alg":"RS256"}"#, "{}").is_empty());
}

const OPENSSL: [(&str, &str); 3] = [
    (
        "-----BEGIN PUBLIC KEY-----
MIIBIzANBgkqhkiG9w0BAQEFAAOCARAAMIIBCwKCAQIAwuzUcmzo0efq6v0ikAns
0QTPRhYa7j7+wKR9QfcNKakmq4xaxSr2+uG7A3ugA4jK9CIULoN8tC6+fBUBzxHP
A9kBT0qI94Ltpl8bJI8sqYBPKPLANsAWiyKmiQC3CpeOjFp1O+x4jgiFRAGyiuDB
C4zSek9fLWBP7aIhhYxodF+P2R/xRS/QyjkD46+lhXcCGI0FU4lwckCTNmmy9hQR
38Rz20/i9QzssF1dBO3vZTr/z0TsDQ/yGHwNC1pBEWq0LphHk/yy+dttq2E+ru6A
yqEhFtNzketgcA10NScTdP4snQZWnT2Iu2Bp2MUjOzsLBV1HUgR0ZFyg1E75mmsF
U00CAwEAAQ==
-----END PUBLIC KEY-----",
        "\
         ni41IDn7hsIrTmbmYbvPNjOrtyU4Ewu1p+o8Ujdbu5MitqHUIdrB/mLXGEX/gCrG156EaHnAv74nAAl2eodeqkMGsZ+LiiDHBOJ4\
         Dn9oeQsGtpStGuscEzwObqYEvgqZB9tFJAN/7FDKqV8COjiu//K+ElLzJZr5/zB08ywFMgAFAMrHm8MwuExuXrlzc68gdAIpGRtF\
         yPAG7cyH6xoewrBoV20vrqMZCz+acie5GqiqY26djUaTWLaO6yx81ndWGGS2K8CJXPedk9kwlI1jc57BwdU+6MrQHYTpEup3KNv0\
         jTajnw7vtgGp7T70NNnJV2bflk6IUpwpdQh1tLK9Vd8=",
    ),
    (
        "-----BEGIN PUBLIC KEY-----
MIIBojANBgkqhkiG9w0BAQEFAAOCAY8AMIIBigKCAYEA0/KytGlH+eeFCTOD354R
3qrbCrlxmhGM7t0vQHlA8Cmocn43llLlV4duSOCty3MoB/IC0B4OGy3gInlVLIGA
BGd8mV/wvVQYU6KKH8DLZPkSIebsXwxC0My8fYIXNnMsfusUKBDu+Sd5MHp27L9D
y4Ump6CqVXrJdmYJD9lECAs8LxZmPbKOCrqSpzSGDWGDlzc9FMcTNp9id7Vq4jpX
qz5u8a88gdcWOMqI+n/WXOOprg7UDTuWIeXCW32K45EArsmvscSALvvQGi2Y002t
8B54YOvHbb0g6iUmmK+fpFcbAQiD5TTWx+NElvtnwsz3jH3Xev8uNO2+tUjS+rmc
PYb9keU9nJuA05i4sX9HARvlDBa8zmpvvlFcwyr/Pk630b14SmZL6YvGsdWPeYnY
P8Gffm0ohVWLe+iojxC3CDdoUVxSsEW6nhJ5QlUTgpSceeu6ojSeRdFWmbRTo+7G
0aFpRMxGHR/y5s7h3HwibmE+8ILVstuCtN/ClA5rxN8jAgMBAAE=
-----END PUBLIC KEY-----",
        "\
         NVN+oIA1u+iANpCz6jZ1TNymi7RSGBWa735Awrr4C5wimptBuPh1PmvLVGRJFY9S3J/2zR3EbJ8kIIZy+VidpbfLfEt6i5TUAEZt\
         8/3QmHs3Ib+C2YmWgFtE7Ulylwi29jCLwFo9VXHoX2cyiEjlI6s0sFeDaUKiLqZzfL8NHj+1LudcCUMI/2mHGuvEL34P/AsEBnge\
         nPEsMK7dEhiflxzHgrTwaS1Ycak9cZPFuQeKIc9IKYyMvWyZqiIHzbLcIJV+8SdrdZ6ySTEJj41hqmioLU4GorW4GIzyZBl6p1VY\
         ZEEGviL9v5dhjdMJ7cZGQkrGikzfd7la6MJAmLA6JCFvIMic+ocMx1/MlkoXtS3qDBn7t66H3aT6oH3Dr8fmlSEVGcc/p7LnBHDj\
         wHITko42fICIIeRtVDHM7FTpeSHo21OQF+lOSvuMtNM2Sq4JFgCvWnR5hA++cTo3T2AVN+2Nuni0TUL/VdvXTH8eL4OChEiShI/L\
         uDWmqob+YJ9d",
    ),
    (
        "-----BEGIN PUBLIC KEY-----
MIICIjANBgkqhkiG9w0BAQEFAAOCAg8AMIICCgKCAgEApbRc/HCQYSsdSyGr78yo
jK2HVO6c2C6NN8CRTM14YE4DrSrkkczI2kZjgDYJ/k0KkB2WJErOQboucD8YXaVA
vInFF2NYJ67j1qDYzqV+c0gnp3PfYhYAnv1TLTT7HXQ3cVyw952l790ch9xrTjZs
zDFJWmLZ/lty7EphThX3hgSVs3hqKp6suotvugdKN9ldkZ1Bd1+HTv9qbiZnVy45
gQcX/GX+6mR3P/3nTe3f/DtBZN8iv99SfAIUzV9P5SoSOLx61Q5hyVAyEh/u9L2X
9d4mrRDRr2fOnymrXEAiKJktlPDzn7DMaSYkK2Fbw1RldSzjEh6k+VP7OhUVGtxt
tIbXe6sqXzZ4twPkNhmGJ9coxJRL0noXCp0P+1eBT8wRGys5j5c+noljlP2cAjIs
7p+FD522rF7/TfeIEsK04vO8kFcDy01VP/tTEaxlfag8ktW7Jj3OEVB1Gpq12fwD
1msD9UOlLQ+oA5mbHUiTT7hkuENrix3Baz1BaqIwB46f109f9ZRQcXBlyec3yX85
ZXpYEbXz434DAT83srTXPZp0ukOlRSqP1OKcB0sQFGVO/8+3AvQzGPE50qQx3mBa
6lQkwz7vjkQlYDHxi+3UnUZ/aqEwQvfwLQjgTRoUU2J+yIe6UQ6aST4v89xjQHFM
/aUC9vY8PuvYteO/MzU/GpcCAwEAAQ==
-----END PUBLIC KEY-----",
        "\
         Cp6CEb5FnIq6X5mhxjjgEXUVTD6/JG76Mm41AQHImL6mpF3jAxlyLlZUz0eRFAeECZstb2BvGw8W1wOGYTz+oYFHaX6MeRK69Qz6\
         eitOBQ7M0ptOF8j/N+ow/UQM/qeNig/t9Rx0IFRG3vGkmkoNHFoEnLXk22zMb92ZnJ1ZS6vArC1kmF4V90bOQ8v7yybSzt8Dggj1\
         UzUQhOD2ew3DnhvpUSRNme2Cnobrq/H8P4thxG9Ip5EZkVgnR41K9YCOcOE0Bi343A3WChA336vig62i8M5VQ/32kS/OM33TXwCL\
         NOz6mfWKeSRtF/kxznKgg+xtMcLVZDLQtvvJqdBVet+irNN9gdJb5QmLAtFKdqtwQCkTUH8w5nhHWh/+TCCewCmpOvpSycmj7Rc9\
         vbZCEXg4SMeFwv99BK8xd8LY658x+60JkJAWl+Lh4e7iG4Le+An13rYJVNsRjw1Cn88caEBdFOVWIItaVFXVUpU7Zh9jz1fxQ+Wg\
         +sKA6eoBmuwSQSOrwCfFYCFLbld6v1xhlG+tE4Kz9uP/TvVsX6cJ13mmsqAhsDgf3Lnqw8AEMUA9aPhMvIJdQjTtmOsYw9h1QeNl\
         pIidAEtrGgBTBFmp8cwUV9y96aAqKCs2Thg+SotgnV4xcfEmuVHmVjifUpvK7pFNwTAq2wpnBjhEclevlY8=",
    ),
];
