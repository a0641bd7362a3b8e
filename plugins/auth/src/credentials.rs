//! Authentication: JSON Web Tokens, API keys and HTTP basic.
//!
//! Secrets are stored as SHA-256 digests. A guess is compared with all of them in constant time, so the response time
//! does not depend on how much of the guess is correct. `key_cache.rs` caches verified API keys in plain text.

use std::borrow::Cow;
use std::cell::RefCell;

use sha2::{Digest, Sha256};
use weir_sdk::path::hex_byte;

use crate::base64;
use crate::identity_match::Identity;
use crate::jwt::Jwt;
use crate::key_cache::{VerifiedKeyCache, equal_in_constant_time};
use crate::query;
use crate::request::Request;

/// SHA-256 of a secret.
pub type Sha256Digest = [u8; 32];

/// The accepted credentials.
#[derive(Debug, Default)]
pub struct Credentials {
    /// The realm in challenges.
    pub realm: String,
    /// Tokens, if they are accepted.
    pub jwt: Option<Jwt>,
    /// API keys, if they are accepted.
    pub api_keys: Option<ApiKeys>,
    /// Users with passwords, if they are accepted.
    pub basic: Option<Basic>,
}

/// API keys, and their location in a request.
#[derive(Debug)]
pub struct ApiKeys {
    /// The header with the key.
    pub header: String,
    /// The query parameter with the key. `None` if only the header is read.
    pub query: Option<String>,
    /// The accepted keys.
    pub keys: Vec<ApiKey>,
    /// The keys that have been verified.
    pub verified: RefCell<VerifiedKeyCache>,
}

/// One API key.
#[derive(Debug)]
pub struct ApiKey {
    /// The consumer that the key authenticates.
    pub id: String,
    /// The digest of the key.
    pub digest: Sha256Digest,
}

/// Users with passwords.
#[derive(Debug)]
pub struct Basic {
    /// The accepted users.
    pub users: Vec<User>,
}

/// One user.
#[derive(Debug)]
pub struct User {
    /// The name, which is also the consumer.
    pub name: String,
    /// The salt, which is hashed before the password.
    pub salt: Vec<u8>,
    /// The digest of salt and password.
    pub digest: Sha256Digest,
}

/// The result of authentication.
#[derive(Debug)]
pub enum AuthOutcome<'a> {
    /// No credentials are configured.
    NotConfigured,
    /// The request has no credentials.
    Missing,
    /// The credentials are invalid, with the reason as one word.
    Invalid(&'static str),
    /// The credentials are valid, and authenticate this identity.
    Valid(Identity<'a>),
}

impl Credentials {
    /// Returns whether any credentials are configured.
    pub fn are_configured(&self) -> bool {
        self.jwt.is_some() || self.api_keys.is_some() || self.basic.is_some()
    }

    /// Authenticates a request. A token precedes an API key, and an API key precedes HTTP basic. Two different API keys
    /// are invalid, since the upstream might read either.
    pub fn check(&self, request: &Request<'_>) -> AuthOutcome<'_> {
        if !self.are_configured() {
            return AuthOutcome::NotConfigured;
        }
        if let Some(jwt) = &self.jwt {
            match jwt.check(request) {
                Ok(None) => {}
                Ok(Some(token)) => return AuthOutcome::Valid(Identity::Token(token)),
                Err(reason) => return AuthOutcome::Invalid(reason),
            }
        }
        if let Some(api_keys) = &self.api_keys {
            let presented = api_keys.presented(request);
            if let Some((key, others)) = presented.split_first() {
                return match api_keys.consumer(key) {
                    _ if others.iter().any(|other| other != key) => AuthOutcome::Invalid("auth_ambiguous_api_key"),
                    Some(consumer) => AuthOutcome::Valid(Identity::Named(consumer)),
                    None => AuthOutcome::Invalid("auth_invalid_api_key"),
                };
            }
        }
        self.basic.as_ref().map_or(AuthOutcome::Missing, |basic| basic.check(request))
    }

    /// Returns the `www-authenticate` values of a 401 for this reason.
    pub fn challenges(&self, reason: &str) -> Vec<String> {
        let realm = &self.realm;
        let mut challenges = Vec::new();
        if self.jwt.is_some() {
            // RFC 6750 §3: a request without a token gets a challenge without an error.
            challenges.push(match reason.strip_prefix("auth_jwt_") {
                Some(error) => {
                    let error = error.replace('_', " ");
                    format!("Bearer realm=\"{realm}\", error=\"invalid_token\", error_description=\"{error}\"")
                }
                None => format!("Bearer realm=\"{realm}\""),
            });
        }
        if self.api_keys.is_some() {
            challenges.push(format!("ApiKey realm=\"{realm}\""));
        }
        if self.basic.is_some() {
            challenges.push(format!("Basic realm=\"{realm}\", charset=\"UTF-8\""));
        }
        challenges
    }
}

impl ApiKeys {
    fn presented<'r>(&self, request: &Request<'r>) -> Vec<Cow<'r, [u8]>> {
        let mut presented: Vec<Cow<'r, [u8]>> = Vec::new();
        for value in request.values(&self.header) {
            presented.push(Cow::Borrowed(value.trim_ascii()));
        }
        if let Some(name) = &self.query {
            for value in query::query_values(query::query(request.path), name) {
                presented.push(Cow::Owned(value));
            }
        }
        presented
    }

    fn consumer(&self, key: &[u8]) -> Option<&str> {
        let cached = self.verified.borrow().find(key);
        let index = cached.or_else(|| self.find(key))?;
        if cached.is_none() {
            self.verified.borrow_mut().insert(key, index);
        }
        self.keys.get(index).map(|key| key.id.as_str())
    }

    fn find(&self, key: &[u8]) -> Option<usize> {
        let presented = digest(b"", key);
        let mut found = None;
        for (index, key) in self.keys.iter().enumerate() {
            if equal_in_constant_time(&key.digest, &presented) {
                found = Some(index);
            }
        }
        found
    }
}

impl Basic {
    fn check(&self, request: &Request<'_>) -> AuthOutcome<'_> {
        let mut presented = request.values("authorization").filter_map(|value| after_scheme(value, b"basic"));
        let Some(encoded) = presented.next() else { return AuthOutcome::Missing };
        let invalid = AuthOutcome::Invalid("auth_invalid_basic");
        if presented.next().is_some() {
            return AuthOutcome::Invalid("auth_ambiguous_basic");
        }
        // RFC 7617 §2: the name ends at the first colon.
        let Some(pair) = base64::decode(encoded) else { return invalid };
        let Some(colon) = pair.iter().position(|&byte| byte == b':') else { return invalid };
        let (name, password) = (&pair[..colon], &pair[colon + 1..]);

        let known = self.users.iter().find(|user| user.name.as_bytes() == name);
        // An unknown name costs a digest too, so that the response time does not reveal which names exist.
        let Some(measured) = known.or(self.users.first()) else { return invalid };
        let right = equal_in_constant_time(&measured.digest, &digest(&measured.salt, password));
        match known {
            Some(user) if right => AuthOutcome::Valid(Identity::Named(&user.name)),
            _ => invalid,
        }
    }
}

/// Returns the SHA-256 digest of `salt` followed by `secret`.
pub fn digest(salt: &[u8], secret: &[u8]) -> Sha256Digest {
    Sha256::new().chain_update(salt).chain_update(secret).finalize().into()
}

/// Parses the 64 hexadecimal digits of a digest.
pub fn digest_from_hex(hex: &str) -> Option<Sha256Digest> {
    let hex = hex.as_bytes();
    let mut digest = Sha256Digest::default();
    if hex.len() != digest.len() * 2 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = hex_byte(pair[0], pair[1])?;
    }
    Some(digest)
}

fn after_scheme<'v>(value: &'v [u8], scheme: &[u8]) -> Option<&'v [u8]> {
    let value = value.trim_ascii();
    let (start, rest) = value.split_at_checked(scheme.len())?;
    (start.eq_ignore_ascii_case(scheme) && rest.first() == Some(&b' ')).then(|| rest.trim_ascii())
}
