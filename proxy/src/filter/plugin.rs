//! A plugin loaded and started: what routes refer to. Made by `config` off the workers; each worker takes VMs from it.

use std::sync::Arc;

use crossbeam_queue::ArrayQueue;
use weir_host_abi::Vm;

/// A plugin loaded and started.
pub(crate) struct ActivePlugin {
    /// What was asked for.
    pub(crate) model: Arc<weir_model::Plugin>,
    /// Module, configuration and limits, as the host knows them.
    pub(crate) plugin: Arc<weir_host_abi::Plugin>,
    /// Unlike any other's in this process, also for the same name with another configuration.
    pub(crate) id: u64,
    /// Started VMs that wait for their worker, by worker.
    pub(crate) spares: Box<[ArrayQueue<Vm>]>,
}
