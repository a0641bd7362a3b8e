//! The compiled filter in the real proxy: headers, logs, and a new configuration.

mod tokens;

use std::time::{SystemTime, UNIX_EPOCH};

use tokens::{SECRETS, base64url, es256, es256_coordinates, hs256, rs256};
use weir_sdk::testing::{self, Error, Harness, Running};

const CONFIG: &str = r#"{
  "apiKeys": {"query": "api_key", "keys": [{"id": "mobile", "key": "m0bile"}]},
  "basic": {"users": [
    {"name": "alice", "password": "sha256:x1:4facee6dc712dcabd01930c93263e367b8b439f0a2bc0caff33676e21debdd5b"}
  ]},
  "rules": [
    {"name": "deny-admin", "action": "deny", "paths": [{"prefix": "/admin"}]},
    {"name": "health", "action": "allow", "anonymous": true, "paths": [{"exact": "/healthz"}]},
    {"name": "rest", "action": "allow"}
  ]
}"#;

fn start(config: &str) -> Result<Running, Error> {
    let module = testing::build_with_profile(env!("CARGO_MANIFEST_DIR"), "plugin")?;
    Harness::new(module).config(config).start()
}

#[test]
fn invalid_credentials_get_401_with_every_challenge() -> Result<(), Error> {
    let harness = start(CONFIG)?;
    let answer = harness.get("/shop?api_key=guess").send()?;
    assert_eq!((answer.status(), answer.text().as_str()), (401, "unauthorized: invalid api key\n"));
    let challenges: Vec<String> = answer.response().values("www-authenticate").collect();
    assert_eq!(challenges, [r#"ApiKey realm="weir""#, r#"Basic realm="weir", charset="UTF-8""#]);
    assert!(answer.upstream().is_none());
    harness.proxy().wait_until("the denial is logged", |proxy| proxy.log().contains("auth_invalid_api_key"))?;
    assert!(!harness.log().contains("denied with 401: auth_invalid_api_key for GET /shop?"), "{}", harness.log());
    Ok(())
}

#[test]
fn denied_request_gets_403_that_names_the_rule() -> Result<(), Error> {
    let harness = start(CONFIG)?;
    let answer = harness.get("/admin/users").header("x-api-key", "m0bile").send()?;
    assert_eq!((answer.status(), answer.text().as_str()), (403, "forbidden by rule deny-admin\n"));
    assert!(answer.upstream().is_none());
    harness.proxy().wait_until("the rule is logged", |proxy| proxy.log().contains("auth_rule_deny_admin"))
}

#[test]
fn upstream_receives_consumer_and_no_forged_header() -> Result<(), Error> {
    let harness = start(CONFIG)?;
    let rows = [
        ("/", "x-api-key", "m0bile", vec!["mobile"]),
        ("/", "authorization", "Basic YWxpY2U6d29uZGVybGFuZA==", vec!["alice"]),
        ("/healthz", "x-other", "1", vec![]),
    ];
    for (path, name, value, expected) in rows {
        let request = harness.get(path).header(name, value);
        let forged = request.header("x-auth-consumer", "root").header("X-Auth-Consumer", "admin");
        let answer = forged.header("x_auth_consumer", "root").send()?;
        assert_eq!(answer.status(), 200, "{name}");
        let upstream = answer.upstream();
        assert!(upstream.is_some(), "{name} must reach the upstream");
        let seen: Vec<String> = upstream.iter().flat_map(|request| request.values("x-auth-consumer")).collect();
        assert_eq!(seen, expected, "{name}");
        assert_eq!(upstream.iter().flat_map(|request| request.values("x_auth_consumer")).count(), 0, "{name}");
    }
    Ok(())
}

#[test]
fn header_values_outside_utf8_are_compared_as_bytes() -> Result<(), Error> {
    let harness = start(CONFIG)?;
    let odd = harness.get("/").header("x-api-key", b"m0bile\xff").header("x-odd", b"\xfe\xff").send()?;
    assert_eq!(odd.status(), 401);
    let right = harness.get("/").header("x-api-key", "m0bile").header("x-odd", b"\xfe\xff").send()?;
    assert_eq!(right.status(), 200);
    Ok(())
}

#[test]
fn body_is_forwarded() -> Result<(), Error> {
    let harness = start(CONFIG)?;
    let body = vec![b'x'; 3_000_000];
    let answer = harness.request("POST", "/upload").header("x-api-key", "m0bile").body(&body).send()?;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.upstream().map(|request| request.body.len()), Some(body.len()));
    Ok(())
}

#[test]
fn new_configuration_serves_and_invalid_one_is_rejected() -> Result<(), Error> {
    let harness = start(CONFIG)?;
    harness.reconfigure(&CONFIG.replace("m0bile", "n3w"))?;
    let with = |key: &str| harness.get("/").header("x-api-key", key).send().map_or(0, |answer| answer.status());
    harness.proxy().wait_until("the new key passes", |_| with("n3w") == 200)?;
    assert_eq!(with("m0bile"), 401);

    harness.reconfigure(&CONFIG.replace("\"rules\"", "\"rulez\""))?;
    let error = "rulez: unknown field; known are: realm, dryRun, jwt, apiKeys, basic, rules";
    harness.proxy().wait_until("the rejection is logged", |proxy| proxy.log().contains(error))?;
    assert_eq!(with("n3w"), 200, "the last valid configuration keeps serving");
    Ok(())
}

fn start_with_tokens(forward: bool) -> Result<Running, Error> {
    let (x, y) = es256_coordinates(7);
    let config = serde_json::json!({
        "jwt": {"forward": forward, "providers": [{"issuer": "a", "audiences": ["shop"], "keys": [
            {"id": "h", "alg": "HS256", "secret": base64url(SECRETS[0])},
            {"id": "r", "alg": "RS256", "pem": tokens::RSA_PEM},
            {"id": "e", "alg": "ES256", "jwk": {"kty": "EC", "crv": "P-256", "x": x, "y": y}},
        ], "claimsToHeaders": [{"claim": "email", "header": "x-email"}, {"claim": "roles", "header": "x-roles"}]}]},
        "apiKeys": {"keys": [{"id": "mobile", "key": "m0bile"}]},
        "rules": [
            {"name": "no-guests", "action": "deny", "claims": [{"claim": "roles", "contains": "guest"}]},
            {"name": "health", "action": "allow", "anonymous": true, "paths": [{"exact": "/healthz"}]},
            {"name": "rest", "action": "allow"},
        ],
    });
    start(&config.to_string())
}

/// Returns claims that are valid for ten minutes.
fn claims(roles: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let exp = now + 600;
    format!(r#"{{"iss":"a","aud":"shop","sub":"ann","exp":{exp},"iat":{now},"email":"ann@a.b","roles":["{roles}"]}}"#)
}

#[test]
fn token_of_each_algorithm_passes_and_sets_headers() -> Result<(), Error> {
    let harness = start_with_tokens(false)?;
    let claims = claims("reader");
    for token in [
        hs256(SECRETS[0], r#"{"alg":"HS256","kid":"h"}"#, &claims),
        rs256(r#"{"alg":"RS256","kid":"r"}"#, &claims),
        es256(7, r#"{"alg":"ES256","kid":"e"}"#, &claims),
    ] {
        for time in ["first", "again"] {
            let request = harness.get("/").header("authorization", format!("Bearer {token}"));
            let forged = request.header("X-Email", "root@a.b").header("x_email", "root@a.b").header("x-roles", "admin");
            let answer = forged.header("x-auth-consumer", "root").send()?;
            assert_eq!(answer.status(), 200, "{time} {token}");
            let upstream = answer.upstream().expect("must reach the upstream");
            let values = |name: &str| upstream.values(name).collect::<Vec<String>>();
            assert_eq!(values("x-auth-consumer"), ["ann"]);
            assert_eq!(values("x-email"), ["ann@a.b"]);
            assert_eq!(values("x-roles"), ["reader"]);
            assert!(values("x_email").is_empty() && values("authorization").is_empty());
        }
    }
    Ok(())
}

#[test]
fn invalid_token_gets_challenge_of_rfc_6750_and_is_not_logged() -> Result<(), Error> {
    let harness = start_with_tokens(true)?;
    let token = hs256(SECRETS[1], r#"{"alg":"HS256","kid":"h"}"#, &claims("reader"));
    let answer = harness.get("/").header("authorization", format!("Bearer {token}")).send()?;
    assert_eq!((answer.status(), answer.text().as_str()), (401, "unauthorized: jwt wrong signature\n"));
    let challenges: Vec<String> = answer.response().values("www-authenticate").collect();
    let invalid = r#"Bearer realm="weir", error="invalid_token", error_description="wrong signature""#;
    assert_eq!(challenges, [invalid, r#"ApiKey realm="weir""#]);
    assert!(answer.upstream().is_none());
    harness.proxy().wait_until("the denial is logged", |proxy| proxy.log().contains("auth_jwt_wrong_signature"))?;
    let signature = token.rsplit('.').next().unwrap_or_default();
    assert!(!harness.log().contains(signature), "{}", harness.log());

    let anonymous = harness.get("/healthz").header("authorization", format!("Bearer {token}")).send()?;
    assert_eq!(anonymous.status(), 200);
    let upstream = anonymous.upstream().expect("must reach the upstream");
    assert_eq!(upstream.values("authorization").count(), 0, "an unverified token is removed");
    Ok(())
}

#[test]
fn claim_rule_denies_and_valid_token_is_forwarded() -> Result<(), Error> {
    let harness = start_with_tokens(true)?;
    let bearer = |roles: &str| format!("Bearer {}", hs256(SECRETS[0], r#"{"alg":"HS256"}"#, &claims(roles)));
    let guest = harness.get("/").header("authorization", bearer("guest")).send()?;
    assert_eq!((guest.status(), guest.text().as_str()), (403, "forbidden by rule no-guests\n"));
    harness.proxy().wait_until("the rule is logged", |proxy| proxy.log().contains("auth_rule_no_guests"))?;
    let right = bearer("reader");
    let reader = harness.get("/").header("authorization", &right).send()?;
    assert_eq!(reader.status(), 200);
    let upstream = reader.upstream().expect("must reach the upstream");
    assert_eq!(upstream.values("authorization").collect::<Vec<String>>(), [right]);
    Ok(())
}

#[test]
fn options_of_tokens_apply_and_the_exceeded_limit_is_named() -> Result<(), Error> {
    let config = |options: &str| {
        let secret = base64url(SECRETS[0]);
        format!(
            r#"{{"jwt": {{{options} "providers": [{{"issuer": "a", "audiences": ["shop"],
                "keys": [{{"alg": "HS256", "secret": "{secret}"}}]}}]}}}}"#
        )
    };
    let long = claims(&"x".repeat(9000));
    let bearer = |claims: &str| format!("Bearer {}", hs256(SECRETS[0], r#"{"alg":"HS256"}"#, claims));
    let harness = start(&config(""))?;
    let answer = harness.get("/").header("authorization", bearer(&long)).send()?;
    let limit = format!("the token has {} bytes; `maxTokenBytes` of the filter is 8192", bearer(&long).len() - 7);
    assert_eq!((answer.status(), answer.text()), (401, format!("unauthorized: {limit}\n")));
    harness.proxy().wait_until("the limit is logged", |proxy| proxy.log().contains(&limit))?;
    assert_eq!(
        harness.get("/").header("authorization", bearer(&claims("a").replace(r#""sub":"ann","#, ""))).send()?.status(),
        401
    );

    let harness = start(&config(r#""maxTokenBytes": 16384, "requireSubject": false,"#))?;
    for (claims, consumer) in [
        (long, vec!["ann".to_owned()]),
        (claims("a").replace(r#""sub":"ann","#, ""), vec![]),
        (claims("a").replace("ann", "änn smith"), vec!["%C3%A4nn%20smith".to_owned()]),
    ] {
        let answer = harness.get("/").header("authorization", bearer(&claims)).send()?;
        assert_eq!(answer.status(), 200, "{consumer:?}");
        let upstream = answer.upstream().expect("must reach the upstream");
        assert_eq!(upstream.values("x-auth-consumer").collect::<Vec<String>>(), consumer);
    }
    Ok(())
}
