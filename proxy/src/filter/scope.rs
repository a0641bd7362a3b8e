//! Scope of one call into a guest: the current stream, other streams of the same VM, or a callout's response.
//! `hostcalls.rs` answers hostcalls from it.

use std::rc::{Rc, Weak};

use bytes::BytesMut;
use http::HeaderMap;
use tracing::{debug, warn};
use weir_host_abi::abi::buffer::BufferKind;
use weir_host_abi::abi::map::MapKind;
use weir_host_abi::{ContextId, Status};

use crate::error::ProxyError;
use crate::filter::callout::CalloutResponse;
use crate::filter::callout_grpc::GrpcEvent;
use crate::filter::effects::Effect;
use crate::filter::event::{Direction, StreamCommand};
use crate::filter::exchange::Exchange;
use crate::filter::header_map::{self, HeaderField, HeaderWrite, InvalidHeader};
use crate::filter::plugin_instance::PluginInstance;
use crate::filter::stream::SharedStream;

/// The stream that a call is about.
pub(super) struct CurrentStream<'a> {
    pub(super) exchange: &'a mut Exchange,
    pub(super) filter: usize,
    /// The stream's context. [`ContextId::ROOT`] while the context is being created.
    pub(super) context: ContextId,
    pub(super) stream: &'a Weak<SharedStream>,
}

/// A body buffer of an HTTP stream, or a data buffer of a TCP connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamBuffer {
    pub(super) direction: Direction,
    pub(super) is_tcp: bool,
}

/// Subject of a call into a guest.
pub(super) enum CallScope<'a> {
    /// The plugin itself, for example a timer callback.
    Plugin,
    /// A stream.
    Stream(CurrentStream<'a>),
    /// The response of an HTTP callout.
    HttpResponse(&'a CalloutResponse),
    /// An event of a gRPC callout.
    GrpcEvent(&'a GrpcEvent),
}

/// The Wasm host's view of the proxy, for one call into a VM.
pub(super) struct ProxyHost<'a> {
    pub(super) instance: &'a Rc<PluginInstance>,
    pub(super) current: Option<CurrentStream<'a>>,
    /// The response of an HTTP callout, during its callback.
    pub(super) http_response: Option<&'a CalloutResponse>,
    /// The event of a gRPC callout, during its callback.
    pub(super) grpc_event: Option<&'a GrpcEvent>,
    /// True while the stream is logged, when nothing can be changed any more.
    pub(super) read_only: bool,
}

impl<'a> ProxyHost<'a> {
    pub(super) fn new(instance: &'a Rc<PluginInstance>, scope: CallScope<'a>) -> Self {
        let mut host = Self { instance, current: None, http_response: None, grpc_event: None, read_only: false };
        match scope {
            CallScope::Plugin => {}
            CallScope::Stream(current) => host.current = Some(current),
            CallScope::HttpResponse(response) => host.http_response = Some(response),
            CallScope::GrpcEvent(event) => host.grpc_event = Some(event),
        }
        host
    }

    /// Runs `act` on the exchange of a context and the filter's index in the chain. `None` if the context has no
    /// stream.
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
        let stream_ref = self.instance.vm.streams.borrow().get(context).cloned()?;
        if let Some(current) = &mut self.current {
            // Another filter of the current stream, in the same VM.
            if current.stream.ptr_eq(&stream_ref.stream) {
                return Some(act(current.exchange, stream_ref.filter));
            }
        }
        let stream = stream_ref.stream.upgrade()?;
        let mut stream = stream.try_borrow_mut().ok()?;
        let had_commands = stream.exchange.chain.has_commands();
        let result = act(&mut stream.exchange, stream_ref.filter);
        if !had_commands && stream.exchange.chain.has_commands() {
            self.instance.effects.push(stream_ref.stream, Effect::ResumeStream);
        }
        Some(result)
    }

    /// Runs `act` like [`Self::with_stream`], for HTTP streams only, since a TCP connection has no headers.
    pub(super) fn with_request<T>(
        &mut self,
        context: ContextId,
        act: impl FnOnce(&mut Exchange, usize) -> T,
    ) -> Option<T> {
        self.with_stream(context, |exchange, filter| (!exchange.is_tcp).then(|| act(exchange, filter))).flatten()
    }

    /// Queues a command for an HTTP stream, or with `is_tcp` for a TCP connection. Does nothing if the context has no
    /// such stream.
    pub(super) fn queue_command(&mut self, context: ContextId, is_tcp: bool, command: StreamCommand) {
        if !self.read_only {
            self.with_stream(context, |exchange, filter| {
                if exchange.is_tcp == is_tcp {
                    exchange.chain.queue_command(filter, command);
                }
            });
        }
    }

    /// Applies `edit` to a header map. `name` is `None` if the edit replaces the whole map. `edit` returns whether it
    /// changed anything.
    ///
    /// An invalid edit fails the stream with 500 instead of returning a status to the guest. Most guests panic on a
    /// failed write, and the value may come from the downstream.
    pub(super) fn edit_headers(
        &mut self,
        context: ContextId,
        map: MapKind,
        name: Option<&[u8]>,
        edit: impl FnOnce(&mut Exchange) -> Result<bool, InvalidHeader>,
    ) {
        if self.read_only {
            let plugin = &self.instance.plugin.model.name;
            debug!(%plugin, "a filter changed headers that were logged already; ignored");
            return;
        }
        let instance = self.instance;
        self.with_request(context, |exchange, filter| {
            let changed = edit(exchange);
            // An invalid edit of a whole map may have written some headers before it failed.
            if changed != Ok(false) && map == MapKind::RequestHeaders {
                exchange.mark_request_changed(name);
            }
            if changed == Err(InvalidHeader) {
                instance.metrics.limited.increment("head");
                let plugin = instance.plugin.model.name.to_string();
                if instance.should_log_misuse() {
                    warn!(plugin, "a filter made an invalid header; the stream fails with 500");
                }
                exchange.chain.queue_command(filter, StreamCommand::Fail(ProxyError::FilterOutput { plugin }));
            }
        });
    }

    /// Writes one header, and charges its size to the limit of the head.
    pub(super) fn write_header(&mut self, context: ContextId, map: MapKind, mode: HeaderWrite, field: HeaderField<'_>) {
        let limit_bytes = self.header_limit_bytes();
        let write = |exchange: &mut Exchange| {
            header_map::write(exchange, map, mode, field)?;
            header_map::charge_growth(exchange, map, field.name.len() + field.value.len(), limit_bytes).map(|()| true)
        };
        self.edit_headers(context, map, Some(field.name), write);
    }

    /// Returns the bytes of a callout's buffer. As in Envoy, the body of an HTTP callout is not found outside its
    /// callback, and the other buffers are empty there.
    pub(super) fn callout_buffer(&self, buffer: BufferKind) -> Result<&'a [u8], Status> {
        match (buffer, self.http_response, self.grpc_event) {
            (BufferKind::CalloutBody, response, _) => {
                response.map(|response| &response.body[..]).ok_or(Status::NotFound)
            }
            (BufferKind::GrpcMessage, _, Some(GrpcEvent::Message(message))) => Ok(message),
            (BufferKind::GrpcMessage | BufferKind::CallData, ..) => Ok(&[]),
            _ => Err(Status::NotFound),
        }
    }

    /// Returns the limit of a head that the filter has changed, in bytes.
    pub(super) fn header_limit_bytes(&self) -> usize {
        usize::try_from(self.instance.plugin.model.limits.head.0).unwrap_or(usize::MAX)
    }

    /// Runs `read` on the bytes that a filter may read now, if there are any.
    ///
    /// # Errors
    /// `NotFound` for a TCP buffer outside a TCP connection.
    pub(super) fn read_body<T>(
        &mut self,
        context: ContextId,
        buffer: StreamBuffer,
        read: impl FnOnce(Option<&BytesMut>) -> T,
    ) -> Result<T, Status> {
        let StreamBuffer { direction, is_tcp } = buffer;
        let mut read = Some(read);
        let found = self.with_stream(context, |exchange, filter| {
            (exchange.is_tcp == is_tcp)
                .then(|| read.take().map(|read| read(exchange.chain.readable_body(direction, filter))))
        });
        match (found.flatten().flatten(), read) {
            (Some(result), _) => Ok(result),
            (None, Some(read)) if !is_tcp => Ok(read(None)),
            (None, _) => Err(Status::NotFound),
        }
    }

    /// Returns true for a map of a callout's response, which guests cannot change.
    pub(super) fn is_callout_map(map: MapKind) -> bool {
        !matches!(
            map,
            MapKind::RequestHeaders | MapKind::RequestTrailers | MapKind::ResponseHeaders | MapKind::ResponseTrailers
        )
    }

    /// Returns a header map of the current callout, if it has one.
    pub(super) fn callout_map(&self, map: MapKind) -> Option<&'a HeaderMap> {
        match map {
            MapKind::CalloutHeaders => self.http_response.map(|response| &response.headers),
            MapKind::CalloutTrailers => self.http_response.map(|response| &response.trailers),
            MapKind::GrpcInitialMetadata => self.grpc_event.and_then(|event| match event {
                GrpcEvent::InitialMetadata(map) => Some(map),
                _ => None,
            }),
            MapKind::GrpcTrailingMetadata => self.grpc_event.and_then(|event| match event {
                GrpcEvent::TrailingMetadata(map) => Some(map),
                _ => None,
            }),
            _ => None,
        }
    }
}
