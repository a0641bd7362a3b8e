//! The part of the upstream side that belongs to one worker: for each cluster a balancer and one pool for each endpoint,
//! brought up to date when the cluster's endpoints have changed. Nothing here is shared between threads, so nothing is
//! locked; no borrow lives across an `.await`.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use weir_model::ClusterName;

use super::balance::Balancer;
use super::cluster::{Cluster, Shard};
use super::endpoints::EndpointSet;
use super::pool::{Clock, Pool};
use crate::hashing::FastMap;
use crate::identity::Identity;
use crate::limits::{MAX_MIRRORS_IN_FLIGHT, MAX_PICKS, POOL_SWEEP_INTERVAL};
use crate::task;

/// One worker's connections, positions of balancers and random numbers.
pub(crate) struct Upstreams {
    clusters: RefCell<FastMap<u64, Rc<WorkerCluster>>>,
    rng: RefCell<SmallRng>,
    clock: Rc<Clock>,
    sweeping: Cell<bool>,
    mirrors: Cell<usize>,
    /// Who the proxy is.
    identity: Arc<Identity>,
}

impl Upstreams {
    /// Nothing open, nothing known.
    pub(crate) fn new(identity: Arc<Identity>) -> Rc<Self> {
        Rc::new(Self {
            clusters: RefCell::default(),
            rng: RefCell::new(SmallRng::from_os_rng()),
            clock: Rc::default(),
            sweeping: Cell::new(false),
            mirrors: Cell::new(0),
            identity,
        })
    }

    /// Closes the pools of every cluster that is not among these; called after a change of configuration. Requests under
    /// way end on their connections.
    pub(crate) fn retain(&self, clusters: &HashMap<ClusterName, Arc<Cluster>>) {
        self.clusters.borrow_mut().retain(|id, state| {
            let stays = clusters.get(&state.cluster.model().name).is_some_and(|cluster| cluster.id() == *id);
            if !stays {
                state.close();
            }
            stays
        });
    }

    /// Closes every idle connection, and each other one when its request has ended; called when the worker drains.
    pub(crate) fn close_all(&self) {
        self.clusters.borrow_mut().drain().for_each(|(_, state)| state.close());
    }

    /// The worker's state of a cluster, made when it is used first.
    pub(super) fn of(&self, cluster: &Arc<Cluster>) -> Rc<WorkerCluster> {
        if let Some(state) = self.clusters.borrow().get(&cluster.id()) {
            return Rc::clone(state);
        }
        let state = Rc::new(WorkerCluster {
            cluster: Arc::clone(cluster),
            shard: cluster.join(),
            clock: Rc::clone(&self.clock),
            view: RefCell::new(None),
            identity: Arc::clone(&self.identity),
        });
        self.clusters.borrow_mut().insert(cluster.id(), Rc::clone(&state));
        state
    }

    /// The pool of the endpoint whose turn it is, other than those that were `tried`.
    pub(super) fn pick(&self, state: &WorkerCluster, tried: &[SocketAddr]) -> Option<Rc<Pool>> {
        state.pick(&mut self.rng.borrow_mut(), tried)
    }

    /// Sees to it that idle connections are closed in time: one task for the worker, which ends with the last connection.
    pub(super) fn sweep_while_open(self: &Rc<Self>) {
        if self.sweeping.replace(true) {
            return;
        }
        let upstreams = Rc::downgrade(self);
        drop(task::spawn_local("upstream_sweep", async move {
            loop {
                tokio::time::sleep(POOL_SWEEP_INTERVAL).await;
                let Some(upstreams) = upstreams.upgrade() else { return };
                if !upstreams.sweep() {
                    upstreams.sweeping.set(false);
                    return;
                }
            }
        }));
    }

    /// Closes what has been idle too long; says whether anything is still open.
    pub(super) fn sweep(&self) -> bool {
        self.clock.advance();
        // Not `any`: every pool is swept.
        self.clusters.borrow().values().fold(false, |open, state| state.sweep() | open)
    }

    /// Takes one of the places for copies of requests, if one is free.
    pub(super) fn enter_mirror(self: &Rc<Self>) -> Option<MirrorPlace> {
        let taken = self.mirrors.get();
        (taken < MAX_MIRRORS_IN_FLIGHT).then(|| {
            self.mirrors.set(taken + 1);
            MirrorPlace(Rc::clone(self))
        })
    }
}

/// One of the places for copies of requests; free again when dropped.
pub(super) struct MirrorPlace(Rc<Upstreams>);

impl Drop for MirrorPlace {
    fn drop(&mut self) {
        self.0.mirrors.set(self.0.mirrors.get() - 1);
    }
}

/// One worker's state of one cluster.
pub(super) struct WorkerCluster {
    cluster: Arc<Cluster>,
    shard: Arc<Shard>,
    clock: Rc<Clock>,
    identity: Arc<Identity>,
    /// `None` until the first pick.
    view: RefCell<Option<View>>,
}

/// What follows from one set of endpoints. The pool at a position is that of the endpoint there.
struct View {
    generation: u64,
    set: Arc<EndpointSet>,
    balancer: Balancer,
    pools: Box<[Rc<Pool>]>,
}

impl WorkerCluster {
    pub(super) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    pub(super) fn shard(&self) -> &Shard {
        &self.shard
    }

    fn pick(&self, rng: &mut SmallRng, tried: &[SocketAddr]) -> Option<Rc<Pool>> {
        let mut view = self.view.borrow_mut();
        if view.as_ref().is_none_or(|view| view.generation != self.cluster.generation()) {
            *view = Some(self.view_of_now(view.as_ref(), rng));
        }
        let View { set, balancer, pools, .. } = view.as_mut()?;
        let picks = if tried.is_empty() { 1 } else { MAX_PICKS };
        for _ in 0..picks {
            let index = balancer.pick(rng, |index| pools[index].load())?;
            if !tried.contains(&set.at(index).address) {
                return Some(Rc::clone(&pools[index]));
            }
        }
        // Next to large weights a small one is hard to hit.
        let untried = set.iter().position(|endpoint| endpoint.weight > 0 && !tried.contains(&endpoint.address));
        untried.map(|index| Rc::clone(&pools[index]))
    }

    /// Pools of endpoints that stay are kept with their connections; the others are closed.
    fn view_of_now(&self, previous: Option<&View>, rng: &mut SmallRng) -> View {
        let generation = self.cluster.generation();
        let set = Arc::clone(&self.cluster.endpoints());
        let mut known: HashMap<_, _> = previous
            .iter()
            .flat_map(|view| view.pools.iter())
            .map(|pool| (pool.endpoint().address, Rc::clone(pool)))
            .collect();
        let pools = set
            .iter()
            .map(|endpoint| match known.remove(&endpoint.address) {
                Some(pool) if Arc::ptr_eq(pool.endpoint(), endpoint) => pool,
                other => {
                    other.inspect(|pool| pool.close());
                    let (model, shared) = (self.cluster.model(), (&self.shard, &self.clock));
                    Pool::new(Arc::clone(endpoint), model, shared, &self.identity)
                }
            })
            .collect();
        known.values().for_each(|pool| pool.close());
        let weights: Vec<u32> = set.iter().map(|endpoint| endpoint.weight).collect();
        let balancer = Balancer::new(self.cluster.model().balancing, &weights, rng);
        View { generation, set, balancer, pools }
    }

    fn sweep(&self) -> bool {
        self.view.borrow().iter().flat_map(|view| view.pools.iter()).fold(false, |open, pool| pool.sweep() | open)
    }

    fn close(&self) {
        self.view.borrow().iter().flat_map(|view| view.pools.iter()).for_each(|pool| pool.close());
    }
}
