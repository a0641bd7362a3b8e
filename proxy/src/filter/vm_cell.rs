//! A VM on one worker: the plugins that live in it, the streams that have a context there, and its end. One plugin, or
//! several that share it; each has a slot. A failure of one is the end of the VM for all (invariant I8).

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;
use weir_host_abi::shared::MetricTable;
use weir_host_abi::{ContextId, ContextTable, Started, Vm};
use weir_model::Recycling;

use crate::filter::mailbox::Note;
use crate::filter::slot::Slot;
use crate::filter::state::VmPermit;
use crate::filter::stock::VmStock;
use crate::filter::stream::StreamCell;
use crate::filter::tick;

/// A stream that has a context in the VM, which filter of its chain it is there, and of which plugin.
#[derive(Clone)]
pub(super) struct Tenant {
    pub(super) stream: Weak<StreamCell>,
    pub(super) filter: usize,
    pub(super) plugin: usize,
}

/// A VM on one worker, while there is one.
pub(super) struct VmCell {
    pub(super) stock: Arc<VmStock>,
    pub(super) worker: usize,
    pub(super) vm: RefCell<Option<Vm>>,
    /// Grows with each VM, so that a context of a dead VM is never taken for one of the next.
    generation: Cell<u64>,
    pub(super) tenants: RefCell<ContextTable<Tenant>>,
    /// The slots of its plugins, by their numbers.
    slots: RefCell<Vec<Weak<Slot>>>,
    /// The metrics that the VM has defined, by its numbers.
    pub(super) guest_metrics: RefCell<MetricTable>,
    /// Held while a VM of one stream lives; `None` in a VM of all streams.
    permit: RefCell<Option<VmPermit>>,
    /// The number of the last callout, without what says its kind.
    calls: Cell<u32>,
    /// Streams that the VM has had, and since when it runs.
    served: Cell<u64>,
    since: Cell<Instant>,
}

impl VmCell {
    /// A place for a VM.
    pub(super) fn new(stock: Arc<VmStock>, worker: usize) -> Rc<Self> {
        Rc::new(Self {
            stock,
            worker,
            vm: RefCell::new(None),
            generation: Cell::new(0),
            tenants: RefCell::default(),
            slots: RefCell::default(),
            guest_metrics: RefCell::default(),
            permit: RefCell::new(None),
            calls: Cell::new(0),
            served: Cell::new(0),
            since: Cell::new(Instant::now()),
        })
    }

    /// A plugin's slot, which the VM's end is told.
    pub(super) fn add_slot(&self, slot: &Rc<Slot>) {
        let number = slot.plugin.number;
        let mut slots = self.slots.borrow_mut();
        while slots.len() <= number {
            slots.push(Weak::new());
        }
        slots[number] = Rc::downgrade(slot);
    }

    /// The slots of its plugins, as far as they are there.
    pub(super) fn slots(&self) -> Vec<Rc<Slot>> {
        self.slots.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// Which VM runs: a context made in one generation means nothing in another.
    pub(super) fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Whether a VM runs.
    pub(super) fn is_running(&self) -> bool {
        self.vm.borrow().is_some()
    }

    /// Whether the VM has served long enough.
    pub(super) fn is_worn(&self, recycling: &Recycling) -> bool {
        let Recycling { requests, age, memory } = recycling;
        let running = self.vm.borrow();
        let Some(vm) = running.as_ref() else { return false };
        requests.is_some_and(|requests| self.served.get() >= requests)
            || age.is_some_and(|age| self.since.get().elapsed() >= age)
            || memory.is_some_and(|memory| vm.memory_bytes() as u64 >= memory.0)
    }

    /// A stream has a context in the VM that runs.
    pub(super) fn move_in(&self, context: ContextId, tenant: Tenant) {
        self.served.set(self.served.get() + 1);
        self.tenants.borrow_mut().insert(context, tenant);
    }

    /// A stream leaves the VM without its guest being told; true when it has left. One that has failed without anybody
    /// noticing stays to be found.
    pub(super) fn move_out(&self, (generation, context): (u64, ContextId)) -> bool {
        match self.vm.borrow_mut().as_mut() {
            Some(vm) if generation == self.generation() && !vm.is_dead() => {
                vm.forget(context);
                self.tenants.borrow_mut().remove(context);
                true
            }
            _ => false,
        }
    }

    /// A number for a callout; the two lowest bits are free for its kind.
    pub(super) fn next_call(&self) -> u32 {
        let last = self.calls.get().wrapping_add(4).max(4);
        self.calls.set(last);
        last
    }

    /// Whether several plugins live in the VM.
    pub(super) fn is_shared(&self) -> bool {
        self.stock.len() > 1
    }

    /// Keeps a permit as long as the VM lives.
    pub(super) fn hold(&self, permit: VmPermit) {
        *self.permit.borrow_mut() = Some(permit);
    }

    /// A VM runs from now on: its plugins are told of entries of the queues that it has registered, and of their timers.
    pub(super) fn run(&self, started: Started) {
        let Started { vm, metrics, queues } = started;
        self.generation.set(self.generation.get() + 1);
        self.stock.state.vms.fetch_add(1, Ordering::Relaxed);
        self.served.set(0);
        self.since.set(Instant::now());
        *self.guest_metrics.borrow_mut() = metrics;
        *self.vm.borrow_mut() = Some(vm);
        for slot in self.slots() {
            slot.plugin.stats.vms.fetch_add(1, Ordering::Relaxed);
            for (_, name) in queues.iter().filter(|(plugin, _)| *plugin == slot.plugin.number) {
                slot.register_queue(name);
            }
            tick::follow(&slot);
        }
    }

    /// The VM has failed: every stream in it is told, and no callout is answered any more.
    pub(super) fn fail(&self) {
        self.close();
        let slots = self.slots();
        for slot in &slots {
            slot.callouts.abandon();
        }
        for (_, tenant) in self.tenants.take().take_all() {
            let Some(slot) = slots.iter().find(|slot| slot.plugin.number == tenant.plugin) else { continue };
            slot.mailbox.post(tenant.stream, Note::Died(tenant.filter, slot.failed("filter_vm_died")));
        }
    }

    /// The VM goes, if there is one.
    pub(super) fn close(&self) {
        self.permit.take();
        if self.vm.borrow_mut().take().is_none() {
            return;
        }
        self.stock.state.vms.fetch_sub(1, Ordering::Relaxed);
        for slot in self.slots() {
            slot.plugin.stats.vms.fetch_sub(1, Ordering::Relaxed);
            slot.ticking.set(None);
        }
    }
}

impl Drop for VmCell {
    fn drop(&mut self) {
        self.close(); // A callout may have kept the last slot.
    }
}
