//! An issuer of tokens with its keys.

use super::key::Key;
use super::reason::DenyReason;
use super::token::Token;

/// An accepted issuer of tokens.
#[derive(Debug, Default)]
pub struct Provider {
    /// The value that `iss` must have.
    pub issuer: String,
    /// The accepted audiences, one of which must be in `aud`. Empty accepts any audience.
    pub audiences: Vec<String>,
    /// The keys, each with its `kid` if it has one.
    pub keys: Vec<(Option<String>, Key)>,
    /// The claims that are sent upstream as headers.
    pub headers: Vec<ClaimHeader>,
}

/// A claim that is sent upstream as a header.
#[derive(Debug)]
pub struct ClaimHeader {
    /// The claim's name, with dots for claims in claims.
    pub claim: String,
    /// The header in lower case.
    pub header: String,
}

impl Provider {
    /// Checks the signature with the keys that the token's `kid` names. Keys without an id are for each `kid` that
    /// names no key of the provider.
    pub(super) fn check_signature(&self, token: &Token<'_>) -> Result<(), DenyReason> {
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
        let mut candidates = self.keys.iter().filter(is_candidate).peekable();
        if candidates.peek().is_none() {
            return Err("auth_jwt_unknown_key");
        }
        let mut reason = "auth_jwt_wrong_algorithm";
        for (_, key) in candidates.filter(|(_, key)| key.algorithm() == token.algorithm) {
            if key.verifies(token.signed, &token.signature) {
                return Ok(());
            }
            reason = "auth_jwt_wrong_signature";
        }
        Err(reason)
    }
}
