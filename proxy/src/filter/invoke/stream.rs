//! A stream and its filters: passes events to the driver, whose callbacks it makes. Creates a context when a filter sees
//! the stream for the first time, and ends it with the stream.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use weir_host_abi::abi::stream::PeerKind;
use weir_host_abi::{ContextId, Exports, Failure, Vm};

use super::{call_vm, http, tcp};
use crate::filter::chain::{
    Callback, ChainDriver, ChainFilters, ChainState, Direction, Event, Exchange, FilterFailure, FilterStatus,
};
use crate::filter::host::{CallScope, CurrentStream, ProxyHost};
use crate::filter::instance::{
    FilterStream, PluginHandle, PluginId, SharedStream, StreamContext, StreamFilter, StreamRef,
};
use crate::head::RequestHead;
use crate::stream_info::StreamInfo;

/// Returns the callbacks that any filter of a chain exports.
fn combined_exports(chain: &[PluginHandle]) -> Exports {
    chain.iter().fold(Exports::default(), |exports, plugin| exports.or(plugin.exports))
}

impl FilterStream {
    /// Returns an HTTP stream before its first event.
    pub(crate) fn new(request: RequestHead, stream_info: StreamInfo, chain: &[PluginHandle]) -> Rc<SharedStream> {
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
    pub(crate) fn new_tcp(stream_info: StreamInfo, chain: &[PluginHandle]) -> Rc<SharedStream> {
        let state = ChainState::new(chain.len(), |filter| chain[filter].body_buffer_limit_bytes);
        Self::with_exchange(Exchange::new_tcp(state, stream_info), chain, combined_exports(chain))
    }

    fn with_exchange(exchange: Exchange, chain: &[PluginHandle], exports: Exports) -> Rc<SharedStream> {
        let filters = chain.iter().map(|plugin| StreamFilter::new(plugin.for_stream())).collect();
        // `Rc::new_cyclic` would copy the exchange twice more.
        let stream = Rc::new(RefCell::new(Self { exchange, filters, exports, this: Weak::new() }));
        stream.borrow_mut().this = Rc::downgrade(&stream);
        stream
    }

    /// Returns the AuthorizationPolicies of the chain.
    pub(crate) fn access_policies(&self) -> impl Iterator<Item = PluginId> {
        self.filters.iter().filter(|filter| filter.plugin.is_access_policy).map(|filter| filter.plugin.id())
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
        invoker.finish(&mut self.exchange, http::finish);
    }

    /// Ends the TCP connection that `closed_by` closed: each filter is notified, logs it and deletes its context.
    pub(crate) fn finish_tcp(&mut self, closed_by: PeerKind) {
        let mut invoker = StreamInvoker { filters: &mut self.filters, stream: &self.this, is_tcp: true };
        invoker.finish(&mut self.exchange, |vm, host, context| tcp::finish(vm, host, context, closed_by));
    }
}

/// The filters of one stream, for the duration of one event.
struct StreamInvoker<'a> {
    filters: &'a mut [StreamFilter],
    stream: &'a Weak<SharedStream>,
    /// True for a TCP connection, which has callbacks of its own.
    is_tcp: bool,
}

impl ChainFilters for StreamInvoker<'_> {
    fn wants_callback(&self, filter: usize, callback: Callback) -> bool {
        let filter = &self.filters[filter];
        if self.is_tcp { tcp::wants_callback(filter, callback) } else { http::wants_callback(filter, callback) }
    }

    fn call(
        &mut self,
        filter: usize,
        callback: Callback,
        exchange: &mut Exchange,
    ) -> Result<FilterStatus, FilterFailure> {
        let is_tcp = self.is_tcp;
        if matches!(callback, Callback::Headers(Direction::Request, _)) && self.filters[filter].plugin.is_access_policy
        {
            exchange.store_policy_input();
        }
        self.call_in_context(filter, exchange, |vm, host, context| match is_tcp {
            true => tcp::call(vm, host, context, callback),
            false => http::call(vm, host, context, callback),
        })
    }
}

impl StreamInvoker<'_> {
    /// Calls the filter's VM about the stream. Creates the stream's context first if the VM has none.
    fn call_in_context<T>(
        &mut self,
        filter: usize,
        exchange: &mut Exchange,
        call: impl FnOnce(&mut Vm, &mut ProxyHost<'_>, ContextId) -> Result<T, Failure>,
    ) -> Result<T, FilterFailure> {
        let StreamFilter { plugin, context } = &mut self.filters[filter];
        let existing = match context {
            Some(context) if context.generation == plugin.vm.generation() => Some(context.id),
            // The VM that had the context is gone, and the next one cannot continue it.
            Some(_) => return Err(plugin.failure("filter_vm_died")),
            None => {
                plugin.ensure_running()?;
                None
            }
        };
        let current = CurrentStream { exchange, filter, context: existing, stream: self.stream };
        let result = call_vm(plugin, CallScope::Stream(current), |vm, host| {
            let id = match existing {
                Some(id) => id,
                None => {
                    let id = create_context(vm, host)?;
                    *context = Some(StreamContext { generation: host.instance.vm.generation(), id });
                    id
                }
            };
            call(vm, host, id)
        });
        match result {
            Some(Ok(result)) => Ok(result),
            Some(Err(failure)) => Err(plugin.on_failure(&failure)),
            None => Err(plugin.failure(if existing.is_some() { "filter_vm_died" } else { "filter_not_started" })),
        }
    }

    /// Ends the stream for each filter. As in Envoy, a filter that never saw the request is still called for its log, and an
    /// access log plugin logs on its plugin context. A filter whose VM is gone is not called.
    fn finish(
        &mut self,
        exchange: &mut Exchange,
        finish: impl Fn(&mut Vm, &mut ProxyHost<'_>, ContextId) -> Result<(), Failure>,
    ) {
        for filter in 0..self.filters.len() {
            let StreamFilter { plugin, context } = &self.filters[filter];
            if !plugin.is_stream_filter {
                if plugin.exports().log() {
                    self.log_on_plugin_context(filter, exchange);
                    self.filters[filter].plugin.on_stream_end();
                }
                continue;
            }
            let is_logged = plugin.exports().log() && !self.is_tcp;
            if context.is_none() && !is_logged {
                continue;
            }
            let is_notified = self.is_tcp || plugin.wants_stream_end();
            if is_notified || !context.is_some_and(|context| plugin.vm.remove_stream(context)) {
                // `call_in_context` has handled a failure, and nothing depends on the result.
                let _ended = self.call_in_context(filter, exchange, |vm, host, context| {
                    host.read_only = true;
                    let finished = finish(vm, host, context);
                    host.streams.remove(context);
                    finished
                });
            }
            let StreamFilter { plugin, context } = &mut self.filters[filter];
            *context = None;
            plugin.on_stream_end();
        }
    }
}

impl StreamInvoker<'_> {
    /// Calls the log of an access log plugin, for which the stream has no context of its own (Envoy's
    /// `envoy.access_loggers.wasm`). Hostcalls about the plugin context are about the stream.
    fn log_on_plugin_context(&self, filter: usize, exchange: &mut Exchange) {
        let plugin = &self.filters[filter].plugin;
        if plugin.ensure_running().is_err() {
            return; // Nothing depends on the failure policy of a log.
        }
        let context = Some(ContextId::of_plugin(plugin.index));
        let current = CurrentStream { exchange, filter, context, stream: self.stream };
        let result = call_vm(plugin, CallScope::Stream(current), |vm, host| {
            host.read_only = true;
            host.instance.metrics.streams.increment();
            host.streams.count_served();
            vm.on_log(host, vm.plugin_context())
        });
        if let Some(Err(failure)) = result {
            plugin.on_failure(&failure);
        }
    }
}

/// Creates the stream's context in the VM.
fn create_context(vm: &mut Vm, host: &mut ProxyHost<'_>) -> Result<ContextId, Failure> {
    let context = vm.create_stream(host)?;
    let instance = host.instance;
    if let Some(current) = host.current() {
        current.context = Some(context);
        let (stream, filter) = (Weak::clone(current.stream), current.filter);
        instance.metrics.streams.increment();
        host.streams.insert(context, StreamRef { stream, filter, plugin_index: instance.index });
    }
    Ok(context)
}
