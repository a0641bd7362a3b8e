//! Runs the blocking work of handlers.

use crate::api::response::ApiError;
use crate::task;

/// Runs blocking work on a thread for it. Returns an error if the work panicked.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let result = task::blocking(work).await;
    result.unwrap_or_else(|| Err(ApiError::internal()))
}
