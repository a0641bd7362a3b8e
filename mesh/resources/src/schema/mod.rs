//! The schema of each kind: a JSON Schema generated from its types, closed (no unknown fields), with the fields that
//! are not supported yet. The second validation step checks a document against it. The documentation is generated from
//! it.
//!
//! Weir walks the schema itself instead of using a JSON Schema validator: the validator's messages are about the
//! schema, while users need messages about their own text. The walker supports only what the generated schemas use, and
//! a test fails when they use more.

pub mod reference;
pub(crate) mod kinds;
pub(crate) mod check;
mod gateway_api_docs;
pub(crate) mod definition;
pub(crate) mod unsupported;
pub(crate) mod renamed;

pub use kinds::json_schema;
pub use reference::configuration_reference;

pub(crate) use check::check;
pub(crate) use definition::Schema;
pub(crate) use kinds::{kind_schema, manifest_schema};
