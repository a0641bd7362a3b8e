//! Resolves endpoints by DNS: every address of a name is an endpoint. Runs on the main runtime. `active` warms a new
//! cluster with [`resolve_once`], and `config` keeps [`resolve_forever`] running for it.
//!
//! The last good response is retained: a failing resolver must not take down working endpoints.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Semaphore;
use tracing::{info, warn};
use weir_model::{Discovery, Endpoint, Weight};

use super::cluster::Cluster;
use crate::limits::{MAX_LOOKUPS, RESOLVE_INTERVAL};

/// Permits for lookups, which run on the blocking pool and cannot be canceled.
static LOOKUPS: Semaphore = Semaphore::const_new(MAX_LOOKUPS);

/// Resolves a cluster's name once, within `deadline`. Returns at once for a cluster with static endpoints.
///
/// # Errors
/// The reason why there is no address, for a log.
pub(crate) async fn resolve_once(cluster: &Cluster, deadline: Duration) -> Result<(), String> {
    tokio::time::timeout(deadline, resolve(cluster)).await.unwrap_or_else(|_| Err("no response in time".to_owned()))
}

/// Resolves a cluster's name repeatedly, until the cluster has no other owner.
pub(crate) async fn resolve_forever(cluster: Arc<Cluster>) {
    if !matches!(cluster.model().discovery, Discovery::Dns { .. }) {
        return;
    }
    let name = cluster.model().name.clone();
    let weak = Arc::downgrade(&cluster);
    drop(cluster);
    let mut failing = false;
    while let Some(cluster) = weak.upgrade() {
        match resolve(&cluster).await {
            Ok(()) if failing => info!(cluster = %name, "cluster name resolves again"),
            Err(reason) if !failing => {
                let endpoints = cluster.endpoints().len();
                warn!(cluster = %name, %reason, endpoints, "cluster name does not resolve, endpoints unchanged");
                failing = true;
                drop(cluster);
                pause().await;
                continue;
            }
            Ok(()) | Err(_) => {}
        }
        failing = false;
        drop(cluster);
        pause().await;
    }
}

/// Sleeps for the interval and up to a fifth more, so that proxies and clusters do not resolve at the same time.
async fn pause() {
    tokio::time::sleep(RESOLVE_INTERVAL.mul_f64(1.0 + SmallRng::from_os_rng().random::<f64>() / 5.0)).await;
}

async fn resolve(cluster: &Cluster) -> Result<(), String> {
    let Discovery::Dns { host, port } = &cluster.model().discovery else { return Ok(()) };
    let Ok(_permit) = LOOKUPS.acquire().await else { return Err("lookups have stopped".to_owned()) };
    let addresses = tokio::net::lookup_host((host.as_ref(), *port)).await.map_err(|error| error.to_string())?;
    let models = endpoints(addresses);
    if models.is_empty() {
        return Err("the name has no address".to_owned());
    }
    if cluster.set_endpoints(&models) {
        info!(cluster = %cluster.model().name, endpoints = models.len(), "cluster endpoints changed");
    }
    Ok(())
}

/// Returns each address once, in an order that does not depend on the resolver's.
fn endpoints(addresses: impl Iterator<Item = SocketAddr>) -> Vec<Endpoint> {
    let mut addresses: Vec<_> = addresses.take(weir_model::limits::MAX_ENDPOINTS).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.into_iter().map(|address| Endpoint { address, weight: Weight::ONE, version: None }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_model::ClusterName;

    fn dns(host: &str) -> Arc<Cluster> {
        let name = ClusterName::new("shop/reviews:80").unwrap();
        let mut model = weir_model::Cluster::of_endpoints(name, Vec::new()).unwrap();
        model.discovery = Discovery::Dns { host: Arc::from(host), port: 80 };
        Cluster::new(Arc::new(model))
    }

    #[tokio::test]
    async fn resolved_addresses_become_endpoints_and_survive_failures() {
        let cluster = dns("127.0.0.1");
        resolve_once(&cluster, Duration::from_secs(5)).await.unwrap();
        let addresses: Vec<_> = cluster.endpoints().iter().map(|endpoint| endpoint.address.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1:80"]);
        let generation = cluster.generation();
        resolve_once(&cluster, Duration::from_secs(5)).await.unwrap();
        assert_eq!(cluster.generation(), generation, "the same response changes nothing");

        let broken = dns("not a name");
        broken.set_endpoints(&endpoints(["10.0.0.1:80".parse().unwrap()].into_iter()));
        assert!(resolve_once(&broken, Duration::from_secs(5)).await.is_err());
        assert_eq!(broken.endpoints().len(), 1);
    }

    #[test]
    fn addresses_are_sorted_and_unique() {
        let resolved = ["10.0.0.2:80", "10.0.0.1:80", "10.0.0.2:80"].map(|address| address.parse().unwrap());
        let addresses: Vec<_> =
            endpoints(resolved.into_iter()).iter().map(|endpoint| endpoint.address.to_string()).collect();
        assert_eq!(addresses, ["10.0.0.1:80", "10.0.0.2:80"]);
    }
}
