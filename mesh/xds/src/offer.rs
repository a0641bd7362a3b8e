//! Everything that a proxy can be told, ready to be sent: each resource encoded once, with a version that is the hash of
//! what it says. Made from a snapshot; what is the same in the next snapshot is taken over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_model::{
    Listener, ListenerProtocol, ModuleSource, Rejection, RemoteModule, ResourceId, ResourceKind, Snapshot, Version,
};

use crate::audience::Audience;
use crate::encode;
use crate::kind::Kind;
use crate::limits::{MAX_MESSAGE_BYTES, MAX_RESOURCES};
use crate::proto::{Any, pack};

/// Changes when the same model is encoded in another way: peers must then get what they hold once more.
const ENCODING: u32 = 2;

/// Resources of one kind by name.
pub type Resources = BTreeMap<Arc<str>, Arc<Offered>>;

/// A resource by its name, as it is on its way.
pub(crate) type Named = (Arc<str>, Arc<Offered>);

/// One resource, ready to be sent.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Offered {
    /// The hash of what it says, as text.
    pub version: String,
    /// The resource.
    pub resource: Any,
}

/// Where the bytes of a module can be had; `None` when nobody has them.
pub type FindModule<'a> = &'a dyn Fn(&ModuleSource) -> Option<RemoteModule>;

/// Everything that a proxy can be told.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    kinds: [Arc<Resources>; Kind::ALL.len()],
}

impl Offer {
    /// What a snapshot says, taking over from `previous` what is the same.
    ///
    /// # Errors
    /// A plugin whose module nobody has; chains that order plugins in contradicting ways.
    pub fn of(
        snapshot: &Snapshot,
        audience: &Audience,
        find: FindModule<'_>,
        previous: Option<&Self>,
    ) -> Result<Self, Vec<Rejection>> {
        let mut making = Making { offer: Self::default(), previous, faults: Vec::new() };
        for (name, cluster) in &snapshot.clusters {
            let members = encode::endpoints(cluster);
            let asker = cluster.tls.is_some().then_some(audience); // Where the identity comes from differs.
            making.add(Kind::Cluster, name.as_str(), &(ENCODING, asker, without_members(cluster)), || {
                pack(&encode::cluster(cluster, audience))
            });
            if let Some(members) = members {
                making.add(Kind::Endpoints, name.as_str(), &(ENCODING, &cluster.discovery), || pack(&members));
            }
        }
        for (name, plugin) in &snapshot.plugins {
            match find(&plugin.module) {
                Some(module) => making.add(Kind::Plugin, name.as_str(), &(ENCODING, audience, plugin, &module), || {
                    pack(&encode::plugin(plugin, &module, audience))
                }),
                None => making.fault(ResourceKind::Plugin, name.as_str(), "module", "its bytes are not there"),
            }
        }
        for (name, secret) in &snapshot.secrets {
            making.add(Kind::Secret, name.as_str(), &(ENCODING, secret), || pack(&encode::secret(secret)));
        }
        for listener in snapshot.listeners.values().filter(|it| it.protocol == ListenerProtocol::Tcp) {
            making.add_tcp_listener(listener, (snapshot, audience, find));
        }
        for (name, listener) in snapshot.listeners.iter().filter(|(_, it)| it.protocol == ListenerProtocol::Http) {
            let order = snapshot.route_tables.get(&listener.route_table).map(|table| encode::filter_order(table));
            match order.unwrap_or_else(|| Ok(Vec::new())) {
                Ok(filters) => {
                    making.add(Kind::Listener, name.as_str(), &(ENCODING, audience, listener, &filters), || {
                        pack(&encode::listener(listener, &filters, audience))
                    });
                }
                Err((one, other)) => {
                    let reason = format!("its routes disagree on which of {one} and {other} comes first");
                    making.fault(ResourceKind::Listener, name.as_str(), "routeTable", &reason);
                }
            }
        }
        let tcp: BTreeSet<_> = snapshot
            .listeners
            .values()
            .filter(|it| it.protocol == ListenerProtocol::Tcp)
            .map(|it| &it.route_table)
            .collect();
        for (name, table) in snapshot.route_tables.iter().filter(|(name, _)| !tcp.contains(name)) {
            making.add(Kind::RouteTable, name.as_str(), &(ENCODING, table), || pack(&encode::route_table(table)));
        }
        making.share();
        if making.faults.is_empty() { Ok(making.offer) } else { Err(making.faults) }
    }

    /// What a gRPC client that has no proxy can call: the clusters whose endpoints are listed, and want no proof of who
    /// calls.
    pub fn for_grpc(snapshot: &Snapshot, previous: Option<&Self>) -> Self {
        let mut making = Making { offer: Self::default(), previous, faults: Vec::new() };
        for cluster in snapshot.clusters.values().filter(|cluster| cluster.tls.is_none()) {
            let Some(name) = encode::grpc::target(cluster) else { continue };
            let Some(members) = encode::grpc::endpoints(&name, cluster) else { continue };
            let content = (ENCODING, "grpc", cluster.request_timeout);
            making.add(Kind::Cluster, &name, &content, || pack(&encode::grpc::cluster(&name)));
            making.add(Kind::Endpoints, &name, &(ENCODING, "grpc", &cluster.discovery), || pack(&members));
            making.add(Kind::Listener, &name, &content, || pack(&encode::grpc::listener(&name, cluster)));
        }
        making.share();
        making.offer
    }

    /// Adds or replaces a resource.
    pub fn put(&mut self, kind: Kind, name: &str, offered: Offered) {
        Arc::make_mut(&mut self.kinds[kind as usize]).insert(name.into(), Arc::new(offered));
    }

    /// Takes a resource out.
    pub fn remove(&mut self, kind: Kind, name: &str) {
        Arc::make_mut(&mut self.kinds[kind as usize]).remove(name);
    }

    /// Why this is more than one response may carry, if it is.
    pub fn excess(&self) -> Option<String> {
        for (kind, resources) in Kind::ALL.into_iter().zip(&self.kinds) {
            let (count, most) = (resources.len(), MAX_RESOURCES);
            if count > most {
                return Some(format!("{count} resources of the kind {kind:?}; a proxy takes at most {most}"));
            }
            let bytes: usize = resources.iter().map(|(name, it)| name.len() + it.resource.value.len() + 128).sum();
            if bytes > MAX_MESSAGE_BYTES {
                return Some(format!("{bytes} bytes of the kind {kind:?}; a proxy takes at most {MAX_MESSAGE_BYTES}"));
            }
        }
        None
    }

    /// The resources of a kind. What did not change since the previous offer is the same map.
    pub fn of_kind(&self, kind: Kind) -> &Arc<Resources> {
        &self.kinds[kind as usize]
    }

    /// A name, sharing its memory with the resource of that name if it is offered.
    pub(crate) fn name(&self, kind: Kind, name: &str) -> Arc<str> {
        self.of_kind(kind).get_key_value(name).map_or_else(|| name.into(), |(name, _)| Arc::clone(name))
    }

    /// What a peer holds that says so: what is offered if it is that version, or else only the version.
    pub(crate) fn known(&self, kind: Kind, name: &str, version: &str) -> (Arc<str>, Arc<Offered>) {
        match self.of_kind(kind).get_key_value(name) {
            Some((name, offered)) if offered.version == version => (Arc::clone(name), Arc::clone(offered)),
            _ => (self.name(kind, name), Arc::new(Offered { version: version.to_owned(), ..Offered::default() })),
        }
    }
}

/// An offer on its way.
struct Making<'a> {
    offer: Offer,
    previous: Option<&'a Offer>,
    faults: Vec<Rejection>,
}

impl Making<'_> {
    fn add(&mut self, kind: Kind, name: &str, content: &impl std::hash::Hash, encode: impl FnOnce() -> Any) {
        let version = Version::of(content).to_string();
        let known = self.previous.and_then(|previous| previous.of_kind(kind).get_key_value(name));
        let (name, offered) = match known {
            Some((name, known)) if known.version == version => (Arc::clone(name), Arc::clone(known)),
            Some((name, _)) => (Arc::clone(name), Arc::new(Offered { version, resource: encode() })),
            None => (name.into(), Arc::new(Offered { version, resource: encode() })),
        };
        Arc::make_mut(&mut self.offer.kinds[kind as usize]).insert(name, offered);
    }

    /// A TCP listener has its route in it, and for Envoy its plugins, too. One without a route is not told.
    fn add_tcp_listener(
        &mut self,
        listener: &Listener,
        (snapshot, audience, find): (&Snapshot, &Audience, FindModule<'_>),
    ) {
        let hosts = snapshot.route_tables.get(&listener.route_table).map(|table| &table.virtual_hosts);
        let Some(route) = hosts.and_then(|hosts| hosts.first()?.routes.first()) else { return };
        let Some(proxy) = encode::tcp_proxy(route) else { return };
        let mut filters = Vec::new();
        for name in route.chain.plugins() {
            let Audience::Envoy { module_cluster } = audience else {
                filters.push(encode::network_plugin(name));
                continue;
            };
            // One whose module is not there was told about with the plugins.
            let Some(plugin) = snapshot.plugins.get(name) else { return };
            let Some(module) = find(&plugin.module) else { return };
            filters.push(encode::network_plugin_within(plugin, &module, module_cluster.to_string()));
        }
        filters.push(proxy);
        let bytes: Vec<Vec<u8>> = filters.iter().map(prost::Message::encode_to_vec).collect();
        let name = listener.name.as_str();
        self.add(Kind::Listener, name, &(ENCODING, audience, listener, bytes), || {
            pack(&encode::tcp_listener(listener, &filters, audience))
        });
    }

    /// Takes over the maps in which nothing has changed.
    fn share(&mut self) {
        let Some(previous) = self.previous else { return };
        for (now, before) in self.offer.kinds.iter_mut().zip(&previous.kinds) {
            let mut pairs = now.values().zip(before.values());
            if now.len() == before.len() && pairs.all(|(now, before)| Arc::ptr_eq(now, before)) {
                *now = Arc::clone(before);
            }
        }
    }

    fn fault(&mut self, kind: ResourceKind, name: &str, field: &str, reason: &str) {
        self.faults.push(Rejection {
            resource: ResourceId { kind, name: name.to_owned() },
            field: field.to_owned(),
            reason: reason.to_owned(),
            hint: String::new(),
        });
    }
}

/// What a cluster says apart from which endpoints it has.
fn without_members(cluster: &weir_model::Cluster) -> weir_model::Cluster {
    let mut cluster = cluster.clone();
    if let weir_model::Discovery::Static(endpoints) = &mut cluster.discovery {
        endpoints.clear();
    }
    cluster
}
