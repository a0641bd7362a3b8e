//! Which contexts of a VM live, which one is current, and which have said that they are done. Kept in step by the VM,
//! read by hostcalls.

use crate::abi::context::ContextId;
use crate::abi::status::Status;
use crate::context_table::ContextTable;

/// The contexts of one VM. The plugin context of its first plugin is 1, of its second one 2, and so on.
pub(crate) struct Contexts {
    /// Which plugin each is of.
    live: ContextTable<usize>,
    last: u32,
    current: ContextId,
    effective: ContextId,
    /// Their `proxy_on_done` answered false.
    pending: Vec<ContextId>,
    /// Were pending and have called `proxy_done` since.
    done: Vec<ContextId>,
}

impl Contexts {
    /// A VM's contexts before it starts: the plugin contexts.
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

    /// A new id for a stream of a plugin: larger than the last one, not alive, and never 0.
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

    /// The context is deleted.
    pub(crate) fn delete(&mut self, context: ContextId) {
        self.live.remove(context);
        self.pending.retain(|pending| *pending != context);
        self.done.retain(|done| *done != context);
    }

    pub(crate) fn is_live(&self, context: ContextId) -> bool {
        self.plugin_of(context).is_some()
    }

    /// Which plugin a context is of, if it lives.
    pub(crate) fn plugin_of(&self, context: ContextId) -> Option<usize> {
        self.live.get(context).copied()
    }

    pub(crate) fn live(&self) -> usize {
        self.live.len()
    }

    /// A call into the guest begins on behalf of `context`, which lives and is of `plugin`.
    pub(crate) fn enter(&mut self, context: ContextId, plugin: usize) {
        debug_assert_eq!(self.live.get(context), Some(&plugin), "{context:?} is entered");
        self.current = context;
        self.effective = context;
    }

    /// The context that hostcalls act on.
    pub(crate) const fn effective(&self) -> ContextId {
        self.effective
    }

    /// The guest chooses another context until the call ends (`proxy_set_effective_context`). 0 is the VM, which the
    /// plugin context stands for.
    pub(crate) fn set_effective(&mut self, number: u32) -> Result<(), Status> {
        let root = || ContextId::of_plugin(self.plugin_of(self.current).unwrap_or_default());
        let context = if number == 0 { root() } else { ContextId::new(number) };
        if !self.is_live(context) {
            return Err(Status::BadArgument);
        }
        self.effective = context;
        Ok(())
    }

    /// `proxy_on_done` answered false: the context waits for `proxy_done`, unless that was called meanwhile.
    pub(crate) fn set_pending(&mut self, context: ContextId) {
        if !self.pending.contains(&context) && !self.done.contains(&context) {
            self.pending.push(context);
        }
    }

    /// The guest called `proxy_done`.
    pub(crate) fn set_done(&mut self) -> Result<(), Status> {
        let at = self.pending.iter().position(|context| *context == self.effective).ok_or(Status::NotFound)?;
        self.done.push(self.pending.swap_remove(at));
        Ok(())
    }

    /// Whether this context has called `proxy_done` and nobody has been told yet.
    pub(crate) fn take_if_done(&mut self, context: ContextId) -> bool {
        let before = self.done.len();
        self.done.retain(|done| *done != context);
        self.done.len() < before
    }

    /// A context that called `proxy_done` and has not been asked for yet.
    pub(crate) fn take_done(&mut self) -> Option<ContextId> {
        self.done.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_and_skip_live_ones_when_they_wrap() {
        let mut contexts = Contexts::new(1);
        assert_eq!(contexts.create(0), ContextId::new(2));
        contexts.delete(ContextId::new(2));
        assert_eq!(contexts.create(0), ContextId::new(3));
        contexts.last = u32::MAX;
        assert_eq!(contexts.create(0), ContextId::new(2));
        assert_eq!(contexts.create(0), ContextId::new(4));
    }

    #[test]
    fn the_effective_context_must_live_and_ends_with_the_call() {
        let mut contexts = Contexts::new(1);
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
    fn a_context_that_was_entered_last_is_not_taken_for_alive_once_it_is_deleted() {
        let mut contexts = Contexts::new(1);
        let stream = contexts.create(0);
        assert_eq!(contexts.plugin_of(stream), Some(0));
        contexts.delete(stream);
        assert_eq!(contexts.plugin_of(stream), None);
        let stream = contexts.create(0);
        contexts.enter(stream, 0);
        contexts.delete(stream);
        contexts.enter(ContextId::ROOT, 0);
        assert!(!contexts.is_live(stream));
        assert_eq!(contexts.set_effective(stream.number()), Err(Status::BadArgument));
    }

    #[test]
    fn each_context_is_of_a_plugin() {
        let mut contexts = Contexts::new(3);
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
    fn done_needs_a_pending_context_and_works_once() {
        let mut contexts = Contexts::new(1);
        contexts.enter(ContextId::ROOT, 0);
        assert_eq!(contexts.set_done(), Err(Status::NotFound));
        contexts.set_pending(ContextId::ROOT);
        assert_eq!(contexts.set_done(), Ok(()));
        assert_eq!(contexts.set_done(), Err(Status::NotFound));
        assert_eq!(contexts.take_done(), Some(ContextId::ROOT));
        assert_eq!(contexts.take_done(), None);
    }

    #[test]
    fn who_has_said_that_it_is_done_is_not_pending_anew() {
        let mut contexts = Contexts::new(1);
        contexts.enter(ContextId::ROOT, 0);
        contexts.set_pending(ContextId::ROOT);
        assert_eq!(contexts.set_done(), Ok(()));
        contexts.set_pending(ContextId::ROOT);
        assert!(contexts.take_if_done(ContextId::ROOT) && !contexts.take_if_done(ContextId::ROOT));
        assert_eq!(contexts.set_done(), Err(Status::NotFound));
    }
}
