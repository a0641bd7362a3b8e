//! Scope of one call into a guest: the current stream, other streams of the same VM, or a callout's response.
//! `hostcalls.rs` answers hostcalls from it.

use std::cell::RefCell;
use std::rc::Weak;

use http::HeaderMap;
use tracing::{debug, warn};
use weir_host_abi::abi::buffer::BufferKind;
use weir_host_abi::abi::map::MapKind;
use weir_host_abi::{ContextId, MetricTable, Status};

use super::header_map::{self, HeaderField, HeaderWrite, InvalidHeader};
use crate::error::ProxyError;
use crate::filter::callout::{CalloutResponse, GrpcEvent};
use crate::filter::chain::{Direction, Exchange, StreamCommand};
use crate::filter::instance::{Effect, PluginRef, SharedStream, StreamRef, VmStreams};

/// The stream that a call is about.
pub(crate) struct CurrentStream<'a> {
    /// The exchange, which guests read and change.
    pub(crate) exchange: &'a mut Exchange,
    /// The filter's index in the chain.
    pub(crate) filter: usize,
    /// The stream's context. `None` while the guest creates it: hostcalls about any context but the plugin's are about
    /// this stream.
    pub(crate) context: Option<ContextId>,
    /// The stream itself.
    pub(crate) stream: &'a Weak<SharedStream>,
}

impl CurrentStream<'_> {
    fn has_context(&self, context: ContextId, plugin_context: ContextId) -> bool {
        self.context.map_or(context != plugin_context, |current| current == context)
    }
}

/// A body buffer of an HTTP stream, or a data buffer of a TCP connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamBuffer {
    pub(crate) direction: Direction,
    pub(crate) is_tcp: bool,
}

/// Subject of a call into a guest.
pub(crate) enum CallScope<'a> {
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
pub(crate) struct ProxyHost<'a> {
    /// The plugin.
    pub(crate) instance: &'a PluginRef,
    /// The streams that have a context in the VM.
    pub(crate) streams: &'a mut VmStreams,
    /// The metrics that the guest has defined.
    pub(crate) guest_metrics: &'a RefCell<MetricTable>,
    /// The subject of the call.
    pub(crate) scope: CallScope<'a>,
    /// True while the stream is logged, when nothing can be changed any more.
    pub(crate) read_only: bool,
}

/// The place of a context's stream.
enum Target {
    /// The current stream: its filter's index in the chain.
    Current(usize),
    /// Another stream of the VM.
    Other(StreamRef),
}

impl<'a> ProxyHost<'a> {
    /// Returns the current stream, if the call is about one.
    pub(crate) fn current(&mut self) -> Option<&mut CurrentStream<'a>> {
        match &mut self.scope {
            CallScope::Stream(current) => Some(current),
            CallScope::Plugin | CallScope::HttpResponse(_) | CallScope::GrpcEvent(_) => None,
        }
    }

    /// Returns the stream of a context; `None` if it has none.
    fn target(&self, context: ContextId) -> Option<Target> {
        let current = match &self.scope {
            CallScope::Stream(current) if current.has_context(context, ContextId::of_plugin(self.instance.index)) => {
                return Some(Target::Current(current.filter));
            }
            CallScope::Stream(current) => Some(current),
            CallScope::Plugin | CallScope::HttpResponse(_) | CallScope::GrpcEvent(_) => None,
        };
        let stream_ref = self.streams.get(context)?;
        // Another filter of the current stream, in the same VM.
        let is_current = current.is_some_and(|current| current.stream.ptr_eq(&stream_ref.stream));
        Some(if is_current { Target::Current(stream_ref.filter) } else { Target::Other(stream_ref.clone()) })
    }

    /// Runs `act` on the exchange of a context and the filter's index in the chain. `None` if the context has no
    /// stream.
    pub(crate) fn with_stream<T>(
        &mut self,
        context: ContextId,
        act: impl FnOnce(&mut Exchange, usize) -> T,
    ) -> Option<T> {
        match self.target(context)? {
            Target::Current(filter) => self.current().map(|current| act(current.exchange, filter)),
            Target::Other(stream_ref) => {
                let stream = stream_ref.stream.upgrade()?;
                let mut stream = stream.try_borrow_mut().ok()?;
                let had_commands = stream.exchange.chain.has_commands();
                let result = act(&mut stream.exchange, stream_ref.filter);
                if !had_commands && stream.exchange.chain.has_commands() {
                    self.instance.vm.effects.push(Effect::ResumeStream(stream_ref.stream));
                }
                Some(result)
            }
        }
    }

    /// Runs `act` like [`Self::with_stream`], for HTTP streams only, since a TCP connection has no headers.
    pub(crate) fn with_request<T>(
        &mut self,
        context: ContextId,
        act: impl FnOnce(&mut Exchange, usize) -> T,
    ) -> Option<T> {
        self.with_stream(context, |exchange, filter| (!exchange.is_tcp).then(|| act(exchange, filter))).flatten()
    }

    /// Queues a command for an HTTP stream, or with `is_tcp` for a TCP connection. Does nothing if the context has no
    /// such stream.
    pub(crate) fn queue_command(&mut self, context: ContextId, is_tcp: bool, command: StreamCommand) {
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
    pub(crate) fn edit_headers(
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
    pub(crate) fn write_header(&mut self, context: ContextId, map: MapKind, mode: HeaderWrite, field: HeaderField<'_>) {
        let limit_bytes = self.header_limit_bytes();
        let write = |exchange: &mut Exchange| {
            header_map::write(exchange, map, mode, field)?;
            header_map::charge_growth(exchange, map, field.name.len() + field.value.len(), limit_bytes).map(|()| true)
        };
        self.edit_headers(context, map, Some(field.name), write);
    }

    /// Returns the response of an HTTP callout, during its callback.
    pub(crate) fn http_response(&self) -> Option<&'a CalloutResponse> {
        match self.scope {
            CallScope::HttpResponse(response) => Some(response),
            _ => None,
        }
    }

    fn grpc_event(&self) -> Option<&'a GrpcEvent> {
        match self.scope {
            CallScope::GrpcEvent(event) => Some(event),
            _ => None,
        }
    }

    /// Returns the bytes of a callout's buffer. As in Envoy, the body of an HTTP callout is not found outside its
    /// callback, and the other buffers are empty there.
    pub(crate) fn callout_buffer(&self, buffer: BufferKind) -> Result<&'a [u8], Status> {
        match (buffer, self.grpc_event()) {
            (BufferKind::CalloutBody, _) => {
                self.http_response().map(|response| &response.body[..]).ok_or(Status::NotFound)
            }
            (BufferKind::GrpcMessage, Some(GrpcEvent::Message(message))) => Ok(message),
            (BufferKind::GrpcMessage | BufferKind::CallData, _) => Ok(&[]),
            _ => Err(Status::NotFound),
        }
    }

    /// Returns the limit of a head that the filter has changed, in bytes.
    pub(crate) fn header_limit_bytes(&self) -> usize {
        usize::try_from(self.instance.plugin.model.limits.head.0).unwrap_or(usize::MAX)
    }

    /// Runs `read` on the bytes that a filter may read now; there may be none.
    ///
    /// # Errors
    /// `NotFound` for a TCP buffer outside a TCP connection.
    pub(crate) fn read_body<T>(
        &mut self,
        context: ContextId,
        buffer: StreamBuffer,
        mut read: impl FnMut(&[u8]) -> T,
    ) -> Result<T, Status> {
        let StreamBuffer { direction, is_tcp } = buffer;
        let found = self.with_stream(context, |exchange, filter| {
            let body = exchange.chain.readable_body(direction, filter);
            (exchange.is_tcp == is_tcp).then(|| read(body.map_or(&[], |body| &body[..])))
        });
        match found.flatten() {
            Some(result) => Ok(result),
            None if is_tcp => Err(Status::NotFound),
            None => Ok(read(&[])),
        }
    }

    /// Returns true for a map of a callout's response, which guests cannot change.
    pub(crate) fn is_callout_map(map: MapKind) -> bool {
        !matches!(
            map,
            MapKind::RequestHeaders | MapKind::RequestTrailers | MapKind::ResponseHeaders | MapKind::ResponseTrailers
        )
    }

    /// Returns a header map of the current callout, if it has one.
    pub(crate) fn callout_map(&self, map: MapKind) -> Option<&'a HeaderMap> {
        match map {
            MapKind::CalloutHeaders => self.http_response().map(|response| &response.headers),
            MapKind::CalloutTrailers => self.http_response().map(|response| &response.trailers),
            MapKind::GrpcInitialMetadata => self.grpc_event().and_then(|event| match event {
                GrpcEvent::InitialMetadata(map) => Some(map),
                _ => None,
            }),
            MapKind::GrpcTrailingMetadata => self.grpc_event().and_then(|event| match event {
                GrpcEvent::TrailingMetadata(map) => Some(map),
                _ => None,
            }),
            _ => None,
        }
    }
}
