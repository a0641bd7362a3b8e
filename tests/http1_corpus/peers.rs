//! The proxies under comparison: Weir without and with a filter, Envoy and nginx. Each has several lanes, and a lane
//! has a listener, a route and an origin of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use harness::{Envoy, Nginx, Proxy, Resources, own_address, test_filter, wait_until};
use serde_json::Value;
use tokio::net::TcpStream;

use crate::access_log::Filters;
use crate::case::Kind;
use crate::configuration::{envoy_bootstrap, nginx_directives};
use crate::origin::LaneOrigin;

/// The number of cases that run at the same time in one proxy.
pub(crate) const LANES: usize = 8;

/// The process of a proxy.
pub(crate) enum Process {
    Weir(Proxy, Filters),
    Envoy { _process: Envoy },
    Nginx { _process: Nginx },
}

/// A listener of a proxy, and the origin behind it.
pub(crate) struct Lane {
    pub(crate) number: usize,
    pub(crate) listener: SocketAddr,
    pub(crate) origin: LaneOrigin,
}

/// A proxy with its lanes.
pub(crate) struct Peer {
    /// The key of its outcomes in the corpus.
    pub(crate) name: &'static str,
    pub(crate) process: Process,
    pub(crate) lanes: Vec<Arc<Lane>>,
}

impl Peer {
    /// Returns true if the proxy runs the cases of a file. Weir with a filter runs those of requests only.
    pub(crate) fn runs(&self, kind: Kind) -> bool {
        kind == Kind::Requests || !matches!(self.process, Process::Weir(_, Filters::Recording))
    }

    /// Starts Weir with one worker.
    pub(crate) async fn weir(filters: Filters) -> Self {
        let origins = start_origins().await;
        let proxy = Proxy::start(&weir_resources(&addresses(&origins), filters)).await;
        let mut listeners = Vec::new();
        for lane in 0..LANES {
            listeners.push(proxy.listener(&format!("default/edge/h{lane}")).await);
        }
        Self { name: "weir", process: Process::Weir(proxy, filters), lanes: lanes(listeners, origins) }
    }

    /// Starts Envoy.
    pub(crate) async fn envoy() -> Self {
        let origins = start_origins().await;
        let envoy = Envoy::with_bootstrap(&envoy_bootstrap(&addresses(&origins))).await;
        let listeners = wait_until("the listeners of Envoy", async || envoy_listeners(&envoy).await).await;
        Self { name: "envoy", process: Process::Envoy { _process: envoy }, lanes: lanes(listeners, origins) }
    }

    /// Starts nginx.
    pub(crate) async fn nginx() -> Self {
        let origins = start_origins().await;
        let listeners: Vec<SocketAddr> = (0..LANES).map(|_| own_address()).collect();
        let nginx = Nginx::start(&nginx_directives(&listeners, &addresses(&origins)), &listeners).await;
        Self { name: "nginx", process: Process::Nginx { _process: nginx }, lanes: lanes(listeners, origins) }
    }
}

async fn start_origins() -> Vec<LaneOrigin> {
    let mut origins = Vec::new();
    for _ in 0..LANES {
        origins.push(LaneOrigin::start().await);
    }
    origins
}

fn addresses(origins: &[LaneOrigin]) -> Vec<SocketAddr> {
    origins.iter().map(LaneOrigin::address).collect()
}

fn lanes(listeners: Vec<SocketAddr>, origins: Vec<LaneOrigin>) -> Vec<Arc<Lane>> {
    let pairs = listeners.into_iter().zip(origins).enumerate();
    pairs.map(|(number, (listener, origin))| Arc::new(Lane { number, listener, origin })).collect()
}

fn weir_resources(origins: &[SocketAddr], filters: Filters) -> Resources {
    let names: Vec<String> = (0..origins.len()).map(|lane| format!("h{lane}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut resources = Resources::empty().gateway("edge", &names);
    for (lane, origin) in origins.iter().enumerate() {
        resources = resources.service(&format!("origin{lane}"), &[*origin]).yaml(&format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r{lane}}}\nspec:\n  \
             parentRefs: [{{name: edge, sectionName: h{lane}}}]\n  \
             rules: [{{backendRefs: [{{name: origin{lane}, port: 80}}]}}]\n"
        ));
    }
    if filters == Filters::Absent {
        return resources;
    }
    let record = "[{do: record_request}]";
    let module = std::fs::read(test_filter()).expect("the test filter was built");
    resources.file("test_filter.wasm", module).yaml(&format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Filter\nmetadata: {{name: recorder}}\nspec:\n  \
         targetRefs: [{{kind: Gateway, name: edge}}]\n  module: {{file: ./test_filter.wasm}}\n  \
         config: {{request_headers: {record}, request_body: {record}, request_trailers: {record}}}\n"
    ))
}

/// Returns the addresses of Envoy's listeners by name. Returns `None` until each accepts connections.
async fn envoy_listeners(envoy: &Envoy) -> Option<Vec<SocketAddr>> {
    let page: Value = serde_json::from_str(&envoy.page("/listeners?format=json").await).ok()?;
    let statuses = page["listener_statuses"].as_array()?;
    let mut listeners = Vec::new();
    for lane in 0..LANES {
        let status = statuses.iter().find(|status| status["name"] == format!("h{lane}"))?;
        let port = status["local_address"]["socket_address"]["port_value"].as_u64()?;
        let address = SocketAddr::from(([127, 0, 0, 1], u16::try_from(port).ok()?));
        TcpStream::connect(address).await.ok()?;
        listeners.push(address);
    }
    Some(listeners)
}
