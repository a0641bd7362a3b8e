//! The upstream side of one worker: for each cluster a balancer and one pool for each endpoint, rebuilt when the
//! cluster's endpoints have changed. Nothing is shared between threads, so nothing is locked. No borrow lives across an
//! `.await`.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use weir_model::{ClusterName, Discovery, EndpointAddress, UpstreamProtocol, UpstreamTls};

use super::balance::Balancer;
use super::cluster::{Cluster, WorkerCounters};
use super::connect::UpstreamTlsContext;
use super::ejection::{self, outcome_of};
use super::endpoints::{Endpoint, EndpointSet};
use super::outlier::Outcome;
use super::pool::Pool;
use super::sweep_clock::SweepClock;
use crate::error::ProxyError;
use crate::fast_hash::FastMap;
use crate::identity::Identity;
use crate::limits::{MAX_MIRRORS_IN_FLIGHT, MAX_PICKS, PANIC_PERCENT, POOL_SWEEP_INTERVAL};
use crate::task;
use crate::tls::ClientTls;

/// One worker's connections, balancers and random numbers.
pub(crate) struct Upstreams {
    clusters: RefCell<FastMap<u64, Rc<WorkerCluster>>>,
    rng: RefCell<SmallRng>,
    clock: Rc<SweepClock>,
    sweeping: Cell<bool>,
    mirrors_in_flight: Cell<usize>,
    /// The proxy's workload identity.
    identity: Arc<Identity>,
}

impl Upstreams {
    /// Returns the state of a worker without connections.
    pub(crate) fn new(identity: Arc<Identity>) -> Rc<Self> {
        Rc::new(Self {
            clusters: RefCell::default(),
            rng: RefCell::new(SmallRng::from_os_rng()),
            clock: Rc::default(),
            sweeping: Cell::new(false),
            mirrors_in_flight: Cell::new(0),
            identity,
        })
    }

    /// Closes the pools of every cluster that is not in `clusters`. Called after a configuration update.
    ///
    /// Requests in flight continue on their connections.
    pub(crate) fn retain(&self, clusters: &HashMap<ClusterName, Arc<Cluster>>) {
        self.clusters.borrow_mut().retain(|id, state| {
            let stays = clusters.get(&state.cluster.model().name).is_some_and(|cluster| cluster.id() == *id);
            if !stays {
                state.close();
            }
            stays
        });
    }

    /// Closes every idle connection, and each other one when its request has ended. Called when the worker drains.
    pub(crate) fn close_all(&self) {
        self.clusters.borrow_mut().drain().for_each(|(_, state)| state.close());
    }

    /// Returns the worker's state of a cluster. The first use of a cluster creates it.
    pub(super) fn cluster_state(&self, cluster: &Arc<Cluster>) -> Rc<WorkerCluster> {
        if let Some(state) = self.clusters.borrow().get(&cluster.id()) {
            return Rc::clone(state);
        }
        let state = Rc::new(WorkerCluster {
            cluster: Arc::clone(cluster),
            counters: cluster.register_worker(),
            clock: Rc::clone(&self.clock),
            view: RefCell::new(None),
            identity: Arc::clone(&self.identity),
        });
        self.clusters.borrow_mut().insert(cluster.id(), Rc::clone(&state));
        state
    }

    /// Returns a random number from 0 to 1.
    pub(super) fn draw(&self) -> f64 {
        self.rng.borrow_mut().random()
    }

    /// Returns the pool of the endpoint that the balancer picks, apart from those that were `tried`.
    pub(super) fn pick(&self, state: &WorkerCluster, tried: &[EndpointAddress]) -> Option<Rc<Pool>> {
        state.pick(&mut self.rng.borrow_mut(), tried)
    }

    /// Starts the task that closes idle connections, unless it runs. It ends with the last connection of the worker.
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

    /// Closes connections that were idle too long. Returns whether any connection is still open.
    pub(super) fn sweep(&self) -> bool {
        self.clock.advance();
        // Not `any`, because every pool must be swept.
        self.clusters.borrow().values().fold(false, |open, state| state.sweep() | open)
    }

    /// Returns a permit for a mirrored request; `None` when [`MAX_MIRRORS_IN_FLIGHT`] are in flight.
    pub(super) fn acquire_mirror_permit(self: &Rc<Self>) -> Option<MirrorPermit> {
        let in_flight = self.mirrors_in_flight.get();
        (in_flight < MAX_MIRRORS_IN_FLIGHT).then(|| {
            self.mirrors_in_flight.set(in_flight + 1);
            MirrorPermit(Rc::clone(self))
        })
    }
}

/// A permit for one mirrored request. Dropping it frees the permit.
pub(super) struct MirrorPermit(Rc<Upstreams>);

impl Drop for MirrorPermit {
    fn drop(&mut self) {
        self.0.mirrors_in_flight.set(self.0.mirrors_in_flight.get() - 1);
    }
}

/// One worker's state of one cluster.
pub(super) struct WorkerCluster {
    cluster: Arc<Cluster>,
    counters: Arc<WorkerCounters>,
    clock: Rc<SweepClock>,
    identity: Arc<Identity>,
    /// `None` until the first pick.
    view: RefCell<Option<PickView>>,
}

/// The balancer and the pools of one set of endpoints. A pool has the position of its endpoint.
struct PickView {
    generation: u64,
    tls: Option<WorkerTls>,
    set: Arc<EndpointSet>,
    /// The weights of endpoints; 0 for those that are left out.
    weights: Box<[u32]>,
    balancer: Balancer,
    pools: Box<[Rc<Pool>]>,
}

/// Returns the weights of endpoints, 0 for those that are left out. If fewer than [`PANIC_PERCENT`] are left, none is left
/// out: the others could not bear the load, and the cause may lie elsewhere.
fn available_weights(set: &EndpointSet) -> Box<[u32]> {
    let all = set.iter().filter(|endpoint| endpoint.weight > 0).count();
    let available = set.iter().filter(|endpoint| endpoint.weight > 0 && endpoint.is_available()).count();
    let is_panic = available * 100 < all * PANIC_PERCENT;
    set.iter().map(|endpoint| if is_panic || endpoint.is_available() { endpoint.weight } else { 0 }).collect()
}

/// The TLS of a worker's connections to a cluster.
struct WorkerTls {
    /// The settings that it was made from; `None` for the mesh.
    source: Option<Arc<ClientTls>>,
    context: Rc<UpstreamTlsContext>,
}

impl WorkerCluster {
    pub(super) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }

    pub(super) fn counters(&self) -> &WorkerCounters {
        &self.counters
    }

    /// Records the result of an attempt at an endpoint.
    pub(super) fn record(&self, endpoint: &Endpoint, outcome: Outcome) {
        ejection::record(&self.cluster, endpoint, outcome);
    }

    /// Records a failed attempt at the endpoint of a pool.
    pub(super) fn record_failure(&self, pool: &Pool, error: &ProxyError) {
        pool.record_failure(error);
        if let Some(outcome) = outcome_of(error) {
            self.record(pool.endpoint(), outcome);
        }
    }

    /// Records that the time of an attempt at an endpoint was over.
    pub(super) fn record_timeout(&self, address: Option<&EndpointAddress>) {
        if self.cluster.model().outlier_detection.is_none() {
            return;
        }
        let endpoints = self.cluster.endpoints();
        if let Some(endpoint) = endpoints.iter().find(|endpoint| Some(&endpoint.address) == address) {
            self.record(endpoint, Outcome::LocalError);
        }
    }

    /// Takes one retry from the cluster's retry budget. Returns false, and counts it, if the budget is spent.
    pub(super) fn take_retry(&self) -> bool {
        let is_allowed = self.cluster.take_retry();
        if !is_allowed {
            self.counters.retries_over_budget.increment();
        }
        is_allowed
    }

    fn pick(&self, rng: &mut SmallRng, tried: &[EndpointAddress]) -> Option<Rc<Pool>> {
        let mut view = self.view.borrow_mut();
        if view.as_ref().is_none_or(|view| view.generation != self.cluster.generation()) {
            *view = Some(self.rebuild_view(view.as_ref(), rng));
        }
        let PickView { set, weights, balancer, pools, .. } = view.as_mut()?;
        let picks = if tried.is_empty() { 1 } else { MAX_PICKS };
        for _ in 0..picks {
            let index = balancer.pick(rng, |index| pools[index].load())?;
            if !tried.contains(&set.at(index).address) {
                return Some(Rc::clone(&pools[index]));
            }
        }
        // Beside large weights a small one is hard to hit.
        let untried = (0..weights.len()).find(|index| weights[*index] > 0 && !tried.contains(&set.at(*index).address));
        untried.map(|index| Rc::clone(&pools[index]))
    }

    /// Returns true if the addresses of its endpoints are those of one DNS name, and there are several.
    pub(super) fn has_alternatives(&self) -> bool {
        let is_dns = matches!(self.cluster.model().discovery, Discovery::Dns { .. });
        is_dns && self.view.borrow().as_ref().is_some_and(|view| view.pools.len() > 1)
    }

    /// Returns the pool of the address that follows `last`, with another address family if there is one (RFC 8305 §4).
    /// `None` if all are excluded.
    pub(super) fn pick_alternative(&self, last: &EndpointAddress, excluded: &[EndpointAddress]) -> Option<Rc<Pool>> {
        let view = self.view.borrow();
        let PickView { pools, weights, .. } = view.as_ref()?;
        let position = pools.iter().position(|pool| pool.endpoint().address == *last);
        let (before, after) = pools.split_at(position.map_or(0, |position| position + 1));
        let (weights_before, weights_after) = weights.split_at(before.len());
        let weights = weights_after.iter().chain(weights_before);
        let all = after.iter().chain(before).zip(weights).filter(|(_, weight)| **weight > 0).map(|(pool, _)| pool);
        let mut rest = all.filter(|pool| !excluded.contains(&pool.endpoint().address));
        let is_ipv4 = |address: &EndpointAddress| address.socket().map(|socket| socket.is_ipv4());
        let is_other_family = |pool: &&Rc<Pool>| is_ipv4(&pool.endpoint().address) != is_ipv4(last);
        rest.clone().find(is_other_family).or_else(|| rest.next()).map(Rc::clone)
    }

    /// Returns the current TLS settings. Those of the previous view are reused if they have not changed.
    fn current_tls(&self, previous: Option<&PickView>) -> Option<WorkerTls> {
        let model = self.cluster.model();
        let tls = model.tls.as_ref()?;
        let source = self.cluster.tls();
        let before = previous.and_then(|view| view.tls.as_ref());
        if let Some(WorkerTls { source: known, context }) = before
            && known.as_ref().map(Arc::as_ptr) == source.as_ref().map(Arc::as_ptr)
        {
            return Some(WorkerTls { source, context: Rc::clone(context) });
        }
        let context = match tls {
            UpstreamTls::Mesh { workload } => {
                UpstreamTlsContext::Mesh { identity: Arc::clone(&self.identity), workload: workload.clone() }
            }
            UpstreamTls::Server(_) => {
                let alpn: &[&[u8]] = match model.protocol {
                    UpstreamProtocol::Http1 => &[b"http/1.1"],
                    UpstreamProtocol::Http2 => &[b"h2"],
                    UpstreamProtocol::Auto => &[b"h2", b"http/1.1"],
                };
                let settings = match &source {
                    Some(source) => source.for_worker(alpn),
                    // Not reachable: a published cluster has its settings. It must not send plaintext.
                    None => ClientTls::unusable("the settings are not there yet".to_owned()).for_worker(alpn),
                };
                UpstreamTlsContext::Server(Rc::new(settings))
            }
        };
        Some(WorkerTls { source, context: Rc::new(context) })
    }

    /// Builds the view of the current endpoints. Pools of unchanged endpoints are reused, and the others are closed, as
    /// are all if the TLS settings have changed.
    fn rebuild_view(&self, previous: Option<&PickView>, rng: &mut SmallRng) -> PickView {
        let generation = self.cluster.generation();
        let set = Arc::clone(&self.cluster.endpoints());
        let tls = self.current_tls(previous);
        let context = tls.as_ref().map(|tls| &tls.context);
        let mut reusable: HashMap<_, _> = previous
            .iter()
            .flat_map(|view| view.pools.iter())
            .map(|pool| (pool.endpoint().address.clone(), Rc::clone(pool)))
            .collect();
        let pools = set
            .iter()
            .map(|endpoint| match reusable.remove(&endpoint.address) {
                Some(pool) if Arc::ptr_eq(pool.endpoint(), endpoint) && pool.has_tls(context) => pool,
                other => {
                    other.inspect(|pool| pool.close());
                    let endpoint = Arc::clone(endpoint);
                    Pool::new(endpoint, self.cluster.model(), &self.counters, &self.clock, context)
                }
            })
            .collect();
        reusable.values().for_each(|pool| pool.close());
        let weights = available_weights(&set);
        let balancer = Balancer::new(self.cluster.model().lb_policy, &weights, rng);
        PickView { generation, tls, set, weights, balancer, pools }
    }

    fn sweep(&self) -> bool {
        self.cluster.note_requests();
        self.view.borrow().iter().flat_map(|view| view.pools.iter()).fold(false, |open, pool| pool.sweep() | open)
    }

    fn close(&self) {
        self.view.borrow().iter().flat_map(|view| view.pools.iter()).for_each(|pool| pool.close());
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::upstream::testing;

    #[test]
    fn alternatives_have_the_other_family_first() {
        let addresses = ["10.0.0.1:80", "10.0.0.2:80", "[::1]:80", "[::2]:80"];
        let addresses = addresses.map(|address| address.parse::<SocketAddr>().unwrap());
        let cluster = testing::cluster(&[], |model| model.discovery = Discovery::Dns { host: "a".into(), port: 80 });
        cluster.set_endpoints(&testing::models(&addresses));
        let upstreams = Upstreams::new(Identity::empty());
        let state = upstreams.cluster_state(&cluster);
        upstreams.pick(&state, &[]).unwrap();
        assert!(state.has_alternatives());
        let (mut last, mut order) = (EndpointAddress::from(addresses[0]), Vec::new());
        let mut excluded = vec![last.clone()];
        while let Some(pool) = state.pick_alternative(&last, &excluded) {
            last = pool.endpoint().address.clone();
            excluded.push(last.clone());
            order.push(last.to_string());
        }
        assert_eq!(order, ["[::1]:80", "10.0.0.2:80", "[::2]:80"]);
        let listed = upstreams.cluster_state(&testing::cluster(&addresses, |_| {}));
        upstreams.pick(&listed, &[]).unwrap();
        assert!(!listed.has_alternatives(), "listed endpoints do not race");
    }
}
