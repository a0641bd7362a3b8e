//! A plugin's place on one worker: the VM that runs, the streams that have a context in it, its breaker. Invariant I8
//! lives here: a failure costs the streams of one VM, and the next VM is ready or its failure policy answers.
//!
//! ```text
//!            take spare               Failure: streams told, breaker counts
//!  empty ───────────────► running ───────────────────────────────────────────► empty
//!    └─ no spare yet, or breaker open: the failure policy answers
//! ```
//!
//! With `isolation: Stream` each stream has a slot of its own, whose VM is started for it and goes with it; what is
//! counted is counted for all of them together.

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;
use tracing::{error, warn};
use weir_host_abi::shared::MetricTable;
use weir_host_abi::{ContextId, Exports, Failure, FailureKind, Started, Vm};
use weir_model::{Isolation, PluginLimits, Recycling};

use crate::error::ProxyError;
use crate::filter::breaker::{Breaker, Verdict};
use crate::filter::callout::Callouts;
use crate::filter::complaints::{Complaint, Complaints};
use crate::filter::event::Failed;
use crate::filter::mailbox::{Mailbox, Note};
use crate::filter::plugin::ActivePlugin;
use crate::filter::queues::Inbox;
use crate::filter::retire;
use crate::filter::state::VmPermit;
use crate::filter::stream::StreamCell;
use crate::filter::usage::Usage;
use crate::hashing::FastMap;
use crate::task;
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
    pub(super) record: Rc<Record>,
    pub(super) metrics: Arc<PluginMetrics>,
    /// Held while a VM of one stream lives; `None` in a slot of all streams.
    permit: RefCell<Option<VmPermit>>,
    is_of_stream: bool,
    /// Streams that may still come here with a callback.
    pub(super) places: Cell<usize>,
    /// Streams that the VM has had, and since when it runs.
    served: Cell<u64>,
    since: Cell<Instant>,
    /// Where new streams go, once the VM here has served long enough.
    successor: RefCell<Option<Rc<Self>>>,
    /// The metrics that the VM has defined, by its numbers.
    pub(super) guest_metrics: RefCell<MetricTable>,
    pub(super) callouts: Callouts,
    pub(super) mailbox: Rc<Mailbox>,
    /// The generation of the timer that a tick task runs for.
    pub(super) ticking: Cell<Option<u64>>,
    /// Entries of the queues that its VMs have registered, on their way to them.
    pub(super) inbox: Arc<Inbox>,
}

/// What a plugin has done on one worker, however many VMs it has there.
pub(super) struct Record {
    breaker: RefCell<Breaker>,
    pub(super) usage: Usage,
    complaints: RefCell<Complaints>,
    /// How often somebody had asked to reset the breaker when it was last looked at.
    resets: Cell<u64>,
}

impl Slot {
    /// A place without a VM yet.
    pub(super) fn new(plugin: Arc<ActivePlugin>, worker: usize, ends: SlotEnds) -> Rc<Self> {
        let SlotEnds { mailbox, callouts, metrics } = ends;
        let record = Record {
            breaker: RefCell::default(),
            usage: Usage::new(plugin.model.limits.cpu_per_second),
            complaints: RefCell::default(),
            resets: Cell::new(0),
        };
        Self::with_record(plugin, (worker, false), SlotEnds { mailbox, callouts, metrics }, Rc::new(record))
    }

    /// The place for a new stream: a place of its own where each stream has a VM of its own.
    pub(super) fn for_stream(self: &Rc<Self>) -> Rc<Self> {
        if self.plugin.model.isolation == Isolation::Worker {
            return self.newest();
        }
        self.sibling(true)
    }

    /// This place, or the one that has followed it: a VM that has served long enough gets no more streams.
    pub(super) fn newest(self: &Rc<Self>) -> Rc<Self> {
        let newest = self.last();
        if newest.is_worn() && newest.plugin.has_spare(newest.worker) {
            let next = newest.sibling(false);
            *newest.successor.borrow_mut() = Some(Rc::clone(&next));
            // The way there does not get longer with each one.
            *self.successor.borrow_mut() = Some(Rc::clone(&next));
            task::spawn_local("filter-recycle", retire::recycle(Rc::clone(&newest)));
            return next;
        }
        newest
    }

    /// The last one of those that have followed each other here.
    pub(super) fn last(self: &Rc<Self>) -> Rc<Self> {
        let mut last = Rc::clone(self);
        loop {
            let next = last.successor.borrow().clone();
            match next {
                Some(next) => last = next,
                None => return last,
            }
        }
    }

    /// Whether the VM has served long enough.
    fn is_worn(&self) -> bool {
        let Recycling { requests, age, memory } = self.plugin.model.recycling;
        let running = self.vm.borrow();
        let Some(vm) = running.as_ref() else { return false };
        requests.is_some_and(|requests| self.served.get() >= requests)
            || age.is_some_and(|age| self.since.get().elapsed() >= age)
            || memory.is_some_and(|memory| vm.memory_bytes() as u64 >= memory.0)
    }

    /// Another place of the same plugin on the same worker, without a VM yet.
    fn sibling(&self, is_of_stream: bool) -> Rc<Self> {
        let ends = SlotEnds {
            mailbox: Rc::clone(&self.mailbox),
            callouts: self.callouts.sibling(),
            metrics: Arc::clone(&self.metrics),
        };
        Self::with_record(Arc::clone(&self.plugin), (self.worker, is_of_stream), ends, Rc::clone(&self.record))
    }

    fn with_record(
        plugin: Arc<ActivePlugin>,
        (worker, is_of_stream): (usize, bool),
        ends: SlotEnds,
        record: Rc<Record>,
    ) -> Rc<Self> {
        let SlotEnds { mailbox, callouts, metrics } = ends;
        Rc::new(Self {
            plugin,
            worker,
            vm: RefCell::new(None),
            generation: Cell::new(0),
            tenants: RefCell::default(),
            record,
            metrics,
            permit: RefCell::new(None),
            is_of_stream,
            places: Cell::new(0),
            served: Cell::new(0),
            since: Cell::new(Instant::now()),
            successor: RefCell::new(None),
            guest_metrics: RefCell::default(),
            callouts,
            mailbox,
            ticking: Cell::new(None),
            inbox: Arc::default(),
        })
    }

    /// A stream has a context in the VM that runs.
    pub(super) fn move_in(&self, context: ContextId, tenant: Tenant) {
        self.metrics.streams.increment();
        self.served.set(self.served.get() + 1);
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
        if self.record.usage.is_spent(Instant::now) {
            self.metrics.limited.increment("cpu");
            return Err(self.failed("filter_cpu_spent"));
        }
        if self.vm.borrow().is_some() {
            return Ok(());
        }
        self.follow_resets();
        if let Verdict::Open(_) = self.record.breaker.borrow().verdict(Instant::now()) {
            return Err(self.failed("filter_breaker_open"));
        }
        let Started { vm, metrics, queues } = if self.is_of_stream { self.own_vm()? } else { self.spare_vm()? };
        self.generation.set(self.generation.get() + 1);
        self.plugin.stats.vms.fetch_add(1, Ordering::Relaxed);
        self.plugin.state.vms.fetch_add(1, Ordering::Relaxed);
        self.metrics.vms_started.increment();
        self.served.set(0);
        self.since.set(Instant::now());
        *self.guest_metrics.borrow_mut() = metrics;
        *self.vm.borrow_mut() = Some(vm);
        for name in &queues {
            self.register_queue(name);
        }
        crate::filter::tick::follow(self);
        Ok(())
    }

    /// A VM that was started beside the worker.
    fn spare_vm(&self) -> Result<Started, Failed> {
        let spare = self.plugin.take_spare(self.worker);
        if !self.plugin.has_spare(self.worker) {
            // There is one again before the next failure, most likely.
            self.plugin.request_vm(self.worker, Instant::now());
        }
        spare.ok_or_else(|| self.failed("filter_not_started"))
    }

    /// The VM of one stream, started now. A second one would know nothing of what the first has done.
    fn own_vm(&self) -> Result<Started, Failed> {
        if self.generation.get() > 0 {
            return Err(self.failed("filter_vm_died"));
        }
        let Some(permit) = self.plugin.state.permit_vm() else {
            self.metrics.limited.increment("vms");
            return Err(self.failed("filter_too_many_vms"));
        };
        *self.permit.borrow_mut() = Some(permit);
        self.plugin.start_vm().map_err(|refusal| {
            self.metrics.failures.increment("filter_not_started");
            self.plugin.stats.note_failure(refusal.reason);
            self.record.breaker.borrow_mut().on_failure(Instant::now(), self.jitter());
            self.failed("filter_not_started")
        })
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
        if self.record.resets.replace(resets) != resets {
            *self.record.breaker.borrow_mut() = Breaker::default();
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
            let opened = self.record.breaker.borrow_mut().on_failure(now, self.jitter());
            self.tell(failure, opened, now);
            self.plugin.stats.note_failure(failure.to_string());
        }
        self.close();
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
        let complaint = self.record.complaints.borrow_mut().add(Instant::now());
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
            self.plugin.stats.note_breaker(now + self.record.breaker.borrow().pause(now));
            let pause_ms = u64::try_from(self.record.breaker.borrow().pause(now).as_millis()).unwrap_or(u64::MAX);
            error!(%plugin, worker = self.worker, pause_ms, policy = ?self.plugin.model.failure,
                "filter failed too often; its failure policy answers without calling it");
        }
    }

    /// The stream that this place is of has ended: its VM goes with it.
    pub(super) fn end_of_stream(&self) {
        if self.is_of_stream {
            self.close();
            self.callouts.abandon();
            self.ticking.set(None);
            self.permit.take();
        }
    }

    /// The VM goes, if there is one.
    pub(super) fn close(&self) {
        if self.vm.borrow_mut().take().is_some() {
            self.plugin.stats.vms.fetch_sub(1, Ordering::Relaxed);
            self.plugin.state.vms.fetch_sub(1, Ordering::Relaxed);
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
