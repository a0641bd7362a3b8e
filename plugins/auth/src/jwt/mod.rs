//! JSON Web Tokens: finds the token of a request, and checks its signature, issuer, audience and times.
//!
//! ```text
//!  extract ─► cache: signature verified before ─────────────────────────────┐
//!          └► token (parsed) ─► provider by `iss` ─► key by `kid` ─► claims ─► times ─► Verified
//! ```
//!
//! A token is denied with one word, `auth_jwt_...`; the README lists them. The checks follow RFC 7519 §7.2 and
//! RFC 8725.

mod cache;
mod claims;
mod extract;
mod provider;
mod token;
mod key;
mod rsa;
mod policy;
mod reason;

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::Value;
use sha2::{Digest, Sha256};

pub use cache::MAX_TOKENS;
pub use claims::{Verified, scalar};
pub use extract::TokenLocation;
pub use key::{Algorithm, Key};
pub use policy::{SubjectPolicy, TokenPolicy};
pub use provider::{ClaimHeader, Provider};
pub use reason::{DenyReason, KeyError};

use reason::{CLAIM_TOO_LONG, TOO_LONG, TOO_MANY_VALUES};

use crate::request::Request;

/// The accepted tokens.
#[derive(Debug, Default)]
pub struct Jwt {
    /// The location of the token in a request.
    pub location: TokenLocation,
    /// True if a verified token is forwarded to the upstream.
    pub forward: bool,
    /// The accepted difference between clocks, in seconds.
    pub leeway_seconds: u64,
    /// The conditions on a token.
    pub policy: TokenPolicy,
    /// The accepted issuers.
    pub providers: Vec<Provider>,
    /// The tokens that have been verified.
    pub cache: TokenCache,
}

/// Verified tokens of one VM.
#[derive(Debug, Default)]
pub struct TokenCache(RefCell<cache::Cache>);

impl Jwt {
    /// Verifies the token of the request. Returns `None` if the request has no token.
    ///
    /// # Errors
    /// Returns the reason when the token is ambiguous, invalid, or not valid now.
    pub fn check(&self, request: &Request<'_>) -> Result<Option<Rc<Verified>>, DenyReason> {
        let Some(token) = self.location.token(request)? else { return Ok(None) };
        if token.len() > self.policy.token_bytes {
            return Err(TOO_LONG);
        }
        if request.now == 0 {
            return Err("auth_jwt_no_clock"); // Every token would be valid in 1970.
        }
        let digest = Sha256::digest(&token).into();
        let cached = self.cache.0.borrow().find(&digest);
        let is_cached = cached.is_some();
        let verified = match cached {
            Some(verified) => verified,
            None => Rc::new(self.verify(&token)?),
        };
        verified.check_times(request.now, self.leeway_seconds)?;
        if !is_cached {
            self.cache.0.borrow_mut().insert(digest, token.len(), Rc::clone(&verified));
        }
        Ok(Some(verified))
    }

    fn verify(&self, token: &[u8]) -> Result<Verified, DenyReason> {
        let token = token::parse(token, self.policy.claim_values)?;
        let issuer = match token.claims.get("iss") {
            None => return Err("auth_jwt_unknown_issuer"),
            Some(Value::String(issuer)) => issuer,
            Some(_) => return Err("auth_jwt_wrong_claim"),
        };
        let provider = self.providers.iter().find(|provider| provider.issuer == *issuer);
        let provider = provider.ok_or("auth_jwt_unknown_issuer")?;
        provider.check_signature(&token)?;
        Verified::from_claims(token.claims, provider, &self.policy)
    }

    /// Returns the limit that a token exceeds, with the name of its option. `None` for other reasons.
    pub fn exceeded_limit(&self, reason: DenyReason, request: &Request<'_>) -> Option<String> {
        let TokenPolicy { token_bytes, claim_values, header_bytes, .. } = self.policy;
        match reason {
            TOO_LONG => {
                let length = self.location.token(request).ok().flatten().map_or(0, |token| token.len());
                Some(format!("the token has {length} bytes; `maxTokenBytes` of the filter is {token_bytes}"))
            }
            TOO_MANY_VALUES => {
                Some(format!("the token has more values than `maxClaimValues` of the filter, which is {claim_values}"))
            }
            CLAIM_TOO_LONG => {
                Some(format!("a claim has more bytes than `maxHeaderBytes` of the filter, which is {header_bytes}"))
            }
            _ => None,
        }
    }
}
