//! Two proxies of one mesh: `edge` takes requests in plain text and sends them to `inner` by mutual TLS, which sends them
//! to an origin.

use std::net::SocketAddr;

use crate::control::ControlPlane;
use crate::proxy::Proxy;
use crate::resources::Resources;
use crate::wait::until;

/// Two proxies of one mesh, and what they serve.
#[derive(Debug)]
pub struct Mesh {
    /// In plain text to the outside.
    pub edge: Proxy,
    /// By mutual TLS, for `edge`.
    pub inner: Proxy,
}

/// The arguments of `edge`.
pub const EDGE: [&str; 2] = ["--bind", "default/edge/http=127.0.0.1:0"];

/// The arguments of `inner`.
pub const INNER: [&str; 2] = ["--bind", "default/inner/mesh=127.0.0.1:0"];

impl Mesh {
    /// Starts both, and waits until `edge` answers with what the origin says.
    pub async fn start(control: &ControlPlane, origin: SocketAddr) -> Self {
        control.apply(&resources(origin, ([127, 0, 0, 1], 1).into(), "inner")).await;
        let inner = control.mesh_proxy("inner", &INNER).await;
        let at = until("the listener of inner", async || inner.find_listener("default/inner/mesh").await).await;
        control.apply(&resources(origin, at, "inner")).await;
        let edge = control.mesh_proxy("edge", &EDGE).await;
        let mesh = Self { edge, inner };
        mesh.wait_until_it_serves().await;
        mesh
    }

    /// Waits for a good answer.
    pub async fn wait_until_it_serves(&self) {
        until("an answer through both proxies", async || {
            self.edge.find_listener("default/edge/http").await?;
            (self.edge.get("/").await.status == 200).then_some(())
        })
        .await;
    }
}

/// What both serve; `inner` is at an address, and must be this service account.
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
        "apiVersion: weir.dev/v1alpha1\nkind: Service\nmetadata: {{name: inner}}\nspec: {{ports: [{{port: 80}}], \
         endpoints: [{{address: \"{inner}\"}}], identity: {{serviceAccount: {account}}}}}\n"
    );
    Resources::new()
        .service("origin", &[origin])
        .yaml(gateway)
        .yaml(&service)
        .yaml(&route("to-inner", "edge", "inner"))
        .yaml(&route("to-origin", "inner", "origin"))
}
