//! Enters guests about TCP connections: what `call.rs` does for requests. The driver moves a connection's bytes as it
//! moves bodies, downstream's as the request's; a new connection stands for the head.

use std::rc::Rc;

use weir_host_abi::abi::stream::PeerKind;
use weir_host_abi::{ConnectionAction, ContextId, Failure, Vm};

use crate::filter::call::{Caller, end_of, with_vm};
use crate::filter::driver::Callback;
use crate::filter::event::{MessageEnd, Side};
use crate::filter::exchange::Exchange;
use crate::filter::station::{Action, Hold};
use crate::filter::stream::FilterPlace;
use crate::filter::view::{About, Current, HostView};

/// Whether a filter wants a callback about a connection.
pub(super) fn wants(place: &FilterPlace, callback: Callback) -> bool {
    let exports = place.slot.exports();
    match callback {
        // The first callback makes the context, whether or not the module asks for new connections.
        Callback::Head(Side::Request, _) => true,
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

impl Caller<'_> {
    /// Close, done, log, delete for each filter that knows the connection (the order of Envoy for connections).
    pub(super) fn close(&mut self, exchange: &mut Exchange, closed_by: PeerKind) {
        for filter in 0..self.places.len() {
            let slot = Rc::clone(&self.places[filter].slot);
            let Some((generation, context)) = self.places[filter].context.take() else { continue };
            if generation == slot.generation() {
                let current = Current { exchange, filter, context, cell: self.cell };
                let ended = with_vm(&slot, About::Stream(current), |vm, host| {
                    host.read_only = true;
                    vm.on_downstream_close(host, context, closed_by)?;
                    vm.on_done(host, context)?;
                    vm.on_log(host, context)?;
                    vm.on_delete(host, context)
                });
                slot.cell.tenants.borrow_mut().remove(&context);
                if let Some(Err(failure)) = ended {
                    slot.on_failure(&failure);
                }
            }
            slot.end_of_stream();
        }
    }
}
