//! The request body that the upstream reads: as it comes in when no filter wants it, else from the filters. Polled by
//! hyper when the endpoint has room, so a slow endpoint holds back a fast downstream.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::error::ProxyError;
use crate::filter::{Piece, Side};
use crate::stream::http_stream::HttpStream;
use crate::stream::source::{Source, Way};

/// A request's body on its way to an endpoint.
pub(super) struct RequestBody {
    stream: Rc<HttpStream>,
    source: Source,
    ended: bool,
}

impl RequestBody {
    pub(super) fn new(stream: &Rc<HttpStream>, source: Source) -> Self {
        Self { stream: Rc::clone(stream), source, ended: false }
    }

    fn poll_direct(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        {
            let mut cell = self.stream.cell.borrow_mut();
            if cell.exchange.chain.is_closed(Side::Request) {
                return Poll::Ready(Some(Err(self.stream.why_broken(&cell.exchange))));
            }
            cell.exchange.chain.outlet(Side::Request).watch(context);
        }
        let frame = std::task::ready!(self.source.poll_frame(context));
        match &frame {
            Some(Ok(frame)) => self.stream.count_in(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(error)) => self.stream.break_off(error),
            None => {}
        }
        Poll::Ready(frame)
    }

    fn poll_filtered(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        loop {
            let accepts = {
                let mut cell = self.stream.cell.borrow_mut();
                let exchange = &mut cell.exchange;
                match exchange.chain.outlet(Side::Request).poll(context) {
                    Poll::Ready(Piece::Data(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                    Poll::Ready(Piece::Trailers) if !self.ended => {
                        self.ended = true;
                        let trailers = exchange.request_trailers.clone().unwrap_or_default();
                        return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                    }
                    Poll::Ready(Piece::Trailers | Piece::End) => return Poll::Ready(None),
                    Poll::Ready(Piece::Reset) => {
                        return Poll::Ready(Some(Err(self.stream.why_broken(exchange))));
                    }
                    Poll::Pending => exchange.chain.accepts(Side::Request),
                }
            };
            if !accepts {
                return Poll::Pending;
            }
            match std::task::ready!(self.source.poll_event(context)) {
                Some(Ok(event)) => self.stream.on_event(event),
                Some(Err(error)) => self.stream.break_off(&error),
                None => return Poll::Pending, // All is with the filters; the outlet wakes us.
            }
        }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let body = self.get_mut();
        match body.source.way {
            Way::Direct => body.poll_direct(context),
            Way::Filtered => body.poll_filtered(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.source.way {
            Way::Direct => self.source.is_end(),
            Way::Filtered => self.stream.is_out(Side::Request),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.source.way {
            Way::Direct => self.source.size_hint(),
            Way::Filtered => self.stream.size_hint(Side::Request),
        }
    }
}
