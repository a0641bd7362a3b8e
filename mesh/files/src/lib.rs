//! Resource files of `--config PATH`: a file, or the files of a folder. Used by both planes and by the CLI.
//!
//! [`FileSource`] compiles the files and watches them. It publishes an update after each change, and waits until a
//! change is complete. It needs the feature `watch`, which brings in tokio; without it the crate only recognizes
//! resource files.

// From the top: each module uses only those below it. (The blank lines keep the formatter from sorting them.)

// Reads and compiles after each change, once the files have settled.
#[cfg(feature = "watch")]
mod source;

// Lists and reads files.
#[cfg(feature = "watch")]
mod read;

// Watches files for changes.
#[cfg(feature = "watch")]
mod watch;

// The names of resource files.
mod file_name;

// Every bound.
#[cfg(feature = "watch")]
pub mod limits;

pub use file_name::is_resource_file_name;
#[cfg(feature = "watch")]
pub use source::{CompileFn, ConfigUpdate, FileSource, default_compiler};
#[cfg(feature = "watch")]
pub use watch::WatchSignal;
