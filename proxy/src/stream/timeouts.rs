//! Timeouts of one stream, and the side for which the proxy waits. The worker's timer checks them (`http_stream.rs`).
//!
//! The request timeout runs while the proxy waits for the endpoint, that is from the last byte that the downstream has
//! sent of its request: a slow upload is not the endpoint's fault. The idle timeout runs always.

use std::cell::Cell;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;
use weir_model::Forward;
use weir_model::limits::DEFAULT_REQUEST_TIMEOUT;

use crate::connection::exceeds;
use crate::filter::Direction;

/// The timeouts of one stream.
pub(super) struct StreamTimeouts {
    /// From the request's last byte to the response's end; `None` is no limit.
    request: Cell<Option<Duration>>,
    /// The deadline of a gRPC request by its own `grpc-timeout`.
    grpc_deadline: Cell<Option<Instant>>,
    /// The last time at which the proxy waited for bytes of the request.
    request_ended_at: Cell<Instant>,
    /// True while the proxy waits for bytes of the request.
    awaits_request: Cell<bool>,
    /// True while the proxy waits for bytes of the endpoint's response, once its head has come.
    awaits_response: Cell<bool>,
    last_activity: Cell<Instant>,
}

/// A timeout that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PassedTimeout {
    /// The deadline of a gRPC request.
    Grpc,
    /// The request timeout.
    Request,
    /// The idle timeout.
    Idle,
}

impl StreamTimeouts {
    /// Returns the timeouts of a request whose head has come at `started`.
    pub(super) fn new(started: Instant, request: Option<Duration>, grpc: Option<Duration>) -> Self {
        Self {
            request: Cell::new(request),
            grpc_deadline: Cell::new(grpc.and_then(|timeout| started.checked_add(timeout))),
            request_ended_at: Cell::new(started),
            awaits_request: Cell::new(false),
            awaits_response: Cell::new(false),
            last_activity: Cell::new(started),
        }
    }

    /// Sets the request timeout; `None` is no limit.
    pub(super) fn set_request(&self, timeout: Option<Duration>) {
        self.request.set(timeout);
    }

    /// Starts the idle timeout again.
    pub(super) fn on_activity(&self) {
        self.last_activity.set(Instant::now());
    }

    /// Records whether bytes of a direction's body have come, or the proxy waits for them.
    pub(super) fn on_body_read<T>(&self, direction: Direction, read: &Poll<T>) {
        match direction {
            Direction::Request => {
                if self.awaits_request.replace(read.is_pending()) {
                    self.request_ended_at.set(Instant::now());
                }
            }
            Direction::Response => self.awaits_response.set(read.is_pending()),
        }
    }

    /// Returns true while the proxy waits for bytes of a direction.
    pub(super) fn awaits(&self, direction: Direction) -> bool {
        match direction {
            Direction::Request => self.awaits_request.get(),
            Direction::Response => self.awaits_response.get(),
        }
    }

    /// Returns the timeout that has passed at `now`.
    pub(super) fn passed(&self, now: Instant, idle: Option<Duration>) -> Option<PassedTimeout> {
        if self.grpc_deadline.get().is_some_and(|deadline| now >= deadline) {
            return Some(PassedTimeout::Grpc);
        }
        let waited = now.duration_since(self.request_ended_at.get());
        if !self.awaits_request.get() && self.request.get().is_some_and(|timeout| waited >= timeout) {
            return Some(PassedTimeout::Request);
        }
        exceeds(idle, now.duration_since(self.last_activity.get())).then_some(PassedTimeout::Idle)
    }

    /// Starts the default request timeout, for a local reply that a filter pauses.
    pub(super) fn begin_local_reply(&self, now: Instant) {
        self.request.set(Some(DEFAULT_REQUEST_TIMEOUT));
        self.request_ended_at.set(now);
        self.awaits_request.set(false);
        self.grpc_deadline.set(None);
    }
}

/// Returns the request timeout: the route's, or the cluster's, or the default. `None` is no limit.
pub(super) fn request_timeout(forward: &Forward, cluster: Option<Duration>) -> Option<Duration> {
    let timeout = forward.timeouts.request.or(cluster).unwrap_or(DEFAULT_REQUEST_TIMEOUT);
    (!timeout.is_zero()).then_some(timeout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::route::testing;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn request_timeout_runs_while_downstream_is_not_awaited() {
        let timeouts = StreamTimeouts::new(Instant::now(), Some(3 * SECOND), None);
        let passed = || timeouts.passed(Instant::now(), Some(10 * SECOND));
        tokio::time::advance(2 * SECOND).await;
        assert_eq!(passed(), None);
        timeouts.on_body_read(Direction::Request, &Poll::<()>::Pending);
        tokio::time::advance(5 * SECOND).await;
        assert_eq!(passed(), None, "the downstream is slow");
        timeouts.on_body_read(Direction::Request, &Poll::Ready(()));
        tokio::time::advance(2 * SECOND).await;
        assert_eq!(passed(), None, "from the last byte on");
        tokio::time::advance(SECOND).await;
        assert_eq!(passed(), Some(PassedTimeout::Request));
        timeouts.set_request(None);
        assert_eq!(passed(), None);
        tokio::time::advance(SECOND).await;
        assert_eq!(passed(), Some(PassedTimeout::Idle));
        timeouts.on_activity();
        assert_eq!(passed(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn grpc_deadline_passes_also_while_request_is_awaited() {
        let timeouts = StreamTimeouts::new(Instant::now(), Some(3 * SECOND), Some(2 * SECOND));
        timeouts.on_body_read(Direction::Request, &Poll::<()>::Pending);
        tokio::time::advance(2 * SECOND).await;
        assert_eq!(timeouts.passed(Instant::now(), None), Some(PassedTimeout::Grpc));
        timeouts.begin_local_reply(Instant::now());
        assert_eq!(timeouts.passed(Instant::now(), None), None);
        tokio::time::advance(DEFAULT_REQUEST_TIMEOUT).await;
        assert_eq!(timeouts.passed(Instant::now(), None), Some(PassedTimeout::Request));
    }

    #[test]
    fn request_timeout_of_zero_is_no_limit() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        for (route, cluster, expected) in [
            (None, None, Some(DEFAULT_REQUEST_TIMEOUT)),
            (None, seconds(3), seconds(3)),
            (None, seconds(0), None),
            (seconds(2), seconds(0), seconds(2)),
            (seconds(0), seconds(3), None),
        ] {
            let mut forward = testing::forward(&[("a/b:80", 1)]);
            forward.timeouts.request = route;
            assert_eq!(request_timeout(&forward, cluster), expected, "{route:?} {cluster:?}");
        }
    }
}
