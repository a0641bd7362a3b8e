//! `ContextTable`: a map from a VM's contexts to values. Ids are assigned in sequence, so the low bits of an id are its
//! slot. Nothing is hashed, and consecutive short streams reuse a few slots.

use std::collections::HashMap;

use crate::abi::context::ContextId;

/// Initial number of slots; a power of two.
const INITIAL_SLOTS: usize = 64;

/// Maximum number of slots; a power of two.
const MAX_SLOTS: usize = 1 << 16;

/// A value for each of a VM's contexts.
#[derive(Debug)]
pub struct ContextTable<T> {
    slots: Box<[Option<(ContextId, T)>]>,
    /// Number of occupied slots.
    used_slots: usize,
    /// Contexts whose slot was occupied when they were inserted. There are few, unless some contexts live very long.
    collisions: HashMap<ContextId, T>,
}

impl<T> Default for ContextTable<T> {
    fn default() -> Self {
        Self::with_capacity(INITIAL_SLOTS)
    }
}

impl<T> ContextTable<T> {
    fn with_capacity(slots: usize) -> Self {
        Self { slots: (0..slots).map(|_| None).collect(), used_slots: 0, collisions: HashMap::new() }
    }

    /// Returns the number of contexts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.used_slots + self.collisions.len()
    }

    /// Returns whether the table is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the value of a context.
    #[must_use]
    pub fn get(&self, context: ContextId) -> Option<&T> {
        match &self.slots[self.index_of(context)] {
            Some((id, value)) if *id == context => Some(value),
            _ if self.collisions.is_empty() => None,
            _ => self.collisions.get(&context),
        }
    }

    /// Inserts a context that is not in the table.
    pub fn insert(&mut self, context: ContextId, value: T) {
        debug_assert!(self.get(context).is_none(), "{context} is already in the table");
        if self.len() > self.slots.len() / 2 && self.slots.len() < MAX_SLOTS {
            self.grow();
        }
        let slot = &mut self.slots[self.index_of(context)];
        if slot.is_none() {
            *slot = Some((context, value));
            self.used_slots += 1;
        } else {
            self.collisions.insert(context, value);
        }
    }

    /// Removes a context and returns its value.
    pub fn remove(&mut self, context: ContextId) -> Option<T> {
        let slot = &mut self.slots[self.index_of(context)];
        match slot.take_if(|(id, _)| *id == context) {
            Some((_, value)) => {
                self.used_slots -= 1;
                Some(value)
            }
            None if self.collisions.is_empty() => None,
            None => self.collisions.remove(&context),
        }
    }

    /// Removes all contexts and returns them in unspecified order.
    pub fn take_all(&mut self) -> impl Iterator<Item = (ContextId, T)> + use<T> {
        let Self { slots, collisions, .. } = std::mem::take(self);
        slots.into_iter().flatten().chain(collisions)
    }

    fn index_of(&self, context: ContextId) -> usize {
        context.number() as usize & (self.slots.len() - 1)
    }

    #[cold]
    fn grow(&mut self) {
        let mut larger = Self::with_capacity(self.slots.len() * 2);
        for (context, value) in self.take_all() {
            larger.insert(context, value);
        }
        *self = larger;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_lived_contexts_do_not_grow_the_table() {
        let mut table = ContextTable::default();
        table.insert(ContextId::ROOT, 0); // Occupies the slot of one in 64.
        for number in 2..10_000 {
            table.insert(ContextId::new(number), number);
            assert_eq!(table.get(ContextId::new(number)), Some(&number));
            assert_eq!(table.remove(ContextId::new(number)), Some(number));
        }
        assert_eq!((table.len(), table.slots.len()), (1, INITIAL_SLOTS));
    }

    #[test]
    fn slots_are_limited_and_contexts_are_not() {
        let mut table = ContextTable::default();
        let contexts = || (0..100_000).map(|number| ContextId::new(number * 7));
        contexts().for_each(|context| table.insert(context, context.number()));
        assert_eq!((table.len(), table.slots.len()), (100_000, MAX_SLOTS));
        assert!(contexts().all(|context| table.get(context) == Some(&context.number())));
        assert!(contexts().all(|context| table.remove(context) == Some(context.number())));
        assert!(table.is_empty());
    }

    proptest! {
        /// Compares the table with a `HashMap` after random insertions and removals.
        #[test]
        fn table_behaves_like_a_map(steps in prop::collection::vec((0_u32..200, prop::bool::weighted(0.6)), 0..800)) {
            let (mut table, mut map) = (ContextTable::default(), HashMap::new());
            for (step, (number, is_insertion)) in steps.into_iter().enumerate() {
                let context = ContextId::new(number * 5 + 1);
                if is_insertion && !map.contains_key(&context) {
                    table.insert(context, step);
                    map.insert(context, step);
                } else if !is_insertion {
                    prop_assert_eq!(table.remove(context), map.remove(&context));
                }
                prop_assert_eq!(table.get(context), map.get(&context));
                prop_assert_eq!(table.len(), map.len());
            }
            let mut rest: Vec<_> = table.take_all().collect();
            let mut expected: Vec<_> = map.into_iter().collect();
            rest.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(rest, expected);
            prop_assert!(table.is_empty());
        }
    }
}
