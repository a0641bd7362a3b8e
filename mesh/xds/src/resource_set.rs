//! All resources of a snapshot, encoded for one client type. Each resource is encoded once, shared by all streams, and
//! versioned by a hash of its content. Resources that do not change in the next snapshot are reused.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_model::{ContentHash, Listener, ListenerProtocol, Rejection, ResourceId, ResourceKind, Snapshot};

use crate::client_type::{ClientType, EncodeOptions};
use crate::encode;
use crate::limits::{MAX_MESSAGE_BYTES, MAX_RESOURCES};
use crate::proto::{Any, pack};
use crate::resource_type::ResourceType;

/// Version of the encoding, a part of every hash. Increment it when equal models are encoded differently, so that
/// clients receive all resources again.
const ENCODING: u32 = 2;

/// The resources of one type, by name.
pub type ResourceMap = BTreeMap<Arc<str>, Arc<VersionedResource>>;

/// A resource with its name, as it is put into a response.
pub(crate) type NamedResource = (Arc<str>, Arc<VersionedResource>);

/// One encoded resource.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct VersionedResource {
    /// The hash of the content, as text.
    pub version: String,
    /// The message. Empty when only the version is known, from `initial_resource_versions`.
    pub resource: Any,
}

/// All resources for one client type.
#[derive(Debug, Clone, Default)]
pub struct ResourceSet {
    by_type: [Arc<ResourceMap>; ResourceType::ALL.len()],
}

impl ResourceSet {
    /// Encodes a snapshot for a type of clients. Reuses the resources of `previous` whose content did not change.
    ///
    /// # Errors
    /// Rejects plugins whose module cannot be resolved, and listeners whose routes order the same plugins differently.
    pub fn encode(
        snapshot: &Snapshot,
        options: &EncodeOptions<'_>,
        previous: Option<&Self>,
    ) -> Result<Self, Vec<Rejection>> {
        let mut builder =
            ResourceSetBuilder { snapshot, options, set: Self::default(), previous, rejections: Vec::new() };
        if options.client_type == ClientType::Grpc {
            builder.add_grpc_targets();
        } else {
            builder.add_clusters();
            builder.add_cluster_aliases();
            builder.add_plugins();
            builder.add_secrets();
            builder.add_listeners();
        }
        builder.reuse_maps();
        if builder.rejections.is_empty() { Ok(builder.set) } else { Err(builder.rejections) }
    }

    /// Inserts or replaces a resource.
    pub fn put(&mut self, resource_type: ResourceType, name: &str, resource: VersionedResource) {
        Arc::make_mut(&mut self.by_type[resource_type as usize]).insert(name.into(), Arc::new(resource));
    }

    /// Removes a resource.
    pub fn remove(&mut self, resource_type: ResourceType, name: &str) {
        Arc::make_mut(&mut self.by_type[resource_type as usize]).remove(name);
    }

    /// Returns the reason why a response with all resources of a type would exceed a limit; `None` when none would.
    pub fn exceeds_limit(&self) -> Option<String> {
        for (resource_type, resources) in ResourceType::ALL.into_iter().zip(&self.by_type) {
            let (count, most) = (resources.len(), MAX_RESOURCES);
            if count > most {
                return Some(format!("{count} resources of the type {resource_type:?}; a proxy takes at most {most}"));
            }
            let bytes: usize =
                resources.iter().map(|(name, versioned)| name.len() + versioned.resource.value.len() + 128).sum();
            if bytes > MAX_MESSAGE_BYTES {
                return Some(format!(
                    "{bytes} bytes of the type {resource_type:?}; a proxy takes at most {MAX_MESSAGE_BYTES}"
                ));
            }
        }
        None
    }

    /// Returns the resources of a type. The map is shared with the previous set when no resource of the type changed.
    pub fn of_type(&self, resource_type: ResourceType) -> &Arc<ResourceMap> {
        &self.by_type[resource_type as usize]
    }

    /// Returns `name`, sharing the memory of the resource of that name if there is one.
    pub(crate) fn name(&self, resource_type: ResourceType, name: &str) -> Arc<str> {
        self.of_type(resource_type).get_key_value(name).map_or_else(|| name.into(), |(name, _)| Arc::clone(name))
    }

    /// Returns the resource that a client has in this version: the current one if the version matches, or else one
    /// without content.
    pub(crate) fn lookup_version(
        &self,
        resource_type: ResourceType,
        name: &str,
        version: &str,
    ) -> (Arc<str>, Arc<VersionedResource>) {
        match self.of_type(resource_type).get_key_value(name) {
            Some((name, resource)) if resource.version == version => (Arc::clone(name), Arc::clone(resource)),
            _ => (
                self.name(resource_type, name),
                Arc::new(VersionedResource { version: version.to_owned(), ..VersionedResource::default() }),
            ),
        }
    }
}

/// A resource set under construction.
struct ResourceSetBuilder<'a> {
    snapshot: &'a Snapshot,
    options: &'a EncodeOptions<'a>,
    set: ResourceSet,
    previous: Option<&'a ResourceSet>,
    rejections: Vec<Rejection>,
}

impl ResourceSetBuilder<'_> {
    fn add_clusters(&mut self) {
        let client_type = self.options.client_type;
        for (name, cluster) in &self.snapshot.clusters {
            // With mutual TLS the encoding depends on the client type, which decides the source of the identity.
            let options = cluster.tls.is_some().then_some(self.options);
            let content = (ENCODING, options, without_endpoints(cluster));
            self.add(ResourceType::Cluster, name.as_str(), &content, || pack(&encode::cluster(cluster, client_type)));
            if let Some(endpoints) = encode::endpoints(cluster) {
                let content = (ENCODING, &cluster.discovery);
                self.add(ResourceType::Endpoints, name.as_str(), &content, || pack(&endpoints));
            }
        }
    }

    /// Adds a cluster for each other name that a plugin has for one. An Envoy has no names of a plugin's own, so a name that
    /// is taken is skipped; the compiler warns of names with several meanings.
    fn add_cluster_aliases(&mut self) {
        let client_type = self.options.client_type;
        if client_type != ClientType::Envoy {
            return;
        }
        let snapshot = self.snapshot;
        for (alias, name) in snapshot.plugins.values().flat_map(|plugin| &plugin.cluster_aliases) {
            let is_taken = self.set.of_type(ResourceType::Cluster).contains_key(&**alias);
            let Some(cluster) = snapshot.clusters.get(name).filter(|_| !is_taken) else { continue };
            let options = cluster.tls.is_some().then_some(self.options);
            let content = (ENCODING, "alias", options, without_endpoints(cluster));
            let encode = || pack(&encode::cluster_alias(alias, cluster, client_type));
            self.add(ResourceType::Cluster, alias, &content, encode);
        }
    }

    fn add_plugins(&mut self) {
        let options = self.options;
        for (name, plugin) in &self.snapshot.plugins {
            let Some(module) = (options.resolve_module)(&plugin.module) else {
                self.reject(ResourceKind::Plugin, name.as_str(), "module", "its bytes are not there");
                continue;
            };
            let content = (ENCODING, options, plugin, &module);
            let encode = || pack(&encode::plugin(plugin, &module, options));
            self.add(ResourceType::Plugin, name.as_str(), &content, encode);
        }
    }

    fn add_secrets(&mut self) {
        for (name, secret) in &self.snapshot.secrets {
            self.add(ResourceType::Secret, name.as_str(), &(ENCODING, secret), || pack(&encode::secret(secret)));
        }
    }

    /// Adds all listeners, and the route tables of HTTP listeners.
    fn add_listeners(&mut self) {
        let mut tcp_tables = BTreeSet::new();
        for listener in self.snapshot.listeners.values() {
            match listener.protocol {
                ListenerProtocol::Http => self.add_http_listener(listener),
                ListenerProtocol::Tcp => {
                    tcp_tables.insert(&listener.route_table);
                    self.add_tcp_listener(listener);
                }
            }
        }
        for (name, table) in self.snapshot.route_tables.iter().filter(|(name, _)| !tcp_tables.contains(name)) {
            let encode = || pack(&encode::route_table(table));
            self.add(ResourceType::RouteTable, name.as_str(), &(ENCODING, table), encode);
        }
    }

    fn add_http_listener(&mut self, listener: &Arc<Listener>) {
        let (name, options) = (listener.name.as_str(), self.options);
        let table = self.snapshot.route_tables.get(&listener.route_table);
        let order = table.map(|table| encode::filter_order(table));
        let has_cors = table.is_some_and(|table| encode::has_cors(table));
        match order.unwrap_or_else(|| Ok(Vec::new())) {
            Ok(plugins) => {
                let filters = encode::HttpFilters { plugins, has_cors };
                let content = (ENCODING, options, listener, &filters);
                let encode = || pack(&encode::listener(listener, &filters, options.client_type));
                self.add(ResourceType::Listener, name, &content, encode);
            }
            Err((one, other)) => {
                let reason = format!("its routes disagree on which of {one} and {other} comes first");
                self.reject(ResourceKind::Listener, name, "routeTable", &reason);
            }
        }
    }

    /// Adds a TCP listener, which contains its route and, for Envoy, its plugins. Skips a listener without a route.
    fn add_tcp_listener(&mut self, listener: &Listener) {
        let (snapshot, options) = (self.snapshot, self.options);
        let hosts = snapshot.route_tables.get(&listener.route_table).map(|table| &table.virtual_hosts);
        let Some(route) = hosts.and_then(|hosts| hosts.first()?.routes.first()) else { return };
        let Some(proxy) = encode::tcp_proxy(route) else { return };
        let mut filters = Vec::new();
        for name in route.chain.plugins() {
            if options.client_type != ClientType::Envoy {
                filters.push(encode::network_plugin(name));
                continue;
            }
            // A missing module was rejected with the plugin.
            let Some(plugin) = snapshot.plugins.get(name) else { return };
            let Some(module) = (options.resolve_module)(&plugin.module) else { return };
            filters.push(encode::inline_network_plugin(plugin, &module, options.module_cluster.to_string()));
        }
        filters.push(proxy);
        let bytes: Vec<Vec<u8>> = filters.iter().map(prost::Message::encode_to_vec).collect();
        let name = listener.name.as_str();
        self.add(ResourceType::Listener, name, &(ENCODING, options, listener, bytes), || {
            pack(&encode::tcp_listener(listener, &filters, options.client_type))
        });
    }

    /// Adds the clusters that a proxyless gRPC client can call: those with listed endpoints and without mutual TLS.
    fn add_grpc_targets(&mut self) {
        for cluster in self.snapshot.clusters.values().filter(|cluster| cluster.tls.is_none()) {
            let Some(name) = encode::grpc::target(cluster) else { continue };
            let Some(endpoints) = encode::grpc::endpoints(&name, cluster) else { continue };
            let content = (ENCODING, "grpc", cluster.request_timeout);
            self.add(ResourceType::Cluster, &name, &content, || pack(&encode::grpc::cluster(&name)));
            self.add(ResourceType::Endpoints, &name, &(ENCODING, "grpc", &cluster.discovery), || pack(&endpoints));
            self.add(ResourceType::Listener, &name, &content, || pack(&encode::grpc::listener(&name, cluster)));
        }
    }

    fn add(
        &mut self,
        resource_type: ResourceType,
        name: &str,
        content: &impl std::hash::Hash,
        encode: impl FnOnce() -> Any,
    ) {
        let version = ContentHash::of(content).to_string();
        let known = self.previous.and_then(|previous| previous.of_type(resource_type).get_key_value(name));
        let (name, resource) = match known {
            Some((name, known)) if known.version == version => (Arc::clone(name), Arc::clone(known)),
            Some((name, _)) => (Arc::clone(name), Arc::new(VersionedResource { version, resource: encode() })),
            None => (name.into(), Arc::new(VersionedResource { version, resource: encode() })),
        };
        Arc::make_mut(&mut self.set.by_type[resource_type as usize]).insert(name, resource);
    }

    /// Reuses the map of each type in which no resource changed.
    fn reuse_maps(&mut self) {
        let Some(previous) = self.previous else { return };
        for (current, previous) in self.set.by_type.iter_mut().zip(&previous.by_type) {
            let mut pairs = current.values().zip(previous.values());
            if current.len() == previous.len() && pairs.all(|(current, previous)| Arc::ptr_eq(current, previous)) {
                *current = Arc::clone(previous);
            }
        }
    }

    fn reject(&mut self, kind: ResourceKind, name: &str, field: &str, reason: &str) {
        self.rejections.push(Rejection {
            resource: ResourceId { kind, name: name.to_owned() },
            field: field.to_owned(),
            reason: reason.to_owned(),
            hint: String::new(),
        });
    }
}

/// Returns a copy of the cluster without its endpoints: the part that its version covers.
fn without_endpoints(cluster: &weir_model::Cluster) -> weir_model::Cluster {
    let mut cluster = cluster.clone();
    if let weir_model::Discovery::Static(endpoints) = &mut cluster.discovery {
        endpoints.clear();
    }
    cluster
}
