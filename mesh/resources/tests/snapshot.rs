//! Compilation of resources to the parts of a snapshot.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may panic, in its own functions too")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use weir_model::{
    ByteSize, Cluster, ClusterName, Discovery, FailurePolicy, HeaderPause, HostMatch, LbPolicy, ListenerName,
    ModuleSource, PathMatch, PathRewrite, Plugin, PluginName, Rejection, ResourceId, ResourceKind, Route, RouteAction,
    RouteTable, RouteTableName, TcpKeepalive, UpstreamProtocol,
};
use weir_resources::{Compiled, Compiler, SourceFile};

const SERVICE: &str = "
---
apiVersion: weir.dev/v1alpha1
kind: ServiceEntry
metadata: {name: web}
spec: {ports: [{port: 80}], endpoints: [{address: '127.0.0.1:9001'}]}
";

/// Returns a Gateway `web` with these listeners.
fn gateway(listeners: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: web}}\n\
         spec: {{gatewayClassName: weir, listeners: [{listeners}]}}\n"
    )
}

const LISTENER: &str = "{name: http, port: 8080, protocol: HTTP}";

/// Returns an HTTPRoute on Gateway `web` with these fields in its `spec`.
fn route(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\n\
         spec: {{parentRefs: [{{name: web}}], {spec}}}\n"
    )
}

const FORWARD: &str = "rules: [{backendRefs: [{name: web, port: 80}]}]";

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile { path: PathBuf::from(path), text: text.into() }
}

#[track_caller]
fn compiled(texts: &[&str]) -> Compiled {
    let file = file("config/shop.yaml", &texts.concat());
    Compiler::new().compile(&[file]).unwrap_or_else(|diagnostics| panic!("{}", joined(&diagnostics)))
}

fn joined(diagnostics: &[weir_resources::Diagnostic]) -> String {
    diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn table<'a>(compiled: &'a Compiled, name: &str) -> &'a RouteTable {
    &compiled.snapshot.route_tables[&RouteTableName::new(name).unwrap()]
}

fn display(host: &HostMatch) -> String {
    match host {
        HostMatch::Exact(name) => name.to_string(),
        HostMatch::Suffix(suffix) => format!("*{suffix}"),
        HostMatch::Any => "*".to_owned(),
    }
}

/// Returns `host: route names` for each virtual host.
fn hosts(table: &RouteTable) -> Vec<String> {
    let names = |routes: &[Arc<Route>]| routes.iter().map(|route| route.name.to_string()).collect::<Vec<_>>().join(" ");
    table.virtual_hosts.iter().map(|host| format!("{}: {}", display(&host.host), names(&host.routes))).collect()
}

/// Returns the only route of the only host.
fn only_route(compiled: &Compiled) -> &Route {
    let table = table(compiled, "default/web/http");
    &table.virtual_hosts[0].routes[0]
}

fn cluster<'a>(compiled: &'a Compiled, name: &str) -> &'a Cluster {
    &compiled.snapshot.clusters[&ClusterName::new(name).unwrap()]
}

#[test]
fn files_without_gateways_compile_to_empty_snapshot() {
    for text in ["", "# nothing\n", "---\n---\n", SERVICE] {
        let compiled = compiled(&[text]);
        assert!(compiled.snapshot.listeners.is_empty() && compiled.snapshot.route_tables.is_empty());
    }
    assert!(Compiler::new().compile(&[]).is_ok());
}

#[test]
fn listeners_with_shared_port_are_merged() {
    let listeners = "{name: any, port: 8080, protocol: HTTP}, {name: shop, port: 8080, protocol: HTTP, hostname: \
                     '*.shop.com'}, {name: admin, port: 8081, protocol: HTTP}";
    let compiled = compiled(&[&gateway(listeners), SERVICE, &route("a", FORWARD)]);
    let listeners: Vec<String> = compiled
        .snapshot
        .listeners
        .values()
        .map(|listener| format!("{} {}", listener.name, listener.address))
        .collect();
    assert_eq!(listeners, ["default/web/admin 127.0.0.1:8081", "default/web/any 127.0.0.1:8080"]);
    assert_eq!(hosts(table(&compiled, "default/web/any")), ["*.shop.com: default/a/0/0", "*: default/a/0/0"]);
    assert_eq!(hosts(table(&compiled, "default/web/admin")), ["*: default/a/0/0"]);
}

#[test]
fn gateway_with_two_addresses_has_two_listeners() {
    let text = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: web}\nspec: {gatewayClassName: \
                weir, addresses: [{value: 0.0.0.0}, {type: IPAddress, value: '::1'}], listeners: [{name: http, port: \
                80, protocol: HTTP}]}\n";
    let compiled = compiled(&[text]);
    let listeners: Vec<String> = compiled
        .snapshot
        .listeners
        .values()
        .map(|listener| format!("{} {}", listener.name, listener.address))
        .collect();
    assert_eq!(listeners, ["default/web/http 0.0.0.0:80", "default/web/http@::1 [::1]:80"]);
}

#[test]
fn listener_serves_only_its_own_hosts() {
    let listeners = "{name: any, port: 80, protocol: HTTP}, {name: wild, port: 80, protocol: HTTP, hostname: \
                     '*.a.com'}, {name: exact, port: 80, protocol: HTTP, hostname: x.a.com}";
    let section = |name: &str, section: &str, hosts: &str| {
        format!(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec: \
             {{parentRefs: [{{name: web, sectionName: {section}}}], hostnames: [{hosts}], {FORWARD}}}\n"
        )
    };
    let compiled = compiled(&[
        &gateway(listeners),
        SERVICE,
        &section("r1", "any", "'*.com', y.a.com, b.com"),
        &section("r2", "wild", "x.a.com, y.a.com, '*.a.com'"),
        &section("r3", "exact", "'*.com'"),
    ]);
    assert_eq!(
        hosts(table(&compiled, "default/web/any")),
        [
            "b.com: default/r1/0/0",
            "x.a.com: default/r3/0/0",
            "y.a.com: default/r2/0/0",
            "*.a.com: default/r2/0/0",
            "*.com: default/r1/0/0",
            "*: ",
        ]
    );
}

#[test]
fn routes_are_ordered_by_specificity() {
    let rules = "rules: [{matches: [{path: {value: /}}, {path: {value: /a/b}}, {path: {type: Exact, value: /a}}, \
                 {path: {type: RegularExpression, value: '/.*'}}, {path: {value: /a/b}, method: GET}, \
                 {path: {value: /a/b}, headers: [{name: x, value: y}]}, \
                 {path: {value: /a/b}, headers: [{name: x, value: y}], queryParams: [{name: q, value: v}]}], \
                 backendRefs: [{name: web, port: 80}]}]";
    let older = route("zz", FORWARD).replace("{name: zz}", "{name: zz, creationTimestamp: '2026-01-01T00:00:00Z'}");
    let younger = route("aa", FORWARD).replace("{name: aa}", "{name: aa, creationTimestamp: '2026-02-01T00:00:00Z'}");
    let texts = [&gateway(LISTENER), SERVICE, &route("b", rules), &route("a", FORWARD), &younger, &older];
    let compiled = compiled(&texts);
    assert_eq!(
        hosts(table(&compiled, "default/web/http")),
        ["*: default/b/0/2 default/b/0/3 default/b/0/4 default/b/0/6 default/b/0/5 default/b/0/1 default/zz/0/0 \
          default/aa/0/0 default/a/0/0 default/b/0/0"]
    );
}

#[test]
fn rules_compile_to_actions() {
    let check = |rule: &str, expected: &dyn Fn(&Route) -> bool| {
        let compiled = compiled(&[&gateway(LISTENER), SERVICE, &route("a", &format!("rules: [{rule}]"))]);
        let route = only_route(&compiled);
        assert!(expected(route), "{rule}: {route:?}");
    };
    let backends = "backendRefs: [{name: web, port: 80}]";
    check("{backendRefs: [{name: web, port: 80, weight: 0}]}", &|route| route.action == RouteAction::NoBackend);
    check("{backendRefs: [{name: web, port: 80, weight: 0}, {name: web, port: 80, weight: 2}]}", &|route| {
        matches!(&route.action, RouteAction::Forward(forward)
                if forward.targets.len() == 2
                    && forward.targets[1].weight.get() == 2)
    });
    check(&format!("{{matches: [{{path: {{value: /a/}}}}], {backends}}}"), &|route| {
        route.matches.path == PathMatch::Prefix("/a".into())
    });
    check(&format!("{{{backends}}}"), &|route| route.matches.path == PathMatch::Prefix("".into()));
    check("{filters: [{type: RequestRedirect, requestRedirect: {scheme: https}}]}", &|route| {
        matches!(&route.action, RouteAction::Redirect(redirect)
            if redirect.scheme.as_deref() == Some("https")
                && redirect.port == Some(443)
                && redirect.status == 302 && redirect.host.is_none())
    });
    check("{filters: [{type: RequestRedirect, requestRedirect: {hostname: b.com, statusCode: 308}}]}", &|route| {
        matches!(&route.action, RouteAction::Redirect(redirect)
            if redirect.host.as_deref() == Some("b.com") && redirect.port.is_none() && redirect.status == 308)
    });
    check("{filters: [{type: RequestRedirect, requestRedirect: {statusCode: 303}}]}", &|route| {
        matches!(&route.action, RouteAction::Redirect(redirect)
            if redirect.host.is_none() && redirect.scheme.is_none() && redirect.path.is_none() && redirect.status == 303)
    });
    let rewrite = "{type: URLRewrite, urlRewrite: {hostname: b.com, path: {type: ReplacePrefixMatch, \
                   replacePrefixMatch: /x/}}}";
    check(&format!("{{filters: [{rewrite}], {backends}}}"), &|route| {
        matches!(&route.action, RouteAction::Forward(forward) if forward.rewrite.host.as_deref() == Some("b.com")
            && forward.rewrite.path == Some(PathRewrite::Prefix("/x".into())))
    });
    let edits = "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: b}], remove: [X-C]}}";
    check(&format!("{{filters: [{edits}], {backends}}}"), &|route| {
        route.request_headers.edits().set == [("x-a".into(), "b".into())]
            && route.request_headers.edits().remove == ["x-c".into()]
    });
    let mirror = "{type: RequestMirror, requestMirror: {backendRef: {name: web, port: 80}, percent: 50}}";
    check(&format!("{{filters: [{mirror}], {backends}}}"), &|route| {
        matches!(&route.action, RouteAction::Forward(forward)
            if forward.mirrors.len() == 1
                && forward.mirrors[0].fraction.samples(0) && !forward.mirrors[0].fraction.samples(u32::MAX))
    });
    check(&format!("{{timeouts: {{request: 0s, backendRequest: 1s}}, {backends}}}"), &|route| {
        matches!(&route.action, RouteAction::Forward(forward) if forward.timeouts.request == Some(Duration::ZERO)
            && forward.timeouts.backend_request == Some(Duration::from_secs(1)))
    });
}

#[test]
fn services_compile_to_clusters() {
    let text = "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {name: a, namespace: shop}\nspec:\n  ports: \
                [{name: http, port: 80}, {name: grpc, port: 81, protocol: GRPC}]\n  endpoints: [{address: \
                '127.0.0.1:1', version: v1}, {address: '127.0.0.1:2', portName: grpc, weight: 3}]\n---\napiVersion: \
                weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {name: b}\nspec: {ports: [{port: 80}], dns: {host: \
                b.internal, port: 8080}}\n---\napiVersion: weir.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: \
                p}\nspec: {targetRefs: [{group: '', kind: Service, name: b}], balancing: {algorithm: Random}, tcpKeepalive: \
                {idleTime: 1m, probes: 9}, timeouts: {connect: 1s, request: 0s}}\n";
    let compiled = compiled(&[text]);
    let (http, grpc) = (cluster(&compiled, "shop/a:80"), cluster(&compiled, "shop/a:81"));
    assert!(matches!(&http.discovery, Discovery::Static(endpoints) if endpoints.len() == 1));
    assert!(matches!(&grpc.discovery, Discovery::Static(endpoints) if endpoints[1].weight.get() == 3));
    assert_eq!((http.protocol, grpc.protocol), (UpstreamProtocol::Http1, UpstreamProtocol::Http2));
    assert_eq!(http.request_timeout, Some(Duration::from_secs(15)));
    let dns = cluster(&compiled, "default/b:80");
    assert_eq!(dns.discovery, Discovery::Dns { host: "b.internal".into(), port: 8080 });
    assert_eq!((dns.lb_policy, dns.connect_timeout), (LbPolicy::Random, Duration::from_secs(1)));
    assert_eq!(dns.request_timeout, Some(Duration::ZERO), "no limit");
    assert_eq!(dns.tcp_keepalive, TcpKeepalive { idle_seconds: 60, interval_seconds: 5, probes: 9 });
    assert_eq!(http.tcp_keepalive.total(), Duration::from_secs(30));
}

fn filter(name: &str, spec: &str) -> String {
    format!("---\napiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n")
}

#[test]
fn filters_compile_to_plugins() {
    let text = filter(
        "f",
        "module: {file: ../lib/f.wasm}, config: {b: 1, a: [true]}, failurePolicy: FailOpen, headerPause: HoldHeaders, limits: \
         {memory: 1Mi, callTimeout: 5ms}",
    );
    let compiled = compiled(&[&text, &filter("g", "module: {builtin: auth}")]);
    let plugin = |name: &str| -> &Plugin { &compiled.snapshot.plugins[&PluginName::new(name).unwrap()] };
    let f = plugin("default/f");
    assert_eq!(f.module, ModuleSource::File(Path::new("config/../lib/f.wasm").to_owned()));
    let configuration: serde_json::Value = serde_json::from_slice(&f.configuration).unwrap();
    assert_eq!(configuration, serde_json::json!({"b": 1, "a": [true]}));
    assert_eq!((f.failure, f.header_pause), (FailurePolicy::Open, HeaderPause::HeadersOnly));
    assert_eq!((f.limits.memory, f.limits.call_time), (ByteSize(1 << 20), Duration::from_millis(5)));
    let g = plugin("default/g");
    assert_eq!((&g.module, g.configuration.len()), (&ModuleSource::Builtin("auth".into()), 0));
}

#[test]
fn chain_is_ordered_by_phase_priority_and_name() {
    let all = [
        gateway(LISTENER),
        SERVICE.to_owned(),
        route("a", FORWARD),
        route("b", &format!("hostnames: [b.com], {FORWARD}")),
        filter("z-route", "module: {builtin: auth}, phase: Route"),
        filter("y", "module: {builtin: auth}, phase: Authz, priority: -1"),
        filter("x", "module: {builtin: auth}, phase: Authz, priority: 7"),
        filter("b-name", "module: {builtin: auth}, phase: Authn"),
        filter("a-name", "module: {builtin: auth}, phase: Authn"),
        filter("stats", "module: {builtin: auth}, phase: Stats, targetRefs: [{kind: Gateway, name: web}]"),
        filter("plain", "module: {builtin: auth}"),
        filter("limit", "module: {builtin: auth}, phase: Limit, targetRefs: [{kind: HTTPRoute, name: b}]"),
    ];
    let compiled = compiled(&all.iter().map(String::as_str).collect::<Vec<_>>());
    let chain = |host: usize| -> Vec<String> {
        let route = &table(&compiled, "default/web/http").virtual_hosts[host].routes[0];
        route.chain.plugins().iter().map(|name| name.as_str().trim_start_matches("default/").to_owned()).collect()
    };
    assert_eq!(chain(0), ["stats", "a-name", "b-name", "y", "x", "limit", "plain", "z-route"]);
    assert_eq!(chain(1), ["stats", "a-name", "b-name", "y", "x", "plain", "z-route"]);
}

#[test]
fn reference_grant_permits_cross_namespace_backend() {
    let listener = "{name: http, port: 8080, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}";
    let route = "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a, namespace: shop}\n\
                 spec: {parentRefs: [{name: web, namespace: default}], rules: [{backendRefs: [{name: web, namespace: \
                 default, port: 80}]}]}\n";
    let grant = "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {name: g}\nspec: \
                 {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}], to: [{group: '', kind: \
                 Service, name: web}]}\n";
    // Grants for other implementations of the Gateway API grant nothing here.
    let foreign = grant
        .replace("from: [", "from: [{group: example.com, kind: Job, namespace: shop}, {group: gateway.networking.k8s.io, kind: GRPCRoute, namespace: shop}, ")
        .replace("to: [", "to: [{group: '', kind: Secret}, {group: example.com, kind: Bucket, name: web}, ");
    let only_foreign = foreign.replace("kind: Service, name: web", "kind: ConfigMap");
    let compiled_with =
        |grant: &str| Compiler::new().compile(&[file("x.yaml", &[&gateway(listener), SERVICE, route, grant].concat())]);
    assert!(compiled_with(&foreign).is_ok());
    assert_eq!(compiled_with(&only_foreign).unwrap_err().len(), 1, "the reference has no grant");
    let compiled = compiled(&[&gateway(listener), SERVICE, route, grant]);
    assert_eq!(hosts(table(&compiled, "default/web/http")), ["*: shop/a/0/0"]);
    let texts = [&gateway(listener), SERVICE, route, &grant.replace("name: web}", "name: other}")].concat();
    let diagnostics = Compiler::new().compile(&[file("x.yaml", &texts)]).unwrap_err();
    assert_eq!(diagnostics.len(), 1, "{}", joined(&diagnostics));
}

#[test]
fn edited_route_shares_all_other_parts() {
    let texts = |timeout: &str| {
        let rules = format!(
            "hostnames: [b.com], rules: [{{backendRefs: [{{name: web, port: 80}}], timeouts: {{request: {timeout}}}}}]"
        );
        [
            gateway(LISTENER),
            SERVICE.to_owned(),
            route("a", FORWARD),
            route("b", &rules),
            filter("f", "module: {builtin: auth}"),
        ]
        .concat()
    };
    let mut compiler = Compiler::new();
    let before = compiler.compile(&[file("x.yaml", &texts("1s"))]).unwrap();
    // All documents move down by a line, and one route changes.
    let after = compiler.compile(&[file("x.yaml", &format!("# A comment.\n{}", texts("2s")))]).unwrap();
    assert_ne!(before.snapshot.version, after.snapshot.version);
    assert!(before.snapshot.clusters.iter().all(|(name, part)| Arc::ptr_eq(part, &after.snapshot.clusters[name])));
    assert!(before.snapshot.plugins.iter().all(|(name, part)| Arc::ptr_eq(part, &after.snapshot.plugins[name])));
    assert!(before.snapshot.listeners.iter().all(|(name, part)| Arc::ptr_eq(part, &after.snapshot.listeners[name])));
    let routes = |compiled: &Compiled| -> Vec<Arc<Route>> {
        table(compiled, "default/web/http").virtual_hosts.iter().flat_map(|host| host.routes.clone()).collect()
    };
    let (before, after) = (routes(&before), routes(&after));
    assert!(!Arc::ptr_eq(&before[0], &after[0]) && Arc::ptr_eq(&before[1], &after[1]));
    // Moved documents have their new positions.
    let broken = format!("# One.\n# Two.\n{}", texts("never"));
    let diagnostics = compiler.compile(&[file("x.yaml", &broken)]).unwrap_err();
    let line = broken.lines().position(|line| line.contains("never")).unwrap() + 1;
    assert_eq!(diagnostics[0].line as usize, line);
}

#[test]
fn rejection_is_located_in_source() {
    let text = "# The edge.
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web}
spec:
  gatewayClassName: weir
  addresses: [{value: 127.0.0.1}, {value: '::1'}]
  listeners:
    - {name: other, port: 8081, protocol: HTTP}
    - name: http
      port: 8080
      protocol: HTTP
---
apiVersion: weir.dev/v1alpha1
kind: Filter
metadata: {name: own}
spec:
  module:
    file: ./own.wasm
  config: {a: 1}
---
apiVersion: weir.dev/v1alpha1
kind: Filter
metadata: {name: auth}
spec:
  module: {builtin: auth}
";
    let compiled = compiled(&[text]);
    let check = |kind, name: &str, field: &str, expected: &str| {
        let rejection = Rejection {
            resource: ResourceId { kind, name: name.to_owned() },
            field: field.to_owned(),
            reason: "the reason".to_owned(),
            hint: "do this".to_owned(),
        };
        assert_eq!(compiled.diagnostic(&rejection).to_string(), format!("{expected}the reason\n  hint: do this"));
    };
    use ResourceKind::{Listener, Plugin, RouteTable};
    let gateway = "Gateway default/web: ";
    let at = |position: &str, object: &str, field: &str| format!("config/shop.yaml:{position}: {object}{field}");
    check(Listener, "default/web/http", "address", &at("11:7", gateway, "spec.listeners[1].port: "));
    check(Listener, "default/web/other@::1", "address", &at("9:21", gateway, "spec.listeners[0].port: "));
    check(RouteTable, "default/web/http", "virtualHosts[0]", &at("2:1", gateway, ""));
    check(Plugin, "default/own", "module", &at("19:5", "Filter default/own: ", "spec.module.file: "));
    check(Plugin, "default/own", "configuration", &at("20:3", "Filter default/own: ", "spec.config: "));
    // A missing field is reported at its parent.
    check(Plugin, "default/own", "limits.memory", &at("17:1", "Filter default/own: ", "spec.limits: "));
    check(Plugin, "default/auth", "module", &at("26:12", "Filter default/auth: ", "spec.module.builtin: "));
    check(Plugin, "default/none", "module", "plugin default/none: module: ");
    let name = ListenerName::new("default/web/http").unwrap();
    assert!(compiled.snapshot.listeners.contains_key(&name));
}

#[test]
fn service_versions_compile_to_clusters_and_route_targets() {
    let service = |second: &str| {
        format!(
            "---\napiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {{name: web}}\nspec: {{ports: [{{port: 80}}], \
             endpoints: [{{address: '127.0.0.1:1', version: v1}}, {{address: '127.0.0.1:2', version: {second}}}, \
             {{address: '127.0.0.1:3'}}]}}\n"
        )
    };
    let mut compiler = Compiler::new();
    let mut compile = |second: &str| {
        let routes = file("routes.yaml", &[&gateway(LISTENER), &route("all", FORWARD)[..]].concat());
        compiler
            .compile(&[routes, file("services.yaml", &service(second))])
            .unwrap_or_else(|diagnostics| panic!("{}", joined(&diagnostics)))
    };
    let versions = |compiled: &Compiled| -> Vec<String> {
        let route = &table(compiled, "default/web/http").virtual_hosts[0].routes[0];
        let RouteAction::Forward(forward) = &route.action else { panic!("{route:?}") };
        forward.versions.iter().map(|version| version.cluster.to_string()).collect()
    };
    let addresses = |compiled: &Compiled, name: &str| -> Vec<u16> {
        let cluster = &compiled.snapshot.clusters[&ClusterName::new(name).unwrap()];
        let Discovery::Static(endpoints) = &cluster.discovery else { panic!("{cluster:?}") };
        endpoints.iter().map(|endpoint| endpoint.address.socket().unwrap().port()).collect()
    };
    let first = compile("v2");
    assert_eq!(versions(&first), ["default/web:80@v1", "default/web:80@v2"]);
    assert_eq!(addresses(&first, "default/web:80"), [1, 2, 3]);
    assert_eq!(addresses(&first, "default/web:80@v2"), [2]);
    // The route's own text is unchanged; its versions change.
    assert_eq!(versions(&compile("v3")), ["default/web:80@v1", "default/web:80@v3"]);
    let same = compile("v3");
    assert_eq!(addresses(&same, "default/web:80@v3"), [2]);
}

#[test]
fn service_policy_applies_to_rules_that_reach_the_service() {
    let other = "---\napiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {name: other}\nspec: {ports: [{port: 80}], \
                 endpoints: [{address: \"127.0.0.1:1\"}]}\n";
    let policy = |name: &str, targets: &str| {
        format!(
            "---\napiVersion: weir.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\nspec: {{{targets}rules: \
             [{{name: all, action: Allow, principals: [{{serviceAccount: web}}, {{namespace: ops}}]}}]}}\n"
        )
    };
    let route = route(
        "r",
        "rules: [{matches: [{path: {value: /a}}], backendRefs: [{name: web, port: 80}]}, {matches: [{path: {value: /b}}], \
         backendRefs: [{name: other, port: 80}]}, {matches: [{path: {value: /c}}], backendRefs: [{name: other, port: 80}], \
         filters: [{type: RequestMirror, requestMirror: {backendRef: {name: web, port: 80}}}]}]",
    );
    let (all, web) = (policy("all", ""), policy("web", "targetRefs: [{kind: Service, name: web}], "));
    let compiled = compiled(&[&gateway(LISTENER), SERVICE, other, &route, &all, &web]);
    let table = table(&compiled, "default/web/http");
    let chains: Vec<String> = table.virtual_hosts[0]
        .routes
        .iter()
        .map(|route| route.chain.plugins().iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        .collect();
    let (both, one) = ("default/access:all default/access:web", "default/access:all");
    assert_eq!(chains, [both, one, both]);
    let plugin = &compiled.snapshot.plugins[&PluginName::new("default/access:web").unwrap()];
    let configuration: serde_json::Value = serde_json::from_slice(&plugin.configuration).unwrap();
    let principals = serde_json::json!(["/ns/default/sa/web", "/ns/ops/*"]);
    assert_eq!(
        configuration["rules"][0],
        serde_json::json!({"name": "all", "action": "allow", "principals": principals})
    );
}

/// Returns a GRPCRoute on Gateway `web` with these fields in its `spec`.
fn grpc_route(name: &str, spec: &str) -> String {
    route(name, spec).replace("kind: HTTPRoute", "kind: GRPCRoute")
}

/// Returns the paths and the number of headers of the routes of a host, in order.
fn grpc_matches(compiled: &Compiled) -> Vec<(PathMatch, usize)> {
    let routes = &table(compiled, "default/web/http").virtual_hosts[0].routes;
    routes.iter().map(|route| (route.matches.path.clone(), route.matches.headers.len())).collect()
}

#[test]
fn grpc_methods_compile_to_paths() {
    let regex = |pattern: &str| PathMatch::Regex(weir_model::matcher::Regex::new(pattern).unwrap());
    for (method, expected) in [
        ("{service: shop.Cart, method: Get}", PathMatch::Exact("/shop.Cart/Get".into())),
        ("{service: shop.Cart}", PathMatch::Prefix("/shop.Cart".into())),
        ("{method: Get}", regex("/(?:[^/]+)/(?:Get)")),
        ("{type: RegularExpression, service: 'shop\\..*', method: Get|Put}", regex("/(?:shop\\..*)/(?:Get|Put)")),
        ("{type: RegularExpression, method: Get.*}", regex("/(?:[^/]+)/(?:Get.*)")),
    ] {
        let rules = format!("rules: [{{matches: [{{method: {method}}}], backendRefs: [{{name: web, port: 80}}]}}]");
        let compiled = compiled(&[SERVICE, &gateway(LISTENER), &grpc_route("a", &rules)]);
        assert_eq!(grpc_matches(&compiled), [(expected, 0)], "{method}");
    }
    let compiled = compiled(&[SERVICE, &gateway(LISTENER), &grpc_route("a", FORWARD)]);
    assert_eq!(grpc_matches(&compiled), [(PathMatch::Prefix("".into()), 0)]);
    let route = &table(&compiled, "default/web/http").virtual_hosts[0].routes[0];
    assert_eq!(route.name.as_str(), "default/a/0/0/grpc");
}

#[test]
fn grpc_route_with_longest_service_and_method_is_first() {
    let backend = "backendRefs: [{name: web, port: 80}]";
    let rule = |matches: &str| format!("{{matches: [{{{matches}}}], {backend}}}");
    let header = "headers: [{name: x-a, value: b}]";
    let rules = [
        rule(header),
        rule("method: {method: GetItemOfCart}"),
        rule("method: {service: shop.Cart}"),
        rule("method: {service: shop.Cart, method: Get}"),
        rule(&format!("method: {{service: shop.Cart}}, {header}")),
        rule("method: {type: RegularExpression, service: shop.Cart..}"),
    ];
    let route = grpc_route("a", &format!("rules: [{}]", rules.join(", ")));
    let compiled = compiled(&[SERVICE, &gateway(LISTENER), &route]);
    let routes = &table(&compiled, "default/web/http").virtual_hosts[0].routes;
    let order: Vec<&str> = routes.iter().map(|route| route.name.as_str().split('/').nth(2).unwrap()).collect();
    assert_eq!(order, ["5", "3", "4", "2", "1", "0"]);
}

#[test]
fn backend_of_grpc_route_uses_http2_unless_port_has_a_protocol() {
    for (port, expected) in [
        ("{port: 80}", UpstreamProtocol::Http2),
        ("{port: 80, protocol: HTTP}", UpstreamProtocol::Http1),
        ("{port: 80, appProtocol: http}", UpstreamProtocol::Http1),
        ("{port: 80, appProtocol: kubernetes.io/ws}", UpstreamProtocol::Http1),
        ("{port: 80, appProtocol: kubernetes.io/h2c}", UpstreamProtocol::Http2),
        ("{port: 80, appProtocol: grpc}", UpstreamProtocol::Http2),
    ] {
        let service = SERVICE.replace("{port: 80}", port);
        let compiled = compiled(&[&service, &gateway(LISTENER), &grpc_route("a", FORWARD)]);
        assert_eq!(cluster(&compiled, "default/web:80").protocol, expected, "{port}");
    }
    let compiled = compiled(&[SERVICE, &gateway(LISTENER), &route("a", FORWARD)]);
    assert_eq!(cluster(&compiled, "default/web:80").protocol, UpstreamProtocol::Http1);
}

#[test]
fn filters_of_backend_compile_to_its_target() {
    let backend = "{name: web, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: \
                   X-A, value: b}]}}, {type: ResponseHeaderModifier, responseHeaderModifier: {remove: [X-B]}}]}";
    for kind in ["HTTPRoute", "GRPCRoute"] {
        let route = route("a", &format!("rules: [{{backendRefs: [{backend}]}}]")).replace("HTTPRoute", kind);
        let compiled = compiled(&[SERVICE, &gateway(LISTENER), &route]);
        let RouteAction::Forward(forward) = &table(&compiled, "default/web/http").virtual_hosts[0].routes[0].action
        else {
            panic!("{kind}")
        };
        assert_eq!(forward.targets[0].request_headers.edits().set, [("x-a".into(), "b".into())]);
        assert_eq!(forward.targets[0].response_headers.edits().remove, ["x-b".into()]);
    }
}
