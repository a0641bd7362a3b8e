//! Resolves endpoints by DNS: every address of a name is an endpoint. Runs on the main runtime. `active` warms a new
//! cluster with [`resolve_once`], and `config` keeps [`resolve_forever`] running for it.
//!
//! A lookup follows when the TTL of the last answer has passed. The last good answer is retained: a failing name server
//! must not take down working endpoints.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tracing::{info, warn};
use weir_model::{Discovery, Endpoint, Weight};

use super::cluster::Cluster;
use super::dns::{AddressFamily, Addresses, Resolver};
use crate::limits::{MAX_RESOLVE_BACKOFF, MAX_RESOLVE_INTERVAL, MIN_RESOLVE_BACKOFF, MIN_RESOLVE_INTERVAL};

/// Resolves a cluster's name once, within `deadline`. Returns at once for a cluster with static endpoints.
///
/// # Errors
/// The reason why there is no address, for a log.
pub(crate) async fn resolve_once(resolver: &Resolver, cluster: &Cluster, deadline: Duration) -> Result<(), String> {
    let resolved = tokio::time::timeout(deadline, resolve(resolver, cluster)).await;
    resolved.unwrap_or_else(|_| Err("no response in time".to_owned())).map(drop)
}

/// Resolves a cluster's name repeatedly, until the cluster has no other owner.
pub(crate) async fn resolve_forever(resolver: Arc<Resolver>, cluster: Arc<Cluster>) {
    if !matches!(cluster.model().discovery, Discovery::Dns { .. }) {
        return;
    }
    let name = cluster.model().name.clone();
    let weak = Arc::downgrade(&cluster);
    drop(cluster);
    let mut backoff = None;
    while let Some(cluster) = weak.upgrade() {
        let pause = match resolve(&resolver, &cluster).await {
            Ok(ttl) => {
                if backoff.take().is_some() {
                    info!(cluster = %name, "cluster name resolves again");
                }
                ttl
            }
            Err(reason) => {
                if backoff.is_none() {
                    let endpoints = cluster.endpoints().len();
                    warn!(cluster = %name, %reason, endpoints, "cluster name does not resolve, endpoints unchanged");
                }
                let pause = backoff.map_or(MIN_RESOLVE_BACKOFF, |last: Duration| last * 2).min(MAX_RESOLVE_BACKOFF);
                *backoff.insert(pause)
            }
        };
        drop(cluster);
        // Up to a fifth more, so that proxies and clusters do not resolve at the same time.
        tokio::time::sleep(pause.mul_f64(1.0 + SmallRng::from_os_rng().random::<f64>() / 5.0)).await;
    }
}

/// Resolves a cluster's name. Returns the time until the next lookup.
async fn resolve(resolver: &Resolver, cluster: &Cluster) -> Result<Duration, String> {
    let Discovery::Dns { host, port } = &cluster.model().discovery else { return Ok(MAX_RESOLVE_INTERVAL) };
    let Addresses { addresses, ttl, failed } = resolver.look_up(host).await?;
    let answered = addresses.into_iter().map(|address| SocketAddr::new(address, *port));
    let models = match failed {
        None => endpoints(answered),
        Some(family) => {
            let current = cluster.endpoints();
            let retained = current.iter().filter_map(|endpoint| endpoint.address.socket());
            endpoints(answered.chain(retained.filter(|address| AddressFamily::of(address.ip()) == family)))
        }
    };
    if cluster.set_endpoints(&models) {
        info!(cluster = %cluster.model().name, endpoints = models.len(), ?ttl, "cluster endpoints changed");
    }
    Ok(ttl.clamp(MIN_RESOLVE_INTERVAL, MAX_RESOLVE_INTERVAL))
}

/// Returns each address once, in an order that does not depend on the resolver's.
fn endpoints(addresses: impl Iterator<Item = SocketAddr>) -> Vec<Endpoint> {
    let mut addresses: Vec<_> = addresses.take(weir_model::limits::MAX_ENDPOINTS).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
        .into_iter()
        .map(|address| Endpoint { address: address.into(), weight: Weight::ONE, version: None })
        .collect()
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
        let resolver = Resolver::new(Vec::new());
        let cluster = dns("127.0.0.1");
        resolve_once(&resolver, &cluster, Duration::from_secs(5)).await.unwrap();
        let addresses: Vec<_> = cluster.endpoints().iter().map(|endpoint| endpoint.address.to_string()).collect();
        assert_eq!(addresses, ["127.0.0.1:80"]);
        let generation = cluster.generation();
        resolve_once(&resolver, &cluster, Duration::from_secs(5)).await.unwrap();
        assert_eq!(cluster.generation(), generation, "the same response changes nothing");

        let broken = dns("not a name");
        broken.set_endpoints(&endpoints(["10.0.0.1:80".parse().unwrap()].into_iter()));
        assert!(resolve_once(&resolver, &broken, Duration::from_secs(5)).await.is_err());
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
