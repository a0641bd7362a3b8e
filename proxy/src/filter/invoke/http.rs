//! Callbacks about HTTP streams: maps the driver's callbacks to calls into VMs, and the guests' actions to filter
//! statuses.

use weir_host_abi::{BodyAction, ContextId, Failure, HeadersAction, TrailersAction, Vm};

use crate::filter::chain::{Callback, Direction, FilterStatus, Pause};
use crate::filter::host::{ProxyHost, header_count, trailer_count};
use crate::filter::instance::StreamFilter;

/// Returns whether a filter wants a callback about a request or its response.
pub(super) fn wants_callback(filter: &StreamFilter, callback: Callback) -> bool {
    let exports = filter.plugin.exports();
    match callback {
        // The first callback creates the context, even if the module does not export it.
        Callback::Headers(Direction::Request, _) => filter.plugin.is_stream_filter,
        Callback::Headers(Direction::Response, _) => filter.context.is_some() && exports.response_headers(),
        Callback::Body(Direction::Request, ..) => exports.request_body(),
        Callback::Body(Direction::Response, ..) => filter.context.is_some() && exports.response_body(),
        Callback::Trailers(Direction::Request) => exports.request_trailers(),
        Callback::Trailers(Direction::Response) => filter.context.is_some() && exports.response_trailers(),
    }
}

/// Calls the guest and returns its filter status.
pub(super) fn call(
    vm: &mut Vm,
    host: &mut ProxyHost<'_>,
    context: ContextId,
    callback: Callback,
) -> Result<FilterStatus, Failure> {
    // Counted after the context was created, since the guest may have changed the headers there.
    let count = host.current().map_or(0, |current| match callback {
        Callback::Headers(direction, _) => header_count(current.exchange, direction),
        Callback::Trailers(direction) => trailer_count(current.exchange, direction),
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

/// Calls log, done and delete, in Envoy's order for requests.
pub(super) fn finish(vm: &mut Vm, host: &mut ProxyHost<'_>, context: ContextId) -> Result<(), Failure> {
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
