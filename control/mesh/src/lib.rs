//! What people write: resources in YAML or JSON, checked, and compiled to what one proxy can be told.
//!
//! ```text
//! SourceFile ─► documents ─► resources ─► resolved references ─► Snapshot
//!    text          tree        typed         attached                 └─► Compiled (snapshot + where it was written)
//!                    └────────────┴───────────────┴─► Refusal (file:line:column, field, reason, hint), all of them
//! ```
//!
//! Pure: text in, snapshot or refusals out. Everything that is not supported, misspelt, dangling or contradictory is
//! refused, never ignored, and always all of it at once.

pub mod compiler;
pub mod refusal;

pub use compiler::{Compiled, Compiler, SourceFile};
pub use refusal::Refusal;
