//! `MemoryLimiter`: the limits of a VM's memory and table elements. wasmtime calls it before each growth, at
//! instantiation too.
//!
//! Growth beyond a limit fails, which the guest sees as -1. The limiter records the failure, so that a subsequent trap
//! is reported as out of memory.

use wasmtime::ResourceLimiter;

use crate::limits::MAX_TABLES;

/// Limits of a VM's memory and table elements, with what the tables use.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    memory: usize,
    table_elements: usize,
    elements_used: usize,
    rejected: bool,
}

impl MemoryLimiter {
    pub(crate) const fn new(memory: usize, table_elements: usize) -> Self {
        Self { memory, table_elements, elements_used: 0, rejected: false }
    }

    /// Returns whether a growth was rejected since the start of the call.
    pub(crate) const fn rejected_growth(&self) -> bool {
        self.rejected
    }

    /// Resets the record at the start of a call.
    pub(crate) const fn begin(&mut self) {
        self.rejected = false;
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.memory {
            self.rejected = true;
            return Ok(false);
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.elements_used.saturating_add(desired.saturating_sub(current));
        if used > self.table_elements {
            self.rejected = true;
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
