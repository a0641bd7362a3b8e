//! Who is it? API keys and HTTP basic.
//!
//! Secrets are kept as SHA-256 digests and compared in constant time, over all of them, so the time of an answer says
//! nothing about how much of a guess was right.

use std::hint::black_box;

use sha2::{Digest, Sha256};

use crate::base64;
use crate::path;
use crate::request::Request;

/// SHA-256 of a secret.
pub type Sha256Digest = [u8; 32];

/// All ways to prove who you are.
#[derive(Debug, Default)]
pub struct Credentials {
    /// Shown in challenges.
    pub realm: String,
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
#[derive(Debug, PartialEq, Eq)]
pub enum Proof<'a> {
    /// Nothing is configured, so nobody asked.
    NotAsked,
    /// It shows nothing.
    Missing,
    /// It shows something wrong; the reason as one word.
    Wrong(&'static str),
    /// It comes from this consumer.
    Valid(&'a str),
}

impl Credentials {
    /// Checks what the request shows. An API key goes before basic; two different keys are refused, since nobody
    /// can say which of them the upstream would believe.
    pub fn check(&self, request: &Request<'_>) -> Proof<'_> {
        if self.api_keys.is_none() && self.basic.is_none() {
            return Proof::NotAsked;
        }
        if let Some(api_keys) = &self.api_keys {
            let mut shown = api_keys.shown(request);
            shown.dedup();
            match shown.as_slice() {
                [] => {}
                [key] => return api_keys.holder(key).map_or(Proof::Wrong("auth_invalid_api_key"), Proof::Valid),
                _ => return Proof::Wrong("auth_ambiguous_api_key"),
            }
        }
        self.basic.as_ref().map_or(Proof::Missing, |basic| basic.check(request))
    }

    /// The `www-authenticate` values of a 401.
    pub fn challenges(&self) -> Vec<String> {
        let realm = &self.realm;
        let api_key = self.api_keys.as_ref().map(|_| format!("ApiKey realm=\"{realm}\""));
        let basic = self.basic.as_ref().map(|_| format!("Basic realm=\"{realm}\", charset=\"UTF-8\""));
        api_key.into_iter().chain(basic).collect()
    }
}

impl ApiKeys {
    fn shown(&self, request: &Request<'_>) -> Vec<Vec<u8>> {
        let in_header = request.values(&self.header).map(|value| value.trim_ascii().to_vec());
        let query = path::query(request.path);
        let in_query = self.query.iter().flat_map(|name| path::query_values(query, name));
        in_header.chain(in_query).collect()
    }

    fn holder(&self, key: &[u8]) -> Option<&str> {
        let shown = digest(b"", key);
        let mut holder = None;
        for key in &self.keys {
            if equal_in_constant_time(&key.digest, &shown) {
                holder = Some(key.id.as_str());
            }
        }
        holder
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
            Some(user) if right => Proof::Valid(&user.name),
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

fn equal_in_constant_time(left: &Sha256Digest, right: &Sha256Digest) -> bool {
    let difference = left.iter().zip(right).fold(0, |sum, (left, right)| sum | black_box(left ^ right));
    black_box(difference) == 0
}

fn after_scheme<'v>(value: &'v [u8], scheme: &[u8]) -> Option<&'v [u8]> {
    let value = value.trim_ascii();
    let (start, rest) = value.split_at_checked(scheme.len())?;
    (start.eq_ignore_ascii_case(scheme) && rest.first() == Some(&b' ')).then(|| rest.trim_ascii())
}
