//! The types that refer to each other: a VM and the streams that have a context in it, a stream and the plugins that
//! filter it, and the effects of calls. Their operations are in `vm.rs`, `plugin.rs` and `filter::invoke`.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use tokio::sync::Notify;
use tokio::time::Instant;
use weir_host_abi::shared::MetricTable;
use weir_host_abi::{ContextId, ContextTable, Exports, Vm};

use super::group::PluginId;
use super::plugin_instance::PluginInstance;
use super::shared_state::StreamVmPermit;
use super::vm_pool::VmPool;
use crate::filter::callout::{ClusterMap, GrpcCallout, HttpCallout};
use crate::filter::chain::{Exchange, FilterFailure};

/// One VM of a worker, which may be replaced after a failure. It has the plugins of one group.
pub(crate) struct VmInstance {
    /// The spare VMs of the group.
    pub(crate) pool: Arc<VmPool>,
    /// The number of the worker.
    pub(crate) worker: usize,
    /// True if the VM serves one stream only (`isolation: Stream`).
    pub(crate) is_per_stream: bool,
    /// The state. Borrowed while a guest is called.
    pub(crate) state: RefCell<VmState>,
    /// Incremented with each started VM, so that a context of a dead VM is never used in the next.
    pub(super) generation: Cell<u64>,
    /// The plugins of the group, by index.
    pub(crate) plugins: Box<[PluginInstance]>,
    /// The effects of calls, of the whole worker.
    pub(crate) effects: Rc<EffectQueue>,
    /// The clusters that callouts may use, of the whole worker.
    pub(crate) clusters: ClusterMap,
    /// Id of the last callout. The two lowest bits are zero and free for its kind.
    pub(super) last_callout_id: Cell<u32>,
}

/// State of a VM.
///
/// ```text
/// Stopped ──install──► Running ──fail──► Stopped     a spare VM takes over with the next stream
///    └──────close─────────┴────close──► Closed       the last plugin is removed, or the stream has ended
/// ```
pub(crate) enum VmState {
    /// No VM runs, and one may be started.
    Stopped,
    /// The VM runs.
    Running(Box<RunningVm>),
    /// No VM runs again.
    Closed,
}

/// A VM that runs.
pub(crate) struct RunningVm {
    /// The VM.
    pub(crate) vm: Vm,
    /// Its streams.
    pub(crate) streams: VmStreams,
    /// Metrics that its guest has defined, by metric id.
    pub(crate) metrics: RefCell<MetricTable>,
    /// The time of its start.
    pub(super) started_at: Instant,
    /// Permit of a VM that serves one stream.
    pub(super) _permit: Option<StreamVmPermit>,
}

/// Streams that have a context in a VM.
#[derive(Default)]
pub(crate) struct VmStreams {
    contexts: ContextTable<StreamRef>,
    /// Streams so far.
    served: u64,
}

impl VmStreams {
    /// Adds a stream.
    pub(crate) fn insert(&mut self, context: ContextId, stream: StreamRef) {
        self.served += 1;
        self.contexts.insert(context, stream);
    }

    /// Counts a stream that has no context.
    pub(crate) fn count_served(&mut self) {
        self.served += 1;
    }

    /// Removes a stream.
    pub(crate) fn remove(&mut self, context: ContextId) {
        self.contexts.remove(context);
    }

    /// Returns the stream of a context.
    pub(crate) fn get(&self, context: ContextId) -> Option<&StreamRef> {
        self.contexts.get(context)
    }

    /// Returns the number of streams.
    pub(crate) fn len(&self) -> usize {
        self.contexts.len()
    }

    /// Returns the number of streams since the VM was started.
    pub(crate) fn served(&self) -> u64 {
        self.served
    }

    /// Returns all streams.
    pub(crate) fn into_all(mut self) -> impl Iterator<Item = StreamRef> {
        self.contexts.take_all().map(|(_, stream)| stream)
    }
}

/// A stream that has a context in a VM: the filter's index in its chain, and the plugin's index in the VM.
#[derive(Clone)]
pub(crate) struct StreamRef {
    /// The stream.
    pub(crate) stream: Weak<SharedStream>,
    /// The filter's index in the chain of the stream.
    pub(crate) filter: usize,
    /// The plugin's index in the VM.
    pub(crate) plugin_index: usize,
}

/// A stream's context in the VM of one generation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StreamContext {
    /// The generation of the VM that has the context.
    pub(crate) generation: u64,
    /// The context.
    pub(crate) id: ContextId,
}

/// One plugin in one VM. Cloning it is cheap.
#[derive(Clone)]
pub(crate) struct PluginRef {
    /// The VM.
    pub(crate) vm: Rc<VmInstance>,
    /// Index of the plugin in the VM.
    pub(crate) index: usize,
}

impl Deref for PluginRef {
    type Target = PluginInstance;

    fn deref(&self) -> &PluginInstance {
        &self.vm.plugins[self.index]
    }
}

impl PluginRef {
    /// Returns the identity of the plugin.
    pub(crate) fn id(&self) -> PluginId {
        PluginId { pool: self.vm.pool.id, index: self.index }
    }
}

/// One filter of a stream's chain.
pub(crate) struct StreamFilter {
    /// The plugin in the VM that runs the filter.
    pub(crate) plugin: PluginRef,
    /// The stream's context in the VM, once created.
    pub(crate) context: Option<StreamContext>,
}

impl StreamFilter {
    /// Returns a filter without a context.
    pub(crate) fn new(plugin: PluginRef) -> Self {
        plugin.lifecycle.stream_started();
        Self { plugin, context: None }
    }
}

impl Drop for StreamFilter {
    fn drop(&mut self) {
        if self.plugin.lifecycle.stream_ended() {
            self.plugin.vm.effects.push(Effect::PluginDrained(self.plugin.clone()));
        }
    }
}

/// A stream, shared within its worker by the request handler, the body adapters and the VMs. Borrowed in synchronous
/// sections only (`docs/decisions/001-who-owns-a-stream.md`).
pub(crate) type SharedStream = RefCell<FilterStream>;

/// A stream and its filters. `filter::invoke` calls them.
pub(crate) struct FilterStream {
    /// The request and response that filters read and change.
    pub(crate) exchange: Exchange,
    /// The filters, in chain order.
    pub(crate) filters: Vec<StreamFilter>,
    /// Callbacks that any of the filters exports.
    pub(crate) exports: Exports,
    /// The stream itself, for the tables of contexts.
    pub(crate) this: Weak<SharedStream>,
}

/// Something that a call into a guest, or the end of a user, makes happen elsewhere: after the call, by a task.
pub(crate) enum Effect {
    /// Commands are queued in the stream's exchange.
    ResumeStream(Weak<SharedStream>),
    /// The VM of a filter has failed.
    FilterFailed {
        /// The stream.
        stream: Weak<SharedStream>,
        /// The filter's index in its chain.
        filter: usize,
        /// The failure.
        failure: FilterFailure,
    },
    /// The guest has set or cleared its timer.
    TimerChanged(PluginRef),
    /// The guest has registered its first queue.
    QueueRegistered(PluginRef),
    /// The guest has made an HTTP callout.
    StartHttpCallout(PluginRef, Box<HttpCallout>),
    /// The guest has made a gRPC callout.
    StartGrpcCallout(PluginRef, Box<GrpcCallout>),
    /// The plugin has no stream left, and gets none.
    PluginDrained(PluginRef),
    /// A singleton plugin has failed. Nothing but this starts its VM again.
    SingletonFailed(PluginRef),
}

/// Pending effects of a worker. Bounded: each live stream has at most one `FilterFailed` for each filter and one
/// `ResumeStream`, each plugin instance one of each other kind, and callouts have permits.
#[derive(Default)]
pub(crate) struct EffectQueue {
    effects: RefCell<VecDeque<Effect>>,
    pushed: Notify,
    /// True once the worker ends.
    is_closed: Cell<bool>,
}

impl EffectQueue {
    /// Queues an effect. Drops it once the queue is closed.
    pub(crate) fn push(&self, effect: Effect) {
        if self.is_closed.get() {
            return;
        }
        self.effects.borrow_mut().push_back(effect);
        self.pushed.notify_one();
    }

    /// Drops all effects, and those that follow.
    pub(crate) fn close(&self) {
        self.is_closed.set(true);
        drop(self.effects.take());
    }

    /// Removes and returns the next effect.
    pub(crate) fn pop(&self) -> Option<Effect> {
        self.effects.borrow_mut().pop_front()
    }

    /// Waits until effects are queued.
    pub(crate) async fn wait(&self) {
        self.pushed.notified().await;
    }
}
