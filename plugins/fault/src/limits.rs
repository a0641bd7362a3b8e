//! All bounds of this filter.

use std::time::Duration;

/// The longest delay. A longer one is a mistake in the unit: by default the proxy ends a request after 15 seconds.
pub const MAX_DELAY: Duration = Duration::from_secs(3_600);

/// The maximum of `maxActiveFaults`. Each delayed request takes eight bytes of one value of shared data, which is read
/// and written for each delay.
pub const MAX_ACTIVE_FAULTS: u64 = 4_096;

/// The maximum number of conditions of each kind in `match`. A request may check all of them.
pub const MAX_CONDITIONS: usize = 64;

/// The maximum number of attempts to change the delayed requests that other workers change at the same time. In each
/// attempt one of the workers succeeds, so this many conflicts in a row are unlikely.
pub const MAX_ATTEMPTS: usize = 64;
