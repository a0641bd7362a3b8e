//! The resources that a proxy has accepted, and the snapshot that they make up.
//!
//! ```text
//!  Cluster ──► Endpoints         Listener ──► RouteTable
//!     └──────► Secret, for TLS      ├───────► Plugin, for each filter
//!                                   └───────► Secret, for each HTTPS host
//! ```
//!
//! Resources arrive one after another, so a resource may refer to one that is not there yet. There is no snapshot until
//! all resources that are subscribed to by name have arrived or are known to be absent. A cluster that a route names
//! and that does not exist has no endpoints (503, as in Envoy).
//!
//! An accepted resource may fail afterwards: a module does not load, an address is in use. Then its last good version
//! takes its place. Without one, routes through a failed plugin answer 503, or skip it if its failure policy is Open,
//! and a failed listener is left out. So a failed resource does not keep others from changing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_model::limits::DEFAULT_CONNECT_TIMEOUT;
use weir_model::{
    Cluster, ClusterName, Discovery, DownstreamTls, Endpoint, FailedPlugin, FailurePolicy, LbPolicy, Listener,
    Metadata, Plugin, PluginName, Rejection, ResourceKind, RouteTable, RouteTableName, Secret, SecretName, Snapshot,
    SnapshotBuilder, TcpKeepalive, UpstreamProtocol, UpstreamProtocolOptions, UpstreamTls,
};

use crate::decode::{self, DecodedCluster, DecodedListener, DecodedRouteTable, EndpointSource, RouteSource};
use crate::failures::{FailedVersion, Failures, UpdateNumbers};
use crate::listener_routes::{build_route_table, referenced_clusters, rejection};
use crate::proto::Any;
use crate::resource_type::ResourceType;

/// Accepted resources, decoded.
#[derive(Debug, Default)]
pub struct ResourceCache {
    clusters: BTreeMap<String, DecodedCluster>,
    endpoints: BTreeMap<String, Vec<Endpoint>>,
    plugins: BTreeMap<String, Arc<Plugin>>,
    secrets: BTreeMap<String, Arc<Secret>>,
    listeners: BTreeMap<String, DecodedListener>,
    route_tables: BTreeMap<String, DecodedRouteTable>,
    /// Subscribed to by name, and known not to exist.
    absent: BTreeSet<(ResourceType, String)>,
    /// Plugins and listeners that failed after they were accepted.
    failures: Failures,
    /// Plugins: the versions that have served last, or else the previous ones. Listeners: the previous versions that did
    /// not fail.
    last_good_plugins: BTreeMap<String, Arc<Plugin>>,
    last_good_listeners: BTreeMap<String, DecodedListener>,
    built: BuiltParts,
}

/// Parts of the last snapshot that are still valid.
#[derive(Debug, Default)]
struct BuiltParts {
    clusters: BTreeMap<String, Arc<Cluster>>,
    /// By listener, because each listener's filters make other chains.
    tables: BTreeMap<String, Arc<RouteTable>>,
}

impl ResourceCache {
    /// Inserts or replaces a resource. A rejected one leaves the previous version.
    ///
    /// # Errors
    /// Returns a rejection for each field that is invalid or not supported.
    pub fn upsert(&mut self, resource_type: ResourceType, name: &str, resource: &Any) -> Result<(), Vec<Rejection>> {
        if resource.type_url != resource_type.type_url() {
            let reason = format!("is a {} among resources of another type", resource.type_url);
            return Err(vec![rejection(resource_type, name, &reason)]);
        }
        let bytes = &*resource.value;
        match resource_type {
            ResourceType::Cluster => {
                let cluster = decode::cluster(name, bytes)?;
                check_name(resource_type, name, cluster.cluster.name.as_str())?;
                self.built.clusters.remove(name);
                self.clusters.insert(name.to_owned(), cluster);
            }
            ResourceType::Endpoints => {
                let endpoints = decode::endpoints(name, bytes)?;
                self.invalidate_endpoints(name);
                self.endpoints.insert(name.to_owned(), endpoints);
            }
            ResourceType::Plugin => {
                let plugin = decode_plugin(name, resource)?;
                let previous = self.plugins.insert(name.to_owned(), Arc::new(plugin));
                if !self.clear_failure(resource_type, name)
                    && let Some(previous) = previous
                {
                    self.last_good_plugins.entry(name.to_owned()).or_insert(previous);
                }
            }
            ResourceType::Secret => {
                let secret = decode::secret(name, bytes)?;
                check_name(resource_type, name, secret.name.as_str())?;
                self.secrets.insert(name.to_owned(), Arc::new(secret));
                self.retry_listeners_with_secret(name);
            }
            ResourceType::Listener => {
                let listener = decode::listener(name, bytes)?;
                check_name(resource_type, name, listener.name.as_str())?;
                self.built.tables.remove(name);
                let previous = self.listeners.insert(name.to_owned(), listener);
                if !self.clear_failure(resource_type, name) {
                    previous.map(|previous| self.last_good_listeners.insert(name.to_owned(), previous));
                }
            }
            ResourceType::RouteTable => {
                let table = decode::route_table(name, bytes)?;
                check_name(resource_type, name, table.name.as_str())?;
                self.invalidate_route_tables(name);
                self.route_tables.insert(name.to_owned(), table);
            }
        }
        self.absent.remove(&(resource_type, name.to_owned()));
        Ok(())
    }

    /// Removes a resource, or records that it does not exist.
    pub fn remove(&mut self, resource_type: ResourceType, name: &str) {
        match resource_type {
            ResourceType::Cluster => {
                self.clusters.remove(name);
                self.built.clusters.remove(name);
            }
            ResourceType::Endpoints => {
                self.endpoints.remove(name);
                self.invalidate_endpoints(name);
            }
            ResourceType::Plugin => {
                self.plugins.remove(name);
                self.last_good_plugins.remove(name);
                self.clear_failure(resource_type, name);
            }
            ResourceType::Secret => drop(self.secrets.remove(name)),
            ResourceType::Listener => {
                self.listeners.remove(name);
                self.last_good_listeners.remove(name);
                self.clear_failure(resource_type, name);
                self.built.tables.remove(name);
            }
            ResourceType::RouteTable => {
                self.route_tables.remove(name);
                self.invalidate_route_tables(name);
            }
        }
        if !resource_type.is_wildcard() {
            self.absent.insert((resource_type, name.to_owned()));
        }
    }

    /// Drops resources that no other refers to any more, and returns the names to subscribe to. Empty for wildcard
    /// types. The names depend on the other resources, so the caller repeats this after each change.
    pub fn prune_and_list_required(&mut self, resource_type: ResourceType) -> BTreeSet<String> {
        let required: BTreeSet<String> = match resource_type {
            ResourceType::Cluster | ResourceType::Listener => return BTreeSet::new(),
            ResourceType::Endpoints => {
                self.clusters.values().filter_map(|cluster| eds_name(cluster).map(ToOwned::to_owned)).collect()
            }
            ResourceType::RouteTable => {
                self.listeners.values().filter_map(|listener| Some(rds_name(listener)?.to_string())).collect()
            }
            ResourceType::Plugin => self.listeners.values().flat_map(ecds_plugins).map(ToString::to_string).collect(),
            ResourceType::Secret => self.referenced_secrets().map(ToString::to_string).collect(),
        };
        match resource_type {
            ResourceType::Cluster | ResourceType::Listener => {}
            ResourceType::Endpoints => self.endpoints.retain(|name, _| required.contains(name)),
            ResourceType::RouteTable => self.route_tables.retain(|name, _| required.contains(name)),
            ResourceType::Plugin => {
                self.plugins.retain(|name, _| required.contains(name));
                self.last_good_plugins.retain(|name, _| required.contains(name));
            }
            ResourceType::Secret => self.secrets.retain(|name, _| required.contains(name)),
        }
        self.absent.retain(|(absent, name)| *absent != resource_type || required.contains(name));
        required
    }

    /// Returns the resources that are referred to by name, and neither there nor known to be absent. There is no
    /// snapshot until they arrive, or the caller declares them absent with [`ResourceCache::remove`].
    pub fn unresolved(&self) -> Vec<(ResourceType, String)> {
        let endpoints =
            self.clusters.values().filter_map(eds_name).map(|name| (ResourceType::Endpoints, name.to_owned()));
        let routes =
            self.listeners.values().filter_map(rds_name).map(|name| (ResourceType::RouteTable, name.to_string()));
        let plugins =
            self.listeners.values().flat_map(ecds_plugins).map(|name| (ResourceType::Plugin, name.to_string()));
        let secrets = self.referenced_secrets().map(|name| (ResourceType::Secret, name.to_string()));
        let is_missing = |(resource_type, name): &(ResourceType, String)| {
            let there = match resource_type {
                ResourceType::Endpoints => self.endpoints.contains_key(name),
                ResourceType::RouteTable => self.route_tables.contains_key(name),
                ResourceType::Plugin => self.plugins.contains_key(name),
                ResourceType::Secret => self.secrets.contains_key(name),
                ResourceType::Cluster | ResourceType::Listener => true,
            };
            // An absent plugin is not left out: requests would bypass it.
            !there && (*resource_type == ResourceType::Plugin || !self.absent.contains(&(*resource_type, name.clone())))
        };
        let missing: BTreeSet<_> = endpoints.chain(routes).chain(plugins).chain(secrets).filter(is_missing).collect();
        missing.into_iter().collect()
    }

    /// Records the version of a plugin that has served last. It takes the place of a newer one that fails.
    ///
    /// # Errors
    /// Returns a rejection for each field that is invalid or not supported.
    pub fn set_last_good_plugin(&mut self, name: &str, resource: &Any) -> Result<(), Vec<Rejection>> {
        let plugin = decode_plugin(name, resource)?;
        self.last_good_plugins.insert(name.to_owned(), Arc::new(plugin));
        Ok(())
    }

    /// Marks the version of a plugin or listener as failed that the update of number `failed_in` had. `newest_update` is
    /// the number of the newest update so far. Returns that version; `None` when it was marked already, and for other
    /// kinds of resources.
    pub fn mark_failed(&mut self, rejection: &Rejection, failed_in: u64, newest_update: u64) -> Option<FailedVersion> {
        let Rejection { resource, field, reason, .. } = rejection;
        let resource_type = match resource.kind {
            ResourceKind::Plugin => ResourceType::Plugin,
            ResourceKind::Listener => ResourceType::Listener,
            ResourceKind::Cluster | ResourceKind::RouteTable | ResourceKind::Secret => return None,
        };
        self.built.tables.clear();
        let reason = format!("{field}: {reason}");
        let updates = UpdateNumbers { failed: failed_in, newest: newest_update };
        self.failures.record(resource_type, &resource.name, &reason, updates)
    }

    /// Clears all failures, so that the next snapshot tries these resources again. Returns false when there were none.
    pub fn retry_failed(&mut self) -> bool {
        self.built.tables.clear();
        self.failures.clear_if(|_, _| true)
    }

    /// Returns whether a resource is marked as failed.
    pub fn is_failed(&self, resource_type: ResourceType, name: &str) -> bool {
        self.failures.contains(resource_type, name)
    }

    /// Returns whether requests that need a failed resource fail: no earlier version of it serves, and it is no plugin
    /// that they can skip.
    pub fn is_blocking(&self, resource_type: ResourceType, name: &str) -> bool {
        match resource_type {
            ResourceType::Plugin => self.plugins.get(name).is_some_and(|plugin| {
                let serves = self.effective(resource_type, name, plugin, &self.last_good_plugins).is_some();
                !serves && plugin.failure == FailurePolicy::Closed
            }),
            ResourceType::Listener => self.listeners.get(name).is_some_and(|listener| {
                self.effective(resource_type, name, listener, &self.last_good_listeners).is_none()
            }),
            _ => false,
        }
    }

    /// Builds the snapshot. Call it when [`ResourceCache::unresolved`] is empty.
    ///
    /// # Errors
    /// Returns a rejection when a route names an unknown filter or has too many filters, or when a name dangles.
    pub fn snapshot(&mut self) -> Result<Snapshot, Vec<Rejection>> {
        let mut builder = SnapshotBuilder::default();
        let mut referenced: BTreeSet<ClusterName> = BTreeSet::new();
        self.put_clusters(&mut builder);
        let mut blocking_plugins = BTreeSet::new();
        for (name, plugin) in &self.plugins {
            let failed = self.failed_plugin(plugin);
            match self.effective(ResourceType::Plugin, name, plugin, &self.last_good_plugins) {
                Some(plugin) => builder.put_plugin(Arc::clone(plugin)),
                None if plugin.failure == FailurePolicy::Open => {}
                None => drop(blocking_plugins.insert(plugin.name.clone())),
            }
            failed.into_iter().for_each(|failed| builder.put_failed_plugin(plugin.name.clone(), failed));
        }
        for (name, decoded) in &self.listeners {
            let Some(decoded) = self.effective(ResourceType::Listener, name, decoded, &self.last_good_listeners) else {
                continue;
            };
            if decoded.tls.is_none() && self.listeners.get(name).is_some_and(|current| current.tls.is_some()) {
                continue; // A plaintext version never takes the place of TLS.
            }
            // A listener without its certificates is left out.
            let secrets: Option<Vec<_>> = decoded
                .tls
                .iter()
                .flat_map(DownstreamTls::secrets)
                .map(|name| self.secrets.get(name.as_str()))
                .collect();
            let Some(secrets) = secrets else { continue };
            secrets.into_iter().for_each(|secret| builder.put_secret(Arc::clone(secret)));
            for plugin in &decoded.plugins {
                let Some(failed) = self.failed_plugin(plugin) else {
                    builder.put_plugin(Arc::new(plugin.clone()));
                    continue;
                };
                if failed.failure == FailurePolicy::Closed {
                    blocking_plugins.insert(plugin.name.clone());
                }
                builder.put_failed_plugin(plugin.name.clone(), failed);
            }
            let table = match self.built.tables.get(name) {
                Some(built) => Arc::clone(built),
                None => Arc::new(build_route_table(decoded, &self.route_tables, &blocking_plugins)?),
            };
            for route in table.virtual_hosts.iter().flat_map(|host| &host.routes) {
                referenced.extend(referenced_clusters(route));
            }
            builder.put_listener(Arc::new(Listener {
                name: decoded.name.clone(),
                address: decoded.address,
                protocol: decoded.protocol,
                route_table: table.name.clone(),
                tls: decoded.tls.clone(),
                options: decoded.options.clone(),
            }));
            builder.put_route_table(Arc::clone(&table));
            self.built.tables.insert(name.clone(), table);
        }
        for name in referenced.into_iter().filter(|name| !self.clusters.contains_key(name.as_str())) {
            builder.put_cluster(Arc::new(empty_cluster(name)));
        }
        builder.complete()
    }

    fn put_clusters(&mut self, builder: &mut SnapshotBuilder) {
        for (name, cluster) in &self.clusters {
            let built =
                self.built.clusters.entry(name.clone()).or_insert_with(|| with_endpoints(cluster, &self.endpoints));
            let secrets: Option<Vec<_>> =
                built.tls.iter().flat_map(UpstreamTls::secrets).map(|name| self.secrets.get(name.as_str())).collect();
            match secrets {
                Some(secrets) => {
                    secrets.into_iter().for_each(|secret| builder.put_secret(Arc::clone(secret)));
                    builder.put_cluster(Arc::clone(built));
                }
                // Without its secrets a cluster has no endpoints: it must not be used without TLS.
                None => builder.put_cluster(Arc::new(empty_cluster(built.name.clone()))),
            }
        }
    }

    /// Returns the current version, or the last good one when the current one has failed.
    fn effective<'a, T>(
        &self,
        resource_type: ResourceType,
        name: &str,
        current: &'a T,
        last_good: &'a BTreeMap<String, T>,
    ) -> Option<&'a T> {
        match self.failures.contains(resource_type, name) {
            false => Some(current),
            true => last_good.get(name).filter(|_| !self.failures.has_last_good_failed(resource_type, name)),
        }
    }

    /// Returns the failure of the current version of a plugin; `None` when it has not failed.
    fn failed_plugin(&self, plugin: &Plugin) -> Option<FailedPlugin> {
        let reason = self.failures.reason(ResourceType::Plugin, plugin.name.as_str())?;
        Some(FailedPlugin { failure: plugin.failure, reason: Arc::clone(reason) })
    }

    /// Returns the secrets that clusters and listeners refer to, including the last good versions of failed listeners.
    fn referenced_secrets(&self) -> impl Iterator<Item = &SecretName> {
        let has_failed = |name: &String| self.failures.contains(ResourceType::Listener, name);
        let last_good = self.last_good_listeners.iter().filter(move |(name, _)| has_failed(name));
        self.listeners
            .values()
            .chain(last_good.map(|(_, listener)| listener))
            .filter_map(|listener| listener.tls.as_ref())
            .flat_map(DownstreamTls::secrets)
            .chain(
                self.clusters
                    .values()
                    .filter_map(|cluster| cluster.cluster.tls.as_ref())
                    .flat_map(UpstreamTls::secrets),
            )
    }

    /// Clears the failure of listeners that refer to this secret, because its certificate changed.
    fn retry_listeners_with_secret(&mut self, secret: &str) {
        let listeners = &self.listeners;
        let refers = |name: &str| {
            let tls = listeners.get(name).and_then(|listener| listener.tls.as_ref());
            tls.is_some_and(|tls| tls.secrets().any(|name| name.as_str() == secret))
        };
        if self.failures.clear_if(|resource_type, name| resource_type == ResourceType::Listener && refers(name)) {
            self.built.tables.clear();
        }
    }

    /// Clears the failure of a resource that changed. Returns true when it had failed.
    fn clear_failure(&mut self, resource_type: ResourceType, name: &str) -> bool {
        let had_failed = self.failures.clear(resource_type, name);
        if had_failed {
            self.built.tables.clear();
        }
        had_failed
    }

    /// Drops the built clusters whose endpoints come from this `ClusterLoadAssignment`.
    fn invalidate_endpoints(&mut self, service: &str) {
        let clusters = &self.clusters;
        self.built.clusters.retain(|name, _| clusters.get(name).and_then(eds_name) != Some(service));
    }

    /// Drops the built route tables of listeners that use this route table.
    fn invalidate_route_tables(&mut self, table: &str) {
        let listeners = &self.listeners;
        let uses_table =
            |name: &String| listeners.get(name).and_then(rds_name).is_some_and(|name| name.as_str() == table);
        self.built.tables.retain(|name, _| !uses_table(name));
    }
}

fn decode_plugin(name: &str, resource: &Any) -> Result<Plugin, Vec<Rejection>> {
    let plugin = decode::extension(name, &resource.value)?;
    check_name(ResourceType::Plugin, name, plugin.name.as_str())?;
    Ok(plugin)
}

fn eds_name(cluster: &DecodedCluster) -> Option<&str> {
    match &cluster.endpoint_source {
        EndpointSource::Eds(name) => Some(name),
        EndpointSource::Inline => None,
    }
}

fn rds_name(listener: &DecodedListener) -> Option<&RouteTableName> {
    match &listener.routes {
        RouteSource::Named(name) => Some(name),
        RouteSource::Inline(_) => None,
    }
}

/// Returns the plugins of a listener that come by ECDS.
fn ecds_plugins(listener: &DecodedListener) -> impl Iterator<Item = &PluginName> {
    let is_inline = |name: &PluginName| listener.plugins.iter().any(|plugin| plugin.name == *name);
    listener.filters.iter().map(|entry| &entry.plugin).filter(move |name| !is_inline(name))
}

fn with_endpoints(decoded: &DecodedCluster, endpoints: &BTreeMap<String, Vec<Endpoint>>) -> Arc<Cluster> {
    let mut cluster = decoded.cluster.clone();
    if let Some(name) = eds_name(decoded) {
        cluster.discovery = Discovery::Static(endpoints.get(name).cloned().unwrap_or_default());
    }
    Arc::new(cluster)
}

/// A cluster without endpoints, in place of one that a route names and that does not exist.
fn empty_cluster(name: ClusterName) -> Cluster {
    Cluster {
        name,
        discovery: Discovery::Static(Vec::new()),
        protocol: UpstreamProtocol::default(),
        lb_policy: LbPolicy::default(),
        connect_timeout: DEFAULT_CONNECT_TIMEOUT,
        request_timeout: None,
        outlier_detection: None,
        retry_budget: None,
        tcp_keepalive: TcpKeepalive::default(),
        options: UpstreamProtocolOptions::default(),
        tls: None,
        metadata: Metadata::default(),
    }
}

fn check_name(resource_type: ResourceType, expected: &str, found: &str) -> Result<(), Vec<Rejection>> {
    if expected == found {
        return Ok(());
    }
    Err(vec![rejection(resource_type, expected, &format!("has the name `{found}` in its message"))])
}
