//! The harness of whole-proxy tests: a real `weir-proxy` between scripted origins and asserting clients.
//!
//! ```no_run
//! use harness::{Client, Origin, Proxy, Resources};
//!
//! # async fn test() {
//! let origin = Origin::text("hello").await;
//! let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
//!
//! let response = Client::http1(proxy.address().await).await.get("/anything").await;
//!
//! assert_eq!((response.status, response.text().as_str()), (200, "hello"));
//! assert_eq!(origin.received()[0].path, "/anything");
//! # }
//! ```
//!
//! Servers listen on port 0 of loopback, or at an address that only this process uses. Dropping a process or a server
//! stops it. Tests do not sleep: [`wait_until`] waits for a condition, and fails the test after [`DEADLINE`]. A failed
//! test prints the proxy's log.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a harness fails by panicking, like the test that uses it")]

mod proxy; // One running `weir-proxy`, its admin pages and logs.
mod control; // One running `weir-control`, its API.
mod https; // Self-signed server certificates.
mod authority; // Certificates that a CA issues.
pub mod mesh; // Two proxies of one mesh.
mod agent; // One running `weir-proxy agent`.
mod envoy; // One running Envoy, for comparisons.
mod envoy_config; // The static configuration of an Envoy.
mod nginx; // One running nginx, for comparisons.
mod etcd; // One running etcd, for replicas of the control plane.
mod grpc; // Proxyless gRPC clients, and servers.
mod grpc_call; // Unary gRPC calls, and a server.
mod registry; // One running OCI registry.
mod xds_server; // A third-party control plane.
mod resources; // Resources of a proxy, as YAML.
mod scenario; // Files with origins, requests and expected responses.
mod client; // An HTTP client.
mod origin; // An HTTP upstream.
mod dns; // A DNS server whose records change.
mod silenced; // Addresses whose packets are dropped.
mod addresses; // Addresses for servers that cannot listen on port 0.
mod raw; // Raw TCP peers.
mod body; // Bodies: in memory, sent in steps, or long.
mod artifact; // Programs and filters that are built for tests.
mod wait; // Conditions and futures with a deadline.

pub use addresses::{free_address, own_address, own_addresses};
pub use agent::Agent;
pub use artifact::{binary, copy_private, probe, program, shipped_modules, test_filter, wasm_from_wat};
pub use authority::{Authority, CertificateRequest, Issued, config_map};
pub use body::{Body, BodyError, BodySender, body_channel, empty, full, with_trailers, zeros, zeros_counted_by};
pub use client::{Client, ClientResponse, read};
pub use control::{ControlOptions, ControlPlane};
pub use dns::DnsServer;
pub use envoy::Envoy;
pub use envoy_config::{EnvoyConfig, EnvoyFilter};
pub use etcd::Etcd;
pub use grpc::{GrpcClient, GrpcServer, node_modules};
pub use grpc_call::{GrpcCaller, grpc_origin};
pub use https::Certificate;
pub use mesh::MeshPair;
pub use nginx::Nginx;
pub use origin::{Codec, Origin, ReceivedRequest};
pub use proxy::{Page, Proxy, ProxyOptions, shared_folder_args};
pub use raw::{RawConnection, RawOrigin};
pub use registry::Registry;
pub use resources::{Filter, Module, Resources};
pub use scenario::{Origins, ProxyUnderTest, Scenario, run as run_scenario};
pub use silenced::Silenced;
pub use wait::{DEADLINE, spawn_background, wait_until, with_deadline};
pub use xds_server::ThirdPartyXdsServer;
