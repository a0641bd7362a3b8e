//! Ends streams that lose their access: after each change of the configuration, one task checks every stream of the worker
//! with the AuthorizationPolicies that are active now (`docs/decisions/021-access-that-ends.md`).

use std::rc::{Rc, Weak};

use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};

use super::timeouts::{AccessCheck, TimeoutSweeper};
use crate::limits::{ACCESS_RECHECK_BATCH, ACCESS_RECHECK_INTERVAL};

/// Checks all streams after each notification of `changed`, forever. Undecided streams are checked again after
/// [`ACCESS_RECHECK_INTERVAL`].
pub(super) async fn recheck_forever(streams: Rc<TimeoutSweeper>, changed: Rc<Notify>) {
    loop {
        changed.notified().await;
        while recheck_all(&streams).await == AccessCheck::Again {
            drop(timeout(ACCESS_RECHECK_INTERVAL, changed.notified()).await);
        }
    }
}

/// Checks all streams once, and serves others after each [`ACCESS_RECHECK_BATCH`].
async fn recheck_all(streams: &TimeoutSweeper) -> AccessCheck {
    let mut outcome = AccessCheck::Done;
    for batch in streams.all().chunks(ACCESS_RECHECK_BATCH) {
        for stream in batch.iter().filter_map(Weak::upgrade) {
            if stream.recheck_access(Instant::now()) == AccessCheck::Again {
                outcome = AccessCheck::Again;
            }
        }
        yield_now().await;
    }
    outcome
}
