//! The response body that the downstream reads: as it comes from the upstream when no filter wants it, else from the
//! filters. Its end is the end of the stream; dropped before, the downstream has gone.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::error::ProxyError;
use crate::filter::{Piece, Side};
use crate::stream::http_stream::{Finisher, HttpStream};
use crate::stream::source::{Source, Way};
use crate::upstream::Lease;

type Polled = Poll<Option<Result<Frame<Bytes>, ProxyError>>>;

/// A response's body on its way to the downstream.
pub(super) struct ResponseBody {
    stream: Rc<HttpStream>,
    source: Source,
    lease: Option<Lease>,
    finisher: Option<Finisher>,
    trailers_sent: bool,
}

impl ResponseBody {
    pub(super) fn new(stream: &Rc<HttpStream>, finisher: Finisher, (source, lease): (Source, Option<Lease>)) -> Self {
        Self { stream: Rc::clone(stream), source, lease, finisher: Some(finisher), trailers_sent: false }
    }

    /// Nothing of it will be read: the response has ended with its head.
    pub(super) fn whole(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.lease = None; // The connection to the endpoint is free for the next request.
        if let Some(finisher) = self.finisher.take() {
            finisher.whole();
        }
    }

    fn poll_direct(&mut self, context: &mut Context<'_>) -> Polled {
        {
            let mut cell = self.stream.cell.borrow_mut();
            if cell.exchange.chain.is_closed(Side::Response) {
                return Poll::Ready(Some(Err(self.stream.why_broken(&cell.exchange))));
            }
            cell.exchange.chain.outlet(Side::Response).watch(context);
        }
        let frame = std::task::ready!(self.source.poll_frame(context));
        if let Some(Err(error)) = &frame {
            self.stream.break_off(error);
        }
        Poll::Ready(frame)
    }

    fn poll_filtered(&mut self, context: &mut Context<'_>) -> Polled {
        loop {
            let accepts = {
                let mut cell = self.stream.cell.borrow_mut();
                let exchange = &mut cell.exchange;
                match exchange.chain.outlet(Side::Response).poll(context) {
                    Poll::Ready(Piece::Data(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                    Poll::Ready(Piece::Trailers) if !self.trailers_sent => {
                        self.trailers_sent = true;
                        let trailers = exchange.response_trailers.clone().unwrap_or_default();
                        return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                    }
                    Poll::Ready(Piece::Trailers | Piece::End) => return Poll::Ready(None),
                    Poll::Ready(Piece::Reset) => {
                        return Poll::Ready(Some(Err(self.stream.why_broken(exchange))));
                    }
                    Poll::Pending => exchange.chain.accepts(Side::Response),
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

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        let body = self.get_mut();
        if body.finisher.is_none() {
            return Poll::Ready(None);
        }
        let polled = match body.source.way {
            Way::Direct => body.poll_direct(context),
            Way::Filtered => body.poll_filtered(context),
        };
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                body.stream.count_out(frame.data_ref().map_or(0, Bytes::len));
                // A body of known length is not polled again after its last byte.
                if body.is_end_stream() {
                    body.end();
                }
            }
            Poll::Ready(None) => body.end(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        match self.source.way {
            Way::Direct => self.source.is_end(),
            Way::Filtered => self.stream.is_out(Side::Response),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.source.way {
            Way::Direct => self.source.size_hint(),
            Way::Filtered => self.stream.size_hint(Side::Response),
        }
    }
}
