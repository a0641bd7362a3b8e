//! Every bound of this crate, in one place: the number, its unit, and why it is that number.

use std::time::Duration;

/// Resource files of one configuration: ten times the largest mesh that one folder is sensible for.
pub(crate) const MAX_RESOURCE_FILES: usize = 10_000;

/// One resource file, in bytes: 5,000 routes take about 2 MiB.
pub(crate) const MAX_RESOURCE_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// All resource files together, in bytes.
pub(crate) const MAX_RESOURCE_BYTES: u64 = 64 * 1024 * 1024;

/// Symbolic links followed to one file: the kernel's own bound.
pub(crate) const MAX_LINKS: usize = 40;

/// What would be refused, or lacks a file that was there, is read again when nothing has changed for this long: whoever
/// truncates and writes, or moves away and writes anew, is done by then, also on a busy machine.
pub const SETTLE_TIME: Duration = Duration::from_millis(100);

/// Files that keep changing are taken as they are after this time.
pub const MAX_SETTLE_TIME: Duration = Duration::from_secs(2);

/// A file that is open for writing counts as whole when nothing was written to it for this long.
pub(crate) const WRITE_PATIENCE: Duration = Duration::from_millis(250);
