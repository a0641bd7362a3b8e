//! Access to the API: tokens with roles, and the audit log.

mod audit;
mod tokens;

pub use audit::{AuditEntry, AuditLog};
pub use tokens::{Role, Token, TokenError, TokenRequest, TokenStore, bearer_token};
