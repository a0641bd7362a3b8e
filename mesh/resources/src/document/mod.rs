//! Documents: how text becomes trees whose every field knows its line and column.
//!
//! ```text
//! file ─► chunk (from one `---` to the next) ─► parse ─► Tree ─► checks ─► faults ─► located
//! ```
//!
//! A file is cut into chunks first, without parsing: a chunk that has not changed is not parsed again, wherever in the
//! file it has moved to, and a syntax error in one document does not hide the next.

pub(crate) mod chunk;
pub(crate) mod fault;
pub(crate) mod parse;
pub(crate) mod path;
pub(crate) mod scalar;
pub(crate) mod syntax_error;
pub(crate) mod tree;

pub(crate) use chunk::chunks;
pub(crate) use fault::{Fault, Faults};
pub(crate) use parse::{ParsedDocument, parse};
pub(crate) use path::{FieldPath, FieldStep, Path};
pub(crate) use tree::{Mark, Tree, Value};
