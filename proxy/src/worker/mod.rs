//! One worker: a thread with its own runtime, sockets, pools, VMs and counters. A request reaches everything that it
//! needs from here, without a lock. `app` creates one on each worker thread; `listener`, `connection` and `stream` use
//! it.

mod access_recheck; // Ends streams that lose their access.
mod timeouts; // Idle and request timeouts.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use tokio::sync::Notify;
use weir_identity::ServerConfig;
use weir_model::{DownstreamProtocolOptions, Isolation, Listener, ListenerName, ListenerProtocol};

use crate::active::ActiveConfig;
use crate::fast_hash::FastMap;
use crate::filter::{ActivePlugin, PluginHandle, WorkerPlugins};
use crate::identity::Identity;
use crate::limits::REMOVED_LISTENER_RETENTION;
use crate::route::{Route, RouteTable};
use crate::task;
use crate::telemetry::{AccessLog, PluginMetrics, WorkerMetrics};
use crate::upstream::Upstreams;

pub(crate) use timeouts::{AccessCheck, HasTimeout, TimeoutSweeper};

/// Parameters of a worker.
pub(crate) struct WorkerOptions {
    /// The number of the worker, from 0.
    pub(crate) index: usize,
    /// The active configuration, shared by all workers.
    pub(crate) active: Arc<ArcSwap<ActiveConfig>>,
    /// The worker's buffer of access-log lines.
    pub(crate) access_log: AccessLog,
    /// The worker's counters.
    pub(crate) metrics: Arc<WorkerMetrics>,
    /// The proxy's workload identity.
    pub(crate) identity: Arc<Identity>,
}

/// One worker. Never leaves its thread.
pub(crate) struct Worker {
    /// The number of the worker, from 0.
    pub(crate) index: usize,
    /// Connections to endpoints.
    pub(crate) upstreams: Rc<Upstreams>,
    /// The worker's buffer of access-log lines.
    pub(crate) access_log: Rc<AccessLog>,
    /// The worker's counters.
    pub(crate) metrics: Arc<WorkerMetrics>,
    /// The proxy's workload identity.
    pub(crate) identity: Arc<Identity>,
    /// Timeouts of connections and streams.
    pub(crate) timeouts: Rc<TimeoutSweeper>,
    active: Arc<ArcSwap<ActiveConfig>>,
    current: RefCell<Rc<WorkerConfig>>,
    /// Notified when the configuration has changed and has AuthorizationPolicies.
    policies_changed: Rc<Notify>,
    /// The last configuration of each removed listener.
    removed_listeners: Rc<RefCell<HashMap<ListenerName, Rc<WorkerConfig>>>>,
    filters: Rc<WorkerPlugins>,
    rng: RefCell<SmallRng>,
    connections_accepted: Cell<u64>,
}

/// The active configuration with the worker's plugins. A request takes one and uses it until its end (invariant I4).
pub(crate) struct WorkerConfig {
    active: Arc<ActiveConfig>,
    filters: Rc<WorkerPlugins>,
    /// The chain of each route, by the route's address. Filled by the route's first request.
    chains: RefCell<FastMap<usize, Rc<WorkerChain>>>,
    no_filters: Rc<[PluginHandle]>,
    has_tls_listeners: bool,
    has_access_policies: bool,
}

/// A route's chain on one worker.
struct WorkerChain {
    /// The plugins that streams pass, in request order.
    plugins: Rc<[PluginHandle]>,
    /// The metrics of the plugins that streams skip: they are not loaded, and their failure policy is Open.
    skipped: Box<[Arc<PluginMetrics>]>,
}

impl Worker {
    /// Returns a worker that serves the active configuration.
    ///
    /// Call it on the worker's thread, inside its runtime.
    pub(crate) fn new(options: WorkerOptions) -> Rc<Self> {
        let WorkerOptions { index, active, access_log, metrics, identity } = options;
        let upstreams = Upstreams::new(Arc::clone(&identity));
        let filters = WorkerPlugins::new(index, Rc::clone(&upstreams), Arc::clone(&metrics));
        let current = WorkerConfig::new(active.load_full(), &filters);
        let (access_log, deadlines) = (Rc::new(access_log), Rc::<TimeoutSweeper>::default());
        task::spawn_local("access-log-flush", Rc::clone(&access_log).flush_forever());
        task::spawn_local("deadlines", Rc::clone(&deadlines).sweep_forever());
        let policies_changed = Rc::<Notify>::default();
        let recheck = access_recheck::recheck_forever(Rc::clone(&deadlines), Rc::clone(&policies_changed));
        task::spawn_local("access-recheck", recheck);
        Rc::new(Self {
            index,
            upstreams,
            access_log,
            metrics,
            identity,
            timeouts: deadlines,
            active,
            current: RefCell::new(current),
            policies_changed,
            removed_listeners: Rc::default(),
            filters,
            rng: RefCell::new(SmallRng::from_os_rng()),
            connections_accepted: Cell::new(0),
        })
    }

    /// Returns the configuration for a listener. Costs one load and one comparison when it has not changed.
    ///
    /// A removed listener uses the last configuration that had it, until its connections have drained.
    pub(crate) fn config(&self, listener: &ListenerName) -> Rc<WorkerConfig> {
        if !Arc::ptr_eq(&self.active.load(), &self.current.borrow().active) {
            self.refresh();
        }
        let current = Rc::clone(&self.current.borrow());
        if current.route_table(listener).is_some() {
            return current;
        }
        self.removed_listeners.borrow().get(listener).map_or(current, Rc::clone)
    }

    /// Switches to the active configuration and releases what it does not need.
    ///
    /// Called after each publish, so that an idle worker does not retain the old configuration.
    pub(crate) fn refresh(&self) {
        let active = self.active.load_full();
        if Arc::ptr_eq(&active, &self.current.borrow().active) {
            return;
        }
        let config = WorkerConfig::new(active, &self.filters);
        self.upstreams.retain(&config.active.clusters);
        if config.has_access_policies {
            self.policies_changed.notify_one();
        }
        let old = self.current.replace(config);
        self.retain_removed_listeners(&old);
    }

    fn retain_removed_listeners(&self, old: &Rc<WorkerConfig>) {
        let current = self.current.borrow();
        let gone = old.active.route_tables.keys().filter(|name| current.route_table(name).is_none());
        for name in gone {
            self.removed_listeners.borrow_mut().insert(name.clone(), Rc::clone(old));
            let (name, removed) = (name.clone(), Rc::clone(&self.removed_listeners));
            task::spawn_local("removed-listener", async move {
                tokio::time::sleep(REMOVED_LISTENER_RETENTION).await;
                removed.borrow_mut().remove(&name);
            });
        }
    }

    /// Returns a random number, uniform over all `u32`.
    pub(crate) fn random_u32(&self) -> u32 {
        self.rng.borrow_mut().next_u32()
    }

    /// Returns a connection ID that is unique in this process.
    pub(crate) fn next_connection_id(&self) -> u64 {
        self.connections_accepted.set(self.connections_accepted.get() + 1);
        self.connections_accepted.get() << 16 | (self.index as u64 & 0xffff)
    }
}

impl WorkerConfig {
    fn new(active: Arc<ActiveConfig>, filters: &Rc<WorkerPlugins>) -> Rc<Self> {
        filters.apply_config(active.plugins.values(), &active.clusters);
        let (filters, no_filters) = (Rc::clone(filters), Rc::from([]));
        let has_tls_listeners = active.snapshot.listeners.values().any(|listener| listener.tls.is_some());
        let has_access_policies = active.plugins.values().any(|plugin| plugin.model.is_access_policy());
        Rc::new(Self {
            active,
            filters,
            chains: RefCell::default(),
            no_filters,
            has_tls_listeners,
            has_access_policies,
        })
    }

    /// Returns the routes of a listener; `None` if the configuration has no such listener.
    pub(crate) fn route_table(&self, listener: &ListenerName) -> Option<&Arc<RouteTable>> {
        self.active.route_tables.get(listener)
    }

    /// Returns the protocol of a listener's connections.
    pub(crate) fn protocol(&self, listener: &ListenerName) -> ListenerProtocol {
        self.listener(listener).map(|listener| listener.protocol).unwrap_or_default()
    }

    /// Returns the bounds and timeouts of a listener's connections.
    pub(crate) fn options(&self, listener: &ListenerName) -> DownstreamProtocolOptions {
        self.listener(listener).map(|listener| listener.options.clone()).unwrap_or_default()
    }

    /// Returns the model of a listener; `None` if the configuration has no such listener.
    pub(crate) fn listener(&self, listener: &ListenerName) -> Option<&Listener> {
        self.active.snapshot.listeners.get(listener).map(|listener| &**listener)
    }

    /// Returns the TLS configuration of an HTTPS listener.
    pub(crate) fn https_config(&self, listener: &ListenerName) -> Option<&Arc<ServerConfig>> {
        self.active.https.get(listener)
    }

    /// Returns true if any listener requires TLS.
    pub(crate) fn has_tls_listeners(&self) -> bool {
        self.has_tls_listeners
    }

    /// Returns the AuthorizationPolicies of a route's chain, in request order. `route` must belong to this configuration.
    pub(crate) fn access_policies(&self, route: &Route) -> Vec<ActivePlugin> {
        let plugins = route.model.chain.plugins().iter().filter_map(|name| self.active.plugins.get(name));
        let is_policy =
            |plugin: &&ActivePlugin| plugin.model.is_access_policy() && plugin.model.isolation != Isolation::Singleton;
        plugins.filter(is_policy).cloned().collect()
    }

    /// Returns a chain of these plugins alone.
    pub(crate) fn chain_of(&self, plugins: &[ActivePlugin]) -> Rc<[PluginHandle]> {
        self.filters.chain(plugins)
    }

    /// Returns the plugins of a route's chain for a new stream, in request order, and counts the stream for each plugin
    /// that it skips. `route` must belong to this configuration.
    pub(crate) fn chain(&self, route: &Arc<Route>) -> Rc<[PluginHandle]> {
        if route.model.chain.plugins().is_empty() {
            return Rc::clone(&self.no_filters);
        }
        let address = Arc::as_ptr(route) as usize;
        let known = self.chains.borrow().get(&address).map(Rc::clone);
        let chain = known.unwrap_or_else(|| {
            let chain = Rc::new(self.new_chain(route));
            self.chains.borrow_mut().insert(address, Rc::clone(&chain));
            chain
        });
        chain.skipped.iter().for_each(|metrics| metrics.skipped.increment());
        Rc::clone(&chain.plugins)
    }

    fn new_chain(&self, route: &Route) -> WorkerChain {
        let names = route.model.chain.plugins();
        // A configuration has every plugin that its chains name, except those that are skipped (invariant I9). No stream
        // passes through a singleton.
        let plugins = names.iter().filter_map(|name| self.active.plugins.get(name));
        let plugins: Vec<_> =
            plugins.filter(|plugin| plugin.model.isolation != Isolation::Singleton).cloned().collect();
        let skipped = names.iter().filter(|name| self.active.skips(name)).map(|name| self.filters.metrics(name));
        WorkerChain { plugins: self.filters.chain(&plugins), skipped: skipped.collect() }
    }
}
