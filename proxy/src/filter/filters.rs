//! All plugins of one worker: their slots, and the chain of slots of each route. One of these belongs to each worker.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use weir_model::{ClusterName, Isolation};

use crate::filter::callout::{Callouts, Directory};
use crate::filter::mailbox::Mailbox;
use crate::filter::plugin::ActivePlugin;
use crate::filter::retire;
use crate::filter::slot::{Slot, SlotEnds};
use crate::filter::vm_cell::VmCell;
use crate::task;
use crate::telemetry::WorkerMetrics;
use crate::upstream::{Cluster, Upstreams};

/// The plugins of one worker.
pub(crate) struct Filters {
    worker: usize,
    upstreams: Rc<Upstreams>,
    metrics: Arc<WorkerMetrics>,
    directory: Directory,
    slots: RefCell<HashMap<u64, Rc<Slot>>>,
    mailbox: Rc<Mailbox>,
}

impl Filters {
    /// No plugin yet. Must be called on the worker's thread, inside its runtime: a task delivers notes from then on.
    pub(crate) fn new(worker: usize, upstreams: Rc<Upstreams>, metrics: Arc<WorkerMetrics>) -> Rc<Self> {
        let mailbox = Rc::<Mailbox>::default();
        task::spawn_local("filter-mailbox", Rc::clone(&mailbox).deliver());
        let (directory, slots) = (Directory::default(), RefCell::default());
        Rc::new(Self { worker, upstreams, metrics, directory, slots, mailbox })
    }

    /// The slots of a chain, in request order.
    pub(crate) fn chain(&self, plugins: &[Arc<ActivePlugin>]) -> Rc<[Rc<Slot>]> {
        plugins.iter().map(|plugin| self.slot(plugin)).collect()
    }

    fn slot(&self, plugin: &Arc<ActivePlugin>) -> Rc<Slot> {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.get(&plugin.id) {
            return Rc::clone(slot);
        }
        let cell = self.cell(&slots, plugin);
        let callouts = Callouts::new(Rc::clone(&self.upstreams), Rc::clone(&self.directory));
        let metrics = self.metrics.plugin(&plugin.model.name);
        let ends = SlotEnds { mailbox: Rc::clone(&self.mailbox), callouts, metrics };
        let slot = Slot::new(Arc::clone(plugin), cell, ends);
        slots.insert(plugin.id, Rc::clone(&slot));
        slot
    }

    /// The VM that the plugin lives in: that of a plugin here that shares it, or a new one. One whose plugins retire is not
    /// looked for: its plugin contexts end.
    fn cell(&self, slots: &HashMap<u64, Rc<Slot>>, plugin: &ActivePlugin) -> Rc<VmCell> {
        let shared = slots.values().find(|slot| slot.plugin.stock.id == plugin.stock.id);
        shared.map_or_else(|| VmCell::new(Arc::clone(&plugin.stock), self.worker), |slot| Rc::clone(&slot.cell))
    }

    /// Another configuration serves: plugins that it does not have end once their last stream has, the others go on
    /// with all that they know; callouts go to its clusters.
    pub(crate) fn refresh<'a>(
        &self,
        plugins: impl Iterator<Item = &'a Arc<ActivePlugin>>,
        clusters: &HashMap<ClusterName, Arc<Cluster>>,
    ) {
        self.directory.borrow_mut().clone_from(clusters);
        let plugins: Vec<&Arc<ActivePlugin>> = plugins.collect();
        self.slots.borrow_mut().retain(|id, slot| {
            let stays = plugins.iter().any(|plugin| plugin.id == *id);
            if !stays {
                task::spawn_local("filter-retire", retire::retire(Rc::clone(slot)));
            }
            stays
        });
        let runs_here = |plugin: &&&Arc<ActivePlugin>| match plugin.model.isolation {
            Isolation::Worker => true,
            Isolation::Process => self.worker == 0,
            Isolation::Stream => false,
        };
        // All plugins of a VM have their slots before it runs; a timer starts to tick when its plugin serves, not with the
        // first request.
        let slots: Vec<_> = plugins.iter().filter(runs_here).map(|plugin| self.slot(plugin)).collect();
        for slot in slots {
            drop(slot.newest().ready());
        }
    }
}
