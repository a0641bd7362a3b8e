//! JSON Web Tokens: is there one, who signed it, and is it meant for us, now?
//!
//! ```text
//!  shown ─► token ──────► cache: signature known to be right ───────┐
//!  (where)  (taken apart) └─► provider by `iss` ─► key by `kid` ─► claims ─► times ─► Verified
//! ```
//!
//! A token is refused with one word, `auth_jwt_...`; the README lists them. What is checked follows RFC 7519 §7.2 and
//! RFC 8725.

mod cache;
mod claims;
mod key;
mod rsa;
mod shown;
mod token;

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::Value;
use sha2::{Digest, Sha256};

pub use cache::MAX_TOKENS;
pub use claims::{Verified, scalar};
pub use key::{Algorithm, Key};

use crate::request::Request;

/// Why a token was refused, in one word for the access log.
pub type Reason = &'static str;

/// What is wrong with a key, as the end of a sentence.
pub type Fault = &'static str;

/// The longest token, in bytes. Headers of more than that are refused by many servers anyway.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Tokens, and where they are looked for.
#[derive(Debug, Default)]
pub struct Jwt {
    /// The header that holds the token.
    pub header: String,
    /// The word before it, like `Bearer`; empty if there is none.
    pub prefix: String,
    /// The query parameter that may hold it in the header's place.
    pub query: Option<String>,
    /// Whether the upstream sees it.
    pub forward: bool,
    /// By how many seconds clocks may differ.
    pub leeway_seconds: u64,
    /// Who may sign.
    pub providers: Vec<Provider>,
    /// Filled as tokens come.
    pub known: Known,
}

/// One who may sign.
#[derive(Debug, Default)]
pub struct Provider {
    /// What `iss` must be.
    pub issuer: String,
    /// One of these must be in `aud`; empty is any.
    pub audiences: Vec<String>,
    /// The keys, each with its `kid` if it has one.
    pub keys: Vec<(Option<String>, Key)>,
    /// Claims that the upstream gets.
    pub headers: Vec<ClaimHeader>,
}

/// A claim that the upstream gets as a header.
#[derive(Debug)]
pub struct ClaimHeader {
    /// Its name, with dots for claims in claims.
    pub claim: String,
    /// The header in lower case.
    pub header: String,
}

/// The tokens that were right so far.
#[derive(Debug, Default)]
pub struct Known(RefCell<cache::Cache>);

impl Jwt {
    /// The token of the request, checked; `None` if it shows none.
    pub fn check(&self, request: &Request<'_>) -> Result<Option<Rc<Verified>>, Reason> {
        let Some(token) = shown::token(self, request)? else { return Ok(None) };
        if token.len() > MAX_TOKEN_BYTES {
            return Err("auth_jwt_too_long");
        }
        if request.now == 0 {
            return Err("auth_jwt_no_clock"); // Every token would be valid in 1970.
        }
        let digest = Sha256::digest(&token).into();
        let known = self.known.0.borrow().find(&digest);
        let is_known = known.is_some();
        let verified = match known {
            Some(verified) => verified,
            None => Rc::new(self.verify(&token)?),
        };
        verified.check_times(request.now, self.leeway_seconds)?;
        if !is_known {
            self.known.0.borrow_mut().keep(digest, token.len(), Rc::clone(&verified));
        }
        Ok(Some(verified))
    }

    /// Whether the request shows something where tokens are, right or not.
    pub fn is_shown_in_header(&self, request: &Request<'_>) -> bool {
        request.values(&self.header).any(|value| shown::after_prefix(value, &self.prefix).is_some())
    }

    fn verify(&self, token: &[u8]) -> Result<Verified, Reason> {
        let token = token::parse(token)?;
        let issuer = match token.claims.get("iss") {
            None => return Err("auth_jwt_unknown_issuer"),
            Some(Value::String(issuer)) => issuer,
            Some(_) => return Err("auth_jwt_wrong_claim"),
        };
        let provider = self.providers.iter().find(|provider| provider.issuer == *issuer);
        let provider = provider.ok_or("auth_jwt_unknown_issuer")?;
        provider.check_signature(&token)?;
        Verified::of(token.claims, provider)
    }
}

impl Provider {
    /// The keys that the token's `kid` names; keys without an id are for every `kid` that names none.
    fn check_signature(&self, token: &token::Token<'_>) -> Result<(), Reason> {
        let named = |(id, _): &&(Option<String>, Key)| id.is_some() && *id == token.key_id;
        let is_named = self.keys.iter().any(|key| named(&key));
        let is_candidate = |key: &&(Option<String>, Key)| match token.key_id {
            None => true,
            Some(_) => {
                if is_named {
                    named(key)
                } else {
                    key.0.is_none()
                }
            }
        };
        let mut of_kid = self.keys.iter().filter(is_candidate).peekable();
        if of_kid.peek().is_none() {
            return Err("auth_jwt_unknown_key");
        }
        let mut reason = "auth_jwt_wrong_algorithm";
        for (_, key) in of_kid.filter(|(_, key)| key.algorithm() == token.algorithm) {
            if key.verifies(token.signed, &token.signature) {
                return Ok(());
            }
            reason = "auth_jwt_wrong_signature";
        }
        Err(reason)
    }
}
