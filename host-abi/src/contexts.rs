//! The contexts of a VM: which are live, which is current, and which have called `proxy_done`. The VM updates the set;
//! hostcalls read it.

use crate::abi::context::ContextId;
use crate::abi::status::Status;
use crate::context_table::ContextTable;

/// The contexts of one VM. The plugin contexts have the ids 1, 2, 3, in the order of the VM's plugins.
pub(crate) struct ContextSet {
    /// Live contexts, with the index of their plugin.
    live: ContextTable<usize>,
    last: u32,
    current: ContextId,
    effective: ContextId,
    /// Contexts whose `proxy_on_done` returned false.
    pending: Vec<ContextId>,
    /// Contexts that were pending and have called `proxy_done` since.
    done: Vec<ContextId>,
}

impl ContextSet {
    /// Creates the plugin contexts of a VM with this number of plugins.
    pub(crate) fn new(plugins: usize) -> Self {
        let mut live = ContextTable::default();
        (0..plugins).for_each(|plugin| live.insert(ContextId::of_plugin(plugin), plugin));
        Self {
            live,
            last: ContextId::of_plugin(plugins.saturating_sub(1)).number(),
            current: ContextId::ROOT,
            effective: ContextId::ROOT,
            pending: Vec::new(),
            done: Vec::new(),
        }
    }

    /// Creates a stream context of a plugin. Its id is larger than the previous one, not live, and never 0.
    pub(crate) fn create(&mut self, plugin: usize) -> ContextId {
        loop {
            self.last = self.last.wrapping_add(1).max(ContextId::ROOT.number());
            let context = ContextId::new(self.last);
            if self.live.get(context).is_none() {
                self.live.insert(context, plugin);
                return context;
            }
        }
    }

    /// Removes a context.
    pub(crate) fn delete(&mut self, context: ContextId) {
        self.live.remove(context);
        self.pending.retain(|pending| *pending != context);
        self.done.retain(|done| *done != context);
    }

    pub(crate) fn is_live(&self, context: ContextId) -> bool {
        self.plugin_of(context).is_some()
    }

    /// Returns the plugin index of a live context.
    pub(crate) fn plugin_of(&self, context: ContextId) -> Option<usize> {
        self.live.get(context).copied()
    }

    /// Starts a call into the guest on behalf of `context`, a live context of `plugin`.
    pub(crate) fn enter(&mut self, context: ContextId, plugin: usize) {
        debug_assert_eq!(self.live.get(context), Some(&plugin), "{context:?} is entered");
        self.current = context;
        self.effective = context;
    }

    /// Returns the context that hostcalls act on.
    pub(crate) const fn effective(&self) -> ContextId {
        self.effective
    }

    /// Selects another context until the call returns (`proxy_set_effective_context`). 0 stands for the plugin context
    /// of the current plugin.
    pub(crate) fn set_effective(&mut self, number: u32) -> Result<(), Status> {
        let root = || ContextId::of_plugin(self.plugin_of(self.current).unwrap_or_default());
        let context = if number == 0 { root() } else { ContextId::new(number) };
        if !self.is_live(context) {
            return Err(Status::BadArgument);
        }
        self.effective = context;
        Ok(())
    }

    /// Marks a context as waiting for `proxy_done`, unless it has called `proxy_done` already. Called when
    /// `proxy_on_done` returned false.
    pub(crate) fn set_pending(&mut self, context: ContextId) {
        if !self.pending.contains(&context) && !self.done.contains(&context) {
            self.pending.push(context);
        }
    }

    /// Marks the effective context as done (`proxy_done`).
    pub(crate) fn mark_done(&mut self) -> Result<(), Status> {
        let at = self.pending.iter().position(|context| *context == self.effective).ok_or(Status::NotFound)?;
        self.done.push(self.pending.swap_remove(at));
        Ok(())
    }

    /// Returns true once after this context has called `proxy_done`.
    pub(crate) fn take_done_for(&mut self, context: ContextId) -> bool {
        let before = self.done.len();
        self.done.retain(|done| *done != context);
        self.done.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_ids_skip_live_ids_after_wraparound() {
        let mut contexts = ContextSet::new(1);
        assert_eq!(contexts.create(0), ContextId::new(2));
        contexts.delete(ContextId::new(2));
        assert_eq!(contexts.create(0), ContextId::new(3));
        contexts.last = u32::MAX;
        assert_eq!(contexts.create(0), ContextId::new(2));
        assert_eq!(contexts.create(0), ContextId::new(4));
    }

    #[test]
    fn effective_context_must_be_live_and_is_reset_by_next_call() {
        let mut contexts = ContextSet::new(1);
        let stream = contexts.create(0);
        contexts.enter(ContextId::ROOT, 0);
        assert_eq!(contexts.set_effective(9), Err(Status::BadArgument));
        assert_eq!(contexts.set_effective(2), Ok(()));
        assert_eq!(contexts.effective(), stream);
        assert_eq!(contexts.set_effective(0), Ok(()));
        assert_eq!(contexts.effective(), ContextId::ROOT);
        contexts.enter(stream, 0);
        assert_eq!(contexts.effective(), stream);
    }

    #[test]
    fn deleted_context_is_not_live() {
        let mut contexts = ContextSet::new(1);
        let stream = contexts.create(0);
        assert_eq!(contexts.plugin_of(stream), Some(0));
        contexts.delete(stream);
        assert_eq!((contexts.plugin_of(stream), contexts.live.len()), (None, 1));
        let stream = contexts.create(0);
        contexts.enter(stream, 0);
        contexts.delete(stream);
        contexts.enter(ContextId::ROOT, 0);
        assert!(!contexts.is_live(stream));
        assert_eq!(contexts.set_effective(stream.number()), Err(Status::BadArgument));
    }

    #[test]
    fn context_belongs_to_its_plugin() {
        let mut contexts = ContextSet::new(3);
        let stream = contexts.create(1);
        assert_eq!(stream, ContextId::new(4));
        assert_eq!(
            (1..6).map(|id| contexts.plugin_of(ContextId::new(id))).collect::<Vec<_>>(),
            [Some(0), Some(1), Some(2), Some(1), None]
        );
        contexts.enter(stream, 1);
        assert_eq!(contexts.set_effective(0), Ok(()));
        assert_eq!(contexts.effective(), ContextId::of_plugin(1));
    }

    #[test]
    fn done_requires_pending_context_and_works_once() {
        let mut contexts = ContextSet::new(1);
        contexts.enter(ContextId::ROOT, 0);
        assert_eq!(contexts.mark_done(), Err(Status::NotFound));
        contexts.set_pending(ContextId::ROOT);
        assert_eq!(contexts.mark_done(), Ok(()));
        assert_eq!(contexts.mark_done(), Err(Status::NotFound));
        assert!(contexts.take_done_for(ContextId::ROOT) && !contexts.take_done_for(ContextId::ROOT));
    }

    #[test]
    fn done_context_does_not_become_pending_again() {
        let mut contexts = ContextSet::new(1);
        contexts.enter(ContextId::ROOT, 0);
        contexts.set_pending(ContextId::ROOT);
        assert_eq!(contexts.mark_done(), Ok(()));
        contexts.set_pending(ContextId::ROOT);
        assert!(contexts.take_done_for(ContextId::ROOT) && !contexts.take_done_for(ContextId::ROOT));
        assert_eq!(contexts.mark_done(), Err(Status::NotFound));
    }
}
