//! Round trip: any snapshot, encoded as resources and decoded by a proxy, is unchanged.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use weir_model::matcher::Regex;
use weir_model::*;
use weir_xds::{ClientType, EncodeOptions, ResourceCache, ResourceSet, ResourceType};

fn text() -> impl Strategy<Value = Arc<str>> {
    "[a-z%\\\\.*/ ä-]{1,6}".prop_map(|text| Arc::from(text.trim_start()))
}

fn path() -> impl Strategy<Value = Arc<str>> {
    "(/[a-z.+-]{1,3}){1,2}".prop_map(Arc::from)
}

fn milliseconds() -> impl Strategy<Value = Duration> {
    (0u64..100_000).prop_map(Duration::from_millis)
}

fn text_match() -> impl Strategy<Value = StringMatch> {
    prop_oneof![
        text().prop_map(StringMatch::Exact),
        "[a-z]{1,3}(\\.\\*)?".prop_map(|pattern| StringMatch::Regex(Regex::new(&pattern).unwrap())),
    ]
}

fn route_match() -> impl Strategy<Value = RouteMatch> {
    let path = prop_oneof![
        path().prop_map(PathMatch::Exact),
        path().prop_map(PathMatch::Prefix),
        Just(PathMatch::Prefix("".into())),
        path().prop_map(|path| PathMatch::Regex(Regex::new(&path).unwrap())),
    ];
    let name = prop_oneof![Just("x-a"), Just("host"), Just("x-b")];
    let header = (name, text_match()).prop_map(|(name, value)| HeaderMatch { name: name.into(), value });
    let query = (text(), text_match()).prop_map(|(name, value)| QueryMatch { name, value });
    (path, option::of(Just(Arc::from("PUT"))), vec(header, 0..3), vec(query, 0..3))
        .prop_map(|(path, method, headers, query)| RouteMatch { path, method, headers, query })
}

fn edits() -> impl Strategy<Value = HeaderModifier> {
    let pair = || ("x-[a-z]{1,3}".prop_map(Arc::from), "[a-z%]{0,4}".prop_map(Arc::from));
    (vec(pair(), 0..3), vec(pair(), 0..3), vec("x-[a-z]{1,3}".prop_map(Arc::from), 0..3))
        .prop_map(|(set, add, remove)| HeaderModifier::new(HeaderEdits { set, add, remove }))
}

fn cluster_name() -> impl Strategy<Value = ClusterName> {
    "[ab]/[ab]:80".prop_map(|name| ClusterName::new(&name).unwrap())
}

fn path_rewrite(is_prefix: bool) -> BoxedStrategy<PathRewrite> {
    let full = "/[a-z\\\\]{0,4}".prop_map(|path| PathRewrite::Full(path.into()));
    if !is_prefix {
        return full.boxed();
    }
    prop_oneof![full, path().prop_map(PathRewrite::Prefix), Just(PathRewrite::Prefix("".into()))].boxed()
}

fn forward(is_prefix: bool) -> impl Strategy<Value = RouteAction> {
    let weight = (1u32..100).prop_map(|weight| Weight::new(weight).unwrap());
    let target =
        (cluster_name(), weight, edits(), edits()).prop_map(|(cluster, weight, request_headers, response_headers)| {
            WeightedCluster { cluster, weight, request_headers, response_headers }
        });
    let version = (cluster_name(), text(), cluster_name()).prop_map(|(of, version, cluster)| TargetVersion {
        target: of,
        version,
        cluster,
    });
    let share = (0u32..=100, prop_oneof![Just(100u32), Just(1_000), Just(1_000_000)])
        .prop_map(|(numerator, denominator)| Fraction::new(numerator, denominator).unwrap());
    let mirror = (cluster_name(), share).prop_map(|(cluster, fraction)| Mirror { cluster, fraction });
    let rewrite = (option::of("[a-z]{1,4}(:80)?".prop_map(Arc::from)), option::of(path_rewrite(is_prefix)))
        .prop_map(|(host, path)| Rewrite { host, path });
    let timeouts = (option::of(milliseconds()), option::of(milliseconds()), any::<bool>())
        .prop_map(|(request, backend_request, grpc_timeout)| Timeouts { request, backend_request, grpc_timeout });
    let retry = option::of(retry().prop_map(Arc::new));
    (vec(target, 1..3), vec(version, 0..3), rewrite, vec(mirror, 0..2), timeouts, retry).prop_map(
        |(targets, versions, rewrite, mirrors, timeouts, retry)| {
            RouteAction::Forward(Forward { targets, versions, rewrite, mirrors, timeouts, retry })
        },
    )
}

fn retry() -> impl Strategy<Value = RetryPolicy> {
    let statuses = vec(400u16..600, 0..4).prop_map(StatusSet::from_iter);
    let grpc = vec(prop_oneof![Just(1u32), Just(4), Just(8), Just(13), Just(14)], 0..3).prop_map(|all| {
        let mut grpc = GrpcStatusSet::default();
        all.into_iter().for_each(|status| grpc.insert(status));
        grpc
    });
    let backoff =
        (milliseconds(), positive(), positive()).prop_map(|(minimum, base, max)| RetryBackoff { minimum, base, max });
    (0u32..=10, any::<bool>(), statuses, grpc, any::<bool>(), backoff, option::of(positive())).prop_map(
        |(retries, on_reset, statuses, grpc_statuses, idempotent_only, backoff, max_retry_after)| RetryPolicy {
            retries,
            // Without any condition it would be the retries of a route without a policy.
            on_reset: on_reset || (statuses.is_empty() && grpc_statuses.is_empty()),
            statuses,
            grpc_statuses,
            idempotent_only,
            backoff,
            max_retry_after,
        },
    )
}

fn outlier_detection() -> impl Strategy<Value = OutlierDetection> {
    let consecutive = || option::of(1u32..1_000);
    let success_rate = (0u32..100, 0u32..1_000, 0u32..5_000).prop_map(|(endpoints, requests, deviation)| SuccessRate {
        minimum_endpoints: endpoints,
        minimum_requests: requests,
        deviation_thousandths: deviation,
    });
    let times = || (100u64..100_000).prop_map(Duration::from_millis);
    let counts = (consecutive(), consecutive(), consecutive(), option::of(success_rate));
    (counts, times(), times(), times(), 0u32..=100).prop_map(|(counts, interval, ejection, more, percent)| {
        OutlierDetection {
            consecutive_errors: counts.0,
            consecutive_gateway_errors: counts.1,
            consecutive_local_errors: counts.2,
            success_rate: counts.3,
            interval,
            ejection_time: ejection,
            max_ejection_time: ejection + more,
            max_ejected_percent: percent,
        }
    })
}

fn retry_budget() -> impl Strategy<Value = RetryBudget> {
    let interval = || (1u64..3_600).prop_map(Duration::from_secs);
    (0u32..=100, interval(), 0u32..=1_000_000, interval()).prop_map(|(percent, interval, min_count, min_interval)| {
        RetryBudget { percent, interval, min_count, min_interval }
    })
}

fn redirect(is_prefix: bool) -> impl Strategy<Value = RouteAction> {
    let status = prop_oneof![Just(301u16), Just(302), Just(303), Just(307), Just(308)];
    let scheme = option::of(prop_oneof![Just("http"), Just("https")].prop_map(Arc::from));
    let host = option::of("[a-z]{1,4}".prop_map(Arc::from));
    (scheme, host, option::of(1u16..), option::of(path_rewrite(is_prefix)), status).prop_map(
        |(scheme, host, port, path, status)| RouteAction::Redirect(Redirect { scheme, host, port, path, status }),
    )
}

fn respond() -> impl Strategy<Value = RouteAction> {
    // A 500 of another control plane is a response like any other.
    let respond = (prop_oneof![Just(500u16), 200u16..600], text());
    prop_oneof![
        respond.prop_map(|(status, detail)| RouteAction::Respond(DirectResponse { status, detail })),
        Just(RouteAction::NoBackend),
    ]
}

/// A route whose chain is a subsequence of the plugins.
fn cors() -> impl Strategy<Value = Arc<CorsPolicy>> {
    let value = || "(\\*|[a-z,-]{0,6})".prop_map(Arc::<str>::from);
    (vec(text_match(), 0..3), any::<bool>(), value(), value(), value(), "[0-9]{0,3}", any::<bool>()).prop_map(
        |(allow_origins, allow_credentials, allow_methods, allow_headers, expose_headers, max_age, forwards)| {
            Arc::new(CorsPolicy {
                allow_origins,
                allow_credentials,
                allow_methods,
                allow_headers,
                expose_headers,
                max_age: max_age.into(),
                forwards_other_preflights: forwards,
            })
        },
    )
}

fn route() -> impl Strategy<Value = Arc<Route>> {
    let chain = prop::sample::subsequence(vec![0usize, 1, 2], 0..=3);
    (route_match(), chain, edits(), edits(), ("[a-z]{1,4}/[0-9]", metadata(), option::of(cors()))).prop_flat_map(
        |(matches, chain, request_headers, response_headers, (name, metadata, cors))| {
            let is_prefix = matches!(matches.path, PathMatch::Prefix(_));
            let action = prop_oneof![4 => forward(is_prefix), 1 => redirect(is_prefix), 1 => respond()];
            action.prop_map(move |action| {
                Arc::new(Route {
                    name: RouteName::new(&name).unwrap(),
                    matches: matches.clone(),
                    chain: FilterChain::new(chain.iter().map(|index| plugin_name(*index)).collect()).unwrap(),
                    request_headers: request_headers.clone(),
                    response_headers: response_headers.clone(),
                    cors: cors.clone(),
                    action,
                    metadata: metadata.clone(),
                })
            })
        },
    )
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let group = btree_map(text(), text(), 0..3);
    btree_map("[a-z]{1,3}".prop_map(Arc::<str>::from), group, 0..3).prop_map(Metadata::new)
}

fn plugin_name(index: usize) -> PluginName {
    PluginName::new(&format!("n/{}", ["c", "a", "b"][index])).unwrap()
}

fn plugin(index: usize) -> impl Strategy<Value = Arc<Plugin>> {
    let failure = prop_oneof![Just(FailurePolicy::Closed), Just(FailurePolicy::Open)];
    let pause = prop_oneof![Just(HeaderPause::All), Just(HeaderPause::HeadersOnly)];
    let isolation = prop_oneof![Just(Isolation::Worker), Just(Isolation::Stream), Just(Isolation::Singleton)];
    let sight = prop_oneof![Just(PluginRole::Filter), Just(PluginRole::AccessLog)];
    let names = || option::of(vec(text(), 0..3).prop_map(sorted));
    let allow = (names(), names()).prop_map(|(capabilities, services)| PluginCapabilities {
        functions: capabilities,
        callout_clusters: services,
    });
    let recycling = (option::of(1u64..9), option::of(milliseconds()), option::of(0u64..9))
        .prop_map(|(requests, age, memory)| RecyclePolicy { requests, age, memory: memory.map(ByteSize) });
    let behavior = (failure, pause, (isolation, sight), "[a-z]{0,3}", recycling);
    let aliases = btree_map("[a-z_|:]{1,9}".prop_map(Arc::<str>::from), (0..3usize).prop_map(alias_target), 0..3);
    (vec(any::<u8>(), 0..8), behavior, limits(), (allow, aliases), vm()).prop_map(
        move |(configuration, (failure, header_pause, (isolation, sight), root_id, recycling), limits, names, vm)| {
            let (allow, cluster_aliases) = names;
            let module = ModuleSource::Builtin("auth".into());
            let plugin = Plugin::new(plugin_name(index), module, configuration.into());
            let root_id = root_id.into();
            Arc::new(Plugin {
                root_id,
                vm,
                failure,
                header_pause,
                role: sight,
                isolation,
                recycling,
                limits,
                capabilities: allow,
                cluster_aliases,
                ..plugin
            })
        },
    )
}

fn alias_target(index: usize) -> ClusterName {
    ClusterName::new(["a/a:80", "b/b:80", "n/absent:1"][index]).unwrap()
}

fn limits() -> impl Strategy<Value = PluginLimits> {
    let times = (1u64..1_000, 1u64..10_000, 1u64..1_000);
    let sizes = (0u64..1_000, 0u64..1_000, 0u64..1_000, 0u64..1_000, 0u64..1_000);
    (times, sizes, (0u32..10_000, 0u32..10_000, 0u32..10_000)).prop_map(
        |((call, start, cpu), (memory, log, head, body, shared), (table_elements, callouts, metrics))| PluginLimits {
            memory: ByteSize(128 * 1024 + memory),
            call_time: Duration::from_millis(call),
            start_time: Duration::from_millis(start),
            cpu_per_second: Duration::from_millis(cpu),
            table_elements,
            log_per_second: ByteSize(log),
            head: ByteSize(1_024 + head),
            body: ByteSize(body),
            callouts,
            shared_data: ByteSize(shared),
            metrics,
        },
    )
}

fn vm() -> impl Strategy<Value = VmConfig> {
    let environment = btree_map("[A-Z]{1,3}", "[a-z]{0,3}", 0..3);
    ("[a-z]{0,3}", vec(any::<u8>(), 0..8), environment).prop_map(|(id, configuration, environment)| VmConfig {
        id: id.into(),
        configuration: configuration.into(),
        environment: environment.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
    })
}

/// Sorts names, because their order is not encoded.
fn sorted(mut names: Vec<Arc<str>>) -> Arc<[Arc<str>]> {
    names.sort();
    names.dedup();
    names.into()
}

fn server_tls() -> impl Strategy<Value = ServerTls> {
    let trust = prop_oneof![Just(ServerTrust::System), Just(ServerTrust::Secret(SecretName::new("n/ca").unwrap()))];
    let name = prop_oneof![
        "[a-z]{1,3}\\.com".prop_map(|name| SubjectAltName::Dns(name.into())),
        "spiffe://[a-z]{1,3}/[a-z]{1,3}".prop_map(|uri| SubjectAltName::Uri(uri.into())),
    ];
    let certificate = option::of("n/[ab]".prop_map(|name| SecretName::new(&name).unwrap()));
    let versions = prop_oneof![
        Just((TlsVersion::V1_2, TlsVersion::V1_2)),
        Just((TlsVersion::V1_2, TlsVersion::V1_3)),
        Just((TlsVersion::V1_3, TlsVersion::V1_3)),
    ];
    (option::of("[a-z]{1,3}\\.com"), trust, vec(name, 1..4), certificate, versions).prop_map(
        |(sni, trust, names, client_certificate, (min_version, max_version))| ServerTls {
            sni: sni.map(Arc::from),
            trust,
            names,
            client_certificate,
            min_version,
            max_version,
        },
    )
}

fn cluster(name: &'static str) -> impl Strategy<Value = Arc<Cluster>> {
    let address = prop_oneof![
        (any::<IpAddr>(), any::<u16>()).prop_map(|(ip, port)| SocketAddr::new(ip, port).into()),
        "/[a-z./]{0,8}[a-z]".prop_map(|path| EndpointAddress::Unix(UnixPath::new(&path).unwrap())),
    ];
    let endpoint = (address, 1u32..9, option::of(text())).prop_map(|(address, weight, version)| Endpoint {
        address,
        weight: Weight::new(weight).unwrap(),
        version,
    });
    let discovery = prop_oneof![
        vec(endpoint, 0..4).prop_map(Discovery::Static),
        ("[a-z]{1,4}", any::<u16>()).prop_map(|(host, port)| Discovery::Dns { host: host.into(), port }),
    ];
    let protocol =
        prop_oneof![Just(UpstreamProtocol::Http1), Just(UpstreamProtocol::Http2), Just(UpstreamProtocol::Auto)];
    let balancing = prop_oneof![Just(LbPolicy::RoundRobin), Just(LbPolicy::LeastRequest), Just(LbPolicy::Random)];
    let mesh = "[a-z]{1,4}"
        .prop_map(|account| UpstreamTls::Mesh { workload: Workload::from_service_account("n", &account).unwrap() });
    let tls = prop_oneof![mesh, server_tls().prop_map(UpstreamTls::Server)];
    let timeouts = (milliseconds(), option::of(milliseconds()));
    let balancing = (balancing, keepalive(), retry_budget(), option::of(outlier_detection().prop_map(Arc::new)));
    (discovery, protocol, balancing, timeouts, upstream_options(), option::of(tls), metadata()).prop_map(
        move |(
            discovery,
            protocol,
            (lb_policy, tcp_keepalive, retry_budget, outlier_detection),
            (connect_timeout, request_timeout),
            mut options,
            tls,
            metadata,
        )| {
            let protocol = match tls {
                Some(UpstreamTls::Server(_)) => protocol,
                _ if protocol == UpstreamProtocol::Auto => UpstreamProtocol::Http1, // Only a server selects one.
                _ => protocol,
            };
            options.preserve_header_case &= protocol != UpstreamProtocol::Http2;
            let name = ClusterName::new(name).unwrap();
            Arc::new(Cluster {
                name,
                discovery,
                protocol,
                lb_policy,
                connect_timeout,
                request_timeout,
                outlier_detection,
                retry_budget: retry_budget.shared(),
                tcp_keepalive,
                options,
                tls,
                metadata,
            })
        },
    )
}

fn keepalive() -> impl Strategy<Value = TcpKeepalive> {
    (1u32..=32_767, 1u32..=32_767, 1u32..=127).prop_map(|(idle_seconds, interval_seconds, probes)| TcpKeepalive {
        idle_seconds,
        interval_seconds,
        probes,
    })
}

fn head_limits() -> impl Strategy<Value = HeadLimits> {
    (1u32..=1_024, 1u32..=1_000).prop_map(|(kib, headers)| HeadLimits { bytes: kib * 1_024, headers })
}

/// A time above 0, since 0 is no limit.
fn positive() -> impl Strategy<Value = Duration> {
    (1u64..100_000).prop_map(Duration::from_millis)
}

fn upstream_options() -> impl Strategy<Value = UpstreamProtocolOptions> {
    let max_requests = option::of((1u32..9).prop_map(|count| NonZeroU32::new(count).unwrap()));
    (head_limits(), any::<bool>(), max_requests, option::of(positive()), option::of(positive())).prop_map(
        |(head, preserve_header_case, max_requests, idle_timeout, max_age)| UpstreamProtocolOptions {
            head,
            preserve_header_case,
            max_requests,
            idle_timeout,
            max_age,
        },
    )
}

fn downstream_options() -> impl Strategy<Value = DownstreamProtocolOptions> {
    let upgrades = vec("x-[a-z]{1,9}".prop_map(|name| UpgradeProtocol::new(&name).unwrap()), 0..3);
    (upstream_options(), 1u32..=64_512, positive(), option::of(positive()), upgrades).prop_map(
        |(common, target_bytes, head_timeout, stream_idle_timeout, upgrades)| DownstreamProtocolOptions {
            head: common.head,
            target_bytes,
            preserve_header_case: common.preserve_header_case,
            max_requests: common.max_requests,
            head_timeout,
            stream_idle_timeout,
            idle_timeout: common.idle_timeout,
            max_age: common.max_age,
            upgrades: upgrades.into(),
        },
    )
}

fn downstream_tls() -> impl Strategy<Value = DownstreamTls> {
    let host = prop_oneof![
        Just(HostMatch::Any),
        "[a-z]{1,3}\\.com".prop_map(|name| HostMatch::Exact(name.into())),
        "\\.[a-z]{1,3}\\.com".prop_map(|suffix| HostMatch::Suffix(suffix.into())),
    ];
    let certificate =
        (host, "n/[ab]").prop_map(|(host, secret)| HostCertificate { host, secret: SecretName::new(&secret).unwrap() });
    let mesh = option::of(any::<u64>()).prop_map(|plain_until| DownstreamTls::Mesh { plaintext_until: plain_until });
    prop_oneof![mesh, vec(certificate, 1..4).prop_map(DownstreamTls::Https)]
}

fn secret(name: &str) -> Arc<Secret> {
    let certificate = CertificateWithKey { certificates: "a certificate".into(), key: SecretString("a key".into()) };
    Arc::new(Secret { name: SecretName::new(name).unwrap(), content: SecretContent::Certificate(certificate) })
}

fn authorities(name: &str) -> Arc<Secret> {
    let content = SecretContent::Authorities { authorities: "a certificate".into() };
    Arc::new(Secret { name: SecretName::new(name).unwrap(), content })
}

fn snapshot() -> impl Strategy<Value = Snapshot> {
    let hosts = vec(vec(route(), 0..3), 3);
    let clusters = (cluster("a/a:80"), cluster("a/b:80"), cluster("b/a:80"), cluster("b/b:80"));
    let plugins = (plugin(0), plugin(1), plugin(2));
    let listener = (any::<SocketAddr>(), option::of(downstream_tls()), downstream_options());
    (hosts, clusters, plugins, listener).prop_map(|(hosts, (a, b, c, d), (e, f, g), (address, tls, options))| {
        let mut builder = SnapshotBuilder::default();
        [a, b, c, d].into_iter().for_each(|cluster| builder.put_cluster(cluster));
        [e, f, g].into_iter().for_each(|plugin| builder.put_plugin(plugin));
        ["n/a", "n/b"].into_iter().for_each(|name| builder.put_secret(secret(name)));
        builder.put_secret(authorities("n/ca"));
        let matches = [HostMatch::Exact("a.com".into()), HostMatch::Suffix(".a.com".into()), HostMatch::Any];
        let virtual_hosts = matches.into_iter().zip(hosts).map(|(host, routes)| VirtualHost { host, routes }).collect();
        let route_table = RouteTableName::new("n/g/http").unwrap();
        builder.put_route_table(Arc::new(RouteTable { name: route_table.clone(), virtual_hosts }));
        let address = SocketAddr::new(address.ip(), address.port());
        let name = ListenerName::new("n/g/http").unwrap();
        let protocol = ListenerProtocol::Http;
        builder.put_listener(Arc::new(Listener { name, address, protocol, route_table, tls, options }));
        builder.complete().unwrap()
    })
}

fn module() -> RemoteModule {
    RemoteModule { url: "http://control/modules/1".into(), sha256: ModuleHash([7; 32]) }
}

/// Returns the snapshot as a proxy decodes it: modules are remote, and plugins that no route uses are not sent.
fn as_sent(snapshot: &Snapshot) -> Snapshot {
    let mut builder = SnapshotBuilder::default();
    let routes = snapshot.route_tables.values().flat_map(|table| &table.virtual_hosts).flat_map(|host| &host.routes);
    let used: Vec<PluginName> = routes.flat_map(|route| route.chain.plugins()).cloned().collect();
    let referenced =
        snapshot.listeners.values().filter_map(|listener| listener.tls.as_ref()).flat_map(DownstreamTls::secrets);
    let of_clusters =
        snapshot.clusters.values().filter_map(|cluster| cluster.tls.as_ref()).flat_map(UpstreamTls::secrets);
    referenced.chain(of_clusters).for_each(|name| builder.put_secret(Arc::clone(&snapshot.secrets[name])));
    snapshot.listeners.values().for_each(|listener| builder.put_listener(Arc::clone(listener)));
    snapshot.route_tables.values().for_each(|route_table| builder.put_route_table(Arc::clone(route_table)));
    snapshot.clusters.values().for_each(|cluster| builder.put_cluster(Arc::clone(cluster)));
    for plugin in snapshot.plugins.values().filter(|plugin| used.contains(&plugin.name)) {
        let module = ModuleSource::Remote(module());
        builder.put_plugin(Arc::new(Plugin { module, ..(**plugin).clone() }));
    }
    builder.complete().unwrap()
}

/// The order in which a proxy requests resource types: after those that refer to them.
const REQUEST_ORDER: [ResourceType; 6] = [
    ResourceType::Cluster,
    ResourceType::Listener,
    ResourceType::Endpoints,
    ResourceType::Plugin,
    ResourceType::Secret,
    ResourceType::RouteTable,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn encoded_snapshot_decodes_to_itself(snapshot in snapshot()) {
        let module_cluster = ClusterName::new("control/modules:80").unwrap();
        let resolve_module = |_: &ModuleSource| Some(module());
        let (client_type, module_cluster) = (ClientType::Weir, &module_cluster);
        let options = EncodeOptions { client_type, module_cluster, resolve_module: &resolve_module };
        let resources = ResourceSet::encode(&snapshot, &options, None).unwrap();
        let mut cache = ResourceCache::default();
        let failure = |rejections: Vec<Rejection>| TestCaseError::fail(format!("{rejections:?}"));
        for resource_type in REQUEST_ORDER {
            let required = cache.prune_and_list_required(resource_type);
            let is_subscribed = |name: &str| resource_type.is_wildcard() || required.contains(name);
            for (name, resource) in resources.of_type(resource_type).iter().filter(|(name, _)| is_subscribed(name)) {
                cache.upsert(resource_type, name, &resource.resource).map_err(failure)?;
            }
        }
        prop_assert_eq!(cache.unresolved(), vec![]);
        let decoded = cache.snapshot().map_err(failure)?;
        let expected = as_sent(&snapshot);
        prop_assert_eq!(&decoded, &expected);
        prop_assert_eq!(decoded.version, expected.version);
        let again = ResourceSet::encode(&snapshot, &options, Some(&resources)).unwrap();
        for resource_type in ResourceType::ALL {
            let versions = |resources: &ResourceSet| {
                let resources = resources.of_type(resource_type).values();
                resources.map(|resource| resource.version.clone()).collect::<Vec<_>>()
            };
            prop_assert_eq!(versions(&again), versions(&resources));
        }
    }

    #[test]
    fn envoy_has_cluster_of_each_alias(snapshot in snapshot()) {
        let module_cluster = ClusterName::new("control/modules:80").unwrap();
        let resolve_module = |_: &ModuleSource| Some(module());
        let clusters = |client_type| {
            let options =
                EncodeOptions { client_type, module_cluster: &module_cluster, resolve_module: &resolve_module };
            let resources = ResourceSet::encode(&snapshot, &options, None).ok()?;
            Some(resources.of_type(ResourceType::Cluster).keys().cloned().collect::<BTreeSet<_>>())
        };
        // An Envoy has one order of the filters of a listener, which random routes may contradict.
        let Some(in_envoy) = clusters(ClientType::Envoy) else { return Ok(()) };
        let in_weir = clusters(ClientType::Weir).unwrap();
        let aliases = snapshot.plugins.values().flat_map(|plugin| &plugin.cluster_aliases);
        let reached = aliases.filter(|(_, cluster)| snapshot.clusters.contains_key(*cluster));
        let expected: BTreeSet<_> = in_weir.iter().cloned().chain(reached.map(|(alias, _)| Arc::clone(alias))).collect();
        prop_assert_eq!(in_envoy, expected);
    }
}
