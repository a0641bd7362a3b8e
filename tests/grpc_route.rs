//! GRPCRoutes, and filters of backends, with a gRPC client and gRPC servers.

use harness::{Filter, GrpcCaller, Origin, Proxy, ProxyOptions, Resources, empty, grpc_origin};
use http::Request;
use serde_json::json;
use tonic::Code;

/// Returns a GRPCRoute on the Gateway `edge`; `spec` is the rest of its `spec`, as YAML in flow style.
fn grpc_route(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {{name: {name}}}\nspec: {{parentRefs: \
         [{{name: edge}}], {spec}}}\n"
    )
}

/// Calls a method, and returns its message, or the code of its failure.
async fn call(proxy: &Proxy, path: &str, metadata: &[(&'static str, &str)]) -> Result<String, Code> {
    let mut caller = GrpcCaller::connect(proxy.address().await, "shop.example").await;
    let message = caller.call_with(path, metadata).await;
    message.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(|status| status.code())
}

#[tokio::test]
async fn calls_are_routed_by_service_method_and_header() {
    let (get, cart, other) = (grpc_origin("get").await, grpc_origin("cart").await, grpc_origin("other").await);
    let rule = |matches: &str, backend: &str| {
        format!("{{matches: [{matches}], backendRefs: [{{name: {backend}, port: 80}}]}}")
    };
    let rules = [
        rule("{method: {service: shop.Cart}}", "cart"),
        rule("{method: {service: shop.Cart, method: Get}}", "get"),
        rule("{method: {type: RegularExpression, method: 'List.*'}, headers: [{name: x-canary, value: a}]}", "other"),
    ];
    // A port without `protocol`: the endpoints speak HTTP/2, because a GRPCRoute forwards to it.
    let service = |name: &str, origin: &Origin| {
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}], \
             endpoints: [{{address: \"{}\"}}]}}\n",
            origin.address()
        )
    };
    let resources = Resources::new()
        .yaml(&service("get", &get))
        .yaml(&service("cart", &cart))
        .yaml(&service("other", &other))
        .yaml(&grpc_route("shop", &format!("hostnames: [shop.example], rules: [{}]", rules.join(", "))));
    let proxy = Proxy::start(&resources).await;
    for (path, metadata, expected) in [
        ("/shop.Cart/Get", &[][..], Ok("get")),
        ("/shop.Cart/Put", &[], Ok("cart")),
        ("/any.Service/ListItems", &[("x-canary", "a")], Ok("other")),
        ("/any.Service/ListItems", &[], Err(Code::Unimplemented)),
        ("/shop.Cartwheel/Put", &[], Err(Code::Unimplemented)),
    ] {
        assert_eq!(call(&proxy, path, metadata).await, expected.map(str::to_owned), "{path}");
    }
    let line = proxy.access_log_for("/shop.Cart/Get").await;
    assert_eq!((&line["route"], &line["cluster"]), (&json!("default/shop/1/0/grpc"), &json!("default/get:80")));
}

#[tokio::test]
async fn filter_and_policy_target_grpc_route() {
    let origin = grpc_origin("hello").await;
    let filter = Filter {
        kind: "GRPCRoute",
        ..Filter::test("mark", json!({"response_headers": [{"do": "set", "name": "x-filter", "value": "ran"}]}))
    };
    let policy = "apiVersion: weir.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: no-put}\nspec: {targetRefs: \
                  [{kind: GRPCRoute, name: everything}], rules: [{name: put, action: Deny, paths: [{exact: \
                  /shop.Cart/Put}]}]}\n";
    let resources = Resources::new()
        .http2_service("origin", &[origin.address()])
        .yaml(&grpc_route("everything", "rules: [{backendRefs: [{name: origin, port: 80}]}]"))
        .filter(filter)
        .yaml(policy);
    let proxy = Proxy::start(&resources).await;
    assert_eq!(call(&proxy, "/shop.Cart/Put", &[]).await, Err(Code::PermissionDenied));
    let mut caller = harness::Client::http2(proxy.address().await).await;
    let request = Request::post(format!("http://{}/shop.Cart/Get", proxy.address().await));
    let response = caller.send(request.header("content-type", "application/grpc").body(empty()).unwrap()).await;
    assert_eq!((response.header("x-filter"), response.trailer("grpc-status")), (Some("ran"), Some("0")));
}

#[tokio::test]
async fn filters_of_backend_apply_to_its_requests_alone() {
    let (one, two) = (Origin::text("one").await, Origin::text("two").await);
    let backend = |name: &str| {
        format!(
            "{{name: {name}, port: 80, filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: \
             x-backend, value: {name}}}, {{name: x-both, value: {name}}}]}}}}, {{type: ResponseHeaderModifier, \
             responseHeaderModifier: {{add: [{{name: x-from, value: {name}}}]}}}}]}}"
        )
    };
    let rules = format!(
        "rules: [{{filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: x-both, value: \
         rule}}]}}}}], backendRefs: [{}, {}]}}]",
        backend("one"),
        backend("two")
    );
    let resources = Resources::new().service("one", &[one.address()]).service("two", &[two.address()]);
    let proxy = Proxy::start(&resources.route("shares", &rules)).await;
    let mut client = proxy.client().await;
    for _ in 0..50 {
        let response = client.get("/").await;
        assert_eq!(response.header("x-from"), Some(response.text().as_str()));
    }
    for (origin, name) in [(&one, "one"), (&two, "two")] {
        let received = origin.received();
        assert!(!received.is_empty(), "{name}");
        for request in received {
            assert_eq!((request.header("x-backend"), request.header("x-both")), (Some(name), Some("rule")));
        }
    }
}

#[tokio::test]
async fn younger_route_of_other_kind_is_rejected() {
    let origin = grpc_origin("hello").await;
    let resources = Resources::forward_to_http2(origin.address())
        .yaml(&grpc_route("grpc", "rules: [{backendRefs: [{name: origin, port: 80}]}]"));
    let (_, log) = Proxy::fail_to_start(&resources, ProxyOptions::default()).await;
    assert!(log.contains("GRPCRoute default/grpc") || log.contains("HTTPRoute default/everything"), "{log}");
    assert!(log.contains("a host of a listener has HTTPRoutes or GRPCRoutes"), "{log}");
}
