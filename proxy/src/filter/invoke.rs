//! Calls guests about HTTP streams: maps the driver's callbacks to calls into VMs, and the guests' actions to filter
//! statuses. Creates a context when a filter sees a stream for the first time, and ends it with the stream.

use std::rc::{Rc, Weak};

use weir_host_abi::{BodyAction, ContextId, Failure, HeadersAction, TrailersAction, Vm};

use crate::filter::driver::{Callback, ChainFilters};
use crate::filter::event::{Direction, FilterFailure};
use crate::filter::exchange::Exchange;
use crate::filter::filter_state::{FilterStatus, Pause};
use crate::filter::header_map;
use crate::filter::invoke_tcp;
use crate::filter::plugin_instance::{PluginInstance, PluginPhase};
use crate::filter::scope::{CallScope, CurrentStream, ProxyHost};
use crate::filter::stream::{SharedStream, StreamFilter};
use crate::filter::timer;
use crate::filter::vm_instance::{StreamContext, StreamRef};

/// The filters of one stream, for the duration of one event.
pub(super) struct StreamInvoker<'a> {
    pub(super) filters: &'a mut [StreamFilter],
    pub(super) stream: &'a Weak<SharedStream>,
    /// True for a TCP connection, which has callbacks of its own.
    pub(super) is_tcp: bool,
}

impl ChainFilters for StreamInvoker<'_> {
    fn wants_callback(&self, filter: usize, callback: Callback) -> bool {
        let stream_filter = &self.filters[filter];
        if self.is_tcp {
            return invoke_tcp::wants_callback(stream_filter, callback);
        }
        let exports = stream_filter.instance.exports();
        match callback {
            // The first callback creates the context, even if the module does not export it.
            Callback::Headers(Direction::Request, _) => stream_filter.instance.is_stream_filter,
            Callback::Headers(Direction::Response, _) => stream_filter.context.is_some() && exports.response_headers(),
            Callback::Body(Direction::Request, ..) => exports.request_body(),
            Callback::Body(Direction::Response, ..) => stream_filter.context.is_some() && exports.response_body(),
            Callback::Trailers(Direction::Request) => exports.request_trailers(),
            Callback::Trailers(Direction::Response) => stream_filter.context.is_some() && exports.response_trailers(),
        }
    }

    fn call(
        &mut self,
        filter: usize,
        callback: Callback,
        exchange: &mut Exchange,
    ) -> Result<FilterStatus, FilterFailure> {
        let instance = Rc::clone(&self.filters[filter].instance);
        let is_tcp = self.is_tcp;
        self.call_in_context(filter, &instance, exchange, |vm, host, context| match is_tcp {
            true => invoke_tcp::dispatch_tcp(vm, host, context, callback),
            false => dispatch_http(vm, host, context, callback),
        })
    }
}

/// Calls the VM of a plugin with a [`ProxyHost`], then starts or changes the plugin's timer. `None` if no VM runs or
/// the plugin was removed from it.
pub(super) fn call_vm<T>(
    instance: &Rc<PluginInstance>,
    scope: CallScope<'_>,
    call: impl FnOnce(&mut Vm, &mut ProxyHost<'_>) -> T,
) -> Option<T> {
    if instance.phase.get() == PluginPhase::Removed {
        return None;
    }
    let mut running = instance.vm.running.borrow_mut();
    let vm = running.as_mut()?;
    vm.select_plugin(instance.plugin_index);
    let call_timer = instance.health.cpu_budget.start_call();
    let result = call(vm, &mut ProxyHost::new(instance, scope));
    if call_timer.is_some() {
        instance.metrics.memory.set(vm.memory_bytes() as u64);
        instance.metrics.log_dropped.set(vm.dropped_log_bytes());
    }
    instance.health.cpu_budget.finish_call(call_timer.as_ref(), &instance.metrics);
    let timer = vm.tick_generation();
    drop(running);
    if instance.timer_generation.get() != Some(timer) && timer != 0 {
        timer::sync_timer(instance);
    }
    Some(result)
}

/// Calls a VM outside a filter callback, and handles a failure. Returns true if the VM is alive afterwards.
pub(super) fn notify_plugin(
    instance: &Rc<PluginInstance>,
    scope: CallScope<'_>,
    call: impl FnOnce(&mut Vm, &mut ProxyHost<'_>) -> Result<(), Failure>,
) -> bool {
    match call_vm(instance, scope, call) {
        Some(Ok(())) => true,
        Some(Err(failure)) => {
            instance.on_failure(&failure);
            false
        }
        None => false,
    }
}

fn dispatch_http(
    vm: &mut Vm,
    host: &mut ProxyHost<'_>,
    context: ContextId,
    callback: Callback,
) -> Result<FilterStatus, Failure> {
    // Counted after the context was created, since the guest may have changed the headers there.
    let count = host.current.as_mut().map_or(0, |current| match callback {
        Callback::Headers(direction, _) => header_map::header_count(current.exchange, direction),
        Callback::Trailers(direction) => header_map::trailer_count(current.exchange, direction),
        Callback::Body(..) => 0,
    });
    match callback {
        Callback::Headers(Direction::Request, end) => {
            vm.on_request_headers(host, context, count, end).map(headers_status)
        }
        Callback::Headers(Direction::Response, end) => {
            vm.on_response_headers(host, context, count, end).map(headers_status)
        }
        Callback::Body(Direction::Request, size, end) => vm.on_request_body(host, context, size, end).map(body_status),
        Callback::Body(Direction::Response, size, end) => {
            vm.on_response_body(host, context, size, end).map(body_status)
        }
        Callback::Trailers(Direction::Request) => vm.on_request_trailers(host, context, count).map(trailers_status),
        Callback::Trailers(Direction::Response) => vm.on_response_trailers(host, context, count).map(trailers_status),
    }
}

impl StreamInvoker<'_> {
    /// Calls the filter's VM about the stream. Creates the stream's context first if the VM has none.
    fn call_in_context<T>(
        &mut self,
        filter: usize,
        instance: &Rc<PluginInstance>,
        exchange: &mut Exchange,
        call: impl FnOnce(&mut Vm, &mut ProxyHost<'_>, ContextId) -> Result<T, Failure>,
    ) -> Result<T, FilterFailure> {
        let stream_filter = &mut self.filters[filter];
        let existing = match stream_filter.context {
            Some(context) if context.generation == instance.generation() => Some(context.id),
            // The VM that had the context is gone, and the next one cannot continue it.
            Some(_) => return Err(instance.failure("filter_vm_died")),
            None => {
                instance.ensure_running()?;
                None
            }
        };
        let current =
            CurrentStream { exchange, filter, context: existing.unwrap_or(ContextId::ROOT), stream: self.stream };
        let result = call_vm(instance, CallScope::Stream(current), |vm, host| {
            let context = match existing {
                Some(context) => context,
                None => create_context(vm, host, stream_filter)?,
            };
            call(vm, host, context)
        });
        match result {
            Some(Ok(result)) => Ok(result),
            Some(Err(failure)) => Err(instance.on_failure(&failure)),
            None => Err(instance.failure(if existing.is_some() { "filter_vm_died" } else { "filter_not_started" })),
        }
    }

    /// Ends the stream for each filter. As in Envoy, a filter that never saw the request is still called for its log,
    /// and so is an access log plugin of a connection. A filter whose VM is gone is not called.
    pub(super) fn finish(
        &mut self,
        exchange: &mut Exchange,
        finish: impl Fn(&mut Vm, &mut ProxyHost<'_>, ContextId) -> Result<(), Failure>,
    ) {
        for filter in 0..self.filters.len() {
            let instance = Rc::clone(&self.filters[filter].instance);
            let is_logged = instance.exports().log() && !(self.is_tcp && instance.is_stream_filter);
            let context = self.filters[filter].context;
            if context.is_none() && !is_logged {
                continue;
            }
            let is_notified = self.is_tcp || instance.wants_stream_end();
            if is_notified || !context.is_some_and(|context| instance.vm.remove_stream(context)) {
                // `call_in_context` has handled a failure, and nothing depends on the result.
                let _ended = self.call_in_context(filter, &instance, exchange, |vm, host, context| {
                    host.read_only = true;
                    let finished = finish(vm, host, context);
                    host.instance.vm.streams.borrow_mut().remove(context);
                    finished
                });
            }
            self.filters[filter].context = None;
            instance.on_stream_end();
        }
    }
}

/// Creates the stream's context in the VM.
fn create_context(
    vm: &mut Vm,
    host: &mut ProxyHost<'_>,
    stream_filter: &mut StreamFilter,
) -> Result<ContextId, Failure> {
    let context = vm.create_stream(host)?;
    let instance = host.instance;
    stream_filter.context = Some(StreamContext { generation: instance.generation(), id: context });
    if let Some(current) = &mut host.current {
        current.context = context;
        let stream = Weak::clone(current.stream);
        instance.add_stream(context, StreamRef { stream, filter: current.filter, plugin_index: instance.plugin_index });
    }
    Ok(context)
}

/// Calls log, done and delete, in Envoy's order for requests.
pub(super) fn finish_http(vm: &mut Vm, host: &mut ProxyHost<'_>, context: ContextId) -> Result<(), Failure> {
    vm.on_log(host, context)?;
    vm.on_done(host, context)?;
    vm.on_delete(host, context)
}

fn headers_status(action: HeadersAction) -> FilterStatus {
    match action {
        HeadersAction::Continue => FilterStatus::Continue,
        HeadersAction::PauseAll => FilterStatus::Pause(Pause::All),
        HeadersAction::PauseHeaders => FilterStatus::Pause(Pause::Headers),
    }
}

fn body_status(action: BodyAction) -> FilterStatus {
    match action {
        BodyAction::Continue => FilterStatus::Continue,
        BodyAction::Buffer => FilterStatus::Pause(Pause::BufferBody),
        BodyAction::Watermark => FilterStatus::Pause(Pause::WatermarkBody),
        BodyAction::Discard => FilterStatus::DropBody,
    }
}

fn trailers_status(action: TrailersAction) -> FilterStatus {
    match action {
        TrailersAction::Continue => FilterStatus::Continue,
        TrailersAction::Pause => FilterStatus::Pause(Pause::Trailers),
    }
}
