//! The decision without a host: one configuration, and rows of requests.

use weir_plugin_auth::config::Config;
use weir_plugin_auth::decide::{Decision, decide};
use weir_plugin_auth::peer::Peer;
use weir_plugin_auth::request::Request;

/// The configuration. The key of `partner` is `s3cret`; the password of `alice` is `wonderland` with the salt `x1`.
const CONFIG: &str = r#"{
  "realm": "shop",
  "apiKeys": {"header": "X-Api-Key", "query": "api_key", "keys": [
    {"id": "mobile", "key": "m0bile"},
    {"id": "partner", "sha256": "1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0"}
  ]},
  "basic": {"users": [
    {"name": "alice", "password": "sha256:x1:4facee6dc712dcabd01930c93263e367b8b439f0a2bc0caff33676e21debdd5b"}
  ]},
  "rules": [
    {"name": "deny-admin", "action": "deny", "paths": [{"prefix": "/admin"}, {"exact": "/status"}]},
    {"name": "deny-writes", "action": "deny", "methods": ["DELETE", "PUT"], "paths": [{"prefix": "/archive"}]},
    {"name": "deny-role", "action": "deny", "headers": [{"name": "X-Role", "exact": "guest"}]},
    {"name": "health", "action": "allow", "anonymous": true, "methods": ["GET"], "paths": [{"exact": "/healthz"}]},
    {"name": "internal", "action": "allow", "paths": [{"prefix": "/internal/"}],
     "headers": [{"name": "x-zone", "prefix": "eu-"}]},
    {"name": "read", "action": "allow", "methods": ["GET", "HEAD"], "paths": [{"prefix": "/shop"}, {"prefix": "/archive"}]}
  ]
}"#;

const MOBILE: (&str, &[u8]) = ("x-api-key", b"m0bile");

#[derive(Default)]
struct Row<'a> {
    method: &'a str,
    path: &'a str,
    headers: &'a [(&'a str, &'a [u8])],
}

fn config(json: &str) -> Result<Config, String> {
    weir_sdk::config::parse(json.as_bytes()).map_err(|errors| errors.to_string())
}

/// Returns `200 CONSUMER` or `STATUS DETAILS`.
fn outcome(config: &Config, row: &Row<'_>) -> String {
    let method = if row.method.is_empty() { "GET" } else { row.method };
    let own = [(":method", method.as_bytes()), (":path", row.path.as_bytes())];
    let owned = |(name, value): &(&str, &[u8])| ((*name).to_owned(), value.to_vec());
    let headers: Vec<(String, Vec<u8>)> = own.iter().chain(row.headers).map(owned).collect();
    match decide(config, &Request::from_headers(&headers, 0)) {
        Decision::Allow { identity, .. } => {
            format!("200 {}", identity.as_ref().map_or("-", |identity| identity.consumer().unwrap_or_default()))
        }
        Decision::Deny(denial) => format!("{} {}", denial.status, denial.details),
    }
}

#[track_caller]
fn check(path: &str, headers: &[(&str, &[u8])], expected: &str) {
    check_method("GET", path, headers, expected);
}

#[track_caller]
fn check_method(method: &str, path: &str, headers: &[(&str, &[u8])], expected: &str) {
    let config = config(CONFIG).expect("a right configuration");
    assert_eq!(outcome(&config, &Row { method, path, headers }), expected, "{method} {path} {headers:?}");
}

#[test]
fn credentials() {
    check("/shop", &[], "401 auth_missing_credentials");
    check("/shop", &[MOBILE], "200 mobile");
    check("/shop", &[("x-api-key", b" s3cret ")], "200 partner");
    check("/shop", &[("x-api-key", b"guess")], "401 auth_invalid_api_key");
    check("/shop", &[("x-api-key", b"")], "401 auth_invalid_api_key");
    check("/shop", &[("x-api-key", b"m0bile\xff")], "401 auth_invalid_api_key");
    check("/shop", &[MOBILE, MOBILE], "200 mobile");
    check("/shop", &[MOBILE, ("x-api-key", b"s3cret")], "401 auth_ambiguous_api_key");
    check("/shop?api_key=m0bile", &[], "200 mobile");
    check("/shop?x=1&api%5Fkey=m%30bile#part", &[], "200 mobile");
    check("/shop?api_key=guess", &[], "401 auth_invalid_api_key");
    check("/shop?api_key=m0bile", &[("x-api-key", b"s3cret")], "401 auth_ambiguous_api_key");
    check("/shop?api_key", &[], "401 auth_invalid_api_key");
    check("/shop?api_keys=m0bile", &[], "401 auth_missing_credentials");
}

#[test]
fn basic() {
    let authorization = |value: &'static str| [("authorization", value.as_bytes())];
    check("/shop", &authorization("Basic YWxpY2U6d29uZGVybGFuZA=="), "200 alice");
    check("/shop", &authorization("bASIC   YWxpY2U6d29uZGVybGFuZA"), "200 alice");
    check("/shop", &authorization("Basic YWxpY2U6d29uZGVybGFuZHM="), "401 auth_invalid_basic"); // A wrong password.
    check("/shop", &authorization("Basic Ym9iOndvbmRlcmxhbmQ="), "401 auth_invalid_basic"); // An unknown user.
    check("/shop", &authorization("Basic YWxpY2U="), "401 auth_invalid_basic"); // No colon.
    check("/shop", &authorization("Basic !!!"), "401 auth_invalid_basic");
    check("/shop", &authorization("Basic"), "401 auth_missing_credentials");
    check("/shop", &authorization("Bearer YWxpY2U6d29uZGVybGFuZA=="), "401 auth_missing_credentials");
    let both = [("authorization", b"Basic YWxpY2U6d29uZGVybGFuZA==".as_slice()); 2];
    check("/shop", &both, "401 auth_ambiguous_basic");
    let key_goes_first = [MOBILE, ("authorization", b"Basic nonsense")];
    check("/shop", &key_goes_first, "200 mobile");
}

#[test]
fn deny_rule_matches_any_reading_of_a_path() {
    for path in [
        "/admin",
        "/admin/",
        "/admin/users?x=1",
        "/admin?x",
        "/%61dmin",
        "/%2561dmin",
        "//admin",
        "/./admin",
        "/shop/../admin",
        "/shop/%2e%2e/admin",
        "/shop/..%2fadmin",
        "/shop\\..\\admin",
        "/admin;v=1/users",
        "/admin%3bv=1",
        "/../admin",
        "/status",
        "/status/",
        "/status;x",
        "/;/admin",
        "/admin%20",
        "/%09status%00",
        "/x/.%252e/admin",
    ] {
        check(path, &[MOBILE], "403 auth_rule_deny_admin");
        check(path, &[], "403 auth_rule_deny_admin");
    }
    check("/administrator", &[MOBILE], "403 auth_no_allow_rule");
    check("/shop/admin", &[MOBILE], "200 mobile");
    check("/shop?/admin", &[MOBILE], "200 mobile");
    check("/status/x", &[MOBILE], "403 auth_no_allow_rule");
}

#[test]
fn allow_rule_needs_every_reading_of_a_path() {
    check("/shop/x", &[MOBILE], "200 mobile");
    check("/shop/%41", &[MOBILE], "200 mobile");
    check("/shops", &[MOBILE], "403 auth_no_allow_rule");
    check("/other/../shop", &[MOBILE], "403 auth_no_allow_rule"); // Some upstream may read it as /other/../shop.
    check("/shop/..%2fother", &[MOBILE], "403 auth_no_allow_rule");
    check("/healthz", &[], "200 -");
    check("/healthz/", &[], "401 auth_missing_credentials");
    check("/healthz", &[("x-api-key", b"guess")], "200 -");
    check("/healthz", &[MOBILE], "200 mobile");
    check("/healthz/../shop", &[], "401 auth_missing_credentials");
}

#[test]
fn methods() {
    check_method("PUT", "/archive/1", &[MOBILE], "403 auth_rule_deny_writes");
    check_method("put", "/archive/1", &[MOBILE], "403 auth_rule_deny_writes");
    check_method("GET", "/archive/1", &[MOBILE], "200 mobile");
    check_method("HEAD", "/shop", &[MOBILE], "200 mobile");
    check_method("get", "/shop", &[MOBILE], "403 auth_no_allow_rule");
    check_method("POST", "/shop", &[MOBILE], "403 auth_no_allow_rule");
}

#[test]
fn headers_with_many_values() {
    check("/shop", &[MOBILE, ("x-role", b"guest")], "403 auth_rule_deny_role");
    check("/shop", &[MOBILE, ("x-role", b"admin"), ("x-role", b"guest")], "403 auth_rule_deny_role");
    check("/shop", &[MOBILE, ("x-role", b"admin, guest")], "403 auth_rule_deny_role");
    check("/shop", &[MOBILE, ("x-role", b"guest\xff")], "200 mobile");
    check("/shop", &[MOBILE, ("x-role", b"guests")], "200 mobile");
    check("/internal/a", &[MOBILE, ("x-zone", b"eu-west")], "200 mobile");
    check("/internal/a", &[MOBILE, ("x-zone", b"eu-west"), ("x-zone", b"eu-\xff")], "200 mobile");
    check("/internal/a", &[MOBILE, ("x-zone", b"eu-west"), ("x-zone", b"us-east")], "403 auth_no_allow_rule");
    check("/internal/a", &[MOBILE, ("x-zone", b"us-east, eu-west")], "403 auth_no_allow_rule");
    check("/internal/a", &[MOBILE], "403 auth_no_allow_rule");
    check("/internal/a", &[MOBILE, ("x-zone", b"\xff")], "403 auth_no_allow_rule");
}

#[test]
fn rules_without_credentials_need_no_identity() {
    let deny_only = config(r#"{"rules": [{"name": "no", "action": "deny", "paths": [{"exact": "/no"}]}]}"#).unwrap();
    let of = |path| outcome(&deny_only, &Row { path, ..Row::default() });
    assert_eq!(of("/no"), "403 auth_rule_no");
    assert_eq!(of("/yes"), "200 -");
    assert_eq!(of(""), "200 -");
}

#[test]
fn denial_with_401_has_a_challenge_for_each_credential() {
    let config = config(CONFIG).expect("a right configuration");
    let headers = [(":path".to_owned(), b"/shop".to_vec())];
    let Decision::Deny(denial) = decide(&config, &Request::from_headers(&headers, 0)) else { panic!("must be denied") };
    assert_eq!(denial.text, "unauthorized: missing credentials\n");
    assert_eq!(denial.challenges, [r#"ApiKey realm="shop""#, r#"Basic realm="shop", charset="UTF-8""#]);
}

/// Uses more keys than the cache has slots, each twice. A key that displaces another is not mistaken for it.
#[test]
fn cached_key_has_the_same_consumer() {
    let keys: Vec<_> =
        (0..200).map(|n| serde_json::json!({"id": format!("consumer-{n}"), "key": format!("key-{n}")})).collect();
    let config = config(&serde_json::json!({"apiKeys": {"keys": keys}}).to_string()).unwrap();
    for round in 0..2 {
        for n in 0..200 {
            let right = [("x-api-key", format!("key-{n}"))];
            let Decision::Allow { identity: Some(identity), .. } = decide(&config, &Request::from_headers(&right, 0))
            else {
                panic!("key-{n} is right, round {round}");
            };
            assert_eq!(identity.consumer(), Some(&*format!("consumer-{n}")));
            for wrong in [format!("key-{n}0000"), format!("Key-{n}"), format!("ey-{n}"), format!("key-{n}\0")] {
                let headers = [("x-api-key", wrong.as_str())];
                assert!(matches!(decide(&config, &Request::from_headers(&headers, 0)), Decision::Deny(_)), "{wrong}");
            }
        }
    }
}

#[test]
fn rules_match_the_peer_of_the_connection() {
    let config = config(
        r#"{"apiKeys": {"keys": [{"id": "mobile", "key": "m0bile"}]}, "rules": [
          {"name": "no-lab", "action": "deny", "principals": ["/ns/lab/*"]},
          {"name": "no-bots", "action": "deny", "ipBlocks": ["10.66.0.0/16"], "paths": [{"prefix": "/shop"}]},
          {"name": "mesh", "action": "allow", "anonymous": true, "principals": ["/ns/shop/sa/web", "/ns/ops/*"]},
          {"name": "office", "action": "allow", "ipBlocks": ["10.0.0.0/8", "fd00::/8"]}
        ]}"#,
    );
    let config = config.unwrap();
    let web = "spiffe://a/ns/shop/sa/web";
    for (id, address, key, expected) in [
        (Some(web), "192.0.2.1:5", false, "200 -"),
        (Some("spiffe://a/ns/ops/sa/x"), "192.0.2.1:5", false, "200 -"),
        (Some("spiffe://a/ns/shop/sa/other"), "10.1.1.1:5", false, "401 auth_missing_credentials"),
        (Some("spiffe://a/ns/shop/sa/other"), "10.1.1.1:5", true, "200 mobile"),
        (Some("spiffe://a/ns/shop/sa/other"), "192.0.2.1:5", true, "403 auth_no_allow_rule"),
        (None, "[fd00::1]:5", true, "200 mobile"),
        (None, "192.0.2.1:5", true, "403 auth_no_allow_rule"),
        (None, "nonsense", true, "403 auth_no_allow_rule"),
        (Some("spiffe://a/ns/lab/sa/web"), "10.1.1.1:5", true, "403 auth_rule_no_lab"),
        (Some(web), "10.66.1.1:5", false, "403 auth_rule_no_bots"),
    ] {
        let mut headers = vec![(":method", b"GET".as_slice()), (":path", b"/shop")];
        headers.extend(key.then_some(MOBILE));
        let peer = Peer::new(id.map(str::to_owned), Some(address));
        let request = Request::from_headers(&headers, 0).from_peer(peer);
        let found = match decide(&config, &request) {
            Decision::Allow { identity, .. } => {
                format!("200 {}", identity.as_ref().map_or("-", |identity| identity.consumer().unwrap_or_default()))
            }
            Decision::Deny(denial) => format!("{} {}", denial.status, denial.details),
        };
        assert_eq!(found, expected, "{id:?} {address} {key}");
    }
}
