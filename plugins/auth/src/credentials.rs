//! Who is it? JSON Web Tokens, API keys and HTTP basic.
//!
//! Secrets are kept as SHA-256 digests and compared in constant time, over all of them, so the time of an answer says
//! nothing about how much of a guess was right. An API key that was right is known from then on, in plain (`known.rs`).

use std::borrow::Cow;
use std::cell::RefCell;

use sha2::{Digest, Sha256};

use crate::base64;
use crate::jwt::Jwt;
use crate::known::{KnownKeys, equal_in_constant_time};
use crate::path;
use crate::request::Request;
use crate::who::Identity;

/// SHA-256 of a secret.
pub type Sha256Digest = [u8; 32];

/// All ways to prove who you are.
#[derive(Debug, Default)]
pub struct Credentials {
    /// Shown in challenges.
    pub realm: String,
    /// Tokens, if they are accepted.
    pub jwt: Option<Jwt>,
    /// API keys, if they are accepted.
    pub api_keys: Option<ApiKeys>,
    /// Users with passwords, if they are accepted.
    pub basic: Option<Basic>,
}

/// API keys, and where they are looked for.
#[derive(Debug)]
pub struct ApiKeys {
    /// The header that holds the key.
    pub header: String,
    /// The query parameter that holds it, if that is accepted.
    pub query: Option<String>,
    /// The keys.
    pub keys: Vec<ApiKey>,
    /// Those that were right before.
    pub known: RefCell<KnownKeys>,
}

/// One API key.
#[derive(Debug)]
pub struct ApiKey {
    /// Who holds it.
    pub id: String,
    /// Of the key.
    pub digest: Sha256Digest,
}

/// Users with passwords.
#[derive(Debug)]
pub struct Basic {
    /// The users.
    pub users: Vec<User>,
}

/// One user.
#[derive(Debug)]
pub struct User {
    /// The name.
    pub name: String,
    /// Hashed before the password.
    pub salt: Vec<u8>,
    /// Of salt and password.
    pub digest: Sha256Digest,
}

/// What a request proves.
#[derive(Debug)]
pub enum Proof<'a> {
    /// Nothing is configured, so nobody asked.
    NotAsked,
    /// It shows nothing.
    Missing,
    /// It shows something wrong; the reason as one word.
    Wrong(&'static str),
    /// It comes from them.
    Valid(Identity<'a>),
}

impl Credentials {
    /// Whether anybody is asked at all.
    pub fn are_asked(&self) -> bool {
        self.jwt.is_some() || self.api_keys.is_some() || self.basic.is_some()
    }

    /// Checks what the request shows. A token goes before an API key, an API key before basic; two different keys are
    /// refused, since nobody can say which of them the upstream would believe.
    pub fn check(&self, request: &Request<'_>) -> Proof<'_> {
        if !self.are_asked() {
            return Proof::NotAsked;
        }
        if let Some(jwt) = &self.jwt {
            match jwt.check(request) {
                Ok(None) => {}
                Ok(Some(token)) => return Proof::Valid(Identity::Token(token)),
                Err(reason) => return Proof::Wrong(reason),
            }
        }
        if let Some(api_keys) = &self.api_keys {
            let shown = api_keys.shown(request);
            if let Some((key, others)) = shown.split_first() {
                return match api_keys.holder(key) {
                    _ if others.iter().any(|other| other != key) => Proof::Wrong("auth_ambiguous_api_key"),
                    Some(holder) => Proof::Valid(Identity::Named(holder)),
                    None => Proof::Wrong("auth_invalid_api_key"),
                };
            }
        }
        self.basic.as_ref().map_or(Proof::Missing, |basic| basic.check(request))
    }

    /// The `www-authenticate` values of a 401 for this reason.
    pub fn challenges(&self, reason: &str) -> Vec<String> {
        let realm = &self.realm;
        let mut challenges = Vec::new();
        if self.jwt.is_some() {
            // RFC 6750 §3: whoever shows no token is told no error.
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
    fn shown<'r>(&self, request: &Request<'r>) -> Vec<Cow<'r, [u8]>> {
        let mut shown: Vec<Cow<'r, [u8]>> = Vec::new();
        for value in request.values(&self.header) {
            shown.push(Cow::Borrowed(value.trim_ascii()));
        }
        if let Some(name) = &self.query {
            for value in path::query_values(path::query(request.path), name) {
                shown.push(Cow::Owned(value));
            }
        }
        shown
    }

    fn holder(&self, key: &[u8]) -> Option<&str> {
        let known = self.known.borrow().find(key);
        let index = known.or_else(|| self.index_of(key))?;
        if known.is_none() {
            self.known.borrow_mut().keep(key, index);
        }
        self.keys.get(index).map(|key| key.id.as_str())
    }

    fn index_of(&self, key: &[u8]) -> Option<usize> {
        let shown = digest(b"", key);
        let mut found = None;
        for (index, key) in self.keys.iter().enumerate() {
            if equal_in_constant_time(&key.digest, &shown) {
                found = Some(index);
            }
        }
        found
    }
}

impl Basic {
    fn check(&self, request: &Request<'_>) -> Proof<'_> {
        let mut shown = request.values("authorization").filter_map(|value| after_scheme(value, b"basic"));
        let Some(encoded) = shown.next() else { return Proof::Missing };
        let invalid = Proof::Wrong("auth_invalid_basic");
        if shown.next().is_some() {
            return Proof::Wrong("auth_ambiguous_basic");
        }
        // RFC 7617 §2: everything before the first colon is the name.
        let Some(pair) = base64::decode(encoded) else { return invalid };
        let Some(colon) = pair.iter().position(|&byte| byte == b':') else { return invalid };
        let (name, password) = (&pair[..colon], &pair[colon + 1..]);

        let known = self.users.iter().find(|user| user.name.as_bytes() == name);
        // An unknown name costs a digest too, so that names cannot be found out by the time of the answer.
        let Some(measured) = known.or(self.users.first()) else { return invalid };
        let right = equal_in_constant_time(&measured.digest, &digest(&measured.salt, password));
        match known {
            Some(user) if right => Proof::Valid(Identity::Named(&user.name)),
            _ => invalid,
        }
    }
}

/// SHA-256 of `salt` and then `secret`.
pub fn digest(salt: &[u8], secret: &[u8]) -> Sha256Digest {
    Sha256::new().chain_update(salt).chain_update(secret).finalize().into()
}

/// A digest from its 64 hexadecimal digits.
pub fn digest_from_hex(hex: &str) -> Option<Sha256Digest> {
    let hex = hex.as_bytes();
    let mut digest = Sha256Digest::default();
    if hex.len() != digest.len() * 2 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(hex.chunks_exact(2)) {
        *byte = path::hex_byte(pair[0], pair[1])?;
    }
    Some(digest)
}

fn after_scheme<'v>(value: &'v [u8], scheme: &[u8]) -> Option<&'v [u8]> {
    let value = value.trim_ascii();
    let (start, rest) = value.split_at_checked(scheme.len())?;
    (start.eq_ignore_ascii_case(scheme) && rest.first() == Some(&b' ')).then(|| rest.trim_ascii())
}
