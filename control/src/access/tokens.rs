//! Tokens: each has a name, a role, and the namespaces that it may change. The store keeps the hash of its secret, so that
//! nobody can read a token back; it is shown once, when it is made.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use rand::TryRngCore;
use rand::rngs::OsRng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use weir_model::Workload;

use crate::limits::{MAX_TOKEN_NAME, MAX_TOKENS};
use crate::store::{ResourceStore, StoreError};

/// What a token may do; each role may do what the ones before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Nothing of the API: a workload gets its first certificate with it.
    Proxy,
    /// Read everything.
    Viewer,
    /// Change objects.
    Editor,
    /// Make and revoke tokens.
    Admin,
}

/// A token, without its secret.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// What it is revoked by.
    pub id: String,
    /// Whose it is: the author of what is done with it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The namespaces that it may change; all, when left out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub namespaces: Option<Vec<String>>,
    /// The workload that it makes a proxy be: `namespace/account`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub workload: Option<String>,
    /// When it was made.
    #[schemars(with = "String")]
    pub created: jiff::Timestamp,
    /// When it ends; never, when left out.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "Option<String>")]
    pub expires: Option<jiff::Timestamp>,
}

impl Token {
    /// Whether it may change what is in a namespace, as far as its namespaces go.
    pub(crate) fn is_for(&self, namespace: &str) -> bool {
        self.namespaces.as_ref().is_none_or(|namespaces| namespaces.iter().any(|it| it == namespace))
    }
}

/// A token to be made.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewToken {
    /// Whose it is.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The namespaces that it may change; all, when left out.
    #[serde(default)]
    pub namespaces: Option<Vec<String>>,
    /// The workload that it makes a proxy be, `namespace/account`; for the role `proxy` alone.
    #[serde(default)]
    pub workload: Option<String>,
    /// Seconds until it ends; never, when left out.
    #[serde(default)]
    pub expires_in_seconds: Option<u32>,
}

/// As the store keeps it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeptToken {
    #[serde(flatten)]
    token: Token,
    /// SHA-256 of the secret, in hexadecimal digits. The secret has 256 random bits: a slow hash would add nothing.
    secret_hash: String,
}

/// Why no token was made or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// What was asked for is wrong.
    #[error("{0}")]
    Invalid(String),
    /// There is none.
    #[error("there is no token {0}")]
    NotFound(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Every token.
#[derive(Debug, Default)]
pub struct Tokens {
    tokens: RwLock<BTreeMap<String, Arc<KeptToken>>>,
    /// Held by the one who changes the store and what is known of it.
    changing: Mutex<()>,
}

impl Tokens {
    /// The tokens that a store keeps.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn load(store: &ResourceStore) -> Result<Self, StoreError> {
        let tokens = Self::default();
        tokens.reload(store)?;
        Ok(tokens)
    }

    /// Takes up what another control plane has written.
    ///
    /// # Errors
    /// It cannot be read; what was known before goes on.
    pub fn reload(&self, store: &ResourceStore) -> Result<(), StoreError> {
        let _changing = self.changing.lock();
        let kept = store.entries::<KeptToken>("tokens")?;
        *self.tokens.write() = kept.into_iter().map(|kept| (kept.token.id.clone(), Arc::new(kept))).collect();
        Ok(())
    }

    /// True when somebody may do everything.
    pub fn has_admin(&self) -> bool {
        let now = jiff::Timestamp::now();
        self.tokens.read().values().any(|kept| {
            let token = &kept.token;
            token.role == Role::Admin && token.expires.is_none_or(|expires| expires > now)
        })
    }

    /// The token that a text is, if it is one and has not ended.
    pub fn find(&self, text: &str) -> Option<Token> {
        let (id, secret) = text.strip_prefix("weir_")?.split_once('_')?;
        let secret = secret.split_once('.').map_or(secret, |(secret, _)| secret); // A join token names its root, too.
        let kept = Arc::clone(self.tokens.read().get(id)?);
        let is_it = is_equal(hash_of(secret).as_bytes(), kept.secret_hash.as_bytes());
        let is_over = kept.token.expires.is_some_and(|expires| expires <= jiff::Timestamp::now());
        (is_it && !is_over).then(|| kept.token.clone())
    }

    /// All of them.
    pub fn all(&self) -> Vec<Token> {
        self.tokens.read().values().map(|kept| kept.token.clone()).collect()
    }

    /// Makes a token, and gives the text that it is known by, which nobody can get a second time.
    ///
    /// # Errors
    /// The name is none, there are too many tokens, or the store fails.
    pub fn make(&self, store: &ResourceStore, new: NewToken) -> Result<(Token, String), TokenError> {
        let (kept, text) = self.draw(new)?;
        let token = kept.token.clone();
        self.keep(store, kept)?;
        Ok((token, text))
    }

    /// Draws a token that is none before it is kept.
    pub(crate) fn draw(&self, new: NewToken) -> Result<(KeptToken, String), TokenError> {
        let NewToken { name, role, namespaces, workload, expires_in_seconds } = new;
        if name.is_empty() || name.chars().count() > MAX_TOKEN_NAME || name.chars().any(char::is_control) {
            return Err(TokenError::Invalid(format!("`name` must have 1 to {MAX_TOKEN_NAME} plain characters")));
        }
        if role == Role::Admin && namespaces.is_some() {
            return Err(TokenError::Invalid(
                "an admin's token is for every namespace; leave `namespaces` out".to_owned(),
            ));
        }
        check_workload(role, workload.as_deref())?;
        if self.tokens.read().len() >= MAX_TOKENS {
            return Err(TokenError::Invalid(format!("there are {MAX_TOKENS} tokens; revoke some first")));
        }
        let (id, secret) = (random_hex::<6>(), random_hex::<32>());
        let created = jiff::Timestamp::now();
        let lives = expires_in_seconds.map(|seconds| jiff::SignedDuration::from_secs(i64::from(seconds)));
        let token =
            Token { id, name, role, namespaces, workload, created, expires: lives.map(|lives| created + lives) };
        let text = format!("weir_{}_{secret}", token.id);
        Ok((KeptToken { token, secret_hash: hash_of(&secret) }, text))
    }

    /// Ends a token.
    ///
    /// # Errors
    /// There is none, or the store fails.
    pub fn revoke(&self, store: &ResourceStore, id: &str) -> Result<Token, TokenError> {
        let missing = || TokenError::NotFound(id.to_owned());
        let token = self.tokens.read().get(id).map(|kept| kept.token.clone()).ok_or_else(missing)?;
        let _changing = self.changing.lock();
        store.delete_entry("tokens", id)?;
        self.tokens.write().remove(id);
        Ok(token)
    }

    /// Keeps a token: it is one from now on.
    pub(crate) fn keep(&self, store: &ResourceStore, kept: KeptToken) -> Result<(), StoreError> {
        let _changing = self.changing.lock();
        store.put_entry("tokens", &kept.token.id, &kept)?;
        self.tokens.write().insert(kept.token.id.clone(), Arc::new(kept));
        Ok(())
    }
}

/// A proxy's token says which workload it is for; no other does.
fn check_workload(role: Role, workload: Option<&str>) -> Result<(), TokenError> {
    let parts = workload.map(|text| text.split_once('/').ok_or(text));
    match (role, parts) {
        (Role::Proxy, Some(Ok((namespace, account)))) => match Workload::of_account(namespace, account) {
            Ok(_) => Ok(()),
            Err(error) => Err(TokenError::Invalid(format!("`workload`: {error}"))),
        },
        (Role::Proxy, _) => Err(TokenError::Invalid("write `workload` as NAMESPACE/ACCOUNT for a proxy".to_owned())),
        (_, None) => Ok(()),
        (_, Some(_)) => Err(TokenError::Invalid("`workload` is for the role `proxy`; leave it out".to_owned())),
    }
}

fn hash_of(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// In a time that says nothing about where they differ.
fn is_equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one.iter().zip(other).fold(0, |all, (one, other)| all | (one ^ other)) == 0
}

fn random_hex<const BYTES: usize>() -> String {
    let mut bytes = [0; BYTES];
    OsRng.try_fill_bytes(&mut bytes).expect("the system gives random numbers");
    hex(&bytes)
}

/// Bytes in hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(role: Role) -> NewToken {
        NewToken { name: "me".to_owned(), role, namespaces: None, workload: None, expires_in_seconds: None }
    }

    #[test]
    fn a_token_is_known_by_its_text_alone_and_the_store_does_not_hold_it() {
        let folder = tempfile::tempdir().unwrap();
        let store = ResourceStore::in_folder(folder.path()).unwrap();
        let tokens = Tokens::load(&store).unwrap();
        let (token, text) = tokens.make(&store, new(Role::Editor)).unwrap();
        assert_eq!(tokens.find(&text).unwrap().id, token.id);
        for wrong in [format!("{text}0"), text[..text.len() - 1].to_owned(), token.id, String::new()] {
            assert!(tokens.find(&wrong).is_none(), "{wrong}");
        }
        let again = Tokens::load(&store).unwrap();
        assert!(again.find(&text).is_some());
        drop(store);
        let bytes = std::fs::read(folder.path().join("weir.redb")).unwrap();
        let secret = text.rsplit('_').next().unwrap().as_bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret), "the secret is in the file");
    }

    #[test]
    fn a_proxys_token_is_for_one_workload_and_no_other_token_is() {
        let folder = tempfile::tempdir().unwrap();
        let store = ResourceStore::in_folder(folder.path()).unwrap();
        let tokens = Tokens::load(&store).unwrap();
        let made = |role, workload: Option<&str>| {
            tokens.make(&store, NewToken { workload: workload.map(str::to_owned), ..new(role) }).is_ok()
        };
        assert!(made(Role::Proxy, Some("shop/edge")) && made(Role::Viewer, None));
        for wrong in [None, Some("edge"), Some("shop/"), Some("shop/edge/x"), Some("shop/../x"), Some("shop/e dge")] {
            assert!(!made(Role::Proxy, wrong), "{wrong:?}");
        }
        assert!(!made(Role::Editor, Some("shop/edge")));
    }

    #[test]
    fn revoked_and_expired_tokens_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let store = ResourceStore::in_folder(folder.path()).unwrap();
        let tokens = Tokens::load(&store).unwrap();
        let (token, text) = tokens.make(&store, new(Role::Admin)).unwrap();
        assert!(tokens.find(&text).is_some());
        tokens.revoke(&store, &token.id).unwrap();
        assert!(tokens.find(&text).is_none());
        let short = NewToken { expires_in_seconds: Some(0), ..new(Role::Viewer) };
        let (_, text) = tokens.make(&store, short).unwrap();
        assert!(tokens.find(&text).is_none());
        assert!(tokens.make(&store, NewToken { name: String::new(), ..new(Role::Viewer) }).is_err());
    }
}
