//! A plugin's place on one worker: its breaker, its counts, and the VM that it lives in, alone or with others. Invariant I8
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
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;
use tracing::{error, warn};
use weir_host_abi::{ContextId, Exports, Failure, FailureKind, Started};
use weir_model::{Isolation, PluginLimits, Recycling, StreamSight};

use crate::error::ProxyError;
use crate::filter::breaker::{Breaker, Verdict};
use crate::filter::callout::Callouts;
use crate::filter::complaints::{Complaint, Complaints};
use crate::filter::event::Failed;
use crate::filter::mailbox::Mailbox;
use crate::filter::plugin::ActivePlugin;
use crate::filter::queues::Inbox;
use crate::filter::retire;
use crate::filter::usage::Usage;
use crate::filter::vm_cell::{Tenant, VmCell};
use crate::task;
use crate::telemetry::PluginMetrics;

/// Where a slot's notes, callouts and counts go.
pub(super) struct SlotEnds {
    pub(super) mailbox: Rc<Mailbox>,
    pub(super) callouts: Callouts,
    pub(super) metrics: Arc<PluginMetrics>,
}

/// A plugin's place on one worker.
pub(crate) struct Slot {
    pub(super) plugin: Arc<ActivePlugin>,
    /// Its number in its VM; like what follows a copy, since each call asks for it.
    pub(super) number: usize,
    exports: Exports,
    /// False when it is told of the ends of streams alone.
    pub(super) sees_streams: bool,
    /// Bytes of a body that may be held back at once.
    pub(super) body_room: usize,
    /// Its VM.
    pub(super) cell: Rc<VmCell>,
    pub(super) record: Rc<Record>,
    pub(super) metrics: Arc<PluginMetrics>,
    is_of_stream: bool,
    pub(super) life: Cell<Life>,
    /// Streams that may still come here with a callback.
    pub(super) places: Cell<usize>,
    /// Where new streams go, once the VM here has served long enough.
    successor: RefCell<Option<Rc<Self>>>,
    pub(super) callouts: Callouts,
    pub(super) mailbox: Rc<Mailbox>,
    /// The generation of the timer that a tick task runs for.
    pub(super) ticking: Cell<Option<u64>>,
    /// Entries of the queues that its VMs have registered, on their way to them.
    pub(super) inbox: Arc<Inbox>,
}

/// Whether a place is still its plugin's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Life {
    Serving,
    /// Its plugin context is to be done; no stream comes any more.
    Ending,
    /// Its plugin context is deleted; others may live in the VM.
    Gone,
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
    /// A place in a VM that does not run yet.
    pub(super) fn new(plugin: Arc<ActivePlugin>, cell: Rc<VmCell>, ends: SlotEnds) -> Rc<Self> {
        let record = Record {
            breaker: RefCell::default(),
            usage: Usage::new(plugin.model.limits.cpu_per_second),
            complaints: RefCell::default(),
            resets: Cell::new(0),
        };
        Self::with_record(plugin, (cell, false), ends, Rc::new(record))
    }

    /// The place for a new stream: a place of its own where each stream has a VM of its own.
    pub(super) fn for_stream(self: &Rc<Self>) -> Rc<Self> {
        match self.plugin.model.isolation {
            Isolation::Worker if self.plugin.model.recycling == Recycling::default() => Rc::clone(self),
            Isolation::Worker | Isolation::Process => self.newest(),
            Isolation::Stream => self.sibling(true),
        }
    }

    /// This place, or the one that has followed it: a VM that has served long enough gets no more streams.
    pub(super) fn newest(self: &Rc<Self>) -> Rc<Self> {
        let newest = self.last();
        if newest.cell.is_worn(&newest.plugin.model.recycling) && newest.plugin.stock.has_spare(newest.cell.worker) {
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

    /// Another place of the same plugin on the same worker, in a VM of its own that does not run yet.
    fn sibling(&self, is_of_stream: bool) -> Rc<Self> {
        let ends = SlotEnds {
            mailbox: Rc::clone(&self.mailbox),
            callouts: self.callouts.sibling(),
            metrics: Arc::clone(&self.metrics),
        };
        let cell = VmCell::new(Arc::clone(&self.cell.stock), self.cell.worker);
        Self::with_record(Arc::clone(&self.plugin), (cell, is_of_stream), ends, Rc::clone(&self.record))
    }

    fn with_record(
        plugin: Arc<ActivePlugin>,
        (cell, is_of_stream): (Rc<VmCell>, bool),
        ends: SlotEnds,
        record: Rc<Record>,
    ) -> Rc<Self> {
        let SlotEnds { mailbox, callouts, metrics } = ends;
        let body_room = usize::try_from(plugin.model.limits.body.0).unwrap_or(usize::MAX);
        let slot = Rc::new(Self {
            number: plugin.number,
            exports: plugin.exports(),
            sees_streams: plugin.model.sight == StreamSight::Whole,
            body_room,
            plugin,
            cell,
            record,
            metrics,
            is_of_stream,
            life: Cell::new(Life::Serving),
            places: Cell::new(0),
            successor: RefCell::new(None),
            callouts,
            mailbox,
            ticking: Cell::new(None),
            inbox: Arc::default(),
        });
        slot.cell.add_slot(&slot);
        slot
    }

    /// A stream has a context in the VM that runs.
    pub(super) fn move_in(&self, context: ContextId, tenant: Tenant) {
        self.metrics.streams.increment();
        self.cell.move_in(context, tenant);
    }

    /// What the plugin may use.
    pub(super) fn limits(&self) -> &PluginLimits {
        &self.plugin.model.limits
    }

    /// The callbacks that the plugin's module has.
    pub(super) const fn exports(&self) -> Exports {
        self.exports
    }

    /// Whether it is told anything of a stream's end.
    pub(super) const fn sees_ends(&self) -> bool {
        self.exports.log() || self.exports.done() || self.exports.delete()
    }

    /// Which VM runs: a context made in one generation means nothing in another.
    pub(super) fn generation(&self) -> u64 {
        self.cell.generation()
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
        if self.cell.is_running() && !self.is_left_out() {
            return Ok(());
        }
        if self.is_open() {
            return Err(self.failed("filter_breaker_open"));
        }
        let started = if self.is_of_stream { self.own_vm()? } else { self.spare_vm()? };
        self.metrics.vms_started.increment();
        self.metrics.memory.set(started.vm.memory_bytes() as u64);
        self.cell.run(started);
        Ok(())
    }

    /// Whether its breaker is open.
    fn is_open(&self) -> bool {
        self.follow_resets();
        matches!(self.record.breaker.borrow().verdict(Instant::now()), Verdict::Open(_))
    }

    /// Whether it has failed too often to be called in a VM that others have started anew.
    pub(super) fn is_left_out(&self) -> bool {
        self.cell.is_shared() && self.is_open()
    }

    /// A VM that was started beside the worker.
    fn spare_vm(&self) -> Result<Started, Failed> {
        let (stock, worker) = (&self.plugin.stock, self.cell.worker);
        let spare = stock.take_spare(worker);
        if !stock.has_spare(worker) {
            // There is one again before the next failure, most likely.
            stock.request_vm(worker, Instant::now());
        }
        spare.ok_or_else(|| self.failed("filter_not_started"))
    }

    /// The VM of one stream, started now. A second one would know nothing of what the first has done.
    fn own_vm(&self) -> Result<Started, Failed> {
        if self.generation() > 0 {
            return Err(self.failed("filter_vm_died"));
        }
        let Some(permit) = self.plugin.state().permit_vm() else {
            self.metrics.limited.increment("vms");
            return Err(self.failed("filter_too_many_vms"));
        };
        self.cell.hold(permit);
        self.plugin.stock.start_vm().map_err(|refusal| {
            self.metrics.failures.increment("filter_not_started");
            self.plugin.stats.note_failure(refusal.reason);
            self.record.breaker.borrow_mut().on_failure(Instant::now(), self.jitter());
            self.failed("filter_not_started")
        })
    }

    /// The number of a queue; from now on its entries are told to the VM that runs here.
    pub(super) fn register_queue(self: &Rc<Self>, name: &[u8]) -> u32 {
        self.inbox.open(self);
        let namespace = self.plugin.namespace();
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
            // How a place ends is nothing to the one that has followed it.
            let serves = self.life.get() == Life::Serving;
            let opened = serves && self.record.breaker.borrow_mut().on_failure(now, self.jitter());
            self.tell(failure, opened, now);
            self.plugin.stats.note_failure(failure.to_string());
            if serves && self.plugin.model.isolation == Isolation::Process {
                task::spawn_local("filter-revive", retire::revive(Rc::downgrade(self)));
            }
        }
        self.cell.fail();
        self.failed(detail(failure.kind))
    }

    /// Whether the log may have one more line about what the filter does wrong.
    pub(super) fn may_complain(&self) -> bool {
        let complaint = self.record.complaints.borrow_mut().add(Instant::now());
        if complaint == Complaint::TellOfSilence {
            let plugin = &self.plugin.model.name;
            warn!(%plugin, worker = self.cell.worker, "a filter does wrong too often; the log has no more of it for a second");
        }
        complaint == Complaint::Tell
    }

    /// Spreads the pauses of several workers; need not be unpredictable.
    fn jitter(&self) -> u8 {
        let mixed =
            (self.cell.worker as u64 + 1).wrapping_mul(0x9E37_79B9) ^ self.generation().wrapping_mul(0x85EB_CA6B);
        mixed.to_le_bytes()[1]
    }

    fn tell(&self, failure: &Failure, opened: bool, now: Instant) {
        let plugin = &self.plugin.model.name;
        let backtrace = failure.backtrace.join(" < ");
        let (kind, callback) = (failure.kind.name(), failure.callback);
        let streams = self.cell.tenants.borrow().len();
        warn!(%plugin, worker = self.cell.worker, kind, callback, message = %failure.message, %backtrace, streams,
            "filter failed; its VM is replaced, its streams follow the failure policy");
        if opened {
            self.metrics.breaker_opened.increment();
            self.plugin.stats.note_breaker(now + self.record.breaker.borrow().pause(now));
            let pause_ms = u64::try_from(self.record.breaker.borrow().pause(now).as_millis()).unwrap_or(u64::MAX);
            error!(%plugin, worker = self.cell.worker, pause_ms, policy = ?self.plugin.model.failure,
                "filter failed too often; its failure policy answers without calling it");
        }
    }

    /// The stream that this place is of has ended: its VM goes with it.
    pub(super) fn end_of_stream(&self) {
        if self.is_of_stream {
            self.cell.close();
            self.callouts.abandon();
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
