//! Callouts: requests that filters make themselves (`proxy_http_call`, `proxy_grpc_call`, `proxy_grpc_stream`). Their
//! requests, bounds and bookkeeping, without IO: `host` admits a callout and queues it, and a task of `tasks` runs it.
//!
//! ```text
//! host: is the cluster allowed, is the request valid, is there a permit? ─► entry in CalloutTable ─► tasks
//!       send, close, cancel ──────────────────────────────────────────────► entry            ◄── events of the task
//! ```
//!
//! Each accepted callout gets exactly one response, on the plugin context, unless its VM has failed or its guest has
//! cancelled it meanwhile. The entry decides, also before the task exists and after it has ended.

mod table; // Callouts in flight: permits, ids, states of gRPC calls.
mod request; // Requests of callouts, and the clusters that they may go to.
mod grpc; // gRPC framing, events and sent messages.

pub(crate) use grpc::{FrameDecoder, GrpcEvent, GrpcSendStream, GrpcStatus, encode_frame};
pub(crate) use request::{
    CalloutResponse, ClusterMap, GrpcCallout, GrpcTarget, HttpCallout, UnknownCluster, allowed_cluster, http_request,
};
pub(crate) use table::{CalloutKind, CalloutPermit, CalloutTable, GrpcDelivery, GrpcSendError};
