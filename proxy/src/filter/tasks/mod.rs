//! Everything that runs beside streams: timers, queue notifications, callouts, shutdowns. The only code of `filter` that
//! spawns tasks and awaits.
//!
//! ```text
//! a call, or the end of a user ─► EffectQueue ─► dispatch ─► an event of a stream, or a task of its own ─► invoke
//! ```
//!
//! One task of each worker dispatches effects in their order. A worker has one thread, and streams and VMs are borrowed in
//! synchronous sections only, so that no stream is borrowed and no guest runs then.

mod grpc_callout; // gRPC callouts.
mod http_callout; // HTTP callouts.
mod queue_ready; // Notifications of shared queues.
mod shutdown; // The end of a plugin, and the restart of a failed singleton.
mod timer; // Timers of plugins.

use std::rc::Rc;

use crate::filter::chain::Event;
use crate::filter::instance::{Effect, EffectQueue};
use crate::task;
use crate::upstream::Upstreams;

/// Starts the task that dispatches the effects of a worker. Call it on the worker's thread, inside its runtime.
pub(super) fn start(effects: Rc<EffectQueue>, upstreams: Rc<Upstreams>) {
    task::spawn_local("filter-effects", async move {
        let queue = CloseOnDrop(&effects);
        loop {
            queue.0.wait().await;
            while let Some(effect) = queue.0.pop() {
                // A panic costs one effect, not all that follow.
                task::catch_panic("filter-effects", || dispatch(effect, &upstreams));
            }
        }
    });
}

/// Closes the queue when the worker ends, since effects own VMs and VMs the queue.
struct CloseOnDrop<'a>(&'a EffectQueue);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn dispatch(effect: Effect, upstreams: &Rc<Upstreams>) {
    match effect {
        Effect::ResumeStream(stream) => {
            if let Some(stream) = stream.upgrade() {
                stream.borrow_mut().on_event(Event::Resume);
            }
        }
        Effect::FilterFailed { stream, filter, failure } => {
            if let Some(stream) = stream.upgrade() {
                stream.borrow_mut().on_event(Event::FilterFailed(filter, failure));
            }
        }
        Effect::TimerChanged(plugin) => {
            plugin.timer.is_change_queued.set(false);
            let start = |timer| task::spawn_local("filter-timer", timer::run(timer)).abort_handle();
            plugin.timer.replace_task(timer::running_timer(&plugin).map(start));
        }
        Effect::QueueRegistered(plugin) => {
            task::spawn_local("filter-queues", queue_ready::run(&plugin));
        }
        Effect::StartHttpCallout(plugin, callout) => {
            // Sent even if the plugin is gone meanwhile: a guest may send its last data when it is done.
            task::spawn_local("filter-callout", http_callout::run(Rc::clone(upstreams), plugin, *callout));
        }
        Effect::StartGrpcCallout(plugin, callout) => {
            let id = callout.id;
            if plugin.callouts.has_grpc(id) {
                let run = grpc_callout::run(Rc::clone(upstreams), plugin.clone(), *callout);
                plugin.callouts.attach_task(id, task::spawn_local("filter-grpc", run).abort_handle());
            }
        }
        Effect::PluginDrained(plugin) => {
            task::spawn_local("filter-shutdown", shutdown::shut_down(plugin));
        }
        Effect::SingletonFailed(plugin) => {
            task::spawn_local("filter-restart", shutdown::restart_singleton(Rc::downgrade(&plugin.vm), plugin.index));
        }
    }
}
