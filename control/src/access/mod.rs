//! Who may do what: tokens with roles, and the log of what was done with them.

mod audit;
mod tokens;

pub use audit::{AuditEntry, AuditLog};
pub(crate) use tokens::hex;
pub use tokens::{NewToken, Role, Token, TokenError, Tokens};
