//! A plugin's place on one worker: the VM that runs, the streams that have a context in it, its breaker. Invariant I8
//! lives here: a failure costs the streams of one VM, and the next VM is ready or its failure policy answers.
//!
//! ```text
//!            take spare               Failure: streams told, breaker counts
//!  empty ───────────────► running ───────────────────────────────────────────► empty
//!    └─ no spare yet, or breaker open: the failure policy answers
//! ```

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;
use tracing::{error, warn};
use weir_host_abi::shared::MetricTable;
use weir_host_abi::{ContextId, Exports, Failure, FailureKind, Started, Vm};
use weir_model::PluginLimits;

use crate::error::ProxyError;
use crate::filter::breaker::{Breaker, Verdict};
use crate::filter::callout::Callouts;
use crate::filter::complaints::{Complaint, Complaints};
use crate::filter::event::Failed;
use crate::filter::mailbox::{Mailbox, Note};
use crate::filter::plugin::ActivePlugin;
use crate::filter::queues::Inbox;
use crate::filter::stream::StreamCell;
use crate::filter::usage::Usage;
use crate::hashing::FastMap;
use crate::telemetry::PluginMetrics;

/// A stream that has a context in the VM, and which filter of its chain it is there.
#[derive(Clone)]
pub(super) struct Tenant {
    pub(super) stream: Weak<StreamCell>,
    pub(super) filter: usize,
}

/// Where a slot's notes, callouts and counts go.
pub(super) struct SlotEnds {
    pub(super) mailbox: Rc<Mailbox>,
    pub(super) callouts: Callouts,
    pub(super) metrics: Arc<PluginMetrics>,
}

/// A plugin's place on one worker.
pub(crate) struct Slot {
    pub(super) plugin: Arc<ActivePlugin>,
    worker: usize,
    pub(super) vm: RefCell<Option<Vm>>,
    /// Grows with each VM, so that a context of a dead VM is never taken for one of the next.
    generation: Cell<u64>,
    pub(super) tenants: RefCell<FastMap<ContextId, Tenant>>,
    breaker: RefCell<Breaker>,
    pub(super) usage: Usage,
    pub(super) metrics: Arc<PluginMetrics>,
    complaints: RefCell<Complaints>,
    /// The metrics that the VM has defined, by its numbers.
    pub(super) guest_metrics: RefCell<MetricTable>,
    pub(super) callouts: Callouts,
    pub(super) mailbox: Rc<Mailbox>,
    /// The generation of the timer that a tick task runs for.
    pub(super) ticking: Cell<Option<u64>>,
    /// Entries of the queues that its VMs have registered, on their way to them.
    pub(super) inbox: Arc<Inbox>,
    /// How often somebody had asked to reset the breaker when it was last looked at.
    resets: Cell<u64>,
}

impl Slot {
    /// A place without a VM yet.
    pub(super) fn new(plugin: Arc<ActivePlugin>, worker: usize, ends: SlotEnds) -> Rc<Self> {
        let SlotEnds { mailbox, callouts, metrics } = ends;
        let limits = plugin.model.limits;
        Rc::new(Self {
            plugin,
            worker,
            vm: RefCell::new(None),
            generation: Cell::new(0),
            tenants: RefCell::default(),
            breaker: RefCell::default(),
            usage: Usage::new(limits.cpu_per_second),
            complaints: RefCell::default(),
            metrics,
            guest_metrics: RefCell::default(),
            callouts,
            mailbox,
            ticking: Cell::new(None),
            inbox: Arc::default(),
            resets: Cell::new(0),
        })
    }

    /// A stream has a context in the VM that runs.
    pub(super) fn move_in(&self, context: ContextId, tenant: Tenant) {
        self.metrics.streams.increment();
        self.tenants.borrow_mut().insert(context, tenant);
    }

    /// What the plugin may use.
    pub(super) fn limits(&self) -> &PluginLimits {
        &self.plugin.model.limits
    }

    /// The callbacks that the plugin's module has.
    pub(super) fn exports(&self) -> Exports {
        self.plugin.exports()
    }

    /// Which VM runs: a context made in one generation means nothing in another.
    pub(super) fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Makes sure that a VM runs.
    ///
    /// # Errors
    /// The failure policy answers: the breaker is open, or no VM is started yet.
    pub(super) fn ready(self: &Rc<Self>) -> Result<(), Failed> {
        if self.usage.is_spent(Instant::now) {
            self.metrics.limited.increment("cpu");
            return Err(self.failed("filter_cpu_spent"));
        }
        if self.vm.borrow().is_some() {
            return Ok(());
        }
        self.follow_resets();
        if let Verdict::Open(_) = self.breaker.borrow().verdict(Instant::now()) {
            return Err(self.failed("filter_breaker_open"));
        }
        let Some(Started { vm, metrics, queues }) = self.plugin.take_spare(self.worker) else {
            self.plugin.request_vm(self.worker, Instant::now());
            return Err(self.failed("filter_not_started"));
        };
        if !self.plugin.has_spare(self.worker) {
            // Started beside the worker: there is a spare again before the next failure, most likely.
            self.plugin.request_vm(self.worker, Instant::now());
        }
        self.generation.set(self.generation.get() + 1);
        self.plugin.stats.vms.fetch_add(1, Ordering::Relaxed);
        self.metrics.vms_started.increment();
        *self.guest_metrics.borrow_mut() = metrics;
        *self.vm.borrow_mut() = Some(vm);
        for name in &queues {
            self.register_queue(name);
        }
        crate::filter::tick::follow(self);
        Ok(())
    }

    /// The number of a queue; from now on its entries are told to the VM that runs here.
    pub(super) fn register_queue(self: &Rc<Self>, name: &[u8]) -> u32 {
        self.inbox.open(self);
        let namespace = &self.plugin.namespace;
        namespace.queues().register(namespace.vm_id(), name, self.inbox.notify())
    }

    /// Closes the breaker when somebody has asked for it since it was last looked at.
    fn follow_resets(&self) {
        let resets = self.plugin.stats.resets.load(Ordering::Relaxed);
        if self.resets.replace(resets) != resets {
            *self.breaker.borrow_mut() = Breaker::default();
        }
    }

    /// What the policy says, with a reason in snake case.
    pub(super) fn failed(&self, detail: &'static str) -> Failed {
        let plugin = self.plugin.model.name.to_string();
        Failed { policy: self.plugin.model.failure, error: ProxyError::FilterFailed { plugin, detail } }
    }

    /// A call did not return: the VM is gone, its streams are told, and what happened is logged once.
    pub(super) fn on_failure(self: &Rc<Self>, failure: &Failure) -> Failed {
        if failure.kind != FailureKind::Dead {
            self.metrics.failures.increment(detail(failure.kind));
            let now = Instant::now();
            let opened = self.breaker.borrow_mut().on_failure(now, self.jitter());
            self.tell(failure, opened, now);
            self.plugin.stats.note_failure(failure.to_string());
        }
        if self.vm.borrow_mut().take().is_some() {
            self.plugin.stats.vms.fetch_sub(1, Ordering::Relaxed);
        }
        self.ticking.set(None);
        self.callouts.abandon();
        for (_, tenant) in self.tenants.borrow_mut().drain() {
            let failed = self.failed("filter_vm_died");
            self.mailbox.post(tenant.stream, Note::Died(tenant.filter, failed));
        }
        self.failed(detail(failure.kind))
    }

    /// Whether the log may have one more line about what the filter does wrong.
    pub(super) fn may_complain(&self) -> bool {
        let complaint = self.complaints.borrow_mut().add(Instant::now());
        if complaint == Complaint::TellOfSilence {
            let plugin = &self.plugin.model.name;
            warn!(%plugin, worker = self.worker, "a filter does wrong too often; the log has no more of it for a second");
        }
        complaint == Complaint::Tell
    }

    /// Spreads the pauses of several workers; need not be unpredictable.
    fn jitter(&self) -> u8 {
        let mixed =
            (self.worker as u64 + 1).wrapping_mul(0x9E37_79B9) ^ self.generation.get().wrapping_mul(0x85EB_CA6B);
        mixed.to_le_bytes()[1]
    }

    fn tell(&self, failure: &Failure, opened: bool, now: Instant) {
        let plugin = &self.plugin.model.name;
        let backtrace = failure.backtrace.join(" < ");
        let (kind, callback) = (failure.kind.name(), failure.callback);
        let streams = self.tenants.borrow().len();
        warn!(%plugin, worker = self.worker, kind, callback, message = %failure.message, %backtrace, streams,
            "filter failed; its VM is replaced, its streams follow the failure policy");
        if opened {
            self.metrics.breaker_opened.increment();
            self.plugin.stats.note_breaker(now + self.breaker.borrow().pause(now));
            let pause_ms = u64::try_from(self.breaker.borrow().pause(now).as_millis()).unwrap_or(u64::MAX);
            error!(%plugin, worker = self.worker, pause_ms, policy = ?self.plugin.model.failure,
                "filter failed too often; its failure policy answers without calling it");
        }
    }

    /// Ends the VM gently: no configuration refers to the plugin any more and no stream is in it.
    pub(super) fn close(&self) {
        if self.vm.borrow_mut().take().is_some() {
            self.plugin.stats.vms.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// The access log's detail for a kind of failure.
const fn detail(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Trap => "filter_trap",
        FailureKind::Deadline => "filter_deadline",
        FailureKind::OutOfMemory => "filter_out_of_memory",
        FailureKind::AbiViolation => "filter_abi_violation",
        FailureKind::Exit => "filter_exit",
        FailureKind::Dead => "filter_vm_died",
    }
}
