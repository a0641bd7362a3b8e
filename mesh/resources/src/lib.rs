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

// From the top: each module uses only those below it. (The blank lines keep the formatter from sorting them.)

// Files in, a snapshot or every refusal out: the order in which things happen.
pub mod compiler;

// The snapshot, and where each part of it was written.
pub mod compiled;

// The objects of a text, as values.
pub mod object;

// Resolved references to a snapshot.
mod compile;

// What each object means by the names it gives.
mod resolve;

// Modules that were pushed, and what they say of themselves.
pub mod bundle;

// Endpoints that have registered themselves.
pub mod registered;

// The files, their documents, and what was parsed before.
pub mod source;

// Documents that were understood: the rules of each kind.
mod resource;

// The shape of each kind, and the documentation made of it.
pub mod schema;

// What people write, as types.
mod written;

// Text to trees whose every field knows its line and column.
mod document;

// How single texts and numbers have to look.
mod grammar;

// Why something is refused, and where.
pub mod refusal;

// Proposals for hints.
mod suggest;

// Every bound.
pub mod limits;

pub use bundle::{Bundles, Manifest};
pub use compiled::{Compiled, object_of};
pub use compiler::Compiler;
pub use object::{WrittenObject, WrittenObjects, to_yaml, written_objects};
pub use refusal::Refusal;
pub use registered::Registered;
pub use resource::ObjectId;
pub use resource::filter::BUILTIN_MODULES;
pub use schema::configuration_reference;
pub use source::SourceFile;
pub use written::Kind;
