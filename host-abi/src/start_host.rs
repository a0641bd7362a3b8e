//! `StartHost`: the host of a VM during its start, with no stream and no network. It collects warnings that the guest
//! logs, which give the reason of a failure. The proxy starts VMs with it, and the control plane test-starts uploaded
//! filters with it, so that both accept the same filters.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::abi::buffer::BufferKind;
use crate::abi::context::ContextId;
use crate::abi::log::LogLevel;
use crate::abi::map::MapKind;
use crate::abi::pairs::Pairs;
use crate::abi::property::PropertyValue;
use crate::abi::status::Status;
use crate::abi::stream::StreamKind;
use crate::failure::{LimitedResource, RejectedGrowth};
use crate::host::{BufferRange, Host, HttpCall, LocalReply};
use crate::limits::{MAX_QUEUES, MAX_START_LOG_BYTES};
use crate::plugin::Plugin;
use crate::shared::{MetricTable, Namespace};
use crate::vm::{StartError, StartStep, Vm};

/// The host of [`Vm::start`].
pub struct StartHost {
    plugins: Vec<Arc<Plugin>>,
    namespace: Arc<Namespace>,
    clock: Box<dyn Fn() -> Duration + Send>,
    log_level: LogLevel,
    metrics: RefCell<MetricTable>,
    guest_log: String,
    queues: Vec<(usize, Vec<u8>)>,
    /// Remaining bytes that the guests may enqueue.
    queue_bytes: usize,
}

/// The reason why a plugin did not start.
#[derive(Debug, Clone)]
pub struct StartFailure {
    /// Index of the plugin that failed.
    pub plugin: usize,
    /// The field at fault: `module`, `configuration` or `limits`.
    pub field: &'static str,
    /// Description of the failure, with the guest's log.
    pub reason: String,
    /// Advice for the operator.
    pub hint: String,
}

/// A started VM.
pub struct StartedVm {
    /// The VM.
    pub vm: Vm,
    /// The metrics that the VM refers to by number.
    pub metrics: MetricTable,
    /// The queues that the VM has registered, by plugin index and name. The owner of the VM registers them again to
    /// receive their notifications.
    pub queues: Vec<(usize, Vec<u8>)>,
}

/// Starts a VM. Returns it with the metrics that it defined and the queues that it registered.
///
/// # Errors
/// The plugin and field at fault, with the guest's log.
pub fn start(mut host: StartHost) -> Result<StartedVm, StartFailure> {
    match Vm::start(&host.plugins.clone(), &mut host) {
        Ok(vm) => Ok(StartedVm { vm, metrics: host.metrics.into_inner(), queues: host.queues }),
        Err(error) => Err(start_failure(&error, &host.guest_log)),
    }
}

fn start_failure(error: &StartError, guest_log: &str) -> StartFailure {
    let rejected_growth = match error {
        StartError::Failed { failure, .. } => failure.rejected_growth,
        StartError::Rejected { .. } | StartError::OutOfResources(_) => None,
    };
    let (field, hint) = match error {
        StartError::Failed { .. } if rejected_growth.is_some() => ("limits", ""),
        StartError::Failed { step: StartStep::Configure, .. }
        | StartError::Rejected { step: StartStep::Configure, .. } => {
            ("configuration", "check it against the filter's README")
        }
        StartError::Failed { .. } | StartError::Rejected { .. } => {
            ("module", "the module loads but does not start; run the filter's own tests")
        }
        StartError::OutOfResources(_) => ("limits", "use fewer filters or less memory for each"),
    };
    let reason = if guest_log.is_empty() { error.to_string() } else { format!("{error}; filter log: {guest_log}") };
    let plugin = match error {
        StartError::Failed { plugin, .. } | StartError::Rejected { plugin, .. } => *plugin,
        StartError::OutOfResources(_) => 0,
    };
    let hint = rejected_growth.map_or_else(|| hint.to_owned(), growth_hint);
    StartFailure { plugin, field, reason, hint }
}

/// Returns the setting that allows a growth. A guest with a garbage collector may need more afterwards.
fn growth_hint(growth: RejectedGrowth) -> String {
    match growth.resource {
        LimitedResource::Memory => format!("set `limits.memory` to {}Mi or more", growth.needed.div_ceil(1 << 20)),
        LimitedResource::TableElements => format!("set `limits.tableElements` to {} or more", growth.needed),
    }
}

impl StartHost {
    /// Creates a host for the plugins of a VM with their namespace. `clock` counts from an arbitrary origin. Warnings
    /// are collected at any `log_level`, because they give the reason of a failure.
    pub fn new(
        plugins: &[Arc<Plugin>],
        namespace: &Arc<Namespace>,
        clock: impl Fn() -> Duration + Send + 'static,
        log_level: LogLevel,
    ) -> Self {
        Self {
            plugins: plugins.to_vec(),
            namespace: Arc::clone(namespace),
            clock: Box::new(clock),
            log_level: log_level.min(LogLevel::Warn),
            metrics: RefCell::default(),
            guest_log: String::new(),
            queues: Vec::new(),
            queue_bytes: usize::MAX,
        }
    }

    /// Limits the bytes that guests may enqueue. The excess is dropped without an error.
    #[must_use]
    pub fn with_queue_bytes(self, queue_bytes: usize) -> Self {
        Self { queue_bytes, ..self }
    }

    /// Returns the plugin of a context. A VM that starts has plugin contexts only.
    fn plugin(&self, root: ContextId) -> Option<&Arc<Plugin>> {
        self.plugins.get(root.plugin())
    }
}

impl Host for StartHost {
    fn log(&mut self, context: ContextId, level: LogLevel, message: &[u8]) {
        let text = String::from_utf8_lossy(message);
        let text = text.trim();
        let plugin = self.plugin(context).map(|plugin| plugin.settings().name.as_str());
        tracing::debug!(target: "filter", plugin, ?level, "{text}");
        let serious = matches!(level, LogLevel::Warn | LogLevel::Error | LogLevel::Critical);
        if serious && self.guest_log.len() + text.len() < MAX_START_LOG_BYTES {
            if !self.guest_log.is_empty() {
                self.guest_log.push_str("; ");
            }
            self.guest_log.extend(text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }));
        }
    }

    fn log_level(&self) -> LogLevel {
        self.log_level
    }

    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn monotonic(&self) -> Duration {
        (self.clock)()
    }

    fn property(
        &mut self,
        context: ContextId,
        path: &[u8],
        visit: &mut dyn FnMut(PropertyValue<'_>),
    ) -> Result<(), Status> {
        let own = self.plugin(context).and_then(|plugin| plugin.settings().property(path));
        visit(PropertyValue::text(own.ok_or(Status::NotFound)?));
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

    /// Always fails. A VM starts outside the workers, without a network; a filter can make its first callout in a tick.
    fn http_call(&mut self, _root: ContextId, _call: &HttpCall<'_>) -> Result<u32, Status> {
        Err(Status::InternalFailure)
    }

    fn call_status(&mut self, _root: ContextId, _out: &mut Vec<u8>) -> Result<u32, Status> {
        Ok(0)
    }

    fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    fn metrics(&self) -> &RefCell<MetricTable> {
        &self.metrics
    }

    fn register_queue(&mut self, root: ContextId, name: &[u8]) -> Result<u32, Status> {
        // Only the last registrant of a queue is notified.
        self.queues.retain(|(_, known)| known != name);
        if self.queues.len() < MAX_QUEUES {
            self.queues.push((root.plugin(), name.to_vec()));
        }
        Ok(self.namespace.queues().register(self.namespace.vm_id(), name, Arc::new(|_| {})))
    }

    fn enqueue(&mut self, queue: u32, value: &[u8]) -> Result<(), Status> {
        let Some(left) = self.queue_bytes.checked_sub(value.len()) else { return Ok(()) };
        self.queue_bytes = left;
        self.namespace.queues().enqueue(self.namespace.vm_id(), queue, value)
    }
}
