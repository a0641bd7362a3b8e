//! `ContextTable`: what somebody knows of each context of a VM. Ids are counted up, so the last bits of an id are its
//! place: nothing is hashed, and streams that come and go use the same few places one after the other.

use std::collections::HashMap;

use crate::abi::context::ContextId;

/// How many places there are at first; a power of two.
const FIRST_PLACES: usize = 64;

/// How many places there are at most; a power of two.
const MOST_PLACES: usize = 1 << 16;

/// Something for each of a VM's contexts.
#[derive(Debug)]
pub struct ContextTable<T> {
    places: Box<[Option<(ContextId, T)>]>,
    /// How many places are taken.
    taken: usize,
    /// Contexts whose place another one had when they came: few, unless some live very long.
    others: HashMap<ContextId, T>,
}

impl<T> Default for ContextTable<T> {
    fn default() -> Self {
        Self::with_places(FIRST_PLACES)
    }
}

impl<T> ContextTable<T> {
    fn with_places(places: usize) -> Self {
        Self { places: (0..places).map(|_| None).collect(), taken: 0, others: HashMap::new() }
    }

    /// How many contexts are in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.taken + self.others.len()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is known of a context.
    #[must_use]
    pub fn get(&self, context: ContextId) -> Option<&T> {
        match &self.places[self.place_of(context)] {
            Some((here, value)) if *here == context => Some(value),
            _ if self.others.is_empty() => None,
            _ => self.others.get(&context),
        }
    }

    /// Takes in a context that is not in it.
    pub fn insert(&mut self, context: ContextId, value: T) {
        debug_assert!(self.get(context).is_none(), "{context} is in the table");
        if self.len() > self.places.len() / 2 && self.places.len() < MOST_PLACES {
            self.grow();
        }
        let place = &mut self.places[self.place_of(context)];
        if place.is_none() {
            *place = Some((context, value));
            self.taken += 1;
        } else {
            self.others.insert(context, value);
        }
    }

    /// Takes a context out.
    pub fn remove(&mut self, context: ContextId) -> Option<T> {
        let place = &mut self.places[self.place_of(context)];
        match place.take_if(|(here, _)| *here == context) {
            Some((_, value)) => {
                self.taken -= 1;
                Some(value)
            }
            None if self.others.is_empty() => None,
            None => self.others.remove(&context),
        }
    }

    /// Takes all contexts out, in no order.
    pub fn take_all(&mut self) -> impl Iterator<Item = (ContextId, T)> + use<T> {
        let Self { places, others, .. } = std::mem::take(self);
        places.into_iter().flatten().chain(others)
    }

    fn place_of(&self, context: ContextId) -> usize {
        context.number() as usize & (self.places.len() - 1)
    }

    #[cold]
    fn grow(&mut self) {
        let mut wider = Self::with_places(self.places.len() * 2);
        for (context, value) in self.take_all() {
            wider.insert(context, value);
        }
        *self = wider;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn contexts_that_come_and_go_leave_it_as_small_as_it_was() {
        let mut table = ContextTable::default();
        table.insert(ContextId::ROOT, 0); // It has the place of one in 64.
        for number in 2..10_000 {
            table.insert(ContextId::new(number), number);
            assert_eq!(table.get(ContextId::new(number)), Some(&number));
            assert_eq!(table.remove(ContextId::new(number)), Some(number));
        }
        assert_eq!((table.len(), table.places.len()), (1, FIRST_PLACES));
    }

    #[test]
    fn it_has_a_bound_of_places_and_none_of_contexts() {
        let mut table = ContextTable::default();
        let contexts = || (0..100_000).map(|number| ContextId::new(number * 7));
        contexts().for_each(|context| table.insert(context, context.number()));
        assert_eq!((table.len(), table.places.len()), (100_000, MOST_PLACES));
        assert!(contexts().all(|context| table.get(context) == Some(&context.number())));
        assert!(contexts().all(|context| table.remove(context) == Some(context.number())));
        assert!(table.is_empty());
    }

    proptest! {
        /// Whatever comes and goes, it holds what a map would hold.
        #[test]
        fn it_is_a_map(steps in prop::collection::vec((0_u32..200, prop::bool::weighted(0.6)), 0..800)) {
            let (mut table, mut map) = (ContextTable::default(), HashMap::new());
            for (step, (number, comes)) in steps.into_iter().enumerate() {
                let context = ContextId::new(number * 5 + 1);
                if comes && !map.contains_key(&context) {
                    table.insert(context, step);
                    map.insert(context, step);
                } else if !comes {
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
