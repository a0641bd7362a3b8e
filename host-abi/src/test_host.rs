//! `TestHost`: a real host without a network. Header maps, buffers and properties are what a test puts there; what
//! guests ask for is recorded. Used by the tests of this crate and by the tool that drives filters in their authors'
//! tests.
//!
//! Nothing is mocked below it: guests run in real VMs. A test sets the fields, makes a call, and reads the fields.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::abi::buffer::BufferKind;
use crate::abi::context::ContextId;
use crate::abi::log::LogLevel;
use crate::abi::map::MapKind;
use crate::abi::pairs::Pairs;
use crate::abi::property::PropertyValue;
use crate::abi::status::Status;
use crate::abi::stream::StreamKind;
use crate::host::{BufferRange, Host, HttpCall, LocalReply};
use crate::shared::{MetricTable, Namespace, SharedState};

/// A header list.
pub type Headers = Vec<(Vec<u8>, Vec<u8>)>;

/// Something that a guest asked for and that a real host does after the call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// `proxy_continue_stream`
    Continue(ContextId, StreamKind),
    /// `proxy_close_stream`
    Close(ContextId, StreamKind),
    /// `proxy_clear_route_cache`
    ClearRouteCache(ContextId),
    /// `proxy_send_local_response`
    Reply {
        /// The stream to answer.
        context: ContextId,
        /// HTTP status.
        status: u32,
        /// For the access log.
        details: Vec<u8>,
        /// The body.
        body: Vec<u8>,
        /// Headers to add.
        headers: Headers,
        /// gRPC status, if any.
        grpc_status: Option<u32>,
    },
    /// `proxy_http_call`
    HttpCall {
        /// Its name.
        call: u32,
        /// Name of the cluster.
        upstream: Vec<u8>,
        /// Headers with their pseudo headers.
        headers: Headers,
        /// The body.
        body: Vec<u8>,
        /// Trailers.
        trailers: Headers,
        /// How long it may take.
        timeout: Option<Duration>,
    },
}

/// A message of a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// Who wrote it.
    pub context: ContextId,
    /// How serious it is.
    pub level: LogLevel,
    /// What it says; bytes that are not UTF-8 are replaced.
    pub message: String,
}

/// A host in memory.
pub struct TestHost {
    /// Messages, oldest first.
    pub logs: Vec<LogEntry>,
    /// The least serious level that is written.
    pub log_level: LogLevel,
    /// The time since the epoch, and since the start of the monotonic clock.
    pub time: Duration,
    /// Properties, by path with NUL between segments; those that guests set are added.
    pub properties: HashMap<Vec<u8>, Vec<u8>>,
    /// Header maps; one that is not here is not there now.
    pub maps: HashMap<(ContextId, MapKind), Headers>,
    /// Buffers; one that is not here is not there now.
    pub buffers: HashMap<(ContextId, BufferKind), Vec<u8>>,
    /// What guests asked for, oldest first.
    pub requests: Vec<Request>,
    /// Clusters that callouts may go to.
    pub upstreams: Vec<Vec<u8>>,
    /// Outcome of the last callout.
    pub call_status: (u32, Vec<u8>),
    /// Notifications of queues: each number once per new entry.
    pub ready_queues: Arc<Mutex<Vec<u32>>>,
    namespace: Arc<Namespace>,
    metrics: RefCell<MetricTable>,
    last_call: u32,
}

impl TestHost {
    /// A host with nothing in it, in the namespace of this VM id.
    #[must_use]
    pub fn new(shared: &SharedState, vm_id: &str) -> Self {
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

    /// Puts a header map there.
    pub fn set_map(&mut self, context: ContextId, map: MapKind, headers: &[(&str, &str)]) {
        let owned = headers.iter().map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        self.maps.insert((context, map), owned.collect());
    }

    /// The messages without their levels.
    pub fn messages(&self) -> impl Iterator<Item = &str> {
        self.logs.iter().map(|entry| entry.message.as_str())
    }

    /// Takes what guests asked for.
    pub fn take_requests(&mut self) -> Vec<Request> {
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
        see: &mut dyn FnMut(PropertyValue<'_>),
    ) -> Result<(), Status> {
        see(PropertyValue::text(self.properties.get(path).ok_or(Status::NotFound)?));
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
        self.requests.push(Request::Continue(context, stream));
        Ok(())
    }

    fn close_stream(&mut self, context: ContextId, stream: StreamKind) -> Result<(), Status> {
        self.requests.push(Request::Close(context, stream));
        Ok(())
    }

    fn send_local_reply(&mut self, context: ContextId, reply: &LocalReply<'_>) -> Result<(), Status> {
        self.requests.push(Request::Reply {
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
        self.requests.push(Request::ClearRouteCache(context));
        Ok(())
    }

    fn http_call(&mut self, _root: ContextId, call: &HttpCall<'_>) -> Result<u32, Status> {
        let has = |pseudo: &[u8]| call.headers.iter().any(|(name, _)| name == pseudo);
        let is_complete = [&b":method"[..], b":path", b":authority"].into_iter().all(has);
        if !is_complete || !self.upstreams.iter().any(|upstream| upstream == call.upstream) {
            return Err(Status::BadArgument);
        }
        self.last_call += 1;
        self.requests.push(Request::HttpCall {
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
