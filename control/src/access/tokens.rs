//! API tokens: each has a name, a role, and the namespaces that it may change. The store contains the hash of the
//! secret only; the secret is shown once, when the token is created.

use std::collections::BTreeMap;
use std::sync::Arc;

use aws_lc_rs::constant_time;
use parking_lot::{Mutex, RwLock};
use rand::TryRngCore;
use rand::rngs::OsRng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use weir_model::{Workload, hex};

use crate::limits::{MAX_TOKEN_NAME, MAX_TOKENS};
use crate::store::{ResourceStore, StoreError};

/// The role of a token. Each role includes the permissions of the previous ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Requests a workload's certificate, and registers that workload.
    Proxy,
    /// Reads everything.
    Viewer,
    /// Changes objects.
    Editor,
    /// Creates and revokes tokens, and rotates the CA's root.
    Admin,
}

/// A token, without its secret.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Token {
    /// The id, which revokes the token.
    pub id: String,
    /// The name: the author of the token's changes.
    pub name: String,
    /// The role.
    pub role: Role,
    /// The namespaces that the token may change; all if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub namespaces: Option<Vec<String>>,
    /// The workload whose certificate the token requests: `namespace/account`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub workload: Option<String>,
    /// The time of creation.
    #[schemars(with = "String")]
    pub created: jiff::Timestamp,
    /// The expiry; never if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    #[schemars(with = "Option<String>")]
    pub expires: Option<jiff::Timestamp>,
}

impl Token {
    /// Returns true if the token is not valid any more.
    fn is_expired(&self, now: jiff::Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Returns true if the token's namespaces include `namespace`. The role is checked separately.
    pub(crate) fn allows_namespace(&self, namespace: &str) -> bool {
        self.namespaces.as_ref().is_none_or(|namespaces| namespaces.iter().any(|allowed| allowed == namespace))
    }

    /// Returns true if the token may register an endpoint of a Service in `namespace`. An editor of the namespace may.
    /// A workload may if it runs as `service_account`, which the Service requires of its endpoints.
    pub(crate) fn may_register(&self, namespace: &str, service_account: impl FnOnce() -> Option<String>) -> bool {
        match self.role {
            Role::Proxy => {
                let own = self.workload.as_deref().and_then(|workload| workload.split_once('/'));
                own.is_some_and(|(own_namespace, account)| {
                    own_namespace == namespace && service_account().as_deref() == Some(account)
                })
            }
            Role::Viewer => false,
            Role::Editor | Role::Admin => self.allows_namespace(namespace),
        }
    }
}

/// A request to create a token.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenRequest {
    /// The name: the author of the token's changes.
    pub name: String,
    /// The role.
    pub role: Role,
    /// The namespaces that the token may change; all if absent.
    #[serde(default)]
    pub namespaces: Option<Vec<String>>,
    /// The workload whose certificate the token requests, `namespace/account`; for the role `proxy` only.
    #[serde(default)]
    pub workload: Option<String>,
    /// The lifetime in seconds; unlimited if absent.
    #[serde(default)]
    pub expires_in_seconds: Option<u32>,
}

/// A token as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StoredToken {
    #[serde(flatten)]
    token: Token,
    /// SHA-256 of the secret, in hexadecimal digits. The secret has 256 random bits: a slow hash would add nothing.
    secret_hash: String,
}

/// The reason for which a token was not created or revoked.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The request is malformed.
    #[error("{0}")]
    Invalid(String),
    /// The id is unknown.
    #[error("there is no token {0}")]
    NotFound(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Returns the token of an `authorization` header. The scheme may have any case (RFC 9110 §11.1, RFC 6750 §2.1).
pub fn bearer_token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' '))
}

/// All tokens, cached in memory.
#[derive(Debug, Default)]
pub struct TokenStore {
    tokens: RwLock<BTreeMap<String, Arc<StoredToken>>>,
    /// Serializes updates of the store and of the cache.
    write_lock: Mutex<()>,
}

impl TokenStore {
    /// Loads the tokens of a store. Blocks on the store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn load(store: &ResourceStore) -> Result<Self, StoreError> {
        let tokens = Self::default();
        tokens.reload(store)?;
        Ok(tokens)
    }

    /// Reads the tokens that other replicas have written. Blocks on the store.
    ///
    /// # Errors
    /// The store cannot be read. The previous tokens stay valid.
    pub fn reload(&self, store: &ResourceStore) -> Result<(), StoreError> {
        let _guard = self.write_lock.lock();
        let stored = store.list_entries::<StoredToken>("tokens")?;
        *self.tokens.write() = stored.into_iter().map(|stored| (stored.token.id.clone(), Arc::new(stored))).collect();
        Ok(())
    }

    /// Returns true if there is a valid token of the role `admin`.
    pub fn has_admin(&self) -> bool {
        let now = jiff::Timestamp::now();
        self.tokens.read().values().any(|stored| {
            let token = &stored.token;
            token.role == Role::Admin && !token.is_expired(now)
        })
    }

    /// Returns the token of a text; `None` if it is unknown, wrong or expired.
    pub fn authenticate(&self, text: &str) -> Option<Token> {
        let (id, secret) = text.strip_prefix("weir_")?.split_once('_')?;
        let secret = secret.split_once('.').map_or(secret, |(secret, _)| secret); // Without a join token's fingerprint.
        let stored = Arc::clone(self.tokens.read().get(id)?);
        let hashes = (secret_hash(secret), &stored.secret_hash);
        let is_valid = constant_time::verify_slices_are_equal(hashes.0.as_bytes(), hashes.1.as_bytes()).is_ok();
        let is_expired = stored.token.is_expired(jiff::Timestamp::now());
        (is_valid && !is_expired).then(|| stored.token.clone())
    }

    /// Returns all tokens.
    pub fn all(&self) -> Vec<Token> {
        self.tokens.read().values().map(|stored| stored.token.clone()).collect()
    }

    /// Creates and stores a token. Returns it with its text, which cannot be read again. Blocks on the store.
    ///
    /// # Errors
    /// The request is malformed, there are `MAX_TOKENS` valid tokens, or the store failed.
    pub fn create(&self, store: &ResourceStore, request: TokenRequest) -> Result<(Token, String), TokenError> {
        let (stored, text) = self.generate(request)?;
        let token = stored.token.clone();
        self.remove_expired(store)?;
        self.insert(store, stored)?;
        Ok((token, text))
    }

    /// Generates a token without storing it. It is not valid until `insert`.
    pub(crate) fn generate(&self, request: TokenRequest) -> Result<(StoredToken, String), TokenError> {
        let TokenRequest { name, role, namespaces, workload, expires_in_seconds } = request;
        if name.is_empty() || name.chars().count() > MAX_TOKEN_NAME || name.chars().any(char::is_control) {
            return Err(TokenError::Invalid(format!("`name` must have 1 to {MAX_TOKEN_NAME} plain characters")));
        }
        if role == Role::Admin && namespaces.is_some() {
            return Err(TokenError::Invalid(
                "an admin's token is for every namespace; leave `namespaces` out".to_owned(),
            ));
        }
        check_workload(role, workload.as_deref())?;
        let now = jiff::Timestamp::now();
        let valid = self.tokens.read().values().filter(|stored| !stored.token.is_expired(now)).count();
        if valid >= MAX_TOKENS {
            return Err(TokenError::Invalid(format!("there are {MAX_TOKENS} tokens; revoke some first")));
        }
        let (id, secret) = (random_hex::<6>(), random_hex::<32>());
        let created = jiff::Timestamp::now();
        let expires = expires_in_seconds.map(|seconds| created + jiff::SignedDuration::from_secs(i64::from(seconds)));
        let token = Token { id, name, role, namespaces, workload, created, expires };
        let text = format!("weir_{}_{secret}", token.id);
        Ok((StoredToken { token, secret_hash: secret_hash(&secret) }, text))
    }

    /// Removes tokens that have expired, so that the store does not grow with short-lived ones. Blocks on the store.
    fn remove_expired(&self, store: &ResourceStore) -> Result<(), StoreError> {
        let now = jiff::Timestamp::now();
        let _guard = self.write_lock.lock();
        let tokens = self.all();
        let expired: Vec<&str> =
            tokens.iter().filter(|token| token.is_expired(now)).map(|token| token.id.as_str()).collect();
        if !expired.is_empty() {
            store.delete_entries("tokens", &expired)?;
            self.tokens.write().retain(|_, stored| !stored.token.is_expired(now));
        }
        Ok(())
    }

    /// Revokes a token. Blocks on the store.
    ///
    /// # Errors
    /// The id is unknown, or the store failed.
    pub fn revoke(&self, store: &ResourceStore, id: &str) -> Result<Token, TokenError> {
        let missing = || TokenError::NotFound(id.to_owned());
        let token = self.tokens.read().get(id).map(|stored| stored.token.clone()).ok_or_else(missing)?;
        let _guard = self.write_lock.lock();
        store.delete_entries("tokens", &[id])?;
        self.tokens.write().remove(id);
        Ok(token)
    }

    /// Stores a generated token, which makes it valid. Blocks on the store.
    pub(crate) fn insert(&self, store: &ResourceStore, stored: StoredToken) -> Result<(), StoreError> {
        let _guard = self.write_lock.lock();
        store.put_entry("tokens", &stored.token.id, &stored)?;
        self.tokens.write().insert(stored.token.id.clone(), Arc::new(stored));
        Ok(())
    }
}

/// Checks that a token of the role `proxy` names its workload, and that no other token does.
fn check_workload(role: Role, workload: Option<&str>) -> Result<(), TokenError> {
    let parts = workload.map(|text| text.split_once('/').ok_or(text));
    match (role, parts) {
        (Role::Proxy, Some(Ok((namespace, account)))) => match Workload::from_service_account(namespace, account) {
            Ok(_) => Ok(()),
            Err(error) => Err(TokenError::Invalid(format!("`workload`: {error}"))),
        },
        (Role::Proxy, _) => Err(TokenError::Invalid("write `workload` as NAMESPACE/ACCOUNT for a proxy".to_owned())),
        (_, None) => Ok(()),
        (_, Some(_)) => Err(TokenError::Invalid("`workload` is for the role `proxy`; leave it out".to_owned())),
    }
}

fn secret_hash(secret: &str) -> String {
    hex::encode(&Sha256::digest(secret.as_bytes()))
}

fn random_hex<const BYTES: usize>() -> String {
    let mut bytes = [0; BYTES];
    OsRng.try_fill_bytes(&mut bytes).expect("the system gives random numbers");
    hex::encode(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(role: Role) -> TokenRequest {
        TokenRequest { name: "me".to_owned(), role, namespaces: None, workload: None, expires_in_seconds: None }
    }

    #[test]
    fn token_is_authenticated_by_its_text_and_its_secret_is_not_stored() {
        let folder = tempfile::tempdir().unwrap();
        let store = ResourceStore::in_folder(folder.path()).unwrap();
        let tokens = TokenStore::load(&store).unwrap();
        let (token, text) = tokens.create(&store, request(Role::Editor)).unwrap();
        assert_eq!(tokens.authenticate(&text).unwrap().id, token.id);
        for wrong in [format!("{text}0"), text[..text.len() - 1].to_owned(), token.id, String::new()] {
            assert!(tokens.authenticate(&wrong).is_none(), "{wrong}");
        }
        let again = TokenStore::load(&store).unwrap();
        assert!(again.authenticate(&text).is_some());
        drop(store);
        let bytes = std::fs::read(folder.path().join("weir.redb")).unwrap();
        let secret = text.rsplit('_').next().unwrap().as_bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret), "the secret is in the file");
    }

    #[test]
    fn expired_tokens_are_removed_and_do_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let store = ResourceStore::in_folder(folder.path()).unwrap();
        let tokens = TokenStore::load(&store).unwrap();
        let (mut stored, _) = tokens.generate(request(Role::Viewer)).unwrap();
        stored.token.expires = Some(jiff::Timestamp::UNIX_EPOCH);
        for number in 0..MAX_TOKENS {
            let mut expired = stored.clone();
            expired.token.id = number.to_string();
            tokens.tokens.write().insert(expired.token.id.clone(), Arc::new(expired));
        }
        stored.token.id = "stored".to_owned();
        tokens.insert(&store, stored).unwrap();
        let (valid, _) = tokens.create(&store, request(Role::Viewer)).unwrap();
        let ids = |tokens: &TokenStore| -> Vec<String> { tokens.all().into_iter().map(|token| token.id).collect() };
        assert_eq!(ids(&tokens), [valid.id.as_str()]);
        assert_eq!(ids(&TokenStore::load(&store).unwrap()), [valid.id]);
    }

    #[test]
    fn scheme_of_authorization_has_any_case() {
        for (header, expected) in [
            ("Bearer abc", Some("abc")),
            ("bearer abc", Some("abc")),
            ("BEARER  abc", Some("abc")),
            ("Basic abc", None),
            ("Bearerabc", None),
            ("Bearer", None),
        ] {
            assert_eq!(bearer_token(header), expected, "{header}");
        }
    }

    #[test]
    fn proxy_token_needs_a_workload_and_other_tokens_must_not_have_one() {
        let tokens = TokenStore::default();
        let fault = |role, workload: Option<&str>| {
            let request = TokenRequest { workload: workload.map(str::to_owned), ..request(role) };
            tokens.generate(request).err().map(|error| error.to_string())
        };
        assert_eq!(fault(Role::Proxy, Some("shop/edge")), None);
        assert_eq!(fault(Role::Viewer, None), None);
        let no_account = "write `workload` as NAMESPACE/ACCOUNT for a proxy";
        for (role, workload, expected) in [
            (Role::Proxy, None, no_account),
            (Role::Proxy, Some("edge"), no_account),
            (Role::Proxy, Some("shop/"), "`workload`: "),
            (Role::Proxy, Some("shop/edge/x"), "`workload`: "),
            (Role::Proxy, Some("shop/../x"), "`workload`: "),
            (Role::Proxy, Some("shop/e dge"), "`workload`: "),
            (Role::Editor, Some("shop/edge"), "`workload` is for the role `proxy`"),
        ] {
            let fault = fault(role, workload).unwrap();
            assert!(fault.starts_with(expected), "{workload:?}: {fault}");
        }
    }

    #[test]
    fn registration_needs_an_editor_of_the_namespace_or_the_services_own_account() {
        let token = |role, namespaces: Option<&str>, workload: Option<&str>| Token {
            id: "id".to_owned(),
            name: "me".to_owned(),
            role,
            namespaces: namespaces.map(|namespace| vec![namespace.to_owned()]),
            workload: workload.map(str::to_owned),
            created: jiff::Timestamp::UNIX_EPOCH,
            expires: None,
        };
        for (token, account, expected) in [
            (token(Role::Admin, None, None), None, true),
            (token(Role::Editor, Some("shop"), None), None, true),
            (token(Role::Editor, Some("other"), None), None, false),
            (token(Role::Viewer, None, None), Some("edge"), false),
            (token(Role::Proxy, None, Some("shop/edge")), Some("edge"), true),
            (token(Role::Proxy, None, Some("shop/edge")), Some("cart"), false),
            (token(Role::Proxy, None, Some("shop/edge")), None, false),
            (token(Role::Proxy, None, Some("other/edge")), Some("edge"), false),
        ] {
            let may = token.may_register("shop", || account.map(str::to_owned));
            assert_eq!(may, expected, "{token:?} {account:?}");
        }
    }

    #[test]
    fn revoked_and_expired_tokens_are_not_authenticated() {
        let folder = tempfile::tempdir().unwrap();
        let store = ResourceStore::in_folder(folder.path()).unwrap();
        let tokens = TokenStore::load(&store).unwrap();
        let (token, text) = tokens.create(&store, request(Role::Admin)).unwrap();
        assert!(tokens.authenticate(&text).is_some());
        tokens.revoke(&store, &token.id).unwrap();
        assert!(tokens.authenticate(&text).is_none());
        let short = TokenRequest { expires_in_seconds: Some(0), ..request(Role::Viewer) };
        let (_, text) = tokens.create(&store, short).unwrap();
        assert!(tokens.authenticate(&text).is_none());
        assert!(tokens.create(&store, TokenRequest { name: String::new(), ..request(Role::Viewer) }).is_err());
    }
}
