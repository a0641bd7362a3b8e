//! Reads ahead of a head: the part of its body that has arrived already passes the filters before the head is sent, so that
//! the head declares the length of a body that is whole. Called by `forward.rs` and `handle.rs`.
//!
//! The length is that of the filters' output, so framing and body agree, whatever the filters have changed.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use crate::limits::MAX_READ_AHEAD_FRAMES;
use crate::stream::body_source::{BodyMode, BodySource};
use crate::stream::http_stream::HttpStream;

/// Passes the frames of a body that have arrived to the filters. Waits for none.
pub(super) async fn read_arrived_body(stream: &Rc<HttpStream>, source: &mut BodySource) {
    if source.mode != BodyMode::Filtered {
        return;
    }
    poll_fn(|context| {
        for _ in 0..MAX_READ_AHEAD_FRAMES {
            if !stream.cell.borrow().exchange.chain.can_read(source.direction()) {
                break;
            }
            match source.poll_event(context) {
                Poll::Ready(Some(Ok(event))) => stream.on_event(event),
                Poll::Ready(Some(Err(error))) => {
                    stream.abort(&error);
                    break;
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Poll::Ready(())
    })
    .await;
}
