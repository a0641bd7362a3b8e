//! What a call into a guest is about, and what it may reach from there: the stream at hand, other streams of the same VM,
//! the answer to a callout. `host.rs` answers hostcalls with it.

use std::rc::{Rc, Weak};

use bytes::BytesMut;
use http::HeaderMap;
use tracing::{debug, warn};
use weir_host_abi::abi::buffer::BufferKind;
use weir_host_abi::abi::map::MapKind;
use weir_host_abi::{ContextId, Status};

use crate::error::ProxyError;
use crate::filter::callout::CallAnswer;
use crate::filter::event::{Ask, Side};
use crate::filter::exchange::Exchange;
use crate::filter::grpc::GrpcEvent;
use crate::filter::heads::{self, Invalid, Write};
use crate::filter::mailbox::Note;
use crate::filter::slot::Slot;
use crate::filter::stream::StreamCell;

/// The stream that a call is about.
pub(super) struct Current<'a> {
    pub(super) exchange: &'a mut Exchange,
    pub(super) filter: usize,
    /// Its context; [`ContextId::ROOT`] while that is being made.
    pub(super) context: ContextId,
    pub(super) cell: &'a Weak<StreamCell>,
}

/// What a call into a guest is about.
pub(super) enum About<'a> {
    /// The plugin itself: a tick.
    Plugin,
    /// A stream.
    Stream(Current<'a>),
    /// A callout's answer.
    Answer(&'a CallAnswer),
    /// What a gRPC callout has brought.
    Grpc(&'a GrpcEvent),
}

/// A host, lent to a VM for one call.
pub(super) struct HostView<'a> {
    pub(super) slot: &'a Rc<Slot>,
    pub(super) current: Option<Current<'a>>,
    pub(super) answer: Option<&'a CallAnswer>,
    pub(super) grpc: Option<&'a GrpcEvent>,
    /// True while the stream is logged: nothing can be changed any more.
    pub(super) read_only: bool,
}

impl<'a> HostView<'a> {
    pub(super) fn new(slot: &'a Rc<Slot>, about: About<'a>) -> Self {
        let mut view = Self { slot, current: None, answer: None, grpc: None, read_only: false };
        match about {
            About::Plugin => {}
            About::Stream(current) => view.current = Some(current),
            About::Answer(answer) => view.answer = Some(answer),
            About::Grpc(event) => view.grpc = Some(event),
        }
        view
    }

    /// Does something with the exchange of a context, if it has one.
    pub(super) fn with_stream<T>(
        &mut self,
        context: ContextId,
        act: impl FnOnce(&mut Exchange, usize) -> T,
    ) -> Option<T> {
        if let Some(current) = &mut self.current
            && (current.context == context || (current.context == ContextId::ROOT && context != ContextId::ROOT))
        {
            return Some(act(current.exchange, current.filter));
        }
        let tenant = self.slot.cell.tenants.borrow().get(context).cloned()?;
        if let Some(current) = &mut self.current {
            // Another filter of the same stream, in the same VM.
            if current.cell.ptr_eq(&tenant.stream) {
                return Some(act(current.exchange, tenant.filter));
            }
        }
        let stream = tenant.stream.upgrade()?;
        let mut stream = stream.try_borrow_mut().ok()?;
        let asked = stream.exchange.chain.is_asked();
        let result = act(&mut stream.exchange, tenant.filter);
        if !asked && stream.exchange.chain.is_asked() {
            self.slot.mailbox.post(tenant.stream, Note::Asked);
        }
        Some(result)
    }

    /// The same with a request's exchange: a TCP connection has no heads.
    pub(super) fn with_request<T>(
        &mut self,
        context: ContextId,
        act: impl FnOnce(&mut Exchange, usize) -> T,
    ) -> Option<T> {
        self.with_stream(context, |exchange, filter| (!exchange.is_tcp).then(|| act(exchange, filter))).flatten()
    }

    /// Queues an ask of a request, or of a TCP connection. A stream that is gone, or is no such one, asks for nothing.
    pub(super) fn ask(&mut self, context: ContextId, is_tcp: bool, ask: Ask) {
        if !self.read_only {
            self.with_stream(context, |exchange, filter| {
                if exchange.is_tcp == is_tcp {
                    exchange.chain.ask(filter, ask);
                }
            });
        }
    }

    /// Changes a head, or the header `name` of it; `change` says whether it did. What must not go on the wire fails the stream; the guest is told
    /// nothing, since many guests panic when a write is refused, and a header's text may come from outside.
    pub(super) fn change(
        &mut self,
        context: ContextId,
        (map, name): (MapKind, Option<&[u8]>),
        change: impl FnOnce(&mut Exchange) -> Result<bool, Invalid>,
    ) {
        if self.read_only {
            debug!(plugin = %self.slot.plugin.model.name, "a filter changed a head that is gone; nothing happens");
            return;
        }
        let slot = self.slot;
        self.with_request(context, |exchange, filter| {
            let changed = change(exchange);
            // Something may have been stored before the part that is refused.
            if changed != Ok(false) && map == MapKind::RequestHeaders {
                exchange.mark_request_changed(name);
            }
            if changed == Err(Invalid) {
                slot.metrics.limited.increment("head");
                let plugin = slot.plugin.model.name.to_string();
                if slot.may_complain() {
                    warn!(plugin, "a filter made a head that must not go on the wire; the stream is answered 500");
                }
                exchange.chain.ask(filter, Ask::Refuse(ProxyError::FilterOutput { plugin }));
            }
        });
    }

    pub(super) fn write(&mut self, context: ContextId, (map, how): (MapKind, Write), header: (&[u8], &[u8])) {
        let room = self.head_room();
        let write = |exchange: &mut Exchange| {
            heads::write(exchange, map, how, header)?;
            heads::grow(exchange, map, header.0.len() + header.1.len(), room).map(|()| true)
        };
        self.change(context, (map, Some(header.0)), write);
    }

    /// The bytes of a buffer that belongs to no stream. As in Envoy, only the body of an HTTP callout is not there outside
    /// its callback; the others are empty.
    pub(super) fn callout_bytes(&self, buffer: BufferKind) -> Result<&'a [u8], Status> {
        match (buffer, self.answer, self.grpc) {
            (BufferKind::CalloutBody, answer, _) => answer.map(|answer| &answer.body[..]).ok_or(Status::NotFound),
            (BufferKind::GrpcMessage, _, Some(GrpcEvent::Message(message))) => Ok(message),
            (BufferKind::GrpcMessage | BufferKind::CallData, ..) => Ok(&[]),
            _ => Err(Status::NotFound),
        }
    }

    /// How long a head may get that the filter has changed.
    pub(super) fn head_room(&self) -> usize {
        usize::try_from(self.slot.plugin.model.limits.head.0).unwrap_or(usize::MAX)
    }

    /// Looks at the bytes of a body that a filter may see now, if there are any.
    ///
    /// # Errors
    /// It asks for the bytes of a TCP connection, and there is none.
    pub(super) fn with_body<T>(
        &mut self,
        context: ContextId,
        (side, is_tcp): (Side, bool),
        look: impl FnOnce(Option<&BytesMut>) -> T,
    ) -> Result<T, Status> {
        let mut look = Some(look);
        let found = self.with_stream(context, |exchange, filter| {
            (exchange.is_tcp == is_tcp).then(|| look.take().map(|look| look(exchange.chain.body_at(side, filter))))
        });
        match (found.flatten().flatten(), look) {
            (Some(seen), _) => Ok(seen),
            (None, Some(look)) if !is_tcp => Ok(look(None)),
            (None, _) => Err(Status::NotFound),
        }
    }

    pub(super) fn is_callout_map(map: MapKind) -> bool {
        !matches!(
            map,
            MapKind::RequestHeaders | MapKind::RequestTrailers | MapKind::ResponseHeaders | MapKind::ResponseTrailers
        )
    }

    /// The callout's map that can be read now.
    pub(super) fn callout_map(&self, map: MapKind) -> Option<&'a HeaderMap> {
        match map {
            MapKind::CalloutHeaders => self.answer.map(|answer| &answer.headers),
            MapKind::CalloutTrailers => self.answer.map(|answer| &answer.trailers),
            MapKind::GrpcInitialMetadata => self.grpc.and_then(|event| match event {
                GrpcEvent::InitialMetadata(map) => Some(map),
                _ => None,
            }),
            MapKind::GrpcTrailingMetadata => self.grpc.and_then(|event| match event {
                GrpcEvent::TrailingMetadata(map) => Some(map),
                _ => None,
            }),
            _ => None,
        }
    }
}
