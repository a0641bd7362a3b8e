//! Reads the issuers of tokens and their keys from the configuration.

use std::ops::RangeInclusive;

use weir_sdk::config::FieldReader;

use super::names::{CONSUMER_HEADER, check_header_name, is_same_name};
use crate::base64;
use crate::jwt::{Algorithm, ClaimHeader, Jwt, Key, KeyError, Provider, SubjectPolicy, TokenLocation, TokenPolicy};

const DEFAULT_HEADER: &str = "authorization";
const DEFAULT_PREFIX: &str = "Bearer";

const DEFAULT_LEEWAY_SECONDS: u64 = 60;

/// The maximum of `leewaySeconds`. A larger difference between clocks is a fault, and would keep expired tokens valid.
const MAX_LEEWAY_SECONDS: u64 = 300;

/// The range of `maxTokenBytes`. The largest head of a request that Envoy accepts by default has 60 KiB.
const TOKEN_BYTES: RangeInclusive<u64> = 256..=64 * 1024;

/// The range of `maxClaimValues`. So many values take about 1 MiB of the VM's memory while a token is parsed.
const CLAIM_VALUES: RangeInclusive<u64> = 16..=16 * 1024;

/// The range of `maxHeaderBytes`. Many servers reject longer headers.
const HEADER_BYTES: RangeInclusive<u64> = 64..=16 * 1024;

/// The maximum number of keys of one issuer. A token may cost one signature for each before it is denied.
const MAX_KEYS: usize = 8;

/// Headers that no claim may set, since they frame the message, name its host, or authenticate it.
const RESERVED_HEADERS: [&str; 12] = [
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    CONSUMER_HEADER,
];

/// A key and its id. `None` if the key is invalid and reported, so that later checks report nothing more.
type ReadKey = Option<(Option<String>, Key)>;

pub(super) fn read_jwt(mut fields: FieldReader) -> Jwt {
    let header = fields.text("header").unwrap_or_else(|| DEFAULT_HEADER.to_owned()).to_ascii_lowercase();
    check_header_name(&fields, "header", &header);
    let default_prefix = if header == DEFAULT_HEADER { DEFAULT_PREFIX } else { "" };
    let prefix = fields.text("prefix").unwrap_or_else(|| default_prefix.to_owned());
    if !prefix.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        fields.report("prefix", "may hold letters, digits and - only");
    }
    if prefix.is_empty() && header == DEFAULT_HEADER {
        fields.report("prefix", "is required in authorization, which other schemes use too");
    }
    let (query, forward) = (fields.text("query"), fields.flag("forward"));
    if query.is_some() && !forward {
        fields.report("query", "needs forward: true, because a token is not removed from a path");
    }
    let leeway_seconds = fields.number("leewaySeconds").unwrap_or(DEFAULT_LEEWAY_SECONDS);
    if leeway_seconds > MAX_LEEWAY_SECONDS {
        fields.report("leewaySeconds", "must be 300 at most");
    }
    let policy = read_policy(&mut fields);
    let mut providers: Vec<Provider> = Vec::new();
    for mut provider in fields.objects("providers") {
        let read = read_provider(&mut provider);
        if providers.iter().any(|earlier| earlier.issuer == read.issuer && !read.issuer.is_empty()) {
            provider.report("issuer", "is the issuer of an earlier provider");
        }
        if read.headers.iter().any(|claim| is_same_name(&claim.header, header.as_bytes())) {
            provider.report("claimsToHeaders", "must not set the header that holds the token");
        }
        providers.push(read);
    }
    if providers.is_empty() {
        fields.report("providers", "needs at least one provider; without one no request could pass");
    }
    fields.close();
    let location = TokenLocation { header, prefix, query };
    Jwt { location, forward, leeway_seconds, policy, providers, ..Jwt::default() }
}

fn read_policy(fields: &mut FieldReader) -> TokenPolicy {
    let default = TokenPolicy::default();
    let subject = match fields.flag_or("requireSubject", true) {
        true => SubjectPolicy::Required,
        false => SubjectPolicy::Optional,
    };
    let mut read = |name, range, default: usize| {
        let number = fields.number_in(name, range, default as u64);
        usize::try_from(number).unwrap_or(default)
    };
    TokenPolicy {
        token_bytes: read("maxTokenBytes", TOKEN_BYTES, default.token_bytes),
        claim_values: read("maxClaimValues", CLAIM_VALUES, default.claim_values),
        header_bytes: read("maxHeaderBytes", HEADER_BYTES, default.header_bytes),
        subject,
    }
}

fn read_provider(fields: &mut FieldReader) -> Provider {
    let issuer = fields.required_text("issuer");
    let audiences = fields.texts("audiences");
    if audiences.is_empty() != fields.flag("anyAudience") {
        fields.report("audiences", "needs at least one audience, or anyAudience: true in its place");
    }
    let found: Vec<ReadKey> = fields.objects("keys").into_iter().map(read_key).collect();
    if found.is_empty() || found.len() > MAX_KEYS {
        fields.report("keys", "needs 1 to 8 keys");
    }
    let mut keys: Vec<(Option<String>, Key)> = Vec::new();
    for (index, (id, key)) in found.into_iter().enumerate().filter_map(|(index, found)| Some((index, found?))) {
        if id.is_some() && keys.iter().any(|earlier| earlier.0 == id) {
            fields.report(&format!("keys[{index}].id"), "is the id of an earlier key");
        }
        keys.push((id, key));
    }
    let mut headers: Vec<ClaimHeader> = Vec::new();
    for mut entry in fields.objects("claimsToHeaders") {
        let claim = entry.required_text("claim");
        let header = entry.required_text("header").to_ascii_lowercase();
        check_header_name(&entry, "header", &header);
        if RESERVED_HEADERS.iter().any(|reserved| is_same_name(reserved, header.as_bytes())) {
            entry.report("header", "must not be set from a claim");
        }
        if headers.iter().any(|earlier| is_same_name(&earlier.header, header.as_bytes())) {
            entry.report("header", "is set by an earlier entry");
        }
        entry.close();
        headers.push(ClaimHeader { claim, header });
    }
    fields.close();
    Provider { issuer, audiences, keys, headers }
}

fn read_key(mut fields: FieldReader) -> ReadKey {
    let mut id = fields.text("id");
    let algorithm = fields.required_text("alg");
    let (secret, pem, jwk) = (fields.text("secret"), fields.text("pem"), fields.object("jwk"));
    let named = Algorithm::from_name(&algorithm);
    let key = match (named, secret, pem, jwk) {
        (None, ..) => {
            if !algorithm.is_empty() {
                fields.report("alg", "must be HS256, RS256 or ES256");
            }
            None
        }
        (Some(Algorithm::Hs256), Some(secret), None, None) => key_or_report(&fields, "secret", secret_key(&secret)),
        (Some(Algorithm::Hs256), ..) => {
            fields.report_self("needs secret and nothing else for HS256");
            None
        }
        (Some(_), None, Some(pem), None) => key_or_report(&fields, "pem", Key::pem(&pem)),
        (Some(_), None, None, Some(jwk)) => {
            let (jwk_id, key) = read_jwk(jwk, &algorithm);
            if id.is_some() && jwk_id.is_some() && id != jwk_id {
                fields.report("id", "is another one than the kid of the jwk");
            }
            id = id.or(jwk_id);
            key_or_report(&fields, "jwk", key)
        }
        (Some(_), ..) => {
            fields.report_self("needs exactly one of pem, jwk for RS256 and ES256");
            None
        }
    };
    if id.as_ref().is_some_and(String::is_empty) {
        fields.report("id", "must not be empty");
    }
    if let (Some(key), Some(named)) = (&key, named)
        && key.algorithm() != named
    {
        fields.report("alg", "is for another kind of key");
    }
    fields.close();
    Some((id, key?))
}

fn key_or_report(fields: &FieldReader, name: &str, key: Result<Key, KeyError>) -> Option<Key> {
    key.map_err(|error| fields.report(name, error)).ok()
}

fn secret_key(secret: &str) -> Result<Key, KeyError> {
    Key::secret(&base64::decode_url(secret.as_bytes()).ok_or("must be base64url without padding")?)
}

/// Reads the members of a public key (RFC 7517 §4). Private members (`d`, `p`, ...) are rejected as unknown fields.
fn read_jwk(mut fields: FieldReader, algorithm: &str) -> (Option<String>, Result<Key, KeyError>) {
    let kind = fields.required_text("kty");
    let (id, named, used_for) = (fields.text("kid"), fields.text("alg"), fields.text("use"));
    if named.is_some_and(|named| named != algorithm) {
        fields.report("alg", "differs from the alg of the key");
    }
    if used_for.is_some_and(|used_for| used_for != "sig") {
        fields.report("use", "must be sig");
    }
    let number = |text: String| base64::decode_url(text.as_bytes()).unwrap_or_default();
    let key = match kind.as_str() {
        "RSA" => {
            let (modulus, exponent) = (fields.required_text("n"), fields.required_text("e"));
            Key::rsa(&number(modulus), &number(exponent))
        }
        "EC" => {
            let curve = fields.required_text("crv");
            let (x, y) = (fields.required_text("x"), fields.required_text("y"));
            if curve == "P-256" { Key::p256(&number(x), &number(y)) } else { Err("is on another curve than P-256") }
        }
        _ => Err("must be of kty RSA or EC"),
    };
    fields.close();
    (id, key)
}
