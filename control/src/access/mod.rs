//! Access to the API: tokens with roles, the audit log, and the secrets of objects.

mod audit;
mod redact;
mod tokens;

pub use audit::{AuditEntry, AuditLog};
pub use redact::{redact, restore};
pub use tokens::{Role, Token, TokenError, TokenRequest, TokenStore, bearer_token};
