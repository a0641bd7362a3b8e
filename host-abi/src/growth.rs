//! How much memory and how many table elements a VM may have. The engine asks before each growth, at instantiation too.
//!
//! Growth beyond the limit is refused, which the guest sees as -1; that it happened is remembered, so that a trap which
//! follows is reported as what it is: out of memory.

use wasmtime::ResourceLimiter;

use crate::limits::MAX_TABLES;

/// What a VM may still grow to.
#[derive(Debug)]
pub(crate) struct Growth {
    memory: usize,
    table_elements: usize,
    elements_used: usize,
    refused: bool,
}

impl Growth {
    pub(crate) const fn new(memory: usize, table_elements: usize) -> Self {
        Self { memory, table_elements, elements_used: 0, refused: false }
    }

    /// Whether growth was refused since the call began.
    pub(crate) const fn was_refused(&self) -> bool {
        self.refused
    }

    /// A call begins.
    pub(crate) const fn begin(&mut self) {
        self.refused = false;
    }
}

impl ResourceLimiter for Growth {
    fn memory_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.memory {
            self.refused = true;
            return Ok(false);
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.elements_used.saturating_add(desired.saturating_sub(current));
        if used > self.table_elements {
            self.refused = true;
            return Ok(false);
        }
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.elements_used = used;
        Ok(true)
    }

    fn instances(&self) -> usize {
        1
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        1
    }
}
