//! `trait Host`: every hostcall as a typed Rust method. The proxy implements it for production,
//! `host-abi/tests/test_host/mod.rs` in memory.
//!
//! A [`crate::vm::Vm`] borrows a host for one call. The VM guarantees to the host:
//!
//! - `context` is the *effective* context: live, and the current context unless the guest selected another one.
//! - Input bytes are in the guest's memory: copy what must outlive the method. Names are passed as the guest wrote
//!   them. Hosts compare header names case-insensitively and reject nothing that a guest cannot know.
//! - Output bytes are appended to `out`, which is empty on entry.
//! - While the guest initializes, or its allocator runs, only `log`, `log_level`, `now` and `monotonic` are called.
//! - The VM itself implements the configuration buffers, effective contexts, tick periods and `proxy_done`. They never
//!   reach the host.
//!
//! A host never calls a VM from within a method. `continue_stream`, `close_stream` and `send_local_reply` only queue a
//! command. The host applies queued commands after the outermost call into the guest has returned.
//!
//! A method's `Err(Status)` is returned to the guest unchanged. Rust guests panic on most statuses. Each method lists
//! the statuses that guests handle ("safe").

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

/// A local reply of a filter (`proxy_send_local_response`).
#[derive(Debug, Clone, Copy)]
pub struct LocalReply<'a> {
    /// HTTP status from the guest; not validated.
    pub status: u32,
    /// Response code details for the access log.
    pub details: &'a [u8],
    /// The body; may be empty.
    pub body: &'a [u8],
    /// Headers added to the generated ones.
    pub headers: Pairs<'a>,
    /// gRPC status 0 to 16, if the guest set one.
    pub grpc_status: Option<u32>,
}

/// An HTTP callout (`proxy_http_call`).
#[derive(Debug, Clone, Copy)]
pub struct HttpCall<'a> {
    /// Name of the cluster.
    pub upstream: &'a [u8],
    /// Headers, including pseudo headers.
    pub headers: Pairs<'a>,
    /// Request body; may be empty.
    pub body: &'a [u8],
    /// Trailers, usually empty.
    pub trailers: Pairs<'a>,
    /// Timeout of the response; `None` means the host's maximum.
    pub timeout: Option<Duration>,
}

/// A gRPC callout (`proxy_grpc_call`, `proxy_grpc_stream`).
#[derive(Debug, Clone, Copy)]
pub struct GrpcCall<'a> {
    /// Name of the cluster, or a serialized `envoy.config.core.v3.GrpcService`.
    pub upstream: &'a [u8],
    /// Full name of the gRPC service.
    pub service: &'a [u8],
    /// Name of the gRPC method.
    pub method: &'a [u8],
    /// Initial metadata, sent as headers.
    pub metadata: Pairs<'a>,
    /// The message without its gRPC frame; `None` opens a stream.
    pub message: Option<&'a [u8]>,
    /// Timeout of the response; `None` means the host's maximum.
    pub timeout: Option<Duration>,
}

/// The hostcalls of a guest. The module documentation states the guarantees of both sides.
pub trait Host {
    /// Writes a log message (`proxy_log`, and WASI's standard output and error). The VM limits it to the plugin's bytes
    /// per second.
    fn log(&mut self, context: ContextId, level: LogLevel, message: &[u8]);

    /// Returns the lowest level that is written (`proxy_get_log_level`).
    fn log_level(&self) -> LogLevel;

    /// Returns the wall-clock time (`proxy_get_current_time_nanoseconds`).
    fn now(&self) -> SystemTime;

    /// Returns the time of a monotonic clock with an arbitrary origin.
    fn monotonic(&self) -> Duration;

    /// Passes a property's value to `visit`, once (`proxy_get_property`, and expressions). `path` has no trailing NUL.
    ///
    /// # Errors
    /// `NotFound`, `SerializationFailure`, `InternalFailure` are safe.
    fn property(
        &mut self,
        context: ContextId,
        path: &[u8],
        visit: &mut dyn FnMut(PropertyValue<'_>),
    ) -> Result<(), Status>;

    /// Stores a value for other filters and the access log (`proxy_set_property`).
    ///
    /// # Errors
    /// None is safe.
    fn set_property(&mut self, context: ContextId, path: &[u8], value: &[u8]) -> Result<(), Status>;

    /// Visits every entry of a map as (name, value), in wire order (`proxy_get_header_map_pairs`, `..._size`). A map
    /// that does not exist at the moment has no entries.
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
    /// `NotFound` is safe. It is also returned for a map that does not exist at the moment.
    fn header_value(&mut self, context: ContextId, map: MapKind, name: &[u8], out: &mut Vec<u8>) -> Result<(), Status>;

    /// Replaces a whole map (`proxy_set_header_map_pairs`).
    ///
    /// # Errors
    /// None is safe; `BadArgument` for a map that is never writable.
    fn set_header_pairs(&mut self, context: ContextId, map: MapKind, pairs: Pairs<'_>) -> Result<(), Status>;

    /// Appends a header (`proxy_add_header_map_value`).
    ///
    /// # Errors
    /// See [`Host::set_header_pairs`].
    fn add_header(&mut self, context: ContextId, map: MapKind, name: &[u8], value: &[u8]) -> Result<(), Status>;

    /// Replaces all values of a header by one (`proxy_replace_header_map_value`).
    ///
    /// # Errors
    /// See [`Host::set_header_pairs`].
    fn replace_header(&mut self, context: ContextId, map: MapKind, name: &[u8], value: &[u8]) -> Result<(), Status>;

    /// Removes all values of a header, if any (`proxy_remove_header_map_value`).
    ///
    /// # Errors
    /// See [`Host::set_header_pairs`].
    fn remove_header(&mut self, context: ContextId, map: MapKind, name: &[u8]) -> Result<(), Status>;

    /// Returns the length of a buffer in bytes (`proxy_get_buffer_status`).
    ///
    /// # Errors
    /// `NotFound` when the buffer does not exist at the moment.
    fn buffer_len(&mut self, context: ContextId, buffer: BufferKind) -> Result<usize, Status>;

    /// Appends a range of a buffer (`proxy_get_buffer_bytes`); nothing when its start is past the end of the buffer.
    ///
    /// # Errors
    /// `NotFound` when the buffer does not exist at the moment.
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
    /// None is safe; `NotFound` when the buffer does not exist at the moment. The VM rejects buffers that are never
    /// writable.
    fn set_buffer_bytes(
        &mut self,
        context: ContextId,
        buffer: BufferKind,
        range: BufferRange,
        value: &[u8],
    ) -> Result<(), Status>;

    /// Queues the resumption of a paused direction (`proxy_continue_stream`). It has no effect on a direction that is
    /// not paused or no longer exists.
    ///
    /// # Errors
    /// None is safe.
    fn continue_stream(&mut self, context: ContextId, stream: StreamKind) -> Result<(), Status>;

    /// Queues a reset of the HTTP stream, or a flush and close of the connection (`proxy_close_stream`).
    ///
    /// # Errors
    /// None is safe.
    fn close_stream(&mut self, context: ContextId, stream: StreamKind) -> Result<(), Status>;

    /// Queues a local reply to the stream's request (`proxy_send_local_response`). The first reply wins; the callback's
    /// action then counts as a pause.
    ///
    /// # Errors
    /// None is safe.
    fn send_local_reply(&mut self, context: ContextId, reply: &LocalReply<'_>) -> Result<(), Status>;

    /// Queues a new route lookup (`proxy_clear_route_cache`).
    ///
    /// # Errors
    /// None is safe.
    fn clear_route_cache(&mut self, context: ContextId) -> Result<(), Status>;

    /// Starts an HTTP callout and returns its id (`proxy_http_call`). Every accepted call leads to exactly one
    /// `proxy_on_http_call_response` on the plugin context `root`, never from within this method. The id is not 0 and
    /// not in use.
    ///
    /// # Errors
    /// `BadArgument` (unknown cluster, missing pseudo header) and `InternalFailure` are safe.
    fn http_call(&mut self, root: ContextId, call: &HttpCall<'_>) -> Result<u32, Status>;

    /// Appends the status text of the last callout and returns its status code (`proxy_get_status`).
    ///
    /// # Errors
    /// None is safe.
    fn call_status(&mut self, root: ContextId, out: &mut Vec<u8>) -> Result<u32, Status>;

    /// Returns the plugin's namespace, which provides shared data, queues and metrics.
    fn namespace(&self) -> &Namespace;

    /// Returns the metrics that the guest refers to by number.
    fn metrics(&self) -> &RefCell<MetricTable>;

    /// Appends a shared value and returns its version for compare-and-swap (`proxy_get_shared_data`).
    ///
    /// # Errors
    /// `NotFound` is safe.
    fn shared_data(&mut self, key: &[u8], out: &mut Vec<u8>) -> Result<u32, Status> {
        self.namespace().data().get(key, out)
    }

    /// Stores a shared value (`proxy_set_shared_data`). `version` 0 stores without a comparison.
    ///
    /// # Errors
    /// `CasMismatch` is safe.
    fn set_shared_data(&mut self, key: &[u8], value: &[u8], version: u32) -> Result<(), Status> {
        self.namespace().data().set(key, value, version)
    }

    /// Creates a queue or takes over its notifications (`proxy_register_shared_queue`). By default no VM is notified:
    /// VMs of several workers share a queue, and each dequeues in its ticks.
    ///
    /// # Errors
    /// None is safe.
    fn register_queue(&mut self, _root: ContextId, name: &[u8]) -> Result<u32, Status> {
        let namespace = self.namespace();
        Ok(namespace.queues().register(namespace.vm_id(), name, Arc::new(|_| {})))
    }

    /// Finds a queue (`proxy_resolve_shared_queue`). An empty `vm_id` means the plugin's own VM id.
    ///
    /// # Errors
    /// `NotFound` is safe.
    fn resolve_queue(&mut self, vm_id: &[u8], name: &[u8]) -> Result<u32, Status> {
        let namespace = self.namespace();
        let vm_id = std::str::from_utf8(vm_id).map_err(|_| Status::NotFound)?;
        namespace.queues().resolve(&resolve_vm_id(namespace.vm_id(), vm_id), name).ok_or(Status::NotFound)
    }

    /// Appends to a queue (`proxy_enqueue_shared_queue`).
    ///
    /// # Errors
    /// `NotFound` is safe.
    fn enqueue(&mut self, queue: u32, value: &[u8]) -> Result<(), Status> {
        let namespace = self.namespace();
        namespace.queues().enqueue(namespace.vm_id(), queue, value)
    }

    /// Removes the oldest entry of a queue and appends it to `out` (`proxy_dequeue_shared_queue`).
    ///
    /// # Errors
    /// `Empty` and `NotFound` are safe.
    fn dequeue(&mut self, queue: u32, out: &mut Vec<u8>) -> Result<(), Status> {
        let namespace = self.namespace();
        namespace.queues().dequeue(namespace.vm_id(), queue, out)
    }

    /// Returns the number of a metric (`proxy_define_metric`). The same kind and name always return the same number.
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
        // An invalid number is reported as an unknown metric, as in Envoy.
        self.metrics().borrow().find(metric).map_err(|_| Status::NotFound)?.record(value);
        Ok(())
    }

    /// Returns the value of a counter or gauge (`proxy_get_metric`).
    ///
    /// # Errors
    /// `NotFound` and `BadArgument` are safe.
    fn metric(&mut self, metric: u32) -> Result<u64, Status> {
        // As in Envoy, a histogram's number is a bad argument, no matter if that histogram exists.
        if metric & 3 == MetricKind::Histogram.number() {
            return Err(Status::BadArgument);
        }
        self.metrics().borrow().find(metric)?.value()
    }

    /// Calls a host function by name (`proxy_call_foreign_function`). Bytes appended to `out` reach the guest whatever
    /// the status. The default serves the functions of [`foreign`].
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

    /// Starts a gRPC callout or stream and returns its id (`proxy_grpc_call`, `proxy_grpc_stream`).
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

    /// Closes the sending side of a gRPC stream, or cancels a call (`proxy_grpc_close`).
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

/// Returns the full VM id for `wanted`: `own` if empty, else an id of the same owner. `NAME` is short for
/// `owner/vm:NAME`. Ids of other owners cannot be expressed.
fn resolve_vm_id<'v>(own: &'v str, wanted: &'v str) -> Cow<'v, str> {
    match own.split_once('/') {
        _ if wanted.is_empty() => Cow::Borrowed(own),
        Some((owner, _)) if wanted.split_once('/').is_none_or(|(other, _)| other != owner) => {
            Cow::Owned(format!("{owner}/vm:{wanted}"))
        }
        _ => Cow::Borrowed(wanted),
    }
}

/// A range of a buffer in bytes. Its end may be past the end of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferRange {
    /// Offset of the first byte.
    pub start: usize,
    /// Maximum length.
    pub max: usize,
}

impl BufferRange {
    /// Returns the part of the range within a buffer of `len` bytes.
    #[must_use]
    pub fn within(self, len: usize) -> std::ops::Range<usize> {
        let start = self.start.min(len);
        start..start.saturating_add(self.max).min(len)
    }
}

/// End of stream, as a callback argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EndOfStream {
    /// More data or trailers may follow.
    No,
    /// This is the last part of the stream.
    Yes,
}

impl EndOfStream {
    /// Returns the number of the Proxy-Wasm ABI: 0 or 1.
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
    fn vm_id_of_another_owner_resolves_within_own_owner() {
        for (own, wanted, expected) in [
            ("shop/stats", "", "shop/stats"),
            ("shop/stats", "shop/other", "shop/other"),
            ("shop/stats", "collector", "shop/vm:collector"),
            ("shop/stats", "bank/other", "shop/vm:bank/other"),
            ("vm", "other", "other"),
            ("vm", "", "vm"),
        ] {
            assert_eq!(resolve_vm_id(own, wanted), expected, "{own} {wanted}");
        }
    }
}
