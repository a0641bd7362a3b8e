//! The host of a VM that starts: no stream yet, no network; what the guest logs is kept for the refusal, since it is
//! the guest's own reason.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use weir_host_abi::abi::buffer::BufferKind;
use weir_host_abi::abi::log::LogLevel;
use weir_host_abi::abi::map::MapKind;
use weir_host_abi::abi::metric::MetricKind;
use weir_host_abi::abi::pairs::Pairs;
use weir_host_abi::abi::stream::StreamKind;
use weir_host_abi::host::{BufferRange, HttpCall, LocalReply};
use weir_host_abi::shared::{MetricTable, Namespace};
use weir_host_abi::{ContextId, Host, Status};

use crate::filter::state::PluginState;
use crate::limits::MAX_START_LOG_BYTES;

/// A host for `Vm::start`.
pub(super) struct StartHost {
    model: Arc<weir_model::Plugin>,
    state: Arc<PluginState>,
    namespace: Arc<Namespace>,
    metrics: MetricTable,
    said: String,
}

impl StartHost {
    pub(super) fn new(model: &Arc<weir_model::Plugin>, state: &Arc<PluginState>, namespace: &Arc<Namespace>) -> Self {
        let (model, state, namespace) = (Arc::clone(model), Arc::clone(state), Arc::clone(namespace));
        Self { model, state, namespace, metrics: MetricTable::default(), said: String::new() }
    }

    /// The metrics that the guest has defined so far, by its numbers: they go with the VM.
    pub(super) fn into_metrics(self) -> MetricTable {
        self.metrics
    }

    /// What the guest logged at warn and above, joined by `; `.
    pub(super) fn said(&self) -> &str {
        &self.said
    }
}

impl Host for StartHost {
    fn log(&mut self, _context: ContextId, level: LogLevel, message: &[u8]) {
        let text = String::from_utf8_lossy(message);
        let text = text.trim();
        let plugin = self.model.name.as_str();
        tracing::debug!(target: "filter", plugin, ?level, "{text}");
        let serious = matches!(level, LogLevel::Warn | LogLevel::Error | LogLevel::Critical);
        if serious && self.said.len() + text.len() < MAX_START_LOG_BYTES {
            if !self.said.is_empty() {
                self.said.push_str("; ");
            }
            self.said.extend(text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }));
        }
    }

    fn log_level(&self) -> LogLevel {
        // Warnings are taken however little is logged: they are the reason of a refusal.
        super::host::current_log_level().min(LogLevel::Warn)
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn monotonic(&self) -> Duration {
        self.state.since_start()
    }

    fn property(&mut self, _context: ContextId, path: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
        match path {
            b"plugin_name" | b"plugin_vm_id" => out.extend_from_slice(self.model.name.as_str().as_bytes()),
            b"plugin_root_id" => {}
            _ => return Err(Status::NotFound),
        }
        Ok(())
    }

    fn set_property(&mut self, _context: ContextId, _path: &[u8], _value: &[u8]) -> Result<(), Status> {
        Ok(())
    }

    fn header_pairs(
        &mut self,
        _context: ContextId,
        _map: MapKind,
        _visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<(), Status> {
        Ok(())
    }

    fn header_value(
        &mut self,
        _context: ContextId,
        _map: MapKind,
        _name: &[u8],
        _out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        Err(Status::NotFound)
    }

    fn set_header_pairs(&mut self, _context: ContextId, _map: MapKind, _pairs: Pairs<'_>) -> Result<(), Status> {
        Ok(())
    }

    fn add_header(&mut self, _context: ContextId, _map: MapKind, _name: &[u8], _value: &[u8]) -> Result<(), Status> {
        Ok(())
    }

    fn replace_header(
        &mut self,
        _context: ContextId,
        _map: MapKind,
        _name: &[u8],
        _value: &[u8],
    ) -> Result<(), Status> {
        Ok(())
    }

    fn remove_header(&mut self, _context: ContextId, _map: MapKind, _name: &[u8]) -> Result<(), Status> {
        Ok(())
    }

    fn buffer_len(&mut self, _context: ContextId, _buffer: BufferKind) -> Result<usize, Status> {
        Err(Status::NotFound)
    }

    fn buffer_bytes(
        &mut self,
        _context: ContextId,
        _buffer: BufferKind,
        _range: BufferRange,
        _out: &mut Vec<u8>,
    ) -> Result<(), Status> {
        Err(Status::NotFound)
    }

    fn set_buffer_bytes(
        &mut self,
        _context: ContextId,
        _buffer: BufferKind,
        _range: BufferRange,
        _value: &[u8],
    ) -> Result<(), Status> {
        Err(Status::NotFound)
    }

    fn continue_stream(&mut self, _context: ContextId, _stream: StreamKind) -> Result<(), Status> {
        Ok(())
    }

    fn close_stream(&mut self, _context: ContextId, _stream: StreamKind) -> Result<(), Status> {
        Ok(())
    }

    fn send_local_reply(&mut self, _context: ContextId, _reply: &LocalReply<'_>) -> Result<(), Status> {
        Ok(())
    }

    fn clear_route_cache(&mut self, _context: ContextId) -> Result<(), Status> {
        Ok(())
    }

    /// A VM starts off the workers, where there is no network; its first tick is the place for a callout.
    fn http_call(&mut self, _root: ContextId, _call: &HttpCall<'_>) -> Result<u32, Status> {
        Err(Status::InternalFailure)
    }

    fn call_status(&mut self, _root: ContextId, _out: &mut Vec<u8>) -> Result<u32, Status> {
        Ok(0)
    }

    fn shared_data(&mut self, key: &[u8], out: &mut Vec<u8>) -> Result<u32, Status> {
        self.namespace.data().get(key, out)
    }

    fn set_shared_data(&mut self, key: &[u8], value: &[u8], version: u32) -> Result<(), Status> {
        self.namespace.data().set(key, value, version)
    }

    fn register_queue(&mut self, _root: ContextId, name: &[u8]) -> Result<u32, Status> {
        Ok(super::plugin::register_queue(&self.namespace, name))
    }

    fn resolve_queue(&mut self, vm_id: &[u8], name: &[u8]) -> Result<u32, Status> {
        super::plugin::resolve_queue(&self.namespace, vm_id, name).ok_or(Status::NotFound)
    }

    fn enqueue(&mut self, queue: u32, value: &[u8]) -> Result<(), Status> {
        self.namespace.queues().enqueue(queue, value)
    }

    fn dequeue(&mut self, queue: u32, out: &mut Vec<u8>) -> Result<(), Status> {
        self.namespace.queues().dequeue(queue, out)
    }

    fn define_metric(&mut self, kind: MetricKind, name: &[u8]) -> Result<u32, Status> {
        Ok(self.metrics.define(self.namespace.metrics(), kind, name))
    }

    fn increment_metric(&mut self, metric: u32, offset: i64) -> Result<(), Status> {
        self.metrics.find(metric)?.increment(offset)
    }

    fn record_metric(&mut self, metric: u32, value: u64) -> Result<(), Status> {
        self.metrics.find(metric)?.record(value);
        Ok(())
    }

    fn metric(&mut self, metric: u32) -> Result<u64, Status> {
        self.metrics.find(metric)?.value()
    }
}
