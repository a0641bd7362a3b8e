//! The bounds of this crate, each with its unit and the reason for the number.

use std::time::Duration;

/// The maximum number of resource files of one configuration: ten times as many as a folder is practical for.
pub(crate) const MAX_RESOURCE_FILES: usize = 10_000;

/// The maximum size of one resource file, in bytes. 5,000 routes take about 2 MiB.
pub(crate) const MAX_RESOURCE_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// The maximum size of all resource files together, in bytes.
pub(crate) const MAX_RESOURCE_BYTES: u64 = 64 * 1024 * 1024;

/// The maximum number of symbolic links followed to one file: the kernel's own bound.
pub(crate) const MAX_LINKS: usize = 40;

/// The quiet time after which a rejected or incomplete set of files is read again. A writer that truncates and writes,
/// or renames and writes anew, is done by then, also on a busy machine.
pub const SETTLE_TIME: Duration = Duration::from_millis(100);

/// The longest wait for files that keep changing. After it they are used as they are.
pub const MAX_SETTLE_TIME: Duration = Duration::from_secs(2);

/// The time since its last write after which a file that is still open for writing counts as complete.
pub(crate) const WRITE_PATIENCE: Duration = Duration::from_millis(250);
