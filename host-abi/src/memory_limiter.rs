//! `MemoryLimiter`: the limits of a VM's memory and table elements. wasmtime calls it before each growth, at
//! instantiation too.
//!
//! Growth beyond a limit fails, which the guest sees as -1. The limiter records the failure, so that a subsequent trap
//! is reported as out of memory.

use wasmtime::ResourceLimiter;

use crate::failure::{LimitedResource, RejectedGrowth};
use crate::limits::MAX_TABLES;

/// Limits of a VM's memory and table elements, with what the tables use.
#[derive(Debug)]
pub(crate) struct MemoryLimiter {
    memory: usize,
    table_elements: usize,
    elements_used: usize,
    rejected: Option<RejectedGrowth>,
}

impl MemoryLimiter {
    pub(crate) const fn new(memory: usize, table_elements: usize) -> Self {
        Self { memory, table_elements, elements_used: 0, rejected: None }
    }

    /// Returns the last growth that was rejected since the start of the call.
    pub(crate) const fn rejected_growth(&self) -> Option<RejectedGrowth> {
        self.rejected
    }

    /// Resets the record at the start of a call.
    pub(crate) const fn begin(&mut self) {
        self.rejected = None;
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        if desired > self.memory {
            let limit = self.memory;
            self.rejected = Some(RejectedGrowth { resource: LimitedResource::Memory, needed: desired, limit });
            return Ok(false);
        }
        Ok(maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.elements_used.saturating_add(desired.saturating_sub(current));
        if used > self.table_elements {
            let limit = self.table_elements;
            self.rejected = Some(RejectedGrowth { resource: LimitedResource::TableElements, needed: used, limit });
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
