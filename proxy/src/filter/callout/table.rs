//! Callouts in flight of one plugin in one VM: permits, epochs, and the states of gRPC calls and streams.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use bytes::Bytes;
use tokio::task::AbortHandle;
use weir_host_abi::{EndOfStream, Status};

use super::grpc::{GrpcEvent, GrpcSendStream, GrpcStatus};
use crate::limits::MAX_CALLOUT_REQUEST_BYTES;

/// Kind of a callout, which is in the two lowest bits of its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CalloutKind {
    /// `proxy_http_call`.
    Http,
    /// `proxy_grpc_call`.
    GrpcCall,
    /// `proxy_grpc_stream`.
    GrpcStream,
}

impl CalloutKind {
    /// Returns the id of a callout of this kind. The two lowest bits of `sequence` are 0.
    pub(crate) fn id(self, sequence: u32) -> u32 {
        sequence | self as u32
    }

    /// Returns the kind that an id of a guest has.
    fn of(id: u32) -> Option<Self> {
        [Self::Http, Self::GrpcCall, Self::GrpcStream].into_iter().find(|kind| *kind as u32 == id & 3)
    }
}

/// Callouts in flight of one plugin on one worker, across its VMs.
#[derive(Default)]
struct CalloutUsage {
    in_flight: Cell<u32>,
    /// Bytes of the request bodies of these callouts.
    bytes_in_flight: Cell<usize>,
}

/// Permit for one callout in flight, with the size of its request body. Dropping it releases both.
pub(crate) struct CalloutPermit {
    usage: Rc<CalloutUsage>,
    body_bytes: usize,
}

impl Drop for CalloutPermit {
    fn drop(&mut self) {
        let CalloutUsage { in_flight, bytes_in_flight } = &*self.usage;
        in_flight.set(in_flight.get().saturating_sub(1));
        bytes_in_flight.set(bytes_in_flight.get().saturating_sub(self.body_bytes));
    }
}

/// State of a gRPC call or stream.
struct GrpcCallState {
    /// The task that runs the call, once it exists.
    task: Option<AbortHandle>,
    send_stream: GrpcSendStream,
    /// The response message of a unary call, until its status arrives.
    response: Option<Bytes>,
    /// True once the upstream has ended the stream.
    is_closed: bool,
}

impl Drop for GrpcCallState {
    fn drop(&mut self) {
        // The task of a call that has ended ends by itself.
        if let Some(task) = self.task.take().filter(|_| !self.is_closed) {
            task.abort();
        }
    }
}

/// The consequence of an event of a gRPC callout.
#[derive(Debug)]
pub(crate) enum GrpcDelivery {
    /// The guest is called with this event.
    Deliver(GrpcEvent),
    /// The event is part of a later one.
    Deferred,
    /// The guest has cancelled or closed the callout, or its plugin has no VM any more.
    Gone,
}

/// The reason for which a message is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GrpcSendError {
    /// The id is not that of a stream.
    NotStream,
    /// The stream does not exist, or has ended.
    NotFound,
    /// Too many bytes wait for the upstream. The stream is cancelled.
    TooManyBytes,
}

/// Callouts of one plugin in one VM.
#[derive(Default)]
pub(crate) struct CalloutTable {
    usage: Rc<CalloutUsage>,
    /// Incremented when the VM fails or closes and when the plugin is removed, so that later responses are dropped.
    epoch: Cell<u64>,
    /// gRPC calls and streams whose ids the guest may still use, by id.
    grpc: RefCell<HashMap<u32, GrpcCallState>>,
    /// Status of the last failed or closed call, for `proxy_get_status`.
    status: RefCell<GrpcStatus>,
}

impl CalloutTable {
    /// Returns an empty table for another VM of the same plugin on this worker. Both share the limits.
    pub(crate) fn for_new_vm(&self) -> Self {
        Self { usage: Rc::clone(&self.usage), ..Self::default() }
    }

    /// Acquires a permit for one more callout with a request body of `body_bytes` bytes. `None` beyond `limit` callouts
    /// or [`MAX_CALLOUT_REQUEST_BYTES`].
    pub(crate) fn acquire_permit(&self, limit: u32, body_bytes: usize) -> Option<CalloutPermit> {
        // Streams that the upstream has ended and the guest has not closed count too, since their state is stored.
        let unclosed = self.grpc.borrow().values().filter(|state| state.is_closed).count();
        let in_flight = self.usage.in_flight.get().saturating_add(u32::try_from(unclosed).unwrap_or(u32::MAX));
        let bytes_in_flight = self.usage.bytes_in_flight.get().saturating_add(body_bytes);
        if in_flight >= limit || bytes_in_flight > MAX_CALLOUT_REQUEST_BYTES {
            return None;
        }
        self.usage.in_flight.set(self.usage.in_flight.get() + 1);
        self.usage.bytes_in_flight.set(bytes_in_flight);
        Some(CalloutPermit { usage: Rc::clone(&self.usage), body_bytes })
    }

    /// Returns the epoch of callouts that are admitted now.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.get()
    }

    /// Abandons all callouts, after the VM has failed or closed.
    pub(crate) fn abandon_all(&self) {
        self.epoch.set(self.epoch.get() + 1);
        self.grpc.borrow_mut().clear();
        *self.status.borrow_mut() = GrpcStatus::default();
    }

    /// Returns the status of the last failed or closed call.
    pub(crate) fn status(&self) -> GrpcStatus {
        self.status.borrow().clone()
    }

    /// Records the status of a failed call.
    pub(crate) fn set_status(&self, status: GrpcStatus) {
        *self.status.borrow_mut() = status;
    }

    /// Adds a gRPC call or stream, whose task does not exist yet.
    pub(crate) fn add_grpc(&self, id: u32, send_stream: GrpcSendStream) {
        let state = GrpcCallState { task: None, send_stream, response: None, is_closed: false };
        self.grpc.borrow_mut().insert(id, state);
    }

    /// Returns true while the guest may use the id of a gRPC callout.
    pub(crate) fn has_grpc(&self, id: u32) -> bool {
        self.grpc.borrow().contains_key(&id)
    }

    /// Attaches the task that runs a gRPC callout.
    pub(crate) fn attach_task(&self, id: u32, task: AbortHandle) {
        match self.grpc.borrow_mut().get_mut(&id) {
            Some(state) => state.task = Some(task),
            None => task.abort(),
        }
    }

    /// Sends a message on a stream, which may be the last one.
    ///
    /// # Errors
    /// The stream does not take the message. It is cancelled if too many bytes wait for the upstream.
    pub(crate) fn send(&self, id: u32, message: &[u8], end: EndOfStream) -> Result<(), GrpcSendError> {
        if CalloutKind::of(id) != Some(CalloutKind::GrpcStream) {
            return Err(GrpcSendError::NotStream);
        }
        let send_stream = match self.grpc.borrow().get(&id) {
            Some(state) if !state.send_stream.is_ended() => state.send_stream.clone(),
            _ => return Err(GrpcSendError::NotFound),
        };
        if !send_stream.push(message) {
            self.grpc.borrow_mut().remove(&id);
            return Err(GrpcSendError::TooManyBytes);
        }
        if end == EndOfStream::Yes {
            send_stream.end();
        }
        Ok(())
    }

    /// Ends the request side of a stream, or cancels a unary call.
    ///
    /// # Errors
    /// `BadArgument` for the id of an HTTP callout, `NotFound` for one that is not in use.
    pub(crate) fn close(&self, id: u32) -> Result<(), Status> {
        match CalloutKind::of(id) {
            Some(CalloutKind::GrpcCall) => self.cancel(id),
            Some(CalloutKind::GrpcStream) => {
                let mut calls = self.grpc.borrow_mut();
                let state = calls.get(&id).ok_or(Status::NotFound)?;
                state.send_stream.end();
                if state.is_closed {
                    calls.remove(&id);
                }
                Ok(())
            }
            Some(CalloutKind::Http) | None => Err(Status::BadArgument),
        }
    }

    /// Cancels a call or stream. The guest gets no further callback for it.
    ///
    /// # Errors
    /// As [`Self::close`].
    pub(crate) fn cancel(&self, id: u32) -> Result<(), Status> {
        match CalloutKind::of(id) {
            Some(CalloutKind::GrpcCall | CalloutKind::GrpcStream) => {
                self.grpc.borrow_mut().remove(&id).map(drop).ok_or(Status::NotFound)
            }
            Some(CalloutKind::Http) | None => Err(Status::BadArgument),
        }
    }

    /// Records an event of a gRPC call or stream, and returns what the guest is called with.
    pub(crate) fn on_grpc_event(&self, id: u32, event: GrpcEvent) -> GrpcDelivery {
        let is_unary = CalloutKind::of(id) == Some(CalloutKind::GrpcCall);
        let mut calls = self.grpc.borrow_mut();
        let Some(state) = calls.get_mut(&id) else { return GrpcDelivery::Gone };
        let event = match event {
            // A unary call gets its message once the status is known to be OK, otherwise the status.
            GrpcEvent::Message(message) if is_unary => {
                state.response = Some(message);
                return GrpcDelivery::Deferred;
            }
            GrpcEvent::InitialMetadata(_) | GrpcEvent::TrailingMetadata(_) if is_unary => {
                return GrpcDelivery::Deferred;
            }
            GrpcEvent::Closed(GrpcStatus { code: 0, .. }) if is_unary => match state.response.take() {
                Some(message) => GrpcEvent::Message(message),
                None => GrpcEvent::Closed(GrpcStatus::new(GrpcStatus::INTERNAL, "no message")),
            },
            other => other,
        };
        state.is_closed = is_unary || matches!(event, GrpcEvent::Closed(..));
        if state.is_closed && (is_unary || state.send_stream.is_ended()) {
            calls.remove(&id);
        }
        if let GrpcEvent::Closed(status) = &event {
            self.set_status(status.clone());
        }
        GrpcDelivery::Deliver(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: u32 = 4 | CalloutKind::GrpcCall as u32;
    const STREAM: u32 = 8 | CalloutKind::GrpcStream as u32;

    fn message(text: &'static str) -> GrpcEvent {
        GrpcEvent::Message(Bytes::from_static(text.as_bytes()))
    }

    fn ok() -> GrpcEvent {
        GrpcEvent::Closed(GrpcStatus::default())
    }

    #[test]
    fn permits_are_bounded_and_released() {
        let table = CalloutTable::default();
        let permits: Vec<_> = (0..3).map(|_| table.acquire_permit(3, 1).unwrap()).collect();
        assert!(table.acquire_permit(3, 1).is_none() && table.for_new_vm().acquire_permit(3, 1).is_none());
        drop(permits);
        assert!(table.acquire_permit(3, MAX_CALLOUT_REQUEST_BYTES + 1).is_none());
        assert!(table.acquire_permit(3, MAX_CALLOUT_REQUEST_BYTES).is_some());
    }

    #[test]
    fn unary_call_gets_message_or_status_once() {
        let table = CalloutTable::default();
        table.add_grpc(CALL, GrpcSendStream::default());
        assert!(matches!(table.on_grpc_event(CALL, message("a")), GrpcDelivery::Deferred));
        assert!(matches!(table.on_grpc_event(CALL, ok()), GrpcDelivery::Deliver(GrpcEvent::Message(_))));
        assert!(matches!(table.on_grpc_event(CALL, ok()), GrpcDelivery::Gone));
        table.add_grpc(CALL, GrpcSendStream::default());
        let GrpcDelivery::Deliver(GrpcEvent::Closed(status)) = table.on_grpc_event(CALL, ok()) else { panic!() };
        assert_eq!((status.code, table.status()), (GrpcStatus::INTERNAL, status));
    }

    #[test]
    fn stream_ends_when_both_sides_have_ended() {
        let table = CalloutTable::default();
        table.add_grpc(STREAM, GrpcSendStream::default());
        assert_eq!(table.send(STREAM, b"a", EndOfStream::No), Ok(()));
        assert!(matches!(table.on_grpc_event(STREAM, ok()), GrpcDelivery::Deliver(GrpcEvent::Closed(_))));
        assert!(table.has_grpc(STREAM) && table.acquire_permit(1, 0).is_none(), "the guest has not closed it");
        assert_eq!((table.close(STREAM), table.close(STREAM)), (Ok(()), Err(Status::NotFound)));
    }

    #[test]
    fn cancelled_or_abandoned_callout_gets_no_event() {
        let table = CalloutTable::default();
        for end in [|table: &CalloutTable| assert_eq!(table.cancel(STREAM), Ok(())), CalloutTable::abandon_all] {
            table.add_grpc(STREAM, GrpcSendStream::default());
            end(&table);
            assert!(matches!(table.on_grpc_event(STREAM, message("a")), GrpcDelivery::Gone));
            assert_eq!(table.send(STREAM, b"a", EndOfStream::No), Err(GrpcSendError::NotFound));
        }
        assert_eq!(table.cancel(CalloutKind::Http.id(4)), Err(Status::BadArgument));
        assert_eq!(table.send(CALL, b"a", EndOfStream::No), Err(GrpcSendError::NotStream));
    }
}
