//! The compiled filter in the real proxy: what `decisions.rs` cannot see.

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
fn a_401_carries_every_challenge_and_never_reaches_the_upstream() -> Result<(), Error> {
    let harness = start(CONFIG)?;
    let answer = harness.get("/shop?api_key=guess").send()?;
    assert_eq!((answer.status(), answer.text().as_str()), (401, "unauthorized: invalid api key\n"));
    let challenges: Vec<String> = answer.response().values("www-authenticate").collect();
    assert_eq!(challenges, [r#"ApiKey realm="weir""#, r#"Basic realm="weir", charset="UTF-8""#]);
    assert!(answer.upstream().is_none());
    harness.proxy().wait_until("the refusal is logged", |proxy| proxy.log().contains("auth_invalid_api_key"))?;
    assert!(!harness.log().contains("refused with 401: auth_invalid_api_key for GET /shop?"), "{}", harness.log());
    Ok(())
}

#[test]
fn a_403_names_the_rule_in_the_answer_and_in_the_access_log() -> Result<(), Error> {
    let harness = start(CONFIG)?;
    let answer = harness.get("/admin/users").header("x-api-key", "m0bile").send()?;
    assert_eq!((answer.status(), answer.text().as_str()), (403, "forbidden by rule deny-admin\n"));
    assert!(answer.upstream().is_none());
    harness.proxy().wait_until("the rule is logged", |proxy| proxy.log().contains("auth_rule_deny_admin"))
}

#[test]
fn the_upstream_learns_who_it_is_and_cannot_be_lied_to() -> Result<(), Error> {
    let harness = start(CONFIG)?;
    let rows = [
        ("/", "x-api-key", "m0bile", vec!["mobile"]),
        ("/", "authorization", "Basic YWxpY2U6d29uZGVybGFuZA==", vec!["alice"]),
        ("/healthz", "x-other", "1", vec![]),
    ];
    for (path, name, value, expected) in rows {
        let request = harness.get(path).header(name, value);
        let lying = request.header("x-auth-consumer", "root").header("X-Auth-Consumer", "admin");
        let answer = lying.header("x_auth_consumer", "root").send()?;
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
fn values_that_are_not_utf8_hurt_nobody() -> Result<(), Error> {
    let harness = start(CONFIG)?;
    let odd = harness.get("/").header("x-api-key", b"m0bile\xff").header("x-odd", b"\xfe\xff").send()?;
    assert_eq!(odd.status(), 401);
    let right = harness.get("/").header("x-api-key", "m0bile").header("x-odd", b"\xfe\xff").send()?;
    assert_eq!(right.status(), 200);
    Ok(())
}

#[test]
fn a_body_passes_through() -> Result<(), Error> {
    let harness = start(CONFIG)?;
    let body = vec![b'x'; 3_000_000];
    let answer = harness.request("POST", "/upload").header("x-api-key", "m0bile").body(&body).send()?;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.upstream().map(|request| request.body.len()), Some(body.len()));
    Ok(())
}

#[test]
fn another_configuration_serves_and_a_wrong_one_is_refused() -> Result<(), Error> {
    let harness = start(CONFIG)?;
    harness.reconfigure(&CONFIG.replace("m0bile", "n3w"))?;
    let with = |key: &str| harness.get("/").header("x-api-key", key).send().map_or(0, |answer| answer.status());
    harness.proxy().wait_until("the new key passes", |_| with("n3w") == 200)?;
    assert_eq!(with("m0bile"), 401);

    harness.reconfigure(&CONFIG.replace("\"rules\"", "\"rulez\""))?;
    let refusal = "rulez: unknown field; known are: realm, apiKeys, basic, rules";
    harness.proxy().wait_until("the refusal is logged", |proxy| proxy.log().contains(refusal))?;
    assert_eq!(with("n3w"), 200, "what served before goes on serving");
    Ok(())
}
