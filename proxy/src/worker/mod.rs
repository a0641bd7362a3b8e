//! One worker: a thread with its own runtime, sockets, pools, VMs and counters. Everything that a request needs is
//! reached from here without a lock. `app` makes one on each worker thread; `listener` and `connection` are lent it.

mod deadlines;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rand::rngs::SmallRng;
use rand::{RngCore, SeedableRng};
use weir_identity::ServerConfig;
use weir_model::{DownstreamTls, Isolation, ListenerName, ListenerProtocol};

use crate::active::ActiveConfig;
use crate::filter::{Filters, Slot};
use crate::hashing::FastMap;
use crate::identity::Identity;
use crate::limits::REMOVED_LISTENER_TIME;
use crate::route::{Route, RouteTable};
use crate::task;
use crate::telemetry::{AccessLog, WorkerMetrics};
use crate::upstream::Upstreams;

pub(crate) use deadlines::{Deadlines, Overdue};

/// What a worker is made from.
pub(crate) struct WorkerOptions {
    /// Which worker it is, from 0.
    pub(crate) index: usize,
    /// The configuration that serves.
    pub(crate) active: Arc<ArcSwap<ActiveConfig>>,
    /// Its end of the access log.
    pub(crate) access_log: AccessLog,
    /// What it counts.
    pub(crate) metrics: Arc<WorkerMetrics>,
    /// Who the proxy is.
    pub(crate) identity: Arc<Identity>,
}

/// One worker. Lives on its thread.
pub(crate) struct Worker {
    /// Which worker it is, from 0.
    pub(crate) index: usize,
    /// Its connections to endpoints.
    pub(crate) upstreams: Rc<Upstreams>,
    /// Its end of the access log.
    pub(crate) access_log: Rc<AccessLog>,
    /// What it counts.
    pub(crate) metrics: Arc<WorkerMetrics>,
    /// Who the proxy is.
    pub(crate) identity: Arc<Identity>,
    /// What must not take for ever.
    pub(crate) deadlines: Rc<Deadlines>,
    active: Arc<ArcSwap<ActiveConfig>>,
    current: RefCell<Rc<WorkerConfig>>,
    /// By listener that was removed: the last configuration that had it.
    removed: Rc<RefCell<HashMap<ListenerName, Rc<WorkerConfig>>>>,
    filters: Rc<Filters>,
    rng: RefCell<SmallRng>,
    connections: Cell<u64>,
}

/// How connections to a listener are secured.
pub(crate) enum SecuredBy {
    /// By mutual TLS of the mesh.
    Mesh {
        /// Those that send plain text are answered as well, for now.
        or_plain: bool,
    },
    /// By TLS with these certificates.
    Https(Arc<ServerConfig>),
}

/// Whether a time, in seconds since 1970, is still to come.
fn is_ahead(time: Option<u64>) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    time.is_some_and(|time| now < time)
}

/// The configuration that serves, as one worker sees it. A request takes it once and keeps it to its end (invariant I4).
pub(crate) struct WorkerConfig {
    active: Arc<ActiveConfig>,
    filters: Rc<Filters>,
    /// The slots of each route's chain, by the route's address; made with the route's first request.
    chains: RefCell<FastMap<usize, Rc<[Rc<Slot>]>>>,
    no_filters: Rc<[Rc<Slot>]>,
    has_tls_listeners: bool,
}

impl Worker {
    /// A worker that serves what is active. On its thread, inside its runtime.
    pub(crate) fn new(options: WorkerOptions) -> Rc<Self> {
        let WorkerOptions { index, active, access_log, metrics, identity } = options;
        let upstreams = Upstreams::new(Arc::clone(&identity));
        let filters = Filters::new(index, Rc::clone(&upstreams), Arc::clone(&metrics));
        let current = WorkerConfig::new(active.load_full(), &filters);
        let (access_log, deadlines) = (Rc::new(access_log), Rc::<Deadlines>::default());
        task::spawn_local("access-log-flush", Rc::clone(&access_log).flush_forever());
        task::spawn_local("deadlines", Rc::clone(&deadlines).sweep_forever());
        Rc::new(Self {
            index,
            upstreams,
            access_log,
            metrics,
            identity,
            deadlines,
            active,
            current: RefCell::new(current),
            removed: Rc::default(),
            filters,
            rng: RefCell::new(SmallRng::from_os_rng()),
            connections: Cell::new(0),
        })
    }

    /// The configuration that serves a listener now. One load and one comparison when it has not changed. A listener
    /// that was removed is served by the last configuration that had it, until its connections have drained.
    pub(crate) fn config(&self, listener: &ListenerName) -> Rc<WorkerConfig> {
        if !Arc::ptr_eq(&self.active.load(), &self.current.borrow().active) {
            self.refresh();
        }
        let current = Rc::clone(&self.current.borrow());
        if current.route_table(listener).is_some() {
            return current;
        }
        self.removed.borrow().get(listener).map_or(current, Rc::clone)
    }

    /// Takes up the configuration that serves now and lets go of what it does not need. Called after each publish, so
    /// that an idle worker does not keep the old one.
    pub(crate) fn refresh(&self) {
        let active = self.active.load_full();
        if Arc::ptr_eq(&active, &self.current.borrow().active) {
            return;
        }
        let config = WorkerConfig::new(active, &self.filters);
        self.upstreams.retain(&config.active.clusters);
        let old = self.current.replace(config);
        self.remember_removed(&old);
    }

    fn remember_removed(&self, old: &Rc<WorkerConfig>) {
        let current = self.current.borrow();
        let gone = old.active.route_tables.keys().filter(|name| current.route_table(name).is_none());
        for name in gone {
            self.removed.borrow_mut().insert(name.clone(), Rc::clone(old));
            let (name, removed) = (name.clone(), Rc::clone(&self.removed));
            task::spawn_local("removed-listener", async move {
                tokio::time::sleep(REMOVED_LISTENER_TIME).await;
                removed.borrow_mut().remove(&name);
            });
        }
    }

    /// A number uniform over all `u32`.
    pub(crate) fn draw(&self) -> u32 {
        self.rng.borrow_mut().next_u32()
    }

    /// A number unlike any other connection's in this process.
    pub(crate) fn next_connection_id(&self) -> u64 {
        self.connections.set(self.connections.get() + 1);
        self.connections.get() << 16 | (self.index as u64 & 0xffff)
    }
}

impl WorkerConfig {
    fn new(active: Arc<ActiveConfig>, filters: &Rc<Filters>) -> Rc<Self> {
        filters.refresh(active.plugins.values(), &active.clusters);
        let (filters, no_filters) = (Rc::clone(filters), Rc::from([]));
        let has_tls_listeners = active.snapshot.listeners.values().any(|listener| listener.tls.is_some());
        Rc::new(Self { active, filters, chains: RefCell::default(), no_filters, has_tls_listeners })
    }

    /// The routes of a listener.
    pub(crate) fn route_table(&self, listener: &ListenerName) -> Option<&Arc<RouteTable>> {
        self.active.route_tables.get(listener)
    }

    /// What the connections of a listener carry.
    pub(crate) fn protocol(&self, listener: &ListenerName) -> ListenerProtocol {
        self.active.snapshot.listeners.get(listener).map(|listener| listener.protocol).unwrap_or_default()
    }

    /// Who may connect to a listener. One that is not there serves nothing, to anybody.
    pub(crate) fn downstream_tls(&self, listener: &ListenerName) -> Option<SecuredBy> {
        match self.active.snapshot.listeners.get(listener)?.tls.as_ref()? {
            DownstreamTls::Mesh { plain_until } => Some(SecuredBy::Mesh { or_plain: is_ahead(*plain_until) }),
            // Each has one, or the configuration would not be there.
            DownstreamTls::Https(_) => self.active.https.get(listener).cloned().map(SecuredBy::Https),
        }
    }

    /// Why a connection may not go on at a listener that asks for more now than when it began. Free where no listener has
    /// TLS.
    pub(crate) fn asks_for_more(
        &self,
        listener: &ListenerName,
        (is_tls, is_proved): (bool, bool),
    ) -> Option<&'static str> {
        if !self.has_tls_listeners {
            return None;
        }
        match self.active.snapshot.listeners.get(listener).map(|listener| &listener.tls) {
            Some(None) => None,
            Some(Some(DownstreamTls::Https(_))) if is_tls => None,
            Some(Some(DownstreamTls::Https(_))) => Some("this listener speaks TLS now; connect again"),
            Some(Some(DownstreamTls::Mesh { .. })) | None if is_proved => None,
            Some(Some(DownstreamTls::Mesh { plain_until })) if !is_tls && is_ahead(*plain_until) => None,
            Some(Some(DownstreamTls::Mesh { .. })) | None => {
                Some("this listener asks for a certificate of the mesh now; connect again")
            }
        }
    }

    /// The slots of a route's chain, in request order. `route` must be one of this configuration.
    pub(crate) fn chain(&self, route: &Arc<Route>) -> Rc<[Rc<Slot>]> {
        let plugins = route.model.chain.plugins();
        if plugins.is_empty() {
            return Rc::clone(&self.no_filters);
        }
        let address = Arc::as_ptr(route) as usize;
        if let Some(chain) = self.chains.borrow().get(&address) {
            return Rc::clone(chain);
        }
        // The snapshot is closed: every plugin of a chain is there. Through a service goes no stream.
        let plugins = plugins.iter().filter_map(|name| self.active.plugins.get(name));
        let plugins: Vec<_> = plugins.filter(|it| it.model.isolation != Isolation::Process).cloned().collect();
        let chain = self.filters.chain(&plugins);
        self.chains.borrow_mut().insert(address, Rc::clone(&chain));
        chain
    }
}
