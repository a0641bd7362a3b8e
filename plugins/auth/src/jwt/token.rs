//! Parses a token into its parts (RFC 7515 §5.2). Nothing is verified yet.

use serde_json::{Map, Value};

use super::key::Algorithm;
use super::reason::{DenyReason, TOO_MANY_VALUES};
use crate::base64;
use crate::json::{self, JsonError};

/// The parts of an unverified token.
pub(super) struct Token<'t> {
    pub(super) algorithm: Algorithm,
    pub(super) key_id: Option<String>,
    pub(super) claims: Map<String, Value>,
    /// The signed bytes: header, dot and claims.
    pub(super) signed: &'t [u8],
    pub(super) signature: Vec<u8>,
}

/// Parses a token. The header's `jwk`, `jku`, `x5u` and `x5c` are ignored, since they name keys that the sender of the
/// token chose. Header and claims may have `max_values` values each.
pub(super) fn parse(token: &[u8], max_values: usize) -> Result<Token<'_>, DenyReason> {
    let mut dots = token.iter().enumerate().filter(|&(_, &byte)| byte == b'.').map(|(at, _)| at);
    let (header_end, claims_end) = match [dots.next(), dots.next(), dots.next(), dots.next(), dots.next()] {
        [Some(first), Some(second), None, ..] => (first, second),
        [_, _, _, Some(_), None] => return Err("auth_jwt_encrypted"), // RFC 7516 §3.1: five parts.
        _ => return Err("auth_jwt_malformed"),
    };
    let decode = |part: &[u8]| base64::decode_url(part).ok_or("auth_jwt_malformed");
    let object = |part: &[u8]| {
        json::object(&decode(part)?, max_values).map_err(|error| match error {
            JsonError::Malformed => "auth_jwt_malformed",
            JsonError::TooManyValues => TOO_MANY_VALUES,
        })
    };
    let mut header = object(&token[..header_end])?;
    let claims = object(&token[header_end + 1..claims_end])?;
    let signature = decode(&token[claims_end + 1..])?;

    if header.contains_key("crit") {
        return Err("auth_jwt_critical_extension"); // RFC 7515 §4.1.11: no extension is implemented.
    }
    let algorithm = text(&mut header, "alg")?.ok_or("auth_jwt_malformed")?;
    let algorithm = Algorithm::from_name(&algorithm).ok_or("auth_jwt_wrong_algorithm")?;
    let key_id = text(&mut header, "kid")?;
    text(&mut header, "typ")?; // `JWT`, `at+jwt` and others are equal here.
    Ok(Token { algorithm, key_id, claims, signed: &token[..claims_end], signature })
}

fn text(header: &mut Map<String, Value>, name: &str) -> Result<Option<String>, DenyReason> {
    match header.remove(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err("auth_jwt_malformed"),
    }
}
