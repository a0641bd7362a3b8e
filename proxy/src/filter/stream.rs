//! A stream and its filters: the exchange and, for each filter of the chain, the plugin instance and the context.
//! Shared by the request handler, the body adapters and the VMs of the worker, and borrowed in synchronous sections
//! only (`docs/decisions/001-who-owns-a-stream.md`).

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use weir_host_abi::Exports;
use weir_host_abi::abi::stream::PeerKind;

use crate::filter::chain_state::ChainState;
use crate::filter::driver::ChainDriver;
use crate::filter::event::{Direction, Event};
use crate::filter::exchange::Exchange;
use crate::filter::invoke::{StreamInvoker, finish_http};
use crate::filter::invoke_tcp;
use crate::filter::plugin_instance::PluginInstance;
use crate::filter::stream_info::StreamInfo;
use crate::filter::vm_instance::StreamContext;
use crate::head::RequestHead;

/// A stream, shared within its worker.
pub(crate) type SharedStream = RefCell<FilterStream>;

/// One filter of a stream's chain.
pub(super) struct StreamFilter {
    /// The plugin instance that runs the filter.
    pub(super) instance: Rc<PluginInstance>,
    /// The stream's context in the VM, once created.
    pub(super) context: Option<StreamContext>,
}

impl StreamFilter {
    fn new(instance: Rc<PluginInstance>) -> Self {
        instance.active_streams.set(instance.active_streams.get() + 1);
        Self { instance, context: None }
    }
}

impl Drop for StreamFilter {
    fn drop(&mut self) {
        self.instance.active_streams.set(self.instance.active_streams.get().saturating_sub(1));
    }
}

/// Returns the callbacks that any filter of a chain exports.
fn combined_exports(chain: &[Rc<PluginInstance>]) -> Exports {
    chain.iter().fold(Exports::default(), |exports, instance| exports.or(instance.exports()))
}

/// A stream and its filters.
pub(crate) struct FilterStream {
    /// The request and response that filters read and change.
    pub(crate) exchange: Exchange,
    pub(super) filters: Vec<StreamFilter>,
    /// Callbacks that any of the filters exports.
    exports: Exports,
    /// The stream itself, for the tables of contexts.
    pub(super) this: Weak<SharedStream>,
}

impl FilterStream {
    /// Returns an HTTP stream before its first event.
    pub(crate) fn new(request: RequestHead, stream_info: StreamInfo, chain: &[Rc<PluginInstance>]) -> Rc<SharedStream> {
        let buffer_limit = |filter: usize| chain[filter].body_buffer_limit_bytes;
        let exports = combined_exports(chain);
        let sees_responses = exports.response_headers() || exports.response_body() || exports.response_trailers();
        let state = if sees_responses {
            ChainState::new(chain.len(), buffer_limit)
        } else {
            ChainState::request_only(chain.len(), buffer_limit)
        };
        Self::with_exchange(Exchange::new(request, state, stream_info), chain, exports)
    }

    /// Returns a TCP connection before its first event.
    pub(crate) fn new_tcp(stream_info: StreamInfo, chain: &[Rc<PluginInstance>]) -> Rc<SharedStream> {
        let state = ChainState::new(chain.len(), |filter| chain[filter].body_buffer_limit_bytes);
        Self::with_exchange(Exchange::new_tcp(state, stream_info), chain, combined_exports(chain))
    }

    fn with_exchange(exchange: Exchange, chain: &[Rc<PluginInstance>], exports: Exports) -> Rc<SharedStream> {
        let filter = |instance: &Rc<PluginInstance>| StreamFilter::new(instance.instance_for_stream());
        let filters = chain.iter().map(filter).collect();
        // `Rc::new_cyclic` would copy the exchange twice more.
        let stream = Rc::new(RefCell::new(Self { exchange, filters, exports, this: Weak::new() }));
        stream.borrow_mut().this = Rc::downgrade(&stream);
        stream
    }

    /// Applies an event. What may leave the chain is in the outputs afterwards.
    pub(crate) fn on_event(&mut self, event: Event) {
        if self.filters.is_empty() && matches!(event, Event::Resume) {
            return;
        }
        let mut invoker =
            StreamInvoker { filters: &mut self.filters, stream: &self.this, is_tcp: self.exchange.is_tcp };
        ChainDriver { exchange: &mut self.exchange, filters: &mut invoker }.on_event(event);
    }

    /// Returns true if a filter reads the body of a direction. Otherwise the body bypasses the chain.
    pub(crate) fn needs_body(&self, direction: Direction) -> bool {
        match direction {
            Direction::Request => self.exports.request_body() || self.exports.request_trailers(),
            Direction::Response => self.exports.response_body() || self.exports.response_trailers(),
        }
    }

    /// Returns true if a filter may read the headers of a direction after they were forwarded, so that a copy must be
    /// stored.
    pub(crate) fn needs_headers_later(&self, direction: Direction) -> bool {
        let exports = self.exports;
        let outside_messages = exports.log() || exports.done() || exports.tick() || exports.queue_ready();
        let after_calls = exports.http_call_response() || exports.grpc_receive() || exports.grpc_close();
        let in_response =
            direction == Direction::Request && (exports.response_headers() || self.needs_body(Direction::Response));
        outside_messages || after_calls || in_response || self.needs_body(direction)
    }

    /// Ends the stream: each filter logs it and deletes its context.
    pub(crate) fn finish(&mut self) {
        let mut invoker = StreamInvoker { filters: &mut self.filters, stream: &self.this, is_tcp: false };
        invoker.finish(&mut self.exchange, finish_http);
    }

    /// Ends the TCP connection that `closed_by` closed: each filter is notified, logs it and deletes its context.
    pub(crate) fn finish_tcp(&mut self, closed_by: PeerKind) {
        let mut invoker = StreamInvoker { filters: &mut self.filters, stream: &self.this, is_tcp: true };
        invoker.finish(&mut self.exchange, |vm, host, context| invoke_tcp::finish_tcp(vm, host, context, closed_by));
    }
}
