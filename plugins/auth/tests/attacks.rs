//! Attacks with tokens, and unusual but valid tokens. Each row has its outcome: `200 CONSUMER` or the reason.

mod tokens;

use tokens::{
    NOW, RSA_PEM, SECRETS, base64url, es256, es256_coordinates, es256_signature, hs256, hs256_signature, rs256,
    rsa_padded, rsa_signature_of, unsigned, with_signature,
};
use weir_plugin_auth::config::Config;
use weir_plugin_auth::decide::{Decision, decide};
use weir_plugin_auth::request::Request;

/// The order of P-256.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7,
    0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

const HS: &str = r#"{"alg":"HS256","kid":"h1","typ":"JWT"}"#;
const RS: &str = r#"{"alg":"RS256","kid":"r1"}"#;
const ES: &str = r#"{"alg":"ES256","kid":"e1"}"#;

/// The claims of a valid token of the issuer with the secrets.
const CLAIMS: &str = r#"{"iss":"hs","aud":"shop","sub":"ann","exp":1700000600}"#;
/// The claims of a valid token of the issuer with the public keys.
const PUBLIC_CLAIMS: &str = r#"{"iss":"public","aud":["x","shop"],"sub":"ann","exp":1700000600}"#;
/// The claims of a valid token of the issuer with one key, which has no id.
const BARE_CLAIMS: &str = r#"{"iss":"bare","sub":"ann","exp":1700000600}"#;

fn config() -> Config {
    let (x, y) = es256_coordinates(7);
    let (bare_x, bare_y) = es256_coordinates(9);
    let json = serde_json::json!({"jwt": {"query": "access_token", "forward": true, "providers": [
        {"issuer": "hs", "audiences": ["shop", "api"], "keys": [
            {"id": "h1", "alg": "HS256", "secret": base64url(SECRETS[0])},
            {"id": "h2", "alg": "HS256", "secret": base64url(SECRETS[1])},
        ], "claimsToHeaders": [
            {"claim": "email", "header": "x-email"}, {"claim": "realm.roles", "header": "x-roles"},
        ]},
        {"issuer": "public", "audiences": ["shop"], "keys": [
            {"id": "r1", "alg": "RS256", "pem": RSA_PEM},
            {"alg": "ES256", "jwk": {"kty": "EC", "crv": "P-256", "kid": "e1", "x": x, "y": y, "use": "sig"}},
        ]},
        {"issuer": "bare", "anyAudience": true, "keys": [
            {"alg": "ES256", "jwk": {"kty": "EC", "crv": "P-256", "x": bare_x, "y": bare_y}},
        ]},
    ]}});
    weir_sdk::config::parse(json.to_string().as_bytes()).expect("a right configuration")
}

/// Returns `200 CONSUMER`, or the reason without `auth_jwt_`.
fn outcome(config: &Config, path: &str, headers: &[(&str, &[u8])]) -> String {
    let owned = |(name, value): &(&str, &[u8])| ((*name).to_owned(), value.to_vec());
    let own = [(":method", b"GET".as_slice()), (":path", path.as_bytes())];
    let headers: Vec<(String, Vec<u8>)> = own.iter().chain(headers).map(owned).collect();
    match decide(config, &Request::from_headers(&headers, NOW)) {
        Decision::Allow { identity, .. } => {
            format!("200 {}", identity.as_ref().map_or("-", |identity| identity.consumer().unwrap_or_default()))
        }
        Decision::Deny(denial) => {
            assert_eq!(denial.status, 401);
            denial.details.trim_start_matches("auth_jwt_").to_owned()
        }
    }
}

/// Checks each row twice with one configuration. The second time the token may be in the cache.
#[track_caller]
fn check(rows: &[(&str, String, &str)]) {
    let config = config();
    let mut wrong = Vec::new();
    for round in ["first", "again"] {
        for (name, token, expected) in rows {
            let value = format!("Bearer {token}");
            let found = outcome(&config, "/", &[("authorization", value.as_bytes())]);
            if found != *expected {
                wrong.push(format!("{name} ({round}): expected {expected}, found {found}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), rows.len(), wrong.join("\n"));
}

fn right(header: &str) -> String {
    hs256(SECRETS[0], header, CLAIMS)
}

fn claiming(claims: &str) -> String {
    hs256(SECRETS[0], HS, claims)
}

/// Returns a valid token with more claims.
fn and(more: &str) -> String {
    claiming(&CLAIMS.replace('}', &format!(",{more}}}")))
}

/// Returns a valid token with this in place of its `exp`.
fn expiring(exp: &str) -> String {
    claiming(&CLAIMS.replace(r#""exp":1700000600"#, exp))
}

#[test]
fn valid_tokens_pass() {
    check(&[
        ("HS256", right(HS), "200 ann"),
        ("HS256 with the other key", hs256(SECRETS[1], r#"{"alg":"HS256","kid":"h2"}"#, CLAIMS), "200 ann"),
        ("no kid: keys are tried", hs256(SECRETS[1], r#"{"alg":"HS256"}"#, CLAIMS), "200 ann"),
        ("RS256", rs256(RS, PUBLIC_CLAIMS), "200 ann"),
        ("ES256", es256(7, ES, PUBLIC_CLAIMS), "200 ann"),
        ("RS256 without kid beside an ES256 key", rs256(r#"{"alg":"RS256"}"#, PUBLIC_CLAIMS), "200 ann"),
        ("a kid for the key without id", es256(9, r#"{"alg":"ES256","kid":"any"}"#, BARE_CLAIMS), "200 ann"),
        ("typ at+jwt", right(r#"{"typ":"at+jwt","alg":"HS256","kid":"h1"}"#), "200 ann"),
        ("white space in JSON", claiming(&CLAIMS.replace(',', " ,\r\n ")), "200 ann"),
        ("exp with a fraction", expiring(r#""exp":1700000600.5"#), "200 ann"),
        ("exp in another notation", expiring(r#""exp":1.7000006e9"#), "200 ann"),
        ("expired within the leeway", expiring(r#""exp":1699999941"#), "200 ann"),
        ("nbf within the leeway", and(r#""nbf":1700000060"#), "200 ann"),
        ("iat within the leeway", and(r#""iat":1700000060"#), "200 ann"),
        ("the other audience", claiming(&CLAIMS.replace("shop", "api")), "200 ann"),
        ("a jku, which is ignored", right(r#"{"alg":"HS256","kid":"h1","jku":"https://evil/"}"#), "200 ann"),
        ("an escaped sub", claiming(&CLAIMS.replace("ann", r"\u0061nn")), "200 ann"),
        ("claims for headers", and(r#""email":"a@b.c","realm":{"roles":["x","y"]}"#), "200 ann"),
    ]);
}

#[test]
fn confused_algorithm_is_denied() {
    let with_alg = |alg: &str| right(&format!(r#"{{"alg":{alg},"kid":"h1"}}"#));
    let unsigned_with = |alg: &str| format!("{}.", unsigned(&format!(r#"{{"alg":"{alg}"}}"#), CLAIMS));
    let public_hs = |kid: &str| format!(r#"{{"alg":"HS256"{kid}}}"#);
    let pem = RSA_PEM.as_bytes();
    check(&[
        ("none", unsigned_with("none"), "wrong_algorithm"),
        ("None", unsigned_with("None"), "wrong_algorithm"),
        ("NONE", unsigned_with("NONE"), "wrong_algorithm"),
        ("nOnE", unsigned_with("nOnE"), "wrong_algorithm"),
        ("empty alg", unsigned_with(""), "wrong_algorithm"),
        ("none with a signature", with_alg(r#""none""#), "wrong_algorithm"),
        ("alg missing", right(r#"{"kid":"h1"}"#), "malformed"),
        ("alg null", with_alg("null"), "malformed"),
        ("alg a list", with_alg(r#"["HS256"]"#), "malformed"),
        ("alg in lower case", with_alg(r#""hs256""#), "wrong_algorithm"),
        ("alg with a space", with_alg(r#""HS256 ""#), "wrong_algorithm"),
        ("HS384", with_alg(r#""HS384""#), "wrong_algorithm"),
        ("PS256", rs256(r#"{"alg":"PS256","kid":"r1"}"#, PUBLIC_CLAIMS), "wrong_algorithm"),
        ("EdDSA", es256(7, r#"{"alg":"EdDSA","kid":"e1"}"#, PUBLIC_CLAIMS), "wrong_algorithm"),
        ("RSA key as a secret", hs256(pem, &public_hs(r#","kid":"r1""#), PUBLIC_CLAIMS), "wrong_algorithm"),
        ("RSA key as a secret, no kid", hs256(pem, &public_hs(""), PUBLIC_CLAIMS), "wrong_algorithm"),
        ("RSA key with a newline", hs256(&[pem, b"\n"].concat(), &public_hs(""), PUBLIC_CLAIMS), "wrong_algorithm"),
        ("ES256 by the RSA key's kid", es256(7, r#"{"alg":"ES256","kid":"r1"}"#, PUBLIC_CLAIMS), "wrong_algorithm"),
        ("RS256 for the issuer with secrets", rs256(r#"{"alg":"RS256","kid":"h1"}"#, CLAIMS), "wrong_algorithm"),
        ("an empty secret", hs256(b"", HS, CLAIMS), "wrong_signature"),
        ("alg twice", right(r#"{"alg":"none","alg":"HS256","kid":"h1"}"#), "malformed"),
    ]);
}

#[test]
fn forged_kid_and_header_are_denied() {
    let with = |more: &str| right(&format!(r#"{{"alg":"HS256",{more}}}"#));
    let (x, y) = es256_coordinates(8);
    let own_key = format!(r#"{{"alg":"ES256","kid":"e1","jwk":{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}"}}}}"#);
    check(&[
        ("unknown", with(r#""kid":"h3""#), "unknown_key"),
        ("a path", with(r#""kid":"../../../dev/null""#), "unknown_key"),
        ("SQL", with(r#""kid":"x' UNION SELECT 'secret' --""#), "unknown_key"),
        ("a command", with(r#""kid":"h1|/bin/id""#), "unknown_key"),
        ("empty", with(r#""kid":"""#), "unknown_key"),
        ("with a zero", with(r#""kid":"h1\u0000""#), "unknown_key"),
        ("in capitals", with(r#""kid":"H1""#), "unknown_key"),
        ("another key's", with(r#""kid":"h2""#), "wrong_signature"),
        ("another issuer's", with(r#""kid":"r1""#), "unknown_key"),
        ("a number", with(r#""kid":1"#), "malformed"),
        ("null", with(r#""kid":null"#), "malformed"),
        ("twice", with(r#""kid":"h2","kid":"h1""#), "malformed"),
        ("twice, once escaped", with(r#""kid":"h1","\u006bid":"h1""#), "malformed"),
        ("crit", with(r#""kid":"h1","crit":["b64"],"b64":false"#), "critical_extension"),
        ("crit empty", with(r#""kid":"h1","crit":[]"#), "critical_extension"),
        ("crit null", with(r#""kid":"h1","crit":null"#), "critical_extension"),
        ("typ a number", with(r#""kid":"h1","typ":1"#), "malformed"),
        ("an embedded key", es256(8, &own_key, PUBLIC_CLAIMS), "wrong_signature"),
        ("jku", es256(8, r#"{"alg":"ES256","jku":"https://evil/jwks"}"#, PUBLIC_CLAIMS), "wrong_signature"),
        ("x5u", es256(8, r#"{"alg":"ES256","x5u":"https://evil/x"}"#, PUBLIC_CLAIMS), "wrong_signature"),
        ("x5c", es256(8, r#"{"alg":"ES256","x5c":["MIIB"]}"#, PUBLIC_CLAIMS), "wrong_signature"),
    ]);
}

#[test]
fn wrong_signature_is_denied() {
    let message = unsigned(HS, CLAIMS);
    let hmac = hs256_signature(SECRETS[0], &message);
    let signed = with_signature(&message, &hmac);
    let es_message = unsigned(ES, PUBLIC_CLAIMS);
    let es = |signature: &[u8]| with_signature(&es_message, signature);
    let signature = es256_signature(7, &es_message);
    let (r, s) = signature.split_at(32);
    let der = [&[0x30, 0x44, 2, 0x20], r, &[2, 0x20], s].concat();
    let rs_message = unsigned(RS, PUBLIC_CLAIMS);
    let rs = |signature: &[u8]| with_signature(&rs_message, signature);
    let padded = rsa_padded(&rs_message);
    // Bleichenbacher's forgery: less padding, and arbitrary bytes after the digest.
    let mut short = [0x55; 256];
    short[..12].copy_from_slice(&[0, 1, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255]);
    short[12..64].copy_from_slice(&padded[204..]);
    let mut broken_padding = padded;
    broken_padding[100] = 0xfe;
    let claims_end = message.len();
    let header_end = message.find('.').unwrap();
    let forged = CLAIMS.replace("ann", "eve");
    check(&[
        ("empty", format!("{message}."), "wrong_signature"),
        ("cut by a byte", with_signature(&message, &hmac[..31]), "wrong_signature"),
        ("a byte longer", with_signature(&message, &[&hmac[..], &[0]].concat()), "wrong_signature"),
        ("of another message", with_signature(&unsigned(HS, &forged), &hmac), "wrong_signature"),
        ("under another header", with_signature(&unsigned(r#"{"alg":"HS256"}"#, CLAIMS), &hmac), "wrong_signature"),
        ("leftover bits set", format!("{}{}", &signed[..signed.len() - 1], "_"), "malformed"),
        ("dot moved", format!("{}.{}", &message[..header_end + 4], &message[header_end..claims_end]), "malformed"),
        ("ES256 in DER", es(&der), "wrong_signature"),
        ("ES256 s before r", es(&[s, r].concat()), "wrong_signature"),
        ("ES256 all zero", es(&[0; 64]), "wrong_signature"),
        ("ES256 r zero", es(&[&[0; 32], s].concat()), "wrong_signature"),
        ("ES256 s zero", es(&[r, &[0; 32]].concat()), "wrong_signature"),
        ("ES256 r the order", es(&[&ORDER, s].concat()), "wrong_signature"),
        ("ES256 s the order", es(&[r, &ORDER].concat()), "wrong_signature"),
        ("ES256 all ones", es(&[0xff; 64]), "wrong_signature"),
        ("ES256 of 63 bytes", es(&signature[1..]), "wrong_signature"),
        ("ES256 of 65 bytes", es(&[&[0], &signature[..]].concat()), "wrong_signature"),
        ("ES256 of 96 bytes", es(&[0x11; 96]), "wrong_signature"),
        ("ES256 with another key", es256(8, ES, PUBLIC_CLAIMS), "wrong_signature"),
        ("RS256 zero", rs(&[0; 256]), "wrong_signature"),
        ("RS256 one", rs(&[&[0; 255][..], &[1]].concat()), "wrong_signature"),
        ("RS256 above the modulus", rs(&[0xff; 256]), "wrong_signature"),
        ("RS256 of 255 bytes", rs(&rsa_signature_of(&padded)[1..]), "wrong_signature"),
        ("RS256 of 257 bytes", rs(&[&[0][..], &rsa_signature_of(&padded)].concat()), "wrong_signature"),
        ("RS256 little padding", rs(&rsa_signature_of(&short)), "wrong_signature"),
        ("RS256 broken padding", rs(&rsa_signature_of(&broken_padding)), "wrong_signature"),
        ("RS256 of another message", rs(&rsa_signature_of(&rsa_padded("x"))), "wrong_signature"),
    ]);
}

#[test]
fn wrong_claim_is_denied() {
    let audience = |aud: &str| claiming(&CLAIMS.replace(r#""shop""#, aud));
    let subject = |sub: &str| claiming(&CLAIMS.replace(r#""ann""#, sub));
    let issuer = |iss: &str| claiming(&CLAIMS.replace(r#""hs""#, iss));
    check(&[
        ("expired", expiring(r#""exp":1699999940"#), "expired"),
        ("expired long ago", expiring(r#""exp":1"#), "expired"),
        ("exp 0", expiring(r#""exp":0"#), "expired"),
        ("exp missing", expiring(r#""x":1"#), "missing_expiry"),
        ("exp a text", expiring(r#""exp":"1700000600""#), "wrong_claim"),
        ("exp null", expiring(r#""exp":null"#), "wrong_claim"),
        ("exp true", expiring(r#""exp":true"#), "wrong_claim"),
        ("exp negative", expiring(r#""exp":-1"#), "wrong_claim"),
        ("exp huge", expiring(r#""exp":1e300"#), "wrong_claim"),
        ("exp beyond 64 bits", expiring(r#""exp":18446744073709551615"#), "wrong_claim"),
        ("exp beyond all numbers", expiring(r#""exp":1e999"#), "malformed"),
        ("exp NaN", expiring(r#""exp":NaN"#), "malformed"),
        ("exp twice", expiring(r#""exp":1,"exp":1700000600"#), "malformed"),
        ("exp twice, once escaped", expiring(r#""e\u0078p":1,"exp":1700000600"#), "malformed"),
        ("not yet valid", and(r#""nbf":1700000061"#), "not_yet_valid"),
        ("nbf a text", and(r#""nbf":"0""#), "wrong_claim"),
        ("issued in the future", and(r#""iat":1700000061"#), "issued_in_future"),
        ("iat a list", and(r#""iat":[1]"#), "wrong_claim"),
        ("another audience", audience(r#""bank""#), "wrong_audience"),
        ("audience as a part", audience(r#""shop2""#), "wrong_audience"),
        ("audience in capitals", audience(r#""SHOP""#), "wrong_audience"),
        ("audience a list of others", audience(r#"["bank"]"#), "wrong_audience"),
        ("audience an empty list", audience("[]"), "wrong_audience"),
        ("audience a mixed list", audience(r#"["shop",1]"#), "wrong_claim"),
        ("audience an object", audience(r#"{"shop":1}"#), "wrong_claim"),
        ("audience missing", claiming(&CLAIMS.replace(r#""aud":"shop","#, "")), "wrong_audience"),
        ("another issuer", issuer(r#""https://evil""#), "unknown_issuer"),
        ("issuer with a slash", issuer(r#""hs/""#), "unknown_issuer"),
        ("issuer missing", claiming(&CLAIMS.replace(r#""iss":"hs","#, "")), "unknown_issuer"),
        ("issuer a list", issuer(r#"["hs"]"#), "wrong_claim"),
        ("the issuer of other keys", hs256(SECRETS[0], r#"{"alg":"HS256"}"#, PUBLIC_CLAIMS), "wrong_algorithm"),
        ("a key of another issuer", es256(7, r#"{"alg":"ES256"}"#, BARE_CLAIMS), "wrong_signature"),
        ("sub missing", claiming(&CLAIMS.replace(r#""sub":"ann","#, "")), "missing_subject"),
        ("sub empty", subject(r#""""#), "wrong_claim"),
        ("sub a number", subject("7"), "wrong_claim"),
        ("sub with a line break", subject(r#""ann\r\nx-admin: 1""#), "wrong_claim"),
        ("sub with a control character", subject(r#""ann\u0085""#), "wrong_claim"),
        ("sub null", subject("null"), "wrong_claim"),
        ("sub too long", subject(&format!(r#""{}""#, "x".repeat(2049))), "claim_too_long"),
        ("a header claim too long", and(&format!(r#""email":"{}""#, "x".repeat(2049))), "claim_too_long"),
        ("sub twice", and(r#""sub":"eve""#), "malformed"),
        ("a header claim with a line break", and(r#""email":"a\r\nx: y""#), "wrong_claim"),
        ("a header claim that is an object", and(r#""email":{}"#), "wrong_claim"),
        ("a header claim with a comma in a list", and(r#""realm":{"roles":["a,b"]}"#), "wrong_claim"),
        ("a header claim in two readings", and(r#""realm":{"roles":["a"]},"realm.roles":"b""#), "wrong_claim"),
    ]);
}

#[test]
fn malformed_token_is_denied() {
    let signed = right(HS);
    let raw = |claims: &[u8]| {
        let message = format!("{}.{}", base64url(HS.as_bytes()), base64url(claims));
        with_signature(&message, &hs256_signature(SECRETS[0], &message))
    };
    let nested = format!(r#""x":{}{}"#, "[".repeat(2000), "]".repeat(2000));
    check(&[
        ("nothing", String::new(), "malformed"),
        ("one part", "abc".to_owned(), "malformed"),
        ("two parts", unsigned(HS, CLAIMS), "malformed"),
        ("three empty parts", "..".to_owned(), "malformed"),
        ("four parts", format!("{signed}.x"), "malformed"),
        ("a dot at the end", format!("{signed}."), "malformed"),
        ("a dot at the start", format!(".{signed}"), "malformed"),
        ("encrypted", format!("{}.a.b.c.d", base64url(br#"{"alg":"dir","enc":"A256GCM"}"#)), "encrypted"),
        ("six parts", "a.b.c.d.e.f".to_owned(), "malformed"),
        ("many dots", ".".repeat(8000), "malformed"),
        ("padding", format!("{signed}="), "malformed"),
        ("padding in the header", signed.replacen('.', "==.", 1), "malformed"),
        ("base64 of the other alphabet", signed.replace(['-', '_'], "+"), "malformed"),
        ("a space inside", signed.replacen('.', ". ", 1), "malformed"),
        ("a tab inside", signed.replacen('.', "\t.", 1), "malformed"),
        ("a line break inside", signed.replacen('.', ".\n", 1), "malformed"),
        ("percent signs", signed.replace('.', "%2e"), "malformed"),
        ("quotes", format!("\"{signed}\""), "malformed"),
        ("another word after it", format!("{signed} x=1"), "malformed"),
        ("two in one line", format!("{signed}, Bearer {signed}"), "ambiguous"),
        ("a comma", format!("{signed},"), "ambiguous"),
        ("not ASCII", format!("{signed}é"), "malformed"),
        ("oversized", and(&format!(r#""x":"{}""#, "x".repeat(8000))), "too_long"),
        ("claims no object", raw(b"[1]"), "malformed"),
        ("claims a text", raw(br#""x""#), "malformed"),
        ("claims nothing", raw(b""), "malformed"),
        ("claims not JSON", raw(b"{'iss':'hs'}"), "malformed"),
        ("claims not UTF-8", raw(b"{\"iss\":\"hs\xff\"}"), "malformed"),
        ("claims with a mark", raw(&[b"\xef\xbb\xbf", CLAIMS.as_bytes()].concat()), "malformed"),
        ("claims and more", raw(&[CLAIMS.as_bytes(), b"{}"].concat()), "malformed"),
        ("claims with a last comma", claiming(&CLAIMS.replace('}', ",}")), "malformed"),
        ("half a surrogate", and(r#""x":"\ud800""#), "malformed"),
        ("a bomb of lists", and(&nested), "malformed"),
        ("nine deep", and(r#""x":[[[[[[[[1]]]]]]]]"#), "malformed"),
        ("many values", and(&format!(r#""x":[{}1]"#, "1,".repeat(2000))), "too_many_values"),
        ("names twice deep inside", and(r#""x":{"y":[{"a":1,"a":2}]}"#), "malformed"),
        ("header no object", hs256(SECRETS[0], "[]", CLAIMS), "malformed"),
        ("header not JSON", hs256(SECRETS[0], "alg=HS256", CLAIMS), "malformed"),
    ]);
}

#[test]
fn token_is_read_from_header_or_query() {
    let config = config();
    let (token, other) = (right(HS), and(r#""x":1"#));
    let bearer = |start: &str, end: &str| format!("{start}{token}{end}").into_bytes();
    let in_query = format!("/?access_token={token}");
    let mut wrong = Vec::new();
    let mut check = |name: &str, path: &str, headers: &[&[u8]], expected: &str| {
        let headers: Vec<(&str, &[u8])> = headers.iter().map(|value| ("authorization", *value)).collect();
        let found = outcome(&config, path, &headers);
        if found != expected {
            wrong.push(format!("{name}: expected {expected}, found {found}"));
        }
    };
    let plain = bearer("Bearer ", "");
    check("nowhere", "/", &[], "auth_missing_credentials");
    check("lower case", "/", &[&bearer("bearer ", "")], "200 ann");
    check("capitals", "/", &[&bearer("BEARER ", "")], "200 ann");
    check("spaces", "/", &[&bearer("  Bearer    ", "  ")], "200 ann");
    check("a tab", "/", &[&bearer("Bearer\t", "")], "malformed");
    check("a space and a tab", "/", &[&bearer("Bearer \t", "")], "malformed");
    check("no space", "/", &[&bearer("Bearer", "")], "auth_missing_credentials");
    check("a colon", "/", &[&bearer("Bearer: ", "")], "auth_missing_credentials");
    check("no scheme", "/", &[&bearer("", "")], "auth_missing_credentials");
    check("another scheme", "/", &[&bearer("Token ", "")], "auth_missing_credentials");
    check("the scheme alone", "/", &[b"Bearer"], "malformed");
    check("the scheme twice", "/", &[&bearer("Bearer Bearer ", "")], "malformed");
    check("not UTF-8", "/", &[&[&plain[..], b"\xff\xfe"].concat()], "malformed");
    check("a zero", "/", &[&[&plain[..], b"\0"].concat()], "malformed");
    check("the same twice", "/", &[&plain, &plain], "ambiguous");
    check("two", "/", &[&plain, format!("Bearer {other}").as_bytes()], "ambiguous");
    check("and basic", "/", &[&plain, b"Basic eDp5"], "ambiguous");
    check("basic first", "/", &[b"Basic eDp5", &plain], "ambiguous");
    check("and an empty line", "/", &[&plain, b""], "ambiguous");
    check("query", &in_query, &[], "200 ann");
    check("query and header", &in_query, &[&plain], "ambiguous");
    check("query and a wrong header", &in_query, &[b"Bearer x"], "ambiguous");
    check("query twice", &format!("{in_query}&access_token={token}"), &[], "ambiguous");
    check("query twice, once escaped", &format!("{in_query}&access%5Ftoken={token}"), &[], "ambiguous");
    check("query empty", "/?access_token=", &[], "malformed");
    check("query after the mark", &format!("/#?access_token={token}"), &[], "auth_missing_credentials");
    assert!(wrong.is_empty(), "{} rows:\n{}", wrong.len(), wrong.join("\n"));
}
