//! Enters guests about TCP connections: what `call.rs` does for requests. The driver moves a connection's bytes as it
//! moves bodies, downstream's as the request's; a new connection stands for the head.

use weir_host_abi::abi::stream::PeerKind;
use weir_host_abi::{ConnectionAction, ContextId, Failure, Vm};

use crate::filter::call::end_of;
use crate::filter::driver::Callback;
use crate::filter::event::{MessageEnd, Side};
use crate::filter::station::{Action, Hold};
use crate::filter::stream::FilterPlace;
use crate::filter::view::HostView;

/// Whether a filter wants a callback about a connection.
pub(super) fn wants(place: &FilterPlace, callback: Callback) -> bool {
    let exports = place.slot.exports();
    match callback {
        // The first callback makes the context, whether or not the module asks for new connections.
        Callback::Head(Side::Request, _) => place.slot.sees_streams,
        Callback::Body(Side::Request, ..) => exports.downstream_data(),
        Callback::Body(Side::Response, _, end) => {
            exports.upstream_data() || (end == MessageEnd::Here && exports.upstream_close())
        }
        Callback::Head(Side::Response, _) | Callback::Trailers(_) => false,
    }
}

/// Calls the guest.
pub(super) fn enter(
    vm: &mut Vm,
    host: &mut HostView<'_>,
    context: ContextId,
    callback: Callback,
) -> Result<Action, Failure> {
    match callback {
        Callback::Head(..) => vm.on_new_connection(host, context).map(|action| action_of(action, Hold::All)),
        Callback::Body(Side::Request, size, end) => {
            vm.on_downstream_data(host, context, size, end_of(end)).map(|action| action_of(action, Hold::Bytes))
        }
        Callback::Body(Side::Response, size, end) => {
            let action = vm.on_upstream_data(host, context, size, end_of(end))?;
            if end == MessageEnd::Here {
                vm.on_upstream_close(host, context, PeerKind::Unknown)?; // Envoy does not say by whom either.
            }
            Ok(action_of(action, Hold::Bytes))
        }
        Callback::Trailers(_) => Ok(Action::Continue), // There are none.
    }
}

fn action_of(action: ConnectionAction, hold: Hold) -> Action {
    match action {
        ConnectionAction::Continue => Action::Continue,
        ConnectionAction::Pause => Action::Pause(hold),
    }
}

/// Close, done, log, delete: the order of Envoy for connections.
pub(super) fn end(vm: &mut Vm, host: &mut HostView<'_>, context: ContextId, by: PeerKind) -> Result<(), Failure> {
    vm.on_downstream_close(host, context, by)?;
    vm.on_done(host, context)?;
    vm.on_log(host, context)?;
    vm.on_delete(host, context)
}
