//! Waits until a head has left its filters, or there is something else to do. Bodies are read meanwhile only for a
//! filter that holds the head and wants the body all the same.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use crate::filter::Side;
use crate::stream::http_stream::HttpStream;
use crate::stream::source::{Source, Way};

/// What became of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeadOut {
    /// It may go on; true = nothing follows.
    Gone(bool),
    /// The request was answered instead (a request's head only).
    Answered,
    /// The stream broke off.
    Reset,
}

/// Waits for a side's head.
pub(super) async fn head_out(stream: &Rc<HttpStream>, side: Side, source: &mut Source) -> HeadOut {
    poll_fn(|context| {
        loop {
            let mut cell = stream.cell.borrow_mut();
            let chain = &mut cell.exchange.chain;
            if chain.outlet(Side::Response).is_reset() {
                return Poll::Ready(HeadOut::Reset);
            }
            if side == Side::Request && chain.is_answered() {
                return Poll::Ready(HeadOut::Answered);
            }
            if let Some(end) = chain.outlet(side).take_head() {
                return Poll::Ready(HeadOut::Gone(end));
            }
            if side == Side::Request {
                chain.outlet(side).watch(context); // Later its reader is the request's body, which must not be forgotten.
            }
            chain.outlet(Side::Response).watch(context);
            let reads = source.side() == side && source.way == Way::Filtered;
            if !reads || !chain.wants_body_before_head(side) || !chain.accepts(side) {
                return Poll::Pending;
            }
            drop(cell); // Nothing is borrowed while hyper runs.
            match source.poll_event(context) {
                Poll::Ready(Some(Ok(event))) => stream.on_event(event),
                Poll::Ready(Some(Err(error))) => stream.break_off(&error),
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}
