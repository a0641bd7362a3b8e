//! Callouts: requests that filters make themselves (`proxy_http_call`, `proxy_grpc_call`, `proxy_grpc_stream`). Their
//! requests, bounds and bookkeeping, without IO: `host` admits a callout and queues it, and a task of `tasks` runs it.
//!
//! ```text
//! host: is the cluster allowed, is the request valid, is there a permit? ─► CalloutTable ─► Effect ─► tasks
//!       send, close, cancel ──────────────────────────────────────────────► CalloutTable ◄── events of the task
//! ```
//!
//! Each plugin has a table in each of its VMs. An accepted HTTP callout has a permit and the table's epoch, and the guest
//! gets exactly one response, which may be a failure. A gRPC call or stream also has an entry: it gets events until its
//! end, and the guest may cancel it, before its task exists, too. Callbacks are made on the plugin context; the guest
//! switches to the stream that it continues.
//!
//! When the VM fails or closes, or the plugin is removed, the tables abandon their callouts and begin a new epoch: gRPC
//! tasks are aborted, HTTP requests go on, and responses of an older epoch are dropped. Permits last as long as the
//! requests.

mod table; // Callouts in flight: permits, ids, states of gRPC calls.
mod request; // Admitted callouts, the clusters that they may go to, and requests of gRPC callouts.
mod http; // Requests of HTTP callouts.
mod grpc; // gRPC framing, events and sent messages.

pub(crate) use self::http::{CalloutRequest, http_request};
pub(crate) use grpc::{FrameDecoder, GrpcEvent, GrpcSendStream, GrpcStatus, encode_frame};
pub(crate) use request::{
    CalloutResponse, ClusterMap, GrpcCallout, GrpcTarget, HttpCallout, UnknownCluster, allowed_cluster,
};
pub(crate) use table::{CalloutKind, CalloutPermit, CalloutTable, GrpcDelivery, GrpcSendError};
