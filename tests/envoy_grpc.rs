//! GRPCRoutes and deadlines of gRPC requests in a real Envoy beside Weir.

use harness::{Body, BodyError, Codec, GrpcCaller, Origin, Resources, grpc_origin, wait_until};
use http::Response;
use tokio::time::Instant;
use tonic::Code;

use crate::{ControlPlane, Proxies};

const ROUTE: &str = "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {name: shop}\nspec: {parentRefs: \
                     [{name: edge}], rules: [{matches: [{method: {service: shop.Cart, method: Get}}, {method: {method: List}}], \
                     backendRefs: [{name: cart, port: 80, filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: \
                     [{name: x-backend, value: cart}]}}]}]}, {matches: [{method: {service: shop.Slow}}], backendRefs: [{name: \
                     slow, port: 80}]}]}\n";

#[tokio::test]
async fn both_proxies_route_grpc_calls_and_apply_deadlines() {
    let cart = grpc_origin("cart").await;
    let slow = Origin::start(Codec::Http2, |_| std::future::pending::<Result<Response<Body>, BodyError>>()).await;
    let service = |name: &str, origin: &Origin| {
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\nspec: {{ports: [{{port: 80}}], \
             endpoints: [{{address: \"{}\"}}]}}\n",
            origin.address()
        )
    };
    let mut control = ControlPlane::start().await;
    let resources = Resources::new().yaml(&service("cart", &cart)).yaml(&service("slow", &slow)).yaml(ROUTE);
    control.apply(&resources);
    let both = Proxies::start(&control, "DELTA_GRPC").await;
    // Envoy's status for its own timeout is Unavailable.
    for (name, address, late) in [
        ("weir", both.weir.address().await, Code::DeadlineExceeded),
        ("envoy", both.envoy.address(), Code::Unavailable),
    ] {
        let mut caller = GrpcCaller::connect(address, "shop.example").await;
        wait_until(&format!("cart from {name}; the log of Envoy:\n{}", both.envoy.log()), async || {
            (GrpcCaller::connect(address, "shop.example").await.call("/shop.Cart/Get").await.ok()? == "cart")
                .then_some(())
        })
        .await;
        assert_eq!(caller.call("/any.Service/List").await.unwrap(), "cart", "{name}");
        assert_eq!(cart.last().header("x-backend"), Some("cart"), "{name}");
        assert_eq!(caller.call("/shop.Cart/Put").await.unwrap_err().code(), Code::Unimplemented, "{name}");
        let started = Instant::now();
        let status = caller.call_with("/shop.Slow/Get", &[("grpc-timeout", "300m")]).await.unwrap_err();
        assert_eq!(status.code(), late, "{name}: {status:?}");
        assert!((300..5_000).contains(&started.elapsed().as_millis()), "{name}: {:?}", started.elapsed());
    }
    both.assert_no_rejection().await;
}
