//! The host of a VM that starts: no stream yet, no network; what the guest logs is kept for the refusal, since it is
//! the guest's own reason. The proxy starts with it what it runs, the control plane what it is given to keep, so that
//! what the one takes the other takes too.

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
use crate::host::{BufferRange, Host, HttpCall, LocalReply};
use crate::limits::{MAX_QUEUES, MAX_START_LOG_BYTES};
use crate::plugin::Plugin;
use crate::shared::{MetricTable, Namespace};
use crate::vm::{StartError, StartStep, Vm};

/// A host for [`Vm::start`].
pub struct StartHost {
    plugins: Vec<Arc<Plugin>>,
    namespace: Arc<Namespace>,
    clock: Box<dyn Fn() -> Duration + Send>,
    log_level: LogLevel,
    metrics: RefCell<MetricTable>,
    said: String,
    queues: Vec<(usize, Vec<u8>)>,
    /// What may still be put into queues.
    queue_bytes: usize,
}

/// Why a plugin did not start.
#[derive(Debug, Clone)]
pub struct StartRefusal {
    /// Which of the VM's plugins is to blame, from 0.
    pub plugin: usize,
    /// What there is to blame: `module`, `configuration` or `limits`.
    pub field: &'static str,
    /// What happened, with the guest's own words.
    pub reason: String,
    /// What to do next.
    pub hint: &'static str,
}

/// A VM that has started.
pub struct Started {
    /// Itself.
    pub vm: Vm,
    /// The metrics that it knows by number.
    pub metrics: MetricTable,
    /// The queues that it has registered, by plugin and name: whoever runs it registers them anew, so that it is told of
    /// entries.
    pub queues: Vec<(usize, Vec<u8>)>,
}

/// Starts a VM; what it has defined and registered comes with it.
///
/// # Errors
/// Whose fault it is that it did not start, with what the guest itself said.
pub fn start(mut host: StartHost) -> Result<Started, StartRefusal> {
    match Vm::start_all(&host.plugins.clone(), &mut host) {
        Ok(vm) => Ok(Started { vm, metrics: host.metrics.into_inner(), queues: host.queues }),
        Err(error) => Err(refusal(&error, &host.said)),
    }
}

fn refusal(error: &StartError, said: &str) -> StartRefusal {
    let (field, hint) = match error {
        StartError::Failed { step: StartStep::Configure, .. }
        | StartError::Refused { step: StartStep::Configure, .. } => {
            ("configuration", "the filter's README says what it takes")
        }
        StartError::Failed { .. } | StartError::Refused { .. } => {
            ("module", "the module loads but does not start; try it with the test of its own")
        }
        StartError::NoRoom(_) => ("limits", "fewer filters or less memory for each"),
    };
    let reason = if said.is_empty() { error.to_string() } else { format!("{error}; the filter says: {said}") };
    let plugin = match error {
        StartError::Failed { plugin, .. } | StartError::Refused { plugin, .. } => *plugin,
        StartError::NoRoom(_) => 0,
    };
    StartRefusal { plugin, field, reason, hint }
}

impl StartHost {
    /// For the plugins of a VM, with their part of what plugins share. `clock` counts from any moment; warnings are taken however
    /// little is logged: they are the reason of a refusal.
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
            said: String::new(),
            queues: Vec::new(),
            queue_bytes: usize::MAX,
        }
    }

    /// With a bound on what is put into queues; what is more is dropped, as if somebody had taken it.
    #[must_use]
    pub fn with_queue_bytes(self, queue_bytes: usize) -> Self {
        Self { queue_bytes, ..self }
    }

    /// The plugin of a context: while a VM starts there are only plugin contexts.
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
        if serious && self.said.len() + text.len() < MAX_START_LOG_BYTES {
            if !self.said.is_empty() {
                self.said.push_str("; ");
            }
            self.said.extend(text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }));
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
        see: &mut dyn FnMut(PropertyValue<'_>),
    ) -> Result<(), Status> {
        let own = self.plugin(context).and_then(|plugin| plugin.settings().property(path));
        see(PropertyValue::text(own.ok_or(Status::NotFound)?));
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

    fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    fn metrics(&self) -> &RefCell<MetricTable> {
        &self.metrics
    }

    fn register_queue(&mut self, root: ContextId, name: &[u8]) -> Result<u32, Status> {
        // The last one that registers a queue is the one that is told.
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
