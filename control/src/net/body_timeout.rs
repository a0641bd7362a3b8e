//! Request bodies with a deadline: a client that stops in the middle would occupy a permit.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// The error of a body that is late.
pub(crate) const BODY_TIMEOUT_REASON: &str = "the body takes too long";

/// Returns a body that fails if it is not complete after `timeout`.
pub(crate) fn with_timeout(body: Body, timeout: Duration) -> Body {
    Body::new(TimedBody { body, deadline: Box::pin(sleep(timeout)) })
}

struct TimedBody {
    body: Body,
    deadline: Pin<Box<Sleep>>,
}

impl HttpBody for TimedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_pending() && self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(axum::Error::new(BODY_TIMEOUT_REASON))));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    use super::*;

    /// Reads a body of two parts with a pause before each. The timeout is ten seconds.
    async fn read(pause: Duration) -> Result<Bytes, axum::Error> {
        let (sender, receiver) = mpsc::channel(1);
        let body = with_timeout(Body::from_stream(ReceiverStream::new(receiver)), Duration::from_secs(10));
        let sends = async move {
            for part in ["a", "b"] {
                sleep(pause).await;
                drop(sender.send(Ok::<_, axum::Error>(part)).await);
            }
        };
        let (whole, ()) = tokio::join!(to_bytes(body, 10), sends);
        whole
    }

    #[tokio::test(start_paused = true)]
    async fn body_that_is_late_fails_and_slow_body_does_not() {
        assert_eq!(&*read(Duration::from_secs(4)).await.unwrap(), b"ab");
        let error = read(Duration::from_secs(60)).await.unwrap_err();
        assert!(error.to_string().contains("takes too long"), "{error}");
    }
}
