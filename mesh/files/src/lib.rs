//! Resource files in a folder, watched: what both planes read when there is `--config PATH`. Says what the files amount
//! to, again at each change, and never takes the middle of a change for its end.

// From the top: each module uses only those below it. (The blank lines keep the formatter from sorting them.)

// Reads and compiles at each change, once what is there has settled.
mod source;

// Lists and reads files.
mod file;

// Notices changes.
mod watch;

// Every bound.
pub mod limits;

pub use source::{Compile, FileSource, Update, compile_alone};
pub use watch::WatchSignal;
