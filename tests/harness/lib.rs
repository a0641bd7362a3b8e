//! A real `weir-proxy` between scripted origins and asserting clients: what every whole-proxy test is made of.
//!
//! ```no_run
//! use harness::{Client, Origin, Proxy, Resources};
//!
//! # async fn test() {
//! let origin = Origin::says("hello").await;
//! let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
//!
//! let answer = Client::http1(proxy.address().await).await.get("/anything").await;
//!
//! assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
//! assert_eq!(origin.received()[0].path, "/anything");
//! # }
//! ```
//!
//! Everything listens on port 0 of loopback, or at an address of this process, and ends when it is dropped. Nothing
//! sleeps: what takes a while is waited for with [`until`], and a test that waits for longer than [`DEADLINE`] fails. A
//! test that fails prints the proxy's log.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a harness fails by panicking, like the test that uses it")]

mod proxy; // One running `weir-proxy`, its pages, its logs.
mod control; // One running `weir-control`, its API.
mod https; // Certificates for the world.
pub mod mesh; // Two proxies of one mesh.
mod agent; // Who gives an Envoy its identity.
mod envoy; // One running Envoy, to compare with.
mod envoy_plan; // What it is told.
mod etcd; // One running etcd, that control planes share.
mod grpc; // gRPC without a proxy.
mod registry; // Modules, kept by somebody else.
mod xds_server; // The control plane of somebody else.
mod resources; // What it serves, written as a person would.
mod scenario; // A file of origins, requests and expectations.
mod client; // Sends requests, reads answers.
mod origin; // Answers requests.
mod addresses; // For whoever cannot listen on port 0.
mod wire; // Odd bytes, either way.
mod body; // Bodies in memory, in steps, and very long ones.
mod artefact; // What is built: the proxy's binary, filters.
mod wait; // Until something is so, within a deadline.

pub use addresses::{free_address, own_address};
pub use agent::Agent;
pub use artefact::{binary, module_of_wat, probe, program, shipped_modules, test_filter};
pub use body::{Body, BodySender, Broken, counted, counted_by, empty, full, in_steps, with_trailers};
pub use client::{Answer, Client, read};
pub use control::{ControlOptions, ControlPlane};
pub use envoy::Envoy;
pub use envoy_plan::{EnvoyFilter, EnvoyPlan};
pub use etcd::Etcd;
pub use grpc::{GrpcClient, GrpcServer, node_modules};
pub use https::Certificate;
pub use mesh::Mesh;
pub use origin::{Codec, Origin, Received};
pub use proxy::{Page, Proxy, ProxyOptions, folders};
pub use registry::Registry;
pub use resources::{Filter, Module, Resources};
pub use scenario::{Front, Scenario, ScenarioOrigins, run as run_scenario};
pub use wait::{DEADLINE, beside, until, within};
pub use wire::{Wire, WireOrigin};
pub use xds_server::XdsServer;
