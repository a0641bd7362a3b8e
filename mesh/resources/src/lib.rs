//! Resources in YAML or JSON: parsing, validation, and compilation to the snapshot of one proxy.
//!
//! ```text
//! SourceFile ─► documents ─► resources ─► resolved references ─► Snapshot
//!    text         nodes        typed         attached                 └─► Compiled (snapshot + source positions)
//!                    └────────────┴───────────────┴─► Diagnostic (file:line:column, field, reason, hint), all of them
//! ```
//!
//! Pure: text in, snapshot or diagnostics out. Unsupported, misspelt, dangling and contradictory fields are rejected,
//! never ignored. One compilation reports all of them.

// From the top: each module uses only those below it. (The blank lines keep the formatter from sorting them.)

// Files in, a snapshot or all diagnostics out: the compilation steps in order.
pub mod compiler;

// A snapshot with the source position of each part.
pub mod compiled;

// The objects of a text, as JSON values.
pub mod raw_object;

// Stored objects with former names, converted to the current ones.
mod upgrade;

// Warnings about valid resources.
mod warnings;

// Resolved references to a snapshot.
mod compile;

// References between objects.
mod resolve;

// Bundles pushed to the control plane, and their manifests.
pub mod bundle_catalog;

// Endpoints registered with the control plane.
pub mod registered_endpoints;

// Source files, their documents, and the parse cache.
pub mod source;

// Validated documents: the rules of each kind.
mod resource;

// The schema of each kind, and the reference documentation.
pub mod schema;

// The resource types, as users write them.
mod spec;

// Text to nodes that know line and column of every field.
mod yaml;

// Syntax of single texts and numbers.
mod syntax;

// The error type of a compilation.
pub mod diagnostic;

// Suggestions for hints.
mod suggest;

// Every limit of this crate.
pub mod limits;

pub use bundle_catalog::{BundleCatalog, Manifest};
pub use compiled::{Compiled, source_object};
pub use compiler::Compiler;
pub use diagnostic::Diagnostic;
pub use raw_object::{RawObject, RawObjects, parse_objects, to_yaml};
pub use registered_endpoints::RegisteredEndpoints;
pub use resource::ObjectId;
pub use resource::filter::BUILTIN_MODULES;
pub use schema::configuration_reference;
pub use source::SourceFile;
pub use spec::Kind;
pub use upgrade::{upgrade_kind, upgrade_object};
