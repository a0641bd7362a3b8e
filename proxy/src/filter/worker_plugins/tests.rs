//! Property test of plugins and VMs with real guests that pause and trap: random streams, failures, configuration
//! changes, drains and times. Each stream has at most one context for each filter and VM, every context is deleted, no VM
//! outlives its last user, and no effect is lost.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::LazyLock;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use proptest::prelude::*;
use tokio::sync::mpsc;
use weir_host_abi::{Engine, Module};
use weir_model::{FailurePolicy, ModuleSource, Plugin, PluginName, RecyclePolicy};

use super::*;
use crate::filter::chain::{EndOfStream, Event};
use crate::filter::instance::{
    FilterStream, PluginPhase, PluginRef, SharedPluginState, SharedStream, StreamFilter, VmInstance, VmPoolOptions,
    VmStartRequest, VmState,
};
use crate::head::ResponseHead;
use crate::identity::Identity;
use crate::limits::PLUGIN_SHUTDOWN_TIMEOUT;
use crate::route::testing::request;
use crate::stream_info::StreamInfo;

/// A guest that pauses and traps at some of its callbacks. It traps when it is called about a context that it does not
/// have, and refuses to finish its shutdown with every third plugin context.
fn guest() -> Module {
    static MODULE: LazyLock<Module> = LazyLock::new(|| {
        let engine = Engine::new().unwrap();
        Module::compile(&engine, &wat::parse_str(include_str!("guest.wat")).unwrap()).unwrap()
    });
    MODULE.clone()
}

/// The plugins of a configuration: alone, two in one VM, recycled after three streams, a VM for each stream, a singleton.
fn models() -> Vec<Arc<Plugin>> {
    let plugin = |name: &str| {
        let module = ModuleSource::Builtin("guest".into());
        let name = PluginName::new(&format!("test/{name}")).unwrap();
        Plugin { failure: FailurePolicy::Open, ..Plugin::new(name, module, Arc::default()) }
    };
    let mut shared = [plugin("shared-a"), plugin("shared-b")];
    for plugin in &mut shared {
        plugin.vm.id = "shared".into();
    }
    let recycled = RecyclePolicy { requests: Some(3), ..RecyclePolicy::default() };
    let all = [
        Plugin { failure: FailurePolicy::Closed, ..plugin("alone") },
        Plugin { recycling: recycled, ..plugin("recycled") },
        Plugin { isolation: Isolation::Stream, ..plugin("per-stream") },
        Plugin { isolation: Isolation::Singleton, ..plugin("singleton") },
    ];
    shared.into_iter().chain(all).map(Arc::new).collect()
}

/// The groups of [`models`], by their indices.
const GROUPS: [&[usize]; 5] = [&[0, 1], &[2], &[3], &[4], &[5]];

/// The chain of every stream: all plugins but the singleton.
const CHAIN: [usize; 5] = [2, 0, 3, 1, 4];

#[derive(Debug, Clone)]
enum Step {
    /// A stream with the filters of [`CHAIN`] that have a bit in the mask.
    Open(u8),
    Respond(usize),
    Reset(usize),
    Finish(usize),
    /// A configuration in which the groups with a bit in the mask are new.
    Reconfigure(u8),
    /// The tasks of the worker run.
    Yield,
    Advance(u16),
    /// VMs that were requested are started.
    StartVms,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any::<u8>().prop_map(Step::Open),
        3 => any::<usize>().prop_map(Step::Respond),
        1 => any::<usize>().prop_map(Step::Reset),
        4 => any::<usize>().prop_map(Step::Finish),
        1 => any::<u8>().prop_map(Step::Reconfigure),
        3 => Just(Step::Yield),
        1 => (0u16..3_000).prop_map(Step::Advance),
        2 => Just(Step::StartVms),
    ]
}

/// A configuration as a worker has it: streams retain it until their end.
struct Config {
    plugins: Vec<ActivePlugin>,
}

struct Stream {
    cell: Rc<SharedStream>,
    // The chain outlives the stream, as in production.
    _chain: Rc<[PluginHandle]>,
    _config: Rc<Config>,
}

struct Worker {
    plugins: Rc<WorkerPlugins>,
    config: Rc<Config>,
    streams: Vec<Stream>,
    state: Arc<SharedPluginState>,
    restarts: mpsc::Sender<VmStartRequest>,
    requests: mpsc::Receiver<VmStartRequest>,
    /// Every VM that a stream has used.
    vms: Vec<Rc<VmInstance>>,
}

impl Worker {
    fn new() -> Self {
        let plugins = WorkerPlugins::new(0, Upstreams::new(Identity::empty()), Arc::<WorkerMetrics>::default());
        let (restarts, requests) = mpsc::channel(16);
        let state = SharedPluginState::new("");
        let config = Rc::new(Config { plugins: Vec::new() });
        let mut worker = Self { plugins, config, streams: Vec::new(), state, restarts, requests, vms: Vec::new() };
        worker.reconfigure(u8::MAX);
        worker
    }

    fn reconfigure(&mut self, new_groups: u8) {
        let models = models();
        let mut plugins: Vec<Option<ActivePlugin>> = vec![None; models.len()];
        for (index, group) in GROUPS.iter().enumerate() {
            let is_new = self.config.plugins.is_empty() || new_groups >> index & 1 == 1;
            let members = match is_new {
                true => {
                    let models: Vec<_> = group.iter().map(|index| Arc::clone(&models[*index])).collect();
                    let (state, restarts) = (Arc::clone(&self.state), self.restarts.clone());
                    ActivePlugin::start(&models, &guest(), VmPoolOptions { workers: 1, state, restarts })
                        .unwrap_or_else(|error| panic!("{}", error.reason))
                }
                false => group.iter().map(|index| self.config.plugins[*index].clone()).collect(),
            };
            for (index, plugin) in group.iter().zip(members) {
                plugins[*index] = Some(plugin);
            }
        }
        let plugins: Vec<ActivePlugin> = plugins.into_iter().flatten().collect();
        self.plugins.apply_config(plugins.iter(), &HashMap::new());
        self.config = Rc::new(Config { plugins });
    }

    fn open(&mut self, mask: u8) {
        let chosen = CHAIN.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1);
        let plugins: Vec<_> = chosen.map(|(_, index)| self.config.plugins[*index].clone()).collect();
        let chain = self.plugins.chain(&plugins);
        let head = request("GET", "shop.example", "/", &[]);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let cell = FilterStream::new(head, StreamInfo::new(address, address, 1), &chain);
        for filter in &cell.borrow().filters {
            if !self.vms.iter().any(|vm| Rc::ptr_eq(vm, &filter.plugin.vm)) {
                self.vms.push(Rc::clone(&filter.plugin.vm));
            }
        }
        cell.borrow_mut().on_event(Event::RequestHeaders(EndOfStream::Yes));
        self.streams.push(Stream { cell, _chain: chain, _config: Rc::clone(&self.config) });
    }

    fn with_stream(&self, index: usize, act: impl FnOnce(&mut FilterStream)) {
        if let Some(stream) = index.checked_rem(self.streams.len()).map(|index| &self.streams[index]) {
            act(&mut stream.cell.borrow_mut());
        }
    }

    fn finish(&mut self, index: usize) {
        self.with_stream(index, FilterStream::finish);
        if let Some(index) = index.checked_rem(self.streams.len()) {
            let stream = self.streams.swap_remove(index);
            assert!(stream.cell.borrow().filters.iter().all(|filter| filter.context.is_none()));
        }
    }

    async fn run(&mut self, step: Step) {
        match step {
            Step::Open(mask) => self.open(mask),
            Step::Respond(index) => self.with_stream(index, |stream| {
                if stream.exchange.response.is_none() {
                    let head = ResponseHead::new(StatusCode::OK, HeaderMap::new());
                    stream.on_event(Event::ResponseHeaders(head, EndOfStream::Yes));
                }
            }),
            Step::Reset(index) => self.with_stream(index, |stream| stream.on_event(Event::Reset)),
            Step::Finish(index) => self.finish(index),
            Step::Reconfigure(groups) => self.reconfigure(groups),
            Step::Yield => {
                yield_often().await;
                self.check_dispatched();
            }
            Step::Advance(millis) => tokio::time::advance(Duration::from_millis(millis.into())).await,
            Step::StartVms => {
                while let Ok(request) = self.requests.try_recv() {
                    request.start();
                }
            }
        }
        self.check();
    }

    /// Checks that streams and VMs agree about contexts.
    fn check(&self) {
        let mut alive: HashMap<*const VmInstance, usize> = HashMap::new();
        for stream in &self.streams {
            let borrowed = stream.cell.borrow();
            for (index, StreamFilter { plugin, context }) in borrowed.filters.iter().enumerate() {
                let VmState::Running(running) = &*plugin.vm.state.borrow() else { continue };
                let is_own = |context: &&_| is_of(context, &plugin.vm);
                let Some(context) = context.as_ref().filter(is_own) else { continue };
                let found = running.streams.get(context.id).expect("a context of the VM has its stream");
                assert!(found.stream.upgrade().is_some_and(|found| Rc::ptr_eq(&found, &stream.cell)));
                assert_eq!((found.filter, found.plugin_index), (index, plugin.index));
                *alive.entry(Rc::as_ptr(&plugin.vm)).or_default() += 1;
            }
        }
        let mut running = 0;
        for vm in &self.vms {
            if let VmState::Running(state) = &*vm.state.borrow() {
                running += 1;
                let expected = alive.get(&Rc::as_ptr(vm)).copied().unwrap_or(0);
                assert_eq!(state.streams.len(), expected, "each context belongs to a live stream");
            }
        }
        assert!(running <= self.state.vms.load(std::sync::atomic::Ordering::Relaxed));
    }

    /// Checks that every effect has happened: no stream waits for a filter whose VM is gone.
    fn check_dispatched(&self) {
        assert!(self.plugins.effects.pop().is_none(), "an effect was not dispatched");
        for stream in &self.streams {
            let borrowed = stream.cell.borrow();
            for (index, StreamFilter { plugin, context }) in borrowed.filters.iter().enumerate() {
                if borrowed.exchange.chain.is_paused_at(index) {
                    let is_alive = context.as_ref().is_some_and(|context| is_of(context, &plugin.vm));
                    assert!(is_alive && plugin.vm.is_running(), "a stream waits for a VM that is gone");
                }
            }
        }
    }

    /// Ends everything, and checks that no VM is left.
    async fn end(mut self) {
        while !self.streams.is_empty() {
            self.finish(0);
        }
        self.plugins.apply_config(std::iter::empty(), &HashMap::new());
        self.config = Rc::new(Config { plugins: Vec::new() });
        for _ in 0..4 {
            yield_often().await;
            tokio::time::advance(PLUGIN_SHUTDOWN_TIMEOUT).await;
        }
        yield_often().await;
        assert!(self.plugins.effects.pop().is_none());
        for vm in &self.vms {
            // The VM of a stream that its filter has never seen has not run.
            let may_be_unused = vm.is_per_stream && vm.generation() == 0;
            assert!(vm.is_closed() || may_be_unused, "a VM is not closed after its last user");
            let is_removed = |plugin: PluginRef| plugin.lifecycle.phase() == PluginPhase::Removed;
            assert!(vm.is_per_stream || vm.all_plugins().all(is_removed), "a plugin context was not deleted");
        }
        let vms: Vec<_> = std::mem::take(&mut self.vms).iter().map(Rc::downgrade).collect();
        yield_often().await;
        assert!(vms.iter().all(|vm| vm.upgrade().is_none()), "a VM has outlived its users");
        assert_eq!(self.state.vms.load(std::sync::atomic::Ordering::Relaxed), 0, "a VM runs without a user");
    }
}

fn is_of(context: &crate::filter::instance::StreamContext, vm: &VmInstance) -> bool {
    context.generation == vm.generation()
}

async fn yield_often() {
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
}

proptest! {
    /// `PROPTEST_CASES=20000` is the long form.
    #[test]
    fn contexts_and_vms_end_with_their_users(steps in proptest::collection::vec(step(), 0..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let local = tokio::task::LocalSet::new();
        runtime.block_on(local.run_until(async {
            let mut worker = Worker::new();
            for step in steps {
                worker.run(step).await;
            }
            worker.end().await;
        }));
    }
}
