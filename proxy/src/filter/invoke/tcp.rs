//! Callbacks about TCP connections. The driver moves the bytes of a connection
//! as it moves bodies: downstream bytes as the request's body. A new connection stands for the request headers.

use weir_host_abi::abi::stream::PeerKind;
use weir_host_abi::{ConnectionAction, ContextId, Failure, Vm};

use crate::filter::chain::{Callback, Direction, EndOfStream, FilterStatus, Pause};
use crate::filter::host::ProxyHost;
use crate::filter::instance::StreamFilter;

/// Returns whether a filter wants a callback about a connection.
pub(super) fn wants_callback(filter: &StreamFilter, callback: Callback) -> bool {
    let exports = filter.plugin.exports();
    match callback {
        // The first callback creates the context, even if the module does not export it.
        Callback::Headers(Direction::Request, _) => filter.plugin.is_stream_filter,
        Callback::Body(Direction::Request, ..) => exports.downstream_data(),
        Callback::Body(Direction::Response, _, end) => {
            exports.upstream_data() || (end == EndOfStream::Yes && exports.upstream_close())
        }
        Callback::Headers(Direction::Response, _) | Callback::Trailers(_) => false,
    }
}

/// Calls the guest and returns its filter status.
pub(super) fn call(
    vm: &mut Vm,
    host: &mut ProxyHost<'_>,
    context: ContextId,
    callback: Callback,
) -> Result<FilterStatus, Failure> {
    match callback {
        Callback::Headers(..) => vm.on_new_connection(host, context).map(|action| tcp_status(action, Pause::All)),
        Callback::Body(Direction::Request, size, end) => {
            vm.on_downstream_data(host, context, size, end).map(|action| tcp_status(action, Pause::TcpData))
        }
        Callback::Body(Direction::Response, size, end) => {
            let action = vm.on_upstream_data(host, context, size, end)?;
            if end == EndOfStream::Yes {
                vm.on_upstream_close(host, context, PeerKind::Unknown)?; // Envoy reports no peer here either.
            }
            Ok(tcp_status(action, Pause::TcpData))
        }
        Callback::Trailers(_) => Ok(FilterStatus::Continue), // A TCP connection has no trailers.
    }
}

fn tcp_status(action: ConnectionAction, pause: Pause) -> FilterStatus {
    match action {
        ConnectionAction::Continue => FilterStatus::Continue,
        ConnectionAction::Pause => FilterStatus::Pause(pause),
    }
}

/// Calls close, done, log and delete, in Envoy's order for connections.
pub(super) fn finish(vm: &mut Vm, host: &mut ProxyHost<'_>, context: ContextId, by: PeerKind) -> Result<(), Failure> {
    vm.on_downstream_close(host, context, by)?;
    vm.on_done(host, context)?;
    vm.on_log(host, context)?;
    vm.on_delete(host, context)
}
