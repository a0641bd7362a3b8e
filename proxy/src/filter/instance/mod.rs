//! Plugins and VMs of one worker, as data with explicit states. Every transition is a method. Nothing here calls a
//! guest or spawns a task: what must happen elsewhere is pushed to the [`EffectQueue`](types::EffectQueue).
//!
//! ```text
//!  process   PluginGroup    plugins that share VMs, their pool of spare VMs        one for each group
//!  worker    VmHandle       the VM for new streams, across replacements            one for each group
//!  worker    VmInstance     Stopped ─► Running ─► Stopped … ─► Closed              one for each VM
//!              └ PluginInstance   Serving ─► Draining ─► ShuttingDown ─► Removed   one for each plugin in it
//!  chain     PluginHandle   a plugin of a route's chain                            counted by VmHandle
//!  stream    StreamFilter   a plugin of a stream, and its context in the VM        counted by PluginInstance
//! ```
//!
//! A failure of one plugin ends the VM of this worker for all plugins of the group (invariant I8 of
//! `docs/architecture.md`): its [`VmInstance`](types::VmInstance) is Stopped, its callouts are abandoned, and each stream
//! that has a context in it gets [`Effect::FilterFailed`](types::Effect) for each of its filters there. The next stream of
//! the group installs a spare VM in the same `VmInstance`, with another generation, so that nothing of the old one reaches
//! it. No stream waits for a VM: if no spare is ready, the failure policy of each filter of the group answers. A failure
//! counts for the breaker of the plugin that has failed; while it is open, the policy of that plugin answers. The start of
//! a spare is requested with each one taken, and `tasks` restarts a failed singleton, which has no streams.
//!
//! A plugin ends when neither a chain nor a stream uses it: `proxy_on_done`, `proxy_on_delete`, and the last plugin closes
//! the VM. The VM of one stream (`isolation: Stream`) is closed with it. Breaker, budget and log throttle of a plugin
//! ([`PluginHealth`](health::PluginHealth)) survive its VMs.

mod handle; // The VM for new streams, across replacements.
mod plugin; // Operations on one plugin in one VM: start, failure, drain.
mod vm; // Transitions of a VM.
mod types; // The types that refer to each other: VM, stream, effect.
mod plugin_instance; // One plugin in one VM: lifecycle, health, callouts.
mod lifecycle; // Phases of a plugin instance.
mod queue_notifications; // New entries of shared queues, from any thread.
mod health; // Breaker, CPU budget and log throttle of a plugin.
mod breaker; // The circuit breaker of a failing plugin.
mod cpu_budget; // CPU time of calls into a plugin, and its limit.
mod log_throttle; // Limits log lines about a filter's misuse.
mod group; // Started plugins that share VMs, for all workers.
mod vm_pool; // Started spare VMs of a group.
mod shared_state; // State that plugins share within the process.

pub(crate) use group::{ActivePlugin, PluginId};
pub(crate) use handle::{PluginHandle, VmHandle, VmHandleOptions};
pub(crate) use lifecycle::PluginPhase;
pub(crate) use queue_notifications::QueueNotifications;
pub(crate) use shared_state::SharedPluginState;
pub(crate) use types::{
    Effect, EffectQueue, FilterStream, PluginRef, RunningVm, SharedStream, StreamContext, StreamFilter, StreamRef,
    VmInstance, VmState, VmStreams,
};
pub(crate) use vm_pool::{VmPoolOptions, VmStartRequest};
