//! `http_body::Body` for one direction of a stream. Forwards frames unchanged when no filter reads the body, otherwise
//! returns the filter chain's output. The codec polls it only when the peer can take more data, which gives backpressure
//! in both directions.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::error::ProxyError;
use crate::filter::{Direction, OutputFrame};
use crate::stream::body_source::{BodyMode, BodySource};
use crate::stream::http_stream::{HttpStream, abort_reason};

/// The body of one direction.
pub(super) struct StreamBody {
    stream: Rc<HttpStream>,
    source: BodySource,
    trailers_sent: bool,
}

impl StreamBody {
    pub(super) fn new(stream: &Rc<HttpStream>, source: BodySource) -> Self {
        Self { stream: Rc::clone(stream), source, trailers_sent: false }
    }

    fn poll_passthrough(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let direction = self.source.direction();
        {
            let mut cell = self.stream.cell.borrow_mut();
            if cell.exchange.chain.is_closed(direction) {
                return Poll::Ready(Some(Err(abort_reason(&cell.exchange))));
            }
            cell.exchange.chain.output(direction).register_waker(context);
        }
        let frame = self.source.poll_frame(context);
        self.stream.on_body_read(direction, &frame);
        let frame = std::task::ready!(frame);
        match &frame {
            // Filtered bytes are counted when they reach the filters.
            Some(Ok(frame)) if direction == Direction::Request => {
                self.stream.add_request_bytes(frame.data_ref().map_or(0, Bytes::len));
            }
            Some(Err(error)) => self.stream.abort(error),
            _ => {}
        }
        Poll::Ready(frame)
    }

    fn poll_filtered(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let direction = self.source.direction();
        loop {
            let accepts = {
                let mut cell = self.stream.cell.borrow_mut();
                let exchange = &mut cell.exchange;
                match exchange.chain.output(direction).poll_frame(context) {
                    Poll::Ready(OutputFrame::Data(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                    Poll::Ready(OutputFrame::Trailers) if !self.trailers_sent => {
                        self.trailers_sent = true;
                        let trailers = exchange.trailers(direction).as_deref().cloned().unwrap_or_default();
                        return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                    }
                    Poll::Ready(OutputFrame::Trailers | OutputFrame::End) => return Poll::Ready(None),
                    Poll::Ready(OutputFrame::Reset) => {
                        return Poll::Ready(Some(Err(abort_reason(exchange))));
                    }
                    Poll::Pending => exchange.chain.can_read(direction),
                }
            };
            if !accepts {
                return Poll::Pending;
            }
            let event = self.source.poll_event(context);
            self.stream.on_body_read(direction, &event);
            match std::task::ready!(event) {
                Some(Ok(event)) => self.stream.on_event(event),
                Some(Err(error)) => self.stream.abort(&error),
                None => return Poll::Pending, // The filters have everything; the output wakes the task.
            }
        }
    }
}

impl HttpBody for StreamBody {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let body = self.get_mut();
        match body.source.mode {
            BodyMode::Passthrough => body.poll_passthrough(context),
            BodyMode::Filtered => body.poll_filtered(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.source.mode {
            BodyMode::Passthrough => self.source.is_end_stream(),
            BodyMode::Filtered => self.stream.is_drained(self.source.direction()),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.source.mode {
            BodyMode::Passthrough => self.source.size_hint(),
            BodyMode::Filtered => self.stream.size_hint(self.source.direction()),
        }
    }
}
