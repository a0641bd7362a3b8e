//! Waiting for what takes a while: for a condition or a future, never for an amount of time.

use std::future::Future;
use std::io::Write as _;
use std::time::Duration;

use tokio::task::JoinSet;

/// A test that waits for longer has failed. Long, because a busy machine is no reason to fail.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// How often a condition is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// Asks `look` again and again until it gives something, and fails the test after [`DEADLINE`].
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let waiting = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    within(what, waiting).await
}

/// The future's outcome; fails the test when there is none after [`DEADLINE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

/// Runs a part of a script beside the test, until the test ends.
pub fn beside(script: impl Future<Output = ()> + Send + 'static) {
    let mut tasks = JoinSet::new();
    tasks.spawn(script);
    tasks.detach_all();
}

/// Says something on standard error, beside the failure of a test.
pub(crate) fn complain(text: &str) {
    let mut errors = std::io::stderr().lock();
    writeln!(errors, "{text}").ok();
}
