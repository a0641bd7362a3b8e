//! Enters guests: the driver's callbacks become calls into VMs, their actions become the driver's. Makes contexts when
//! a filter sees a stream for the first time, and ends them when the stream has ended.

use std::rc::{Rc, Weak};

use weir_host_abi::{BodyAction, ContextId, EndOfStream, Failure, HeadersAction, TrailersAction, Vm};

use crate::filter::driver::{Callback, Guests};
use crate::filter::event::{Failed, MessageEnd, Side};
use crate::filter::exchange::Exchange;
use crate::filter::network;
use crate::filter::slot::{Life, Slot};
use crate::filter::station::{Action, Hold};
use crate::filter::stream::{FilterPlace, StreamCell};
use crate::filter::tick;
use crate::filter::view::{About, Current, HostView};
use crate::filter::vm_cell::Tenant;

/// The guests of one stream, for the time of one event.
pub(super) struct Caller<'a> {
    pub(super) places: &'a mut [FilterPlace],
    pub(super) cell: &'a Weak<StreamCell>,
    /// True for a TCP connection: its callbacks are others.
    pub(super) is_tcp: bool,
}

impl Guests for Caller<'_> {
    fn wants(&self, filter: usize, callback: Callback) -> bool {
        let place = &self.places[filter];
        if self.is_tcp {
            return network::wants(place, callback);
        }
        let exports = place.slot.exports();
        match callback {
            // The first callback makes the context, whether or not the module wants to see the head.
            Callback::Head(Side::Request, _) => place.slot.sees_streams,
            Callback::Head(Side::Response, _) => place.context.is_some() && exports.response_headers(),
            Callback::Body(Side::Request, ..) => exports.request_body(),
            Callback::Body(Side::Response, ..) => place.context.is_some() && exports.response_body(),
            Callback::Trailers(Side::Request) => exports.request_trailers(),
            Callback::Trailers(Side::Response) => place.context.is_some() && exports.response_trailers(),
        }
    }

    fn call(&mut self, filter: usize, callback: Callback, exchange: &mut Exchange) -> Result<Action, Failed> {
        let slot = Rc::clone(&self.places[filter].slot);
        let is_tcp = self.is_tcp;
        self.call_with_context(filter, &slot, exchange, |vm, host, context| match is_tcp {
            true => network::enter(vm, host, context, callback),
            false => enter(vm, host, context, callback),
        })
    }
}

/// Calls a VM with the view of its host; `None` when there is none, or when the plugin has left it. Afterwards its timer is
/// followed.
pub(super) fn with_vm<T>(
    slot: &Rc<Slot>,
    about: About<'_>,
    call: impl FnOnce(&mut Vm, &mut HostView<'_>) -> T,
) -> Option<T> {
    if slot.life.get() == Life::Gone {
        return None;
    }
    let mut running = slot.cell.vm.borrow_mut();
    let vm = running.as_mut()?;
    vm.act_for(slot.number);
    let measured = slot.record.usage.begin();
    let result = call(vm, &mut HostView::new(slot, about));
    if measured.is_some() {
        slot.metrics.memory.set(vm.memory_bytes() as u64);
        slot.metrics.log_dropped.set(vm.dropped_log_bytes());
    }
    slot.record.usage.end(measured.as_ref(), &slot.metrics);
    let timer = vm.tick_generation();
    drop(running);
    if slot.ticking.get() != Some(timer) && timer != 0 {
        tick::follow(slot);
    }
    Some(result)
}

/// Tells a VM something that is no filter's turn; a failure is the end of it. True when the VM lives on.
pub(super) fn tell_vm(
    slot: &Rc<Slot>,
    about: About<'_>,
    call: impl FnOnce(&mut Vm, &mut HostView<'_>) -> Result<(), Failure>,
) -> bool {
    match with_vm(slot, about, call) {
        Some(Ok(())) => true,
        Some(Err(failure)) => {
            slot.on_failure(&failure);
            false
        }
        None => false,
    }
}

fn enter(vm: &mut Vm, host: &mut HostView<'_>, context: ContextId, callback: Callback) -> Result<Action, Failure> {
    // Now, since the guest may have changed a head while it made its context.
    let count = host.current.as_mut().map_or(0, |current| match callback {
        Callback::Head(side, _) => head_count(current.exchange, side),
        Callback::Trailers(side) => trailer_count(current.exchange, side),
        Callback::Body(..) => 0,
    });
    match callback {
        Callback::Head(Side::Request, end) => vm.on_request_headers(host, context, count, end_of(end)).map(of_headers),
        Callback::Head(Side::Response, end) => {
            vm.on_response_headers(host, context, count, end_of(end)).map(of_headers)
        }
        Callback::Body(Side::Request, size, end) => vm.on_request_body(host, context, size, end_of(end)).map(of_body),
        Callback::Body(Side::Response, size, end) => vm.on_response_body(host, context, size, end_of(end)).map(of_body),
        Callback::Trailers(Side::Request) => vm.on_request_trailers(host, context, count).map(of_trailers),
        Callback::Trailers(Side::Response) => vm.on_response_trailers(host, context, count).map(of_trailers),
    }
}

impl Caller<'_> {
    /// Calls the filter's VM about the stream. A stream that is new to it gets its context in the same turn.
    fn call_with_context<T>(
        &mut self,
        filter: usize,
        slot: &Rc<Slot>,
        exchange: &mut Exchange,
        call: impl FnOnce(&mut Vm, &mut HostView<'_>, ContextId) -> Result<T, Failure>,
    ) -> Result<T, Failed> {
        let place = &mut self.places[filter];
        let known = match place.context {
            Some((generation, context)) if generation == slot.generation() => Some(context),
            // The VM that knew the stream is gone; another one knows nothing of it.
            Some(_) => return Err(slot.failed("filter_vm_died")),
            None => {
                slot.ready()?;
                None
            }
        };
        let current = Current { exchange, filter, context: known.unwrap_or(ContextId::ROOT), cell: self.cell };
        let result = with_vm(slot, About::Stream(current), |vm, host| {
            let context = match known {
                Some(context) => context,
                None => make_context(vm, host, place)?,
            };
            call(vm, host, context)
        });
        match result {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(failure)) => Err(slot.on_failure(&failure)),
            None => Err(slot.failed(if known.is_some() { "filter_vm_died" } else { "filter_not_started" })),
        }
    }

    /// The end, for each filter. One that never saw the request sees it in its log, as in Envoy, and so does an access log
    /// for a connection; one whose VM is gone does not.
    pub(super) fn finish(
        &mut self,
        exchange: &mut Exchange,
        tell: impl Fn(&mut Vm, &mut HostView<'_>, ContextId) -> Result<(), Failure>,
    ) {
        for filter in 0..self.places.len() {
            let slot = Rc::clone(&self.places[filter].slot);
            let is_logged = slot.exports().log() && !(self.is_tcp && slot.sees_streams);
            let known = self.places[filter].context;
            if known.is_none() && !is_logged {
                continue;
            }
            let is_told = self.is_tcp || slot.sees_ends();
            if is_told || !known.is_some_and(|known| slot.cell.move_out(known)) {
                // A guest's failure has been told to the slot; nobody waits for another answer.
                let _ended = self.call_with_context(filter, &slot, exchange, |vm, host, context| {
                    host.read_only = true;
                    let told = tell(vm, host, context);
                    host.slot.cell.tenants.borrow_mut().remove(context);
                    told
                });
            }
            self.places[filter].context = None;
            slot.end_of_stream();
        }
    }
}

/// Makes the context of a stream that is new to the VM.
fn make_context(vm: &mut Vm, host: &mut HostView<'_>, place: &mut FilterPlace) -> Result<ContextId, Failure> {
    let context = vm.create_stream(host)?;
    let slot = host.slot;
    place.context = Some((slot.generation(), context));
    if let Some(current) = &mut host.current {
        current.context = context;
        let stream = Weak::clone(current.cell);
        slot.move_in(context, Tenant { stream, filter: current.filter, plugin: slot.number });
    }
    Ok(context)
}

/// Log, done, delete: the order of Envoy today, for requests.
pub(super) fn end_of_request(vm: &mut Vm, host: &mut HostView<'_>, context: ContextId) -> Result<(), Failure> {
    vm.on_log(host, context)?;
    vm.on_done(host, context)?;
    vm.on_delete(host, context)
}

fn head_count(exchange: &Exchange, side: Side) -> u32 {
    let count = match side {
        Side::Request => exchange.request.headers.len() + 4,
        Side::Response => exchange.response.as_ref().map_or(0, |head| head.headers.len() + 1),
    };
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn trailer_count(exchange: &mut Exchange, side: Side) -> u32 {
    exchange.trailers(side).as_ref().map_or(0, |trailers| u32::try_from(trailers.len()).unwrap_or(u32::MAX))
}

pub(super) fn end_of(end: MessageEnd) -> EndOfStream {
    EndOfStream::from(end == MessageEnd::Here)
}

fn of_headers(action: HeadersAction) -> Action {
    match action {
        HeadersAction::Continue => Action::Continue,
        HeadersAction::HoldAll => Action::Pause(Hold::All),
        HeadersAction::HoldHeaders => Action::Pause(Hold::Head),
    }
}

fn of_body(action: BodyAction) -> Action {
    match action {
        BodyAction::Continue => Action::Continue,
        BodyAction::Buffer => Action::Pause(Hold::Buffer),
        BodyAction::Hold => Action::Pause(Hold::Watermark),
        BodyAction::Discard => Action::Pause(Hold::Drop),
    }
}

fn of_trailers(action: TrailersAction) -> Action {
    match action {
        TrailersAction::Continue => Action::Continue,
        TrailersAction::Pause => Action::Pause(Hold::Trailers),
    }
}
