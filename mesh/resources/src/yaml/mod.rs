//! YAML documents: from text to nodes that know line and column of every field.
//!
//! ```text
//! file ─► chunk (from one `---` to the next) ─► parse ─► Node ─► checks ─► FieldErrors ─► located
//! ```
//!
//! A file is split into chunks first, without parsing. An unchanged chunk is not parsed again, even if it moves within
//! the file. A syntax error in one document does not hide errors in the next.

pub(crate) mod split;
pub(crate) mod parse;
pub(crate) mod parse_error;
pub(crate) mod scalar;
pub(crate) mod errors;
pub(crate) mod node;
pub(crate) mod path;

pub(crate) use errors::{FieldError, FieldErrors};
pub(crate) use node::{Key, Node, Position, Value};
pub(crate) use parse::{Parsed, ParsedDocument, parse};
pub(crate) use path::{FieldPath, FieldPathRef, FieldStep};
pub(crate) use split::chunks;
