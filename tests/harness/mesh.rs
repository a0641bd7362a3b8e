//! Two proxies of one mesh: `edge` accepts plaintext requests and forwards them by mutual TLS to `inner`, which
//! forwards them to an origin.

use std::net::SocketAddr;

use crate::control::ControlPlane;
use crate::proxy::Proxy;
use crate::resources::Resources;
use crate::wait::wait_until;

/// Two proxies of one mesh, `edge` and `inner`.
#[derive(Debug)]
pub struct MeshPair {
    /// The proxy with a plaintext listener.
    pub edge: Proxy,
    /// The proxy with a mutual TLS listener, to which `edge` forwards.
    pub inner: Proxy,
}

/// The arguments of `edge`: its listener gets a free port.
pub const EDGE_ARGS: [&str; 2] = ["--bind", "default/edge/http=127.0.0.1:0"];

/// The arguments of `inner`: its listener gets a free port.
pub const INNER_ARGS: [&str; 2] = ["--bind", "default/inner/mesh=127.0.0.1:0"];

impl MeshPair {
    /// Starts both proxies, and waits until a request passes them.
    pub async fn start(control: &ControlPlane, origin: SocketAddr) -> Self {
        control.apply(&resources(origin, ([127, 0, 0, 1], 1).into(), "inner")).await;
        let inner = control.mesh_proxy("inner", &INNER_ARGS).await;
        let at = wait_until("the listener of inner", async || inner.find_listener("default/inner/mesh").await).await;
        control.apply(&resources(origin, at, "inner")).await;
        let edge = control.mesh_proxy("edge", &EDGE_ARGS).await;
        let mesh = Self { edge, inner };
        mesh.wait_until_it_serves().await;
        mesh
    }

    /// Waits until a request through both proxies is answered with 200.
    pub async fn wait_until_it_serves(&self) {
        wait_until("a response through both proxies", async || {
            self.edge.find_listener("default/edge/http").await?;
            (self.edge.get("/").await.status == 200).then_some(())
        })
        .await;
    }
}

/// Returns the resources of both proxies. `edge` expects `inner` at an address with the identity of a service account.
pub fn resources(origin: SocketAddr, inner: SocketAddr, account: &str) -> Resources {
    let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: inner}\nspec: \
                   {gatewayClassName: weir, listeners: [{name: mesh, port: 15008, protocol: weir.dev/MTLS}]}\n";
    let route = |name: &str, gateway: &str, service: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec: {{parentRefs: \
             [{{name: {gateway}}}], rules: [{{backendRefs: [{{name: {service}, port: 80}}]}}]}}\n"
        )
    };
    let service = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {{name: inner}}\nspec: {{ports: [{{port: 80}}], \
         endpoints: [{{address: \"{inner}\"}}], identity: {{serviceAccount: {account}}}}}\n"
    );
    Resources::new()
        .service("origin", &[origin])
        .yaml(gateway)
        .yaml(&service)
        .yaml(&route("to-inner", "edge", "inner"))
        .yaml(&route("to-origin", "inner", "origin"))
}
