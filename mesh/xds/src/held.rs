//! What a proxy has been told so far, and the snapshot that it amounts to. Resources come one after another, so for a
//! moment names may be referred to that are not there yet: those that are asked for by name are waited for, a cluster that
//! a route names and nobody has sent is one without endpoints (503, as in Envoy).
//!
//! What turns out later not to work (a module that does not load, an address in use) is refused alone: what the resource
//! said before goes on, or else routes through a plugin that was never good answer 503, and a listener stays away. So one
//! bad resource keeps nothing else from changing.
//!
//! ```text
//! Cluster ──(its name)──► Endpoints          Listener ──► RouteTable
//!                                                ├──────► Plugin, for each filter
//!                                                └──────► Secret, for each host of HTTPS
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_model::limits::DEFAULT_CONNECT_TIMEOUT;
use weir_model::{
    Balancing, Cluster, ClusterName, DirectResponse, Discovery, DownstreamTls, Endpoint, FilterChain, Listener,
    Metadata, Plugin, PluginName, Rejection, ResourceId, ResourceKind, Route, RouteAction, RouteTable, RouteTableName,
    Secret, SecretName, Snapshot, SnapshotBuilder, UpstreamProtocol, VirtualHost,
};

use crate::decode::{
    self, DecodedCluster, DecodedHost, DecodedListener, DecodedRoute, DecodedRouteTable, FilterEntry, Members,
    RouteSource,
};
use crate::kind::Kind;
use crate::proto::Any;

/// What a proxy has been told so far.
#[derive(Debug, Default)]
pub struct Held {
    clusters: BTreeMap<String, DecodedCluster>,
    endpoints: BTreeMap<String, Vec<Endpoint>>,
    plugins: BTreeMap<String, Arc<Plugin>>,
    secrets: BTreeMap<String, Arc<Secret>>,
    listeners: BTreeMap<String, DecodedListener>,
    route_tables: BTreeMap<String, DecodedRouteTable>,
    /// Asked for by name, and known not to be there.
    absent: BTreeSet<(Kind, String)>,
    /// Plugins and listeners that turned out not to work.
    refused: BTreeSet<(Kind, String)>,
    /// What worked before what is held now, as far as is known.
    plugins_before: BTreeMap<String, Arc<Plugin>>,
    listeners_before: BTreeMap<String, DecodedListener>,
    made: Made,
}

/// Parts of the last snapshot that are still right.
#[derive(Debug, Default)]
struct Made {
    clusters: BTreeMap<String, Arc<Cluster>>,
    /// By listener.
    tables: BTreeMap<String, Arc<RouteTable>>,
}

impl Held {
    /// Takes a resource in. A refused one leaves what was there.
    ///
    /// # Errors
    /// Everything that is not supported or contradicts itself.
    pub fn put(&mut self, kind: Kind, name: &str, resource: &Any) -> Result<(), Vec<Rejection>> {
        if resource.type_url != kind.type_url() {
            let reason = format!("is a {} among resources of another kind", resource.type_url);
            return Err(vec![rejection(kind, name, &reason)]);
        }
        let bytes = &*resource.value;
        match kind {
            Kind::Cluster => {
                let cluster = decode::cluster(name, bytes)?;
                same_name(kind, name, cluster.cluster.name.as_str())?;
                self.made.clusters.remove(name);
                self.clusters.insert(name.to_owned(), cluster);
            }
            Kind::Endpoints => {
                let endpoints = decode::endpoints(name, bytes)?;
                self.forget_members(name);
                self.endpoints.insert(name.to_owned(), endpoints);
            }
            Kind::Plugin => {
                let plugin = decode::extension(name, bytes)?;
                same_name(kind, name, plugin.name.as_str())?;
                let before = self.plugins.insert(name.to_owned(), Arc::new(plugin));
                if !self.take_refusal(kind, name) {
                    before.map(|before| self.plugins_before.insert(name.to_owned(), before));
                }
            }
            Kind::Secret => {
                let secret = decode::secret(name, bytes)?;
                same_name(kind, name, secret.name.as_str())?;
                self.secrets.insert(name.to_owned(), Arc::new(secret));
                self.try_listeners_with(name);
            }
            Kind::Listener => {
                let listener = decode::listener(name, bytes)?;
                same_name(kind, name, listener.name.as_str())?;
                self.made.tables.remove(name);
                let before = self.listeners.insert(name.to_owned(), listener);
                if !self.take_refusal(kind, name) {
                    before.map(|before| self.listeners_before.insert(name.to_owned(), before));
                }
            }
            Kind::RouteTable => {
                let table = decode::route_table(name, bytes)?;
                same_name(kind, name, table.name.as_str())?;
                self.forget_tables(name);
                self.route_tables.insert(name.to_owned(), table);
            }
        }
        self.absent.remove(&(kind, name.to_owned()));
        Ok(())
    }

    /// A resource is not there, or not any more.
    pub fn remove(&mut self, kind: Kind, name: &str) {
        match kind {
            Kind::Cluster => {
                self.clusters.remove(name);
                self.made.clusters.remove(name);
            }
            Kind::Endpoints => {
                self.endpoints.remove(name);
                self.forget_members(name);
            }
            Kind::Plugin => {
                self.plugins.remove(name);
                self.plugins_before.remove(name);
                self.take_refusal(kind, name);
            }
            Kind::Secret => drop(self.secrets.remove(name)),
            Kind::Listener => {
                self.listeners.remove(name);
                self.listeners_before.remove(name);
                self.take_refusal(kind, name);
                self.made.tables.remove(name);
            }
            Kind::RouteTable => {
                self.route_tables.remove(name);
                self.forget_tables(name);
            }
        }
        if !kind.is_wildcard() {
            self.absent.insert((kind, name.to_owned()));
        }
    }

    /// Forgets what nobody refers to any more, and says what is asked for by name. What is wanted follows from what is
    /// there: ask again after each change.
    pub fn wanted(&mut self, kind: Kind) -> BTreeSet<String> {
        let wanted: BTreeSet<String> = match kind {
            Kind::Cluster | Kind::Listener => return BTreeSet::new(),
            Kind::Endpoints => self.clusters.values().filter_map(|it| members(it).map(ToOwned::to_owned)).collect(),
            Kind::RouteTable => self.listeners.values().filter_map(|it| Some(named_routes(it)?.to_string())).collect(),
            Kind::Plugin => self.listeners.values().flat_map(discovered).map(ToString::to_string).collect(),
            Kind::Secret => self.shown().map(ToString::to_string).collect(),
        };
        match kind {
            Kind::Cluster | Kind::Listener => {}
            Kind::Endpoints => self.endpoints.retain(|name, _| wanted.contains(name)),
            Kind::RouteTable => self.route_tables.retain(|name, _| wanted.contains(name)),
            Kind::Plugin => {
                self.plugins.retain(|name, _| wanted.contains(name));
                self.plugins_before.retain(|name, _| wanted.contains(name));
            }
            Kind::Secret => self.secrets.retain(|name, _| wanted.contains(name)),
        }
        self.absent.retain(|(of, name)| *of != kind || wanted.contains(name));
        wanted
    }

    /// What is asked for by name and neither there nor known to be absent: until it comes, or is given up with
    /// [`Held::remove`], there is no snapshot.
    pub fn missing(&self) -> Vec<(Kind, String)> {
        let endpoints = self.clusters.values().filter_map(members).map(|name| (Kind::Endpoints, name.to_owned()));
        let routes = self.listeners.values().filter_map(named_routes).map(|name| (Kind::RouteTable, name.to_string()));
        let plugins = self.listeners.values().flat_map(discovered).map(|name| (Kind::Plugin, name.to_string()));
        let secrets = self.shown().map(|name| (Kind::Secret, name.to_string()));
        let is_missing = |(kind, name): &(Kind, String)| {
            let there = match kind {
                Kind::Endpoints => self.endpoints.contains_key(name),
                Kind::RouteTable => self.route_tables.contains_key(name),
                Kind::Plugin => self.plugins.contains_key(name),
                Kind::Secret => self.secrets.contains_key(name),
                Kind::Cluster | Kind::Listener => true,
            };
            // A filter that is not there cannot be left out: that would let requests pass it by.
            !there && (*kind == Kind::Plugin || !self.absent.contains(&(*kind, name.clone())))
        };
        let missing: BTreeSet<_> = endpoints.chain(routes).chain(plugins).chain(secrets).filter(is_missing).collect();
        missing.into_iter().collect()
    }

    /// A plugin or a listener turned out not to work. False when that was known, or when it can be neither.
    pub fn refuse(&mut self, resource: &ResourceId) -> bool {
        let kind = match resource.kind {
            ResourceKind::Plugin => Kind::Plugin,
            ResourceKind::Listener => Kind::Listener,
            ResourceKind::Cluster | ResourceKind::RouteTable | ResourceKind::Secret => return false,
        };
        self.made.tables.clear();
        self.refused.insert((kind, resource.name.clone()))
    }

    /// Gives everything that was refused another chance. False when there is nothing.
    pub fn retry_refused(&mut self) -> bool {
        self.made.tables.clear();
        !std::mem::take(&mut self.refused).is_empty()
    }

    /// What was refused and is left out.
    pub fn refused(&self) -> &BTreeSet<(Kind, String)> {
        &self.refused
    }

    /// The snapshot, once nothing is missing.
    ///
    /// # Errors
    /// Names that dangle, which is a mistake of ours, or a chain that is too long.
    pub fn snapshot(&mut self) -> Result<Snapshot, Vec<Rejection>> {
        let mut builder = SnapshotBuilder::default();
        let mut named: BTreeSet<ClusterName> = BTreeSet::new();
        for (name, cluster) in &self.clusters {
            let made = self.made.clusters.entry(name.clone()).or_insert_with(|| with_members(cluster, &self.endpoints));
            builder.put_cluster(Arc::clone(made));
        }
        let mut broken = BTreeSet::new();
        for (name, plugin) in &self.plugins {
            match self.standing(Kind::Plugin, name, plugin, &self.plugins_before) {
                Some(plugin) => builder.put_plugin(Arc::clone(plugin)),
                None => drop(broken.insert(plugin.name.clone())),
            }
        }
        for (name, decoded) in &self.listeners {
            let Some(decoded) = self.standing(Kind::Listener, name, decoded, &self.listeners_before) else { continue };
            if decoded.tls.is_none() && self.listeners.get(name).is_some_and(|now| now.tls.is_some()) {
                continue; // What was plain text before does not stand in for TLS.
            }
            // Without its certificate a listener stays away.
            let secrets: Option<Vec<_>> =
                decoded.tls.iter().flat_map(DownstreamTls::secrets).map(|it| self.secrets.get(it.as_str())).collect();
            let Some(secrets) = secrets else { continue };
            secrets.into_iter().for_each(|secret| builder.put_secret(Arc::clone(secret)));
            for plugin in &decoded.plugins {
                match self.refused.contains(&(Kind::Plugin, plugin.name.to_string())) {
                    true => drop(broken.insert(plugin.name.clone())),
                    false => builder.put_plugin(Arc::new(plugin.clone())),
                }
            }
            let table = match self.made.tables.get(name) {
                Some(made) => Arc::clone(made),
                None => Arc::new(table(decoded, &self.route_tables, &broken)?),
            };
            for route in table.virtual_hosts.iter().flat_map(|host| &host.routes) {
                named.extend(clusters_of(route));
            }
            builder.put_listener(Arc::new(Listener {
                name: decoded.name.clone(),
                address: decoded.address,
                protocol: decoded.protocol,
                route_table: table.name.clone(),
                tls: decoded.tls.clone(),
            }));
            builder.put_route_table(Arc::clone(&table));
            self.made.tables.insert(name.clone(), table);
        }
        for name in named.into_iter().filter(|name| !self.clusters.contains_key(name.as_str())) {
            builder.put_cluster(Arc::new(empty_cluster(name)));
        }
        builder.complete()
    }

    /// The resource, or what it said before when it is refused.
    fn standing<'a, T>(&self, kind: Kind, name: &str, now: &'a T, before: &'a BTreeMap<String, T>) -> Option<&'a T> {
        if self.refused.contains(&(kind, name.to_owned())) { before.get(name) } else { Some(now) }
    }

    /// The secrets that listeners name, those that stand in for refused ones among them.
    fn shown(&self) -> impl Iterator<Item = &SecretName> {
        let is_refused = |name: &String| self.refused.contains(&(Kind::Listener, name.clone()));
        let before = self.listeners_before.iter().filter(move |(name, _)| is_refused(name)).map(|(_, before)| before);
        self.listeners
            .values()
            .chain(before)
            .filter_map(|listener| listener.tls.as_ref())
            .flat_map(DownstreamTls::secrets)
    }

    /// Listeners that were refused and show this secret get another chance: it is another certificate now.
    fn try_listeners_with(&mut self, secret: &str) {
        let listeners = &self.listeners;
        let shows = |name: &str| {
            let tls = listeners.get(name).and_then(|listener| listener.tls.as_ref());
            tls.is_some_and(|tls| tls.secrets().any(|it| it.as_str() == secret))
        };
        let before = self.refused.len();
        self.refused.retain(|(kind, name)| *kind != Kind::Listener || !shows(name));
        if self.refused.len() < before {
            self.made.tables.clear();
        }
    }

    /// Forgets that a resource was refused: it says something else now. True when it was.
    fn take_refusal(&mut self, kind: Kind, name: &str) -> bool {
        let was_refused = self.refused.remove(&(kind, name.to_owned()));
        if was_refused {
            self.made.tables.clear();
        }
        was_refused
    }

    /// The clusters whose endpoints come under this name are made anew.
    fn forget_members(&mut self, service: &str) {
        let clusters = &self.clusters;
        self.made.clusters.retain(|name, _| clusters.get(name).and_then(members) != Some(service));
    }

    fn forget_tables(&mut self, table: &str) {
        let listeners = &self.listeners;
        let is_of_it =
            |name: &String| listeners.get(name).and_then(named_routes).is_some_and(|it| it.as_str() == table);
        self.made.tables.retain(|name, _| !is_of_it(name));
    }
}

fn members(cluster: &DecodedCluster) -> Option<&str> {
    match &cluster.members {
        Members::Named(name) => Some(name),
        Members::Here => None,
    }
}

fn named_routes(listener: &DecodedListener) -> Option<&RouteTableName> {
    match &listener.routes {
        RouteSource::Named(name) => Some(name),
        RouteSource::Inline(_) => None,
    }
}

/// The plugins of a listener that come apart from it.
fn discovered(listener: &DecodedListener) -> impl Iterator<Item = &PluginName> {
    let came_along = |name: &PluginName| listener.plugins.iter().any(|plugin| plugin.name == *name);
    listener.filters.iter().map(|entry| &entry.plugin).filter(move |name| !came_along(name))
}

fn with_members(decoded: &DecodedCluster, endpoints: &BTreeMap<String, Vec<Endpoint>>) -> Arc<Cluster> {
    let mut cluster = decoded.cluster.clone();
    if let Some(name) = members(decoded) {
        cluster.discovery = Discovery::Static(endpoints.get(name).cloned().unwrap_or_default());
    }
    Arc::new(cluster)
}

/// A cluster that a route names and nobody has sent.
fn empty_cluster(name: ClusterName) -> Cluster {
    Cluster {
        name,
        discovery: Discovery::Static(Vec::new()),
        protocol: UpstreamProtocol::default(),
        balancing: Balancing::default(),
        connect_timeout: DEFAULT_CONNECT_TIMEOUT,
        request_timeout: None,
        tls: None,
        metadata: Metadata::default(),
    }
}

/// The route table of a listener: its own name, because the same routes under other filters are other routes.
fn table(
    listener: &DecodedListener,
    tables: &BTreeMap<String, DecodedRouteTable>,
    broken: &BTreeSet<PluginName>,
) -> Result<RouteTable, Vec<Rejection>> {
    let decoded = match &listener.routes {
        RouteSource::Inline(table) => Some(table),
        RouteSource::Named(name) => tables.get(name.as_str()),
    };
    let name = match &listener.routes {
        RouteSource::Named(name) if name.as_str() == listener.name.as_str() => Ok(name.clone()),
        RouteSource::Named(_) | RouteSource::Inline(_) => RouteTableName::new(listener.name.as_str()),
    };
    let name = name.map_err(|error| vec![rejection(Kind::Listener, listener.name.as_str(), &error.to_string())])?;
    let mut shared: Vec<(*const DecodedRoute, Vec<Arc<Route>>)> = Vec::new();
    let mut virtual_hosts = Vec::new();
    for DecodedHost { host, routes } in decoded.iter().flat_map(|table| &table.hosts) {
        let place = routes.as_ptr();
        let known = shared.iter().find(|(known, _)| std::ptr::eq(*known, place)).map(|(_, routes)| routes.clone());
        let routes = match known.filter(|known| known.len() == routes.len()) {
            Some(known) => known,
            None => routes.iter().map(|route| chained(route, listener, broken)).collect::<Result<_, _>>()?,
        };
        shared.push((place, routes.clone()));
        virtual_hosts.push(VirtualHost { host: host.clone(), routes });
    }
    Ok(RouteTable { name, virtual_hosts })
}

/// The route with the filters that run on it, in the listener's order.
fn chained(
    decoded: &DecodedRoute,
    listener: &DecodedListener,
    broken: &BTreeSet<PluginName>,
) -> Result<Arc<Route>, Vec<Rejection>> {
    let unknown = decoded.filters.keys().find(|name| !listener.filters.iter().any(|entry| entry.name == **name));
    let name = decoded.route.name.as_str();
    if let Some(unknown) = unknown {
        let reason = format!("route {name} turns `{unknown}` on or off, which the listener does not have");
        return Err(vec![rejection(Kind::Listener, listener.name.as_str(), &reason)]);
    }
    let runs = |entry: &&FilterEntry| decoded.filters.get(&entry.name).copied().unwrap_or(!entry.disabled);
    let plugins = listener.filters.iter().filter(runs).map(|entry| entry.plugin.clone());
    let (lost, plugins): (Vec<_>, Vec<_>) = plugins.partition(|plugin| broken.contains(plugin));
    let chain = FilterChain::new(plugins).map_err(|count| {
        let reason = format!("route {name} has {count} filters, which are too many");
        vec![rejection(Kind::Listener, listener.name.as_str(), &reason)]
    })?;
    let mut route = Route { chain, ..decoded.route.clone() };
    if !lost.is_empty() {
        // Without its filter nothing may go by (I8b): the others still see the request.
        route.action = RouteAction::Respond(DirectResponse { status: 503, detail: "filter_not_loaded".into() });
    }
    Ok(Arc::new(route))
}

fn clusters_of(route: &Route) -> Vec<ClusterName> {
    let RouteAction::Forward(forward) = &route.action else { return Vec::new() };
    let targets = forward.targets.iter().map(|target| &target.cluster);
    let versions = forward.versions.iter().map(|version| &version.cluster);
    targets.chain(versions).chain(forward.mirrors.iter().map(|mirror| &mirror.cluster)).cloned().collect()
}

fn same_name(kind: Kind, expected: &str, found: &str) -> Result<(), Vec<Rejection>> {
    if expected == found {
        return Ok(());
    }
    Err(vec![rejection(kind, expected, &format!("says that its name is `{found}`"))])
}

fn rejection(kind: Kind, name: &str, reason: &str) -> Rejection {
    let resource = ResourceId { kind: kind.resource(), name: name.to_owned() };
    Rejection { resource, field: String::new(), reason: reason.to_owned(), hint: String::new() }
}
