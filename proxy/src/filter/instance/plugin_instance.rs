//! One plugin in one VM of a worker.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use weir_host_abi::Exports;
use weir_model::{PluginLimits, PluginRole};

use super::group::ActivePlugin;
use super::health::PluginHealth;
use super::lifecycle::PluginLifecycle;
use super::queue_notifications::QueueNotifications;
use crate::filter::callout::CalloutTable;
use crate::telemetry::PluginMetrics;

/// One plugin in one VM of a worker.
pub(crate) struct PluginInstance {
    /// The plugin, shared by all workers.
    pub(crate) plugin: ActivePlugin,
    /// Callbacks that its module exports. Copied from the plugin, like the role and the limit, since each call reads
    /// it.
    exports: Exports,
    /// True for the role `Filter`. An access log plugin is called at the end of a stream only.
    pub(crate) is_stream_filter: bool,
    /// True for an AuthorizationPolicy.
    pub(crate) is_access_policy: bool,
    /// Phase, and the streams that use the plugin here.
    pub(crate) lifecycle: PluginLifecycle,
    /// Health of the plugin on this worker, shared by its VMs.
    pub(crate) health: Rc<PluginHealth>,
    /// Counters of the plugin on this worker, shared by its VMs.
    pub(crate) metrics: Arc<PluginMetrics>,
    /// Callouts of the plugin in this VM.
    pub(crate) callouts: CalloutTable,
    /// New entries of queues that the plugin has registered.
    pub(crate) queue_notifications: Arc<QueueNotifications>,
    /// The timer of the guest that `tasks` was last notified of.
    pub(crate) timer: TimerState,
    /// Notified when the guest has finished its shutdown (`proxy_done`).
    pub(crate) done: Notify,
}

/// The timer of a plugin, as `tasks` knows it.
#[derive(Default)]
pub(crate) struct TimerState {
    /// Generation of the last timer that was reported; `None` if none was since the VM started.
    pub(crate) generation: Cell<Option<u64>>,
    /// True while a notification of a change waits.
    pub(crate) is_change_queued: Cell<bool>,
    /// The task of the timer that runs.
    task: Cell<Option<AbortHandle>>,
}

impl TimerState {
    /// Replaces the task of the timer, and ends the previous one: its period may be long, and a guest may set another
    /// one in each call.
    pub(crate) fn replace_task(&self, task: Option<AbortHandle>) {
        if let Some(previous) = self.task.replace(task) {
            previous.abort();
        }
    }

    /// Ends the timer with its VM.
    pub(super) fn stop(&self) {
        self.generation.set(None);
        self.replace_task(None);
    }
}

impl PluginInstance {
    /// Returns an instance that serves.
    pub(crate) fn new(plugin: ActivePlugin, health: Rc<PluginHealth>, metrics: Arc<PluginMetrics>) -> Self {
        Self {
            exports: plugin.exports(),
            is_stream_filter: plugin.model.role == PluginRole::Filter,
            is_access_policy: plugin.model.is_access_policy(),
            plugin,
            lifecycle: PluginLifecycle::new(),
            health,
            metrics,
            callouts: CalloutTable::default(),
            queue_notifications: Arc::default(),
            timer: TimerState::default(),
            done: Notify::new(),
        }
    }

    /// Returns an instance of the same plugin for another VM.
    pub(crate) fn for_new_vm(&self) -> Self {
        let callouts = self.callouts.for_new_vm();
        Self { callouts, ..Self::new(self.plugin.clone(), Rc::clone(&self.health), Arc::clone(&self.metrics)) }
    }

    /// Returns the resource limits of the plugin.
    pub(crate) fn limits(&self) -> &PluginLimits {
        &self.plugin.model.limits
    }

    /// Returns the callbacks that the plugin's module exports.
    pub(crate) const fn exports(&self) -> Exports {
        self.exports
    }

    /// Returns whether the module exports a callback for the end of a stream.
    pub(crate) const fn wants_stream_end(&self) -> bool {
        self.exports.log() || self.exports.done() || self.exports.delete()
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::TimerState;
    use crate::task;

    #[tokio::test(flavor = "current_thread")]
    async fn plugin_has_at_most_one_timer_task() {
        let check = async {
            let timer = TimerState::default();
            let start = || task::spawn_local("timer", pending()).abort_handle();
            let tasks = [start(), start()];
            for task in &tasks {
                timer.replace_task(Some(task.clone()));
            }
            tokio::task::yield_now().await;
            assert_eq!(tasks.each_ref().map(tokio::task::AbortHandle::is_finished), [true, false]);
            timer.stop();
            tokio::task::yield_now().await;
            assert!(tasks[1].is_finished());
        };
        tokio::task::LocalSet::new().run_until(check).await;
    }
}
