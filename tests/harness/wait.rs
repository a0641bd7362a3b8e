//! Waits for conditions and futures with a deadline, never for an amount of time.

use std::future::Future;
use std::io::Write as _;
use std::time::Duration;

use tokio::task::JoinSet;

/// The longest wait of a test. It is long so that a busy machine fails no test.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The interval between two checks of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Calls `check` until it returns a value, and returns that value. Panics after [`DEADLINE`]; `what` is in the message.
pub async fn wait_until<T>(what: &str, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let polling = async {
        loop {
            if let Some(value) = check().await {
                return value;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    with_deadline(what, polling).await
}

/// Returns the output of a future. Panics after [`DEADLINE`]; `what` is in the message.
pub async fn with_deadline<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("timed out after {DEADLINE:?}: {what}"),
    }
}

/// Runs a future in the background until the test's runtime ends.
pub fn spawn_background(future: impl Future<Output = ()> + Send + 'static) {
    let mut tasks = JoinSet::new();
    tasks.spawn(future);
    tasks.detach_all();
}

/// Prints a text to standard error, for a test that fails.
pub(crate) fn print_error(text: &str) {
    let mut errors = std::io::stderr().lock();
    writeln!(errors, "{text}").ok();
}
