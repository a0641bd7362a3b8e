//! Plugins that fail after they were accepted: the snapshots of the resource cache without them, and with their last
//! good versions.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use weir_model::{
    ClusterName, DirectResponse, DownstreamProtocolOptions, FailurePolicy, FilterChain, HeaderModifier, HostMatch,
    Listener, ListenerName, ListenerProtocol, Metadata, ModuleHash, ModuleSource, Plugin, PluginName, Rejection,
    RemoteModule, ResourceId, ResourceKind, Route, RouteAction, RouteMatch, RouteName, RouteTable, RouteTableName,
    Snapshot, SnapshotBuilder, VirtualHost,
};
use weir_xds::{ClientType, EncodeOptions, FailedVersion, ResourceCache, ResourceSet, ResourceType};

fn name(text: &str) -> PluginName {
    PluginName::new(text).unwrap()
}

fn module() -> RemoteModule {
    RemoteModule { url: "http://control/modules/1".into(), sha256: ModuleHash([7; 32]) }
}

/// Returns the resources of one route through the filters `n/first`, with this policy and configuration, and `n/second`.
fn resources(failure: FailurePolicy, configuration: &str) -> ResourceSet {
    let plugin = |text: &str| Plugin::new(name(text), ModuleSource::Remote(module()), configuration.as_bytes().into());
    let mut builder = SnapshotBuilder::default();
    builder.put_plugin(Arc::new(Plugin { failure, ..plugin("n/first") }));
    builder.put_plugin(Arc::new(plugin("n/second")));
    let route = Route {
        name: RouteName::new("n/route/0/0").unwrap(),
        matches: RouteMatch::any(),
        chain: FilterChain::new(vec![name("n/first"), name("n/second")]).unwrap(),
        request_headers: HeaderModifier::default(),
        response_headers: HeaderModifier::default(),
        cors: None,
        action: RouteAction::Respond(DirectResponse { status: 204, detail: "direct_response".into() }),
        metadata: Metadata::default(),
    };
    let host = VirtualHost { host: HostMatch::Any, routes: vec![Arc::new(route)] };
    let route_table = RouteTableName::new("n/g/http").unwrap();
    builder.put_route_table(Arc::new(RouteTable { name: route_table.clone(), virtual_hosts: vec![host] }));
    builder.put_listener(Arc::new(Listener {
        name: ListenerName::new("n/g/http").unwrap(),
        address: "127.0.0.1:80".parse().unwrap(),
        protocol: ListenerProtocol::Http,
        route_table,
        tls: None,
        options: DownstreamProtocolOptions::default(),
    }));
    let module_cluster = ClusterName::new("control/modules:80").unwrap();
    let resolve_module = |_: &ModuleSource| Some(module());
    let (client_type, module_cluster) = (ClientType::Weir, &module_cluster);
    let options = EncodeOptions { client_type, module_cluster, resolve_module: &resolve_module };
    ResourceSet::encode(&builder.complete().unwrap(), &options, None).unwrap()
}

fn receive(cache: &mut ResourceCache, resources: &ResourceSet) {
    for resource_type in ResourceType::ALL {
        for (name, resource) in resources.of_type(resource_type).iter() {
            cache.upsert(resource_type, name, &resource.resource).unwrap();
        }
    }
}

fn failure(plugin: &str) -> Rejection {
    let resource = ResourceId { kind: ResourceKind::Plugin, name: plugin.to_owned() };
    Rejection { resource, field: "module".to_owned(), reason: "does not start".to_owned(), hint: String::new() }
}

/// Returns the chain of the route, and the status of its response.
fn route(snapshot: &Snapshot) -> (Vec<String>, u16) {
    let table = snapshot.route_tables.values().next().unwrap();
    let route = &table.virtual_hosts[0].routes[0];
    let RouteAction::Respond(DirectResponse { status, .. }) = &route.action else { panic!("{:?}", route.action) };
    (route.chain.plugins().iter().map(ToString::to_string).collect(), *status)
}

#[test]
fn failed_plugin_blocks_its_routes_if_closed_and_is_skipped_if_open() {
    for (policy, chain, status) in
        [(FailurePolicy::Closed, &["n/second"][..], 503), (FailurePolicy::Open, &["n/first", "n/second"], 204)]
    {
        let mut cache = ResourceCache::default();
        receive(&mut cache, &resources(policy, "1"));
        assert_eq!(cache.mark_failed(&failure("n/first"), 1, 1), Some(FailedVersion::Newest));
        assert_eq!(cache.is_blocking(ResourceType::Plugin, "n/first"), policy == FailurePolicy::Closed);
        let snapshot = cache.snapshot().unwrap();
        assert_eq!(route(&snapshot), (chain.iter().map(|name| (*name).to_owned()).collect(), status));
        let failed = &snapshot.failed_plugins[&name("n/first")];
        assert_eq!((failed.failure, &*failed.reason), (policy, "module: does not start"));
        assert!(!snapshot.plugins.contains_key(&name("n/first")));
        assert!(snapshot.plugins.contains_key(&name("n/second")), "the other filter runs");

        assert!(cache.retry_failed());
        let again = cache.snapshot().unwrap();
        assert_eq!(route(&again).1, 204);
        assert!(again.failed_plugins.is_empty() && again.plugins.contains_key(&name("n/first")));
    }
}

#[test]
fn previous_version_of_failed_plugin_serves() {
    for policy in [FailurePolicy::Closed, FailurePolicy::Open] {
        let mut cache = ResourceCache::default();
        receive(&mut cache, &resources(policy, "1"));
        cache.snapshot().unwrap();
        receive(&mut cache, &resources(policy, "2"));
        assert_eq!(cache.mark_failed(&failure("n/first"), 2, 2), Some(FailedVersion::Newest));
        assert!(!cache.is_blocking(ResourceType::Plugin, "n/first"));
        let snapshot = cache.snapshot().unwrap();
        assert_eq!(route(&snapshot), (vec!["n/first".to_owned(), "n/second".to_owned()], 204));
        assert_eq!(&*snapshot.plugins[&name("n/first")].configuration, b"1");
        assert_eq!(&*snapshot.plugins[&name("n/second")].configuration, b"2");
        assert!(snapshot.failed_plugins.contains_key(&name("n/first")));
    }
}

#[test]
fn last_good_version_is_that_which_has_served() {
    let closed = |configuration: &str| resources(FailurePolicy::Closed, configuration);
    let mut cache = ResourceCache::default();
    receive(&mut cache, &closed("1"));
    receive(&mut cache, &closed("2")); // Never served.
    let served = closed("0");
    let served = &served.of_type(ResourceType::Plugin)["n/first"].resource;
    cache.set_last_good_plugin("n/first", served).unwrap();
    receive(&mut cache, &closed("3"));
    assert_eq!(cache.mark_failed(&failure("n/first"), 1, 1), Some(FailedVersion::Newest));
    assert_eq!(&*cache.snapshot().unwrap().plugins[&name("n/first")].configuration, b"0");

    // If it fails, too, nothing of the filter serves until the next retry.
    assert_eq!(cache.mark_failed(&failure("n/first"), 1, 2), None, "update 1 had the newest version");
    assert_eq!(cache.mark_failed(&failure("n/first"), 2, 2), Some(FailedVersion::LastGood));
    assert!(cache.is_blocking(ResourceType::Plugin, "n/first"));
    assert_eq!(route(&cache.snapshot().unwrap()).1, 503);
    assert!(cache.retry_failed());
    assert_eq!(&*cache.snapshot().unwrap().plugins[&name("n/first")].configuration, b"3");
}
