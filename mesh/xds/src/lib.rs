//! xDS v3: both ends of an ADS stream, and the translation between the model and Envoy's messages. Performs no IO;
//! `weir-control` and `weir-proxy` pass the requests and responses of their streams through it.
//!
//! ```text
//!               weir-control                                         weir-proxy
//!
//!    Snapshot ─ encode ─► ResourceSet                        ResourceCache ─► Snapshot
//!                              │                                   ▲
//!                              ▼                                   │ decode
//!                         ServerState                         ClientState
//!                              │ ◄── subscribe: type URL, names ── │        DeltaDiscoveryRequest
//!                              │ ─── resources, nonce ───────────► │        DeltaDiscoveryResponse
//!                              │ ◄── ACK: nonce ────────────────── │        DeltaDiscoveryRequest
//!                              │                                   │
//!                              │ ─── resources, nonce ───────────► │        DeltaDiscoveryResponse
//!                              │ ◄── NACK: nonce, error_detail ─── │        DeltaDiscoveryRequest
//! ```
//!
//! One ADS stream carries all [resource types](ResourceType), each with its own subscription and nonces.
//! [`ServerState`] speaks both variants of the protocol: delta (`DeltaDiscoveryRequest`) with `weir-proxy` and Envoy,
//! and state of the world (SotW, `DiscoveryRequest`) with Envoy and proxyless gRPC. [`ClientState`] speaks delta.
//!
//! - **Versions.** The version of a resource is a hash of its content. The server sends a resource when the client has
//!   another version, or none.
//! - **Order.** Make before break: updates are sent as CDS, EDS, ECDS, SDS, LDS, RDS, so a route never names a cluster
//!   that the client does not have. Removals are sent as LDS, RDS, SDS, ECDS, EDS, CDS.
//! - **Rejections.** A resource with a field that the proxy does not support is rejected, and the NACK has the path of
//!   the field. The valid resources of that response are used.

// Each module imports only from modules below it. The blank lines keep rustfmt from sorting them.

// --- The control plane's end of a stream ---

// The state of one stream: takes requests, returns the next response, orders the resource types.
pub mod server;

// One client's subscription to one resource type: names, versions sent, the pending ACK.
mod subscription;

// An encoded response, written in chunks; resources are shared between all streams.
pub mod response;

// The protocol variants (delta, SotW) and the outcome of a request (subscribe, ACK, NACK).
pub mod protocol;

// Every resource of a snapshot, encoded and versioned.
pub mod resource_set;

// --- The proxy's end of a stream ---

// The state of the proxy's stream: subscriptions, accepted versions, ACK and NACK.
pub mod client;

// Accepted resources, and the snapshot that they make up.
pub mod resource_cache;

// The routes of a listener, with their filter chains.
mod listener_routes;

// Accepted resources that failed afterwards: which version, and why.
mod failures;

// Accepted resources as bytes, for a start without the control plane.
pub mod persist;

// --- Both ends ---

// The proxy's report on resources that were accepted and failed afterwards.
pub mod report;

// Envoy's messages to the model.
pub mod decode;

// The model to Envoy's messages.
pub mod encode;

// The client at the other end (Weir, Envoy or gRPC), and the options to encode for it.
pub mod client_type;

// Resource types (CDS, EDS, ECDS, SDS, LDS, RDS) and the order in which they are sent.
pub mod resource_type;

// Envoy's protobuf types under short names, and the messages of `weir.v1`.
pub mod proto;

// Every limit, with its unit and reason.
pub mod limits;

pub use client::ClientState;
pub use client_type::{ClientType, EncodeOptions};
pub use encode::workload_secrets;
pub use failures::FailedVersion;
pub use persist::PersistedResource;
pub use report::{Report, ReportedFailure};
pub use resource_cache::ResourceCache;
pub use resource_set::ResourceSet;
pub use resource_type::ResourceType;
pub use response::ChunkedResponse;
pub use server::ServerState;
