//! `TestHost`: a host in memory, without a network. Tests set header maps, buffers and properties; the host records the
//! guests' requests. Guests run in real VMs.
//!
//! A test sets the fields, makes a call, and reads the fields.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use weir_host_abi::abi::buffer::BufferKind;
use weir_host_abi::abi::context::ContextId;
use weir_host_abi::abi::log::LogLevel;
use weir_host_abi::abi::map::MapKind;
use weir_host_abi::abi::pairs::Pairs;
use weir_host_abi::abi::property::PropertyValue;
use weir_host_abi::abi::status::Status;
use weir_host_abi::abi::stream::StreamKind;
use weir_host_abi::host::{BufferRange, Host, HttpCall, LocalReply};
use weir_host_abi::shared::{MetricTable, Namespace, SharedState};

/// A header list, as (name, value).
pub(crate) type Headers = Vec<(Vec<u8>, Vec<u8>)>;

/// A command of a guest that the proxy would apply after the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostRequest {
    /// `proxy_continue_stream`
    Continue(ContextId, StreamKind),
    /// `proxy_close_stream`
    Close(ContextId, StreamKind),
    /// `proxy_clear_route_cache`
    ClearRouteCache(ContextId),
    /// `proxy_send_local_response`
    Reply {
        /// Context of the stream.
        context: ContextId,
        /// HTTP status.
        status: u32,
        /// Response code details for the access log.
        details: Vec<u8>,
        /// Body.
        body: Vec<u8>,
        /// Additional headers.
        headers: Headers,
        /// gRPC status, if set.
        grpc_status: Option<u32>,
    },
    /// `proxy_http_call`
    HttpCall {
        /// Id of the callout.
        call: u32,
        /// Name of the cluster.
        upstream: Vec<u8>,
        /// Headers, including pseudo headers.
        headers: Headers,
        /// Body.
        body: Vec<u8>,
        /// Trailers.
        trailers: Headers,
        /// Timeout.
        timeout: Option<Duration>,
    },
}

/// A log message of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogEntry {
    /// Effective context of the call.
    pub(crate) context: ContextId,
    /// Level of the message.
    pub(crate) level: LogLevel,
    /// Text of the message; bytes that are not UTF-8 are replaced.
    pub(crate) message: String,
}

/// A host in memory.
pub(crate) struct TestHost {
    /// Log messages, oldest first.
    pub(crate) logs: Vec<LogEntry>,
    /// The lowest level that is written.
    pub(crate) log_level: LogLevel,
    /// Time since the epoch, and since the origin of the monotonic clock.
    pub(crate) time: Duration,
    /// Properties by path, with NUL between segments. Guests add to them.
    pub(crate) properties: HashMap<Vec<u8>, Vec<u8>>,
    /// Header maps; others do not exist.
    pub(crate) maps: HashMap<(ContextId, MapKind), Headers>,
    /// Buffers; others do not exist.
    pub(crate) buffers: HashMap<(ContextId, BufferKind), Vec<u8>>,
    /// Commands of guests, oldest first.
    pub(crate) requests: Vec<HostRequest>,
    /// Clusters that callouts may target.
    pub(crate) upstreams: Vec<Vec<u8>>,
    /// Status code and text of the last callout.
    pub(crate) call_status: (u32, Vec<u8>),
    /// Notifications of queues: the number of the queue for each new entry.
    pub(crate) ready_queues: Arc<Mutex<Vec<u32>>>,
    namespace: Arc<Namespace>,
    metrics: RefCell<MetricTable>,
    last_call: u32,
}

impl TestHost {
    /// Creates an empty host in the namespace of this VM id.
    #[must_use]
    pub(crate) fn new(shared: &SharedState, vm_id: &str) -> Self {
        Self {
            logs: Vec::new(),
            log_level: LogLevel::Trace,
            time: Duration::ZERO,
            properties: HashMap::new(),
            maps: HashMap::new(),
            buffers: HashMap::new(),
            requests: Vec::new(),
            upstreams: Vec::new(),
            call_status: (0, Vec::new()),
            ready_queues: Arc::default(),
            namespace: shared.namespace(vm_id),
            metrics: RefCell::default(),
            last_call: 0,
        }
    }

    /// Sets a header map.
    pub(crate) fn set_map(&mut self, context: ContextId, map: MapKind, headers: &[(&str, &str)]) {
        let owned = headers.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        self.maps.insert((context, map), owned.collect());
    }

    /// Removes and returns the commands of guests.
    pub(crate) fn take_requests(&mut self) -> Vec<HostRequest> {
        std::mem::take(&mut self.requests)
    }

    fn map(&mut self, context: ContextId, map: MapKind) -> Result<&mut Headers, Status> {
        self.maps.get_mut(&(context, map)).ok_or(Status::BadArgument)
    }

    fn buffer(&mut self, context: ContextId, buffer: BufferKind) -> Result<&mut Vec<u8>, Status> {
        self.buffers.get_mut(&(context, buffer)).ok_or(Status::NotFound)
    }
}

fn owned(pairs: Pairs<'_>) -> Headers {
    pairs.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.to_vec())).collect()
}

impl Host for TestHost {
    fn log(&mut self, context: ContextId, level: LogLevel, message: &[u8]) {
        self.logs.push(LogEntry { context, level, message: String::from_utf8_lossy(message).into_owned() });
    }

    fn log_level(&self) -> LogLevel {
        self.log_level
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + self.time
    }

    fn monotonic(&self) -> Duration {
        self.time
    }

    fn property(
        &mut self,
        _context: ContextId,
        path: &[u8],
        visit: &mut dyn FnMut(PropertyValue<'_>),
    ) -> Result<(), Status> {
        visit(PropertyValue::text(self.properties.get(path).ok_or(Status::NotFound)?));
        Ok(())
    }

    fn set_property(&mut self, _context: ContextId, path: &[u8], value: &[u8]) -> Result<(), Status> {
        self.properties.insert(path.to_vec(), value.to_vec());
        Ok(())
    }

    fn header_pairs(
        &mut self,
        context: ContextId,
        map: MapKind,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), Status> {
        self.map(context, map)?.iter().for_each(|(name, value)| visit(name, value));
        Ok(())
    }

    fn header_value(&mut self, context: ContextId, map: MapKind, name: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
        let headers = self.map(context, map)?;
        let (_, value) = headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).ok_or(Status::NotFound)?;
        out.extend_from_slice(value);
        Ok(())
    }

    fn set_header_pairs(&mut self, context: ContextId, map: MapKind, pairs: Pairs<'_>) -> Result<(), Status> {
        *self.map(context, map)? = owned(pairs);
        Ok(())
    }

    fn add_header(&mut self, context: ContextId, map: MapKind, name: &[u8], value: &[u8]) -> Result<(), Status> {
        self.map(context, map)?.push((name.to_ascii_lowercase(), value.to_vec()));
        Ok(())
    }

    fn replace_header(&mut self, context: ContextId, map: MapKind, name: &[u8], value: &[u8]) -> Result<(), Status> {
        self.remove_header(context, map, name)?;
        self.add_header(context, map, name, value)
    }

    fn remove_header(&mut self, context: ContextId, map: MapKind, name: &[u8]) -> Result<(), Status> {
        self.map(context, map)?.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        Ok(())
    }

    fn buffer_len(&mut self, context: ContextId, buffer: BufferKind) -> Result<usize, Status> {
        Ok(self.buffer(context, buffer)?.len())
    }

    fn buffer_bytes(
        &mut self,
        context: ContextId,
        buffer: BufferKind,
        range: BufferRange,
        out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        let bytes = self.buffer(context, buffer)?;
        out.extend_from_slice(&bytes[range.within(bytes.len())]);
        Ok(())
    }

    fn set_buffer_bytes(
        &mut self,
        context: ContextId,
        buffer: BufferKind,
        range: BufferRange,
        value: &[u8],
    ) -> Result<(), Status> {
        let bytes = self.buffer(context, buffer)?;
        bytes.splice(range.within(bytes.len()), value.iter().copied());
        Ok(())
    }

    fn continue_stream(&mut self, context: ContextId, stream: StreamKind) -> Result<(), Status> {
        self.requests.push(HostRequest::Continue(context, stream));
        Ok(())
    }

    fn close_stream(&mut self, context: ContextId, stream: StreamKind) -> Result<(), Status> {
        self.requests.push(HostRequest::Close(context, stream));
        Ok(())
    }

    fn send_local_reply(&mut self, context: ContextId, reply: &LocalReply<'_>) -> Result<(), Status> {
        self.requests.push(HostRequest::Reply {
            context,
            status: reply.status,
            details: reply.details.to_vec(),
            body: reply.body.to_vec(),
            headers: owned(reply.headers),
            grpc_status: reply.grpc_status,
        });
        Ok(())
    }

    fn clear_route_cache(&mut self, context: ContextId) -> Result<(), Status> {
        self.requests.push(HostRequest::ClearRouteCache(context));
        Ok(())
    }

    fn http_call(&mut self, _root: ContextId, call: &HttpCall<'_>) -> Result<u32, Status> {
        let has = |pseudo: &[u8]| call.headers.iter().any(|(name, _)| name == pseudo);
        let is_complete = [&b":method"[..], b":path", b":authority"].into_iter().all(has);
        if !is_complete || !self.upstreams.iter().any(|upstream| upstream == call.upstream) {
            return Err(Status::BadArgument);
        }
        self.last_call += 1;
        self.requests.push(HostRequest::HttpCall {
            call: self.last_call,
            upstream: call.upstream.to_vec(),
            headers: owned(call.headers),
            body: call.body.to_vec(),
            trailers: owned(call.trailers),
            timeout: call.timeout,
        });
        Ok(self.last_call)
    }

    fn call_status(&mut self, _root: ContextId, out: &mut Vec<u8>) -> Result<u32, Status> {
        out.extend_from_slice(&self.call_status.1);
        Ok(self.call_status.0)
    }

    fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    fn metrics(&self) -> &RefCell<MetricTable> {
        &self.metrics
    }

    fn register_queue(&mut self, _root: ContextId, name: &[u8]) -> Result<u32, Status> {
        let ready = Arc::clone(&self.ready_queues);
        let notify = Arc::new(move |queue| ready.lock().push(queue));
        Ok(self.namespace.queues().register(self.namespace.vm_id(), name, notify))
    }
}
