//! Waits until a head has left its filters, or the stream was replied to or reset. Meanwhile the body is read only for
//! a filter that pauses the headers and reads the body nevertheless.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use crate::filter::Direction;
use crate::stream::body_source::{BodyMode, BodySource};
use crate::stream::http_stream::HttpStream;

/// The outcome of waiting for a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadOutcome {
    /// The head has left the filters.
    Forwarded {
        /// True if nothing follows the head.
        end_of_stream: bool,
    },
    /// The request has a local reply. Only for a request's head.
    Replied,
    /// The stream was reset.
    Reset,
}

/// Waits until the filters of a direction have let its head pass.
pub(super) async fn wait_for_filtered_head(
    stream: &Rc<HttpStream>,
    direction: Direction,
    source: &mut BodySource,
) -> HeadOutcome {
    poll_fn(|context| {
        loop {
            let mut cell = stream.cell.borrow_mut();
            let chain = &mut cell.exchange.chain;
            if chain.output(Direction::Response).is_reset() {
                return Poll::Ready(HeadOutcome::Reset);
            }
            if direction == Direction::Request && chain.has_local_reply() {
                return Poll::Ready(HeadOutcome::Replied);
            }
            if let Some(end_of_stream) = chain.output(direction).take_headers() {
                return Poll::Ready(HeadOutcome::Forwarded { end_of_stream });
            }
            if direction == Direction::Request {
                chain.output(direction).register_waker(context); // Later the request's body reads it, and must be woken.
            }
            chain.output(Direction::Response).register_waker(context);
            let reads = source.direction() == direction && source.mode == BodyMode::Filtered;
            if !reads || !chain.wants_body_before_headers(direction) || !chain.can_read(direction) {
                return Poll::Pending;
            }
            drop(cell); // No borrow is alive while the codec runs.
            let event = source.poll_event(context);
            stream.on_body_read(direction, &event);
            match event {
                Poll::Ready(Some(Ok(event))) => stream.on_event(event),
                Poll::Ready(Some(Err(error))) => stream.abort(&error),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}
