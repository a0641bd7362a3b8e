//! The body of one side, read by the other: as it comes in when no filter wants it, else from the filters. Polled by
//! hyper when the reader has room, so a slow reader holds back a fast writer. The upstream reads the request's so.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::error::ProxyError;
use crate::filter::{Piece, Side};
use crate::stream::http_stream::HttpStream;
use crate::stream::source::{Source, Way};

/// What polling a body gives.
pub(super) type Polled = Poll<Option<Result<Frame<Bytes>, ProxyError>>>;

/// The body of one side, on its way to the other.
pub(super) struct SideBody {
    stream: Rc<HttpStream>,
    source: Source,
    trailers_sent: bool,
}

impl SideBody {
    pub(super) fn new(stream: &Rc<HttpStream>, source: Source) -> Self {
        Self { stream: Rc::clone(stream), source, trailers_sent: false }
    }

    fn poll_direct(&mut self, context: &mut Context<'_>) -> Polled {
        let side = self.source.side();
        {
            let mut cell = self.stream.cell.borrow_mut();
            if cell.exchange.chain.is_closed(side) {
                return Poll::Ready(Some(Err(self.stream.why_broken(&cell.exchange))));
            }
            cell.exchange.chain.outlet(side).watch(context);
        }
        let frame = std::task::ready!(self.source.poll_frame(context));
        match &frame {
            // What comes through filters they count themselves.
            Some(Ok(frame)) if side == Side::Request => self.stream.count_in(frame.data_ref().map_or(0, Bytes::len)),
            Some(Err(error)) => self.stream.break_off(error),
            _ => {}
        }
        Poll::Ready(frame)
    }

    fn poll_filtered(&mut self, context: &mut Context<'_>) -> Polled {
        let side = self.source.side();
        loop {
            let accepts = {
                let mut cell = self.stream.cell.borrow_mut();
                let exchange = &mut cell.exchange;
                match exchange.chain.outlet(side).poll(context) {
                    Poll::Ready(Piece::Data(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                    Poll::Ready(Piece::Trailers) if !self.trailers_sent => {
                        self.trailers_sent = true;
                        let trailers = exchange.trailers(side).as_deref().cloned().unwrap_or_default();
                        return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                    }
                    Poll::Ready(Piece::Trailers | Piece::End) => return Poll::Ready(None),
                    Poll::Ready(Piece::Reset) => {
                        return Poll::Ready(Some(Err(self.stream.why_broken(exchange))));
                    }
                    Poll::Pending => exchange.chain.accepts(side),
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

impl HttpBody for SideBody {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        let body = self.get_mut();
        match body.source.way {
            Way::Direct => body.poll_direct(context),
            Way::Filtered => body.poll_filtered(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self.source.way {
            Way::Direct => self.source.is_end(),
            Way::Filtered => self.stream.is_out(self.source.side()),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.source.way {
            Way::Direct => self.source.size_hint(),
            Way::Filtered => self.stream.size_hint(self.source.side()),
        }
    }
}
