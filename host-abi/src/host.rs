//! `trait Host`: every hostcall as a typed Rust method. The proxy implements it for real, [`crate::test_host`] in
//! memory.
//!
//! A host is lent to a [`crate::vm::Vm`] for one call and is never kept. What the VM promises to a host:
//!
//! - `context` is the *effective* context: a live one, the current one unless the guest chose another.
//! - Bytes that come in lie in the guest's memory: copy what must outlive the method. Names come as the guest wrote
//!   them; hosts compare header names without regard to case and refuse nothing that a guest could not have known.
//! - Bytes that go out are appended to `out`, which is empty on entry.
//! - While the guest initialises, or its allocator runs, only `log`, `log_level`, `now` and `monotonic` are called.
//! - The configuration buffers, effective contexts, tick periods and `proxy_done` are the VM's own and never reach the
//!   host.
//!
//! What a host promises: it never calls a VM from within a method. `continue_stream`, `close_stream` and
//! `send_local_reply` only *ask*: the host queues them and acts after the outermost call into the guest has returned.
//!
//! A method's `Err(Status)` goes to the guest as it is. Rust guests panic on most of them: each method says which are
//! safe.

use std::borrow::Cow;
use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::abi::buffer::BufferKind;
use crate::abi::context::ContextId;
use crate::abi::log::LogLevel;
use crate::abi::map::MapKind;
use crate::abi::metric::MetricKind;
use crate::abi::pairs::Pairs;
use crate::abi::property::PropertyValue;
use crate::abi::status::Status;
use crate::abi::stream::StreamKind;
use crate::foreign;
use crate::shared::{MetricTable, Namespace};

/// A response that a filter makes itself (`proxy_send_local_response`).
#[derive(Debug, Clone, Copy)]
pub struct LocalReply<'a> {
    /// HTTP status as the guest gave it; not checked.
    pub status: u32,
    /// For the access log.
    pub details: &'a [u8],
    /// The body, may be empty.
    pub body: &'a [u8],
    /// Headers to add to the generated ones.
    pub headers: Pairs<'a>,
    /// gRPC status 0 to 16, if the guest gave one.
    pub grpc_status: Option<u32>,
}

/// A request that a filter makes itself (`proxy_http_call`).
#[derive(Debug, Clone, Copy)]
pub struct HttpCall<'a> {
    /// Name of the cluster.
    pub upstream: &'a [u8],
    /// Headers with their pseudo headers.
    pub headers: Pairs<'a>,
    /// The body, may be empty.
    pub body: &'a [u8],
    /// Trailers, usually none.
    pub trailers: Pairs<'a>,
    /// How long the answer may take; `None` is as long as the host allows.
    pub timeout: Option<Duration>,
}

/// A gRPC request that a filter makes itself (`proxy_grpc_call`, `proxy_grpc_stream`).
#[derive(Debug, Clone, Copy)]
pub struct GrpcCall<'a> {
    /// Name of the cluster, or a serialised `envoy.config.core.v3.GrpcService`.
    pub upstream: &'a [u8],
    /// Full name of the service.
    pub service: &'a [u8],
    /// Name of the method.
    pub method: &'a [u8],
    /// Metadata to send as headers.
    pub metadata: Pairs<'a>,
    /// The message without its frame; `None` opens a stream.
    pub message: Option<&'a [u8]>,
    /// How long the answer may take; `None` is as long as the host allows.
    pub timeout: Option<Duration>,
}

/// What a guest may ask of its host. See the file's head for what both sides promise.
pub trait Host {
    /// Writes a message (`proxy_log`, and WASI's standard output and error). Bounded by the plugin's byte rate.
    fn log(&mut self, context: ContextId, level: LogLevel, message: &[u8]);

    /// The least serious level that is written at all (`proxy_get_log_level`).
    fn log_level(&self) -> LogLevel;

    /// The wall clock (`proxy_get_current_time_nanoseconds`).
    fn now(&self) -> SystemTime;

    /// A clock that never goes back, from any start.
    fn monotonic(&self) -> Duration;

    /// Shows a property's value (`proxy_get_property`, and expressions), once. `path` has no trailing NUL.
    ///
    /// # Errors
    /// `NotFound`, `SerializationFailure`, `InternalFailure` are safe.
    fn property(
        &mut self,
        context: ContextId,
        path: &[u8],
        see: &mut dyn FnMut(PropertyValue<'_>),
    ) -> Result<(), Status>;

    /// Stores a value for other filters and the access log (`proxy_set_property`).
    ///
    /// # Errors
    /// None is safe.
    fn set_property(&mut self, context: ContextId, path: &[u8], value: &[u8]) -> Result<(), Status>;

    /// Visits every entry of a map as (name, value), in wire order (`proxy_get_header_map_pairs`, `..._size`). A map
    /// that is not there now has no entries.
    ///
    /// # Errors
    /// None is safe.
    fn header_pairs(
        &mut self,
        context: ContextId,
        map: MapKind,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), Status>;

    /// Appends the first value of a header (`proxy_get_header_map_value`).
    ///
    /// # Errors
    /// `NotFound` is safe, and is also the answer for a map that is not there now.
    fn header_value(&mut self, context: ContextId, map: MapKind, name: &[u8], out: &mut Vec<u8>) -> Result<(), Status>;

    /// Replaces a whole map (`proxy_set_header_map_pairs`).
    ///
    /// # Errors
    /// None is safe; `BadArgument` for a map that can never be written.
    fn set_header_pairs(&mut self, context: ContextId, map: MapKind, pairs: Pairs<'_>) -> Result<(), Status>;

    /// Appends an entry (`proxy_add_header_map_value`).
    ///
    /// # Errors
    /// As [`Host::set_header_pairs`].
    fn add_header(&mut self, context: ContextId, map: MapKind, name: &[u8], value: &[u8]) -> Result<(), Status>;

    /// Removes all values of a header and stores one (`proxy_replace_header_map_value`).
    ///
    /// # Errors
    /// As [`Host::set_header_pairs`].
    fn replace_header(&mut self, context: ContextId, map: MapKind, name: &[u8], value: &[u8]) -> Result<(), Status>;

    /// Removes all values of a header, if there are any (`proxy_remove_header_map_value`).
    ///
    /// # Errors
    /// As [`Host::set_header_pairs`].
    fn remove_header(&mut self, context: ContextId, map: MapKind, name: &[u8]) -> Result<(), Status>;

    /// Length of a buffer in bytes (`proxy_get_buffer_status`).
    ///
    /// # Errors
    /// `NotFound` when the buffer is not there now.
    fn buffer_len(&mut self, context: ContextId, buffer: BufferKind) -> Result<usize, Status>;

    /// Appends at most `max` bytes of a buffer from `start` on (`proxy_get_buffer_bytes`); none when `start` is past
    /// its end.
    ///
    /// # Errors
    /// `NotFound` when the buffer is not there now.
    fn buffer_bytes(
        &mut self,
        context: ContextId,
        buffer: BufferKind,
        range: BufferRange,
        out: &mut Vec<u8>,
    ) -> Result<(), Status>;

    /// Replaces a range of a buffer by `value` (`proxy_set_buffer_bytes`). A start past the end appends; a range past
    /// the end is shortened.
    ///
    /// # Errors
    /// None is safe; `NotFound` when the buffer is not there now. Buffers that can never be written do not get here.
    fn set_buffer_bytes(
        &mut self,
        context: ContextId,
        buffer: BufferKind,
        range: BufferRange,
        value: &[u8],
    ) -> Result<(), Status>;

    /// Asks to go on with a paused direction (`proxy_continue_stream`). Not paused, or gone: nothing happens.
    ///
    /// # Errors
    /// None is safe.
    fn continue_stream(&mut self, context: ContextId, stream: StreamKind) -> Result<(), Status>;

    /// Asks to reset the HTTP stream, or to flush and close the connection (`proxy_close_stream`).
    ///
    /// # Errors
    /// None is safe.
    fn close_stream(&mut self, context: ContextId, stream: StreamKind) -> Result<(), Status>;

    /// Asks to answer the stream's request (`proxy_send_local_response`). The first reply wins; the callback's action
    /// is then taken as a pause.
    ///
    /// # Errors
    /// None is safe.
    fn send_local_reply(&mut self, context: ContextId, reply: &LocalReply<'_>) -> Result<(), Status>;

    /// Asks to choose the route anew (`proxy_clear_route_cache`).
    ///
    /// # Errors
    /// None is safe.
    fn clear_route_cache(&mut self, context: ContextId) -> Result<(), Status>;

    /// Starts an HTTP callout and names it (`proxy_http_call`). Every accepted call is answered by exactly one
    /// `proxy_on_http_call_response` on the plugin context `root`, never from within this method. The name is not 0 and
    /// not in use.
    ///
    /// # Errors
    /// `BadArgument` (unknown cluster, missing pseudo header) and `InternalFailure` are safe.
    fn http_call(&mut self, root: ContextId, call: &HttpCall<'_>) -> Result<u32, Status>;

    /// Code and text of the last callout's outcome (`proxy_get_status`): appends the text, returns the code.
    ///
    /// # Errors
    /// None is safe.
    fn call_status(&mut self, root: ContextId, out: &mut Vec<u8>) -> Result<u32, Status>;

    /// This plugin's part of what plugins share: shared data, queues and metrics are answered from it.
    fn namespace(&self) -> &Namespace;

    /// The metrics that the guest knows by number.
    fn metrics(&self) -> &RefCell<MetricTable>;

    /// Appends a shared value and returns its version for compare-and-swap (`proxy_get_shared_data`).
    ///
    /// # Errors
    /// `NotFound` is safe.
    fn shared_data(&mut self, key: &[u8], out: &mut Vec<u8>) -> Result<u32, Status> {
        self.namespace().data().get(key, out)
    }

    /// Stores a shared value (`proxy_set_shared_data`); `version` 0 stores without comparing.
    ///
    /// # Errors
    /// `CasMismatch` is safe.
    fn set_shared_data(&mut self, key: &[u8], value: &[u8], version: u32) -> Result<(), Status> {
        self.namespace().data().set(key, value, version)
    }

    /// Creates a queue or takes over its notifications (`proxy_register_shared_queue`). Nobody is notified by default:
    /// VMs of several workers share a queue, and each takes from it in its ticks.
    ///
    /// # Errors
    /// None is safe.
    fn register_queue(&mut self, _root: ContextId, name: &[u8]) -> Result<u32, Status> {
        let namespace = self.namespace();
        Ok(namespace.queues().register(namespace.vm_id(), name, Arc::new(|_| {})))
    }

    /// Finds a queue; an empty `vm_id` is the plugin's own (`proxy_resolve_shared_queue`).
    ///
    /// # Errors
    /// `NotFound` is safe.
    fn resolve_queue(&mut self, vm_id: &[u8], name: &[u8]) -> Result<u32, Status> {
        let namespace = self.namespace();
        let vm_id = std::str::from_utf8(vm_id).map_err(|_| Status::NotFound)?;
        namespace.queues().resolve(&within_reach(namespace.vm_id(), vm_id), name).ok_or(Status::NotFound)
    }

    /// Appends to a queue (`proxy_enqueue_shared_queue`).
    ///
    /// # Errors
    /// `NotFound` is safe.
    fn enqueue(&mut self, queue: u32, value: &[u8]) -> Result<(), Status> {
        let namespace = self.namespace();
        namespace.queues().enqueue(namespace.vm_id(), queue, value)
    }

    /// Takes the oldest entry of a queue (`proxy_dequeue_shared_queue`).
    ///
    /// # Errors
    /// `Empty` and `NotFound` are safe.
    fn dequeue(&mut self, queue: u32, out: &mut Vec<u8>) -> Result<(), Status> {
        let namespace = self.namespace();
        namespace.queues().dequeue(namespace.vm_id(), queue, out)
    }

    /// Names a metric, the same one for the same kind and name (`proxy_define_metric`).
    ///
    /// # Errors
    /// None is safe.
    fn define_metric(&mut self, kind: MetricKind, name: &[u8]) -> Result<u32, Status> {
        Ok(self.metrics().borrow_mut().define(self.namespace().metrics(), kind, name))
    }

    /// Adds to a counter or gauge (`proxy_increment_metric`).
    ///
    /// # Errors
    /// `NotFound` and `BadArgument` are safe.
    fn increment_metric(&mut self, metric: u32, offset: i64) -> Result<(), Status> {
        self.metrics().borrow().find(metric)?.increment(offset)
    }

    /// Sets a gauge, adds to a counter or records in a histogram (`proxy_record_metric`).
    ///
    /// # Errors
    /// `NotFound` is safe.
    fn record_metric(&mut self, metric: u32, value: u64) -> Result<(), Status> {
        // A number that cannot be is as good as none here, as in Envoy.
        self.metrics().borrow().find(metric).map_err(|_| Status::NotFound)?.record(value);
        Ok(())
    }

    /// Value of a counter or gauge (`proxy_get_metric`).
    ///
    /// # Errors
    /// `NotFound` and `BadArgument` are safe.
    fn metric(&mut self, metric: u32) -> Result<u64, Status> {
        // As in Envoy, a number of a histogram's kind is wrong whether there is such a histogram or not.
        if metric & 3 == MetricKind::Histogram.number() {
            return Err(Status::BadArgument);
        }
        self.metrics().borrow().find(metric)?.value()
    }

    /// Calls a function of the host by name (`proxy_call_foreign_function`). What was appended to `out` reaches the
    /// guest whatever the status. Those of [`foreign`] need no more than this.
    ///
    /// # Errors
    /// `NotFound`, `BadArgument`, `SerializationFailure` and `InternalFailure` are safe.
    fn foreign_function(
        &mut self,
        _context: ContextId,
        name: &[u8],
        arguments: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        foreign::call(name, arguments, out)
    }

    /// Starts a gRPC callout or stream and names it (`proxy_grpc_call`, `proxy_grpc_stream`).
    ///
    /// # Errors
    /// `ParseFailure` (unknown cluster) and `InternalFailure` (the default) are safe.
    fn grpc_call(&mut self, _root: ContextId, _call: &GrpcCall<'_>) -> Result<u32, Status> {
        Err(Status::InternalFailure)
    }

    /// Sends a message on a gRPC stream (`proxy_grpc_send`).
    ///
    /// # Errors
    /// `NotFound` (the default) and `BadArgument` are safe.
    fn grpc_send(&mut self, _root: ContextId, _call: u32, _message: &[u8], _end: EndOfStream) -> Result<(), Status> {
        Err(Status::NotFound)
    }

    /// Ends the sending side of a gRPC stream, or cancels a call (`proxy_grpc_close`).
    ///
    /// # Errors
    /// `NotFound` (the default) is safe.
    fn grpc_close(&mut self, _root: ContextId, _call: u32) -> Result<(), Status> {
        Err(Status::NotFound)
    }

    /// Cancels a gRPC call or resets a stream (`proxy_grpc_cancel`).
    ///
    /// # Errors
    /// `NotFound` (the default) is safe.
    fn grpc_cancel(&mut self, _root: ContextId, _call: u32) -> Result<(), Status> {
        Err(Status::NotFound)
    }
}

/// The VM id that a guest means: its own when it names none, else one of the same owner. `owner/vm:NAME` is what `NAME`
/// is short for; ids of other owners cannot be said.
fn within_reach<'v>(own: &'v str, wanted: &'v str) -> Cow<'v, str> {
    match own.split_once('/') {
        _ if wanted.is_empty() => Cow::Borrowed(own),
        Some((owner, _)) if wanted.split_once('/').is_none_or(|(other, _)| other != owner) => {
            Cow::Owned(format!("{owner}/vm:{wanted}"))
        }
        _ => Cow::Borrowed(wanted),
    }
}

/// A part of a buffer, in bytes. Its end may lie past the buffer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferRange {
    /// Where it begins.
    pub start: usize,
    /// How long it is at most.
    pub max: usize,
}

impl BufferRange {
    /// The part that lies within a buffer of `len` bytes.
    #[must_use]
    pub fn within(self, len: usize) -> std::ops::Range<usize> {
        let start = self.start.min(len);
        start..start.saturating_add(self.max).min(len)
    }
}

/// Whether nothing follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndOfStream {
    /// More may follow.
    No,
    /// This was the last part.
    Yes,
}

impl EndOfStream {
    /// The number that guests know it by.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }
}

impl From<bool> for EndOfStream {
    fn from(end: bool) -> Self {
        if end { Self::Yes } else { Self::No }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_reach_the_ids_of_their_owner_only() {
        for (own, wanted, expected) in [
            ("shop/stats", "", "shop/stats"),
            ("shop/stats", "shop/other", "shop/other"),
            ("shop/stats", "collector", "shop/vm:collector"),
            ("shop/stats", "bank/other", "shop/vm:bank/other"),
            ("vm", "other", "other"),
            ("vm", "", "vm"),
        ] {
            assert_eq!(within_reach(own, wanted), expected, "{own} {wanted}");
        }
    }
}
