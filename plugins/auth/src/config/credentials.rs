//! Reads API keys and users from the configuration.

use std::cell::RefCell;

use weir_sdk::config::FieldReader;

use super::names::{check_consumer, check_header_name};
use crate::credentials::{self, ApiKey, ApiKeys, Basic, Sha256Digest, User};

const DEFAULT_API_KEY_HEADER: &str = "x-api-key";

pub(super) fn read_api_keys(mut fields: FieldReader) -> ApiKeys {
    let header = fields.text("header").unwrap_or_else(|| DEFAULT_API_KEY_HEADER.to_owned()).to_ascii_lowercase();
    check_header_name(&fields, "header", &header);
    let query = fields.text("query");
    let keys: Vec<ApiKey> = fields.objects("keys").into_iter().map(read_api_key).collect();
    if keys.is_empty() {
        fields.report("keys", "needs at least one key; without one no request could pass");
    }
    for (index, key) in keys.iter().enumerate() {
        if keys[..index].iter().any(|earlier| earlier.digest == key.digest && key.digest != Sha256Digest::default()) {
            fields.report(&format!("keys[{index}]"), "is the same key as an earlier one");
        }
    }
    fields.close();
    ApiKeys { header, query, keys, verified: RefCell::default() }
}

fn read_api_key(mut fields: FieldReader) -> ApiKey {
    let id = fields.required_text("id");
    check_consumer(&fields, "id", &id);
    let digest = match (fields.text("key"), fields.text("sha256")) {
        (Some(key), None) if key.is_empty() => report_secret(&fields, "key", "must not be empty"),
        (Some(key), None) => credentials::digest(b"", key.as_bytes()),
        (None, Some(hex)) => credentials::digest_from_hex(&hex)
            .unwrap_or_else(|| report_secret(&fields, "sha256", "must be 64 hexadecimal digits")),
        (None, None) => report_secret(&fields, "key", "is required, or sha256 in its place"),
        (Some(_), Some(_)) => report_secret(&fields, "key", "conflicts with sha256; use one of them"),
    };
    fields.close();
    ApiKey { id, digest }
}

pub(super) fn read_basic(mut fields: FieldReader) -> Basic {
    let users: Vec<User> = fields.objects("users").into_iter().map(read_user).collect();
    if users.is_empty() {
        fields.report("users", "needs at least one user; without one no request could pass");
    }
    for (index, user) in users.iter().enumerate() {
        if users[..index].iter().any(|earlier| earlier.name == user.name && !user.name.is_empty()) {
            fields.report(&format!("users[{index}].name"), "is the name of an earlier user");
        }
    }
    fields.close();
    Basic { users }
}

fn read_user(mut fields: FieldReader) -> User {
    let name = fields.required_text("name");
    check_consumer(&fields, "name", &name);
    if name.contains(':') {
        fields.report("name", "must not hold a colon, which ends the name in HTTP basic");
    }
    let password = fields.required_text("password");
    let mut parts = password.splitn(3, ':');
    let (scheme, salt, hex) = (parts.next(), parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let digest = match credentials::digest_from_hex(hex) {
        Some(digest) if scheme == Some("sha256") && !salt.is_empty() => digest,
        _ if password.is_empty() => Sha256Digest::default(),
        _ => {
            report_secret(&fields, "password", "must be sha256:SALT:HEX, where HEX is the SHA-256 of SALT and password")
        }
    };
    fields.close();
    User { name, salt: salt.as_bytes().to_vec(), digest }
}

/// Reports an error, and returns a digest that no secret has.
fn report_secret(fields: &FieldReader, name: &str, error: &str) -> Sha256Digest {
    fields.report(name, error);
    Sha256Digest::default()
}
