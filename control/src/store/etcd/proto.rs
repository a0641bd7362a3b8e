//! The part of etcd's protocol that the store needs: `etcdserverpb.KV` and `etcdserverpb.Watch` (etcd 3.4, `rpc.proto`
//! and `kv.proto`). Unused fields are left out.

use prost::Message;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::limits::MAX_ETCD_ANSWER;

/// `RangeRequest`: the keys from `key` to before `range_end`, or `key` alone.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) range_end: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub(super) limit: i64,
    /// 1: ascending, 2: descending. (The target of the order is the key: 0.)
    #[prost(int32, tag = "5")]
    pub(super) sort_order: i32,
    #[prost(bool, tag = "8")]
    pub(super) keys_only: bool,
}

/// `RangeResponse`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    pub(super) kvs: Vec<KeyValue>,
}

/// `mvccpb.KeyValue`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) value: Vec<u8>,
}

/// `PutRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
}

/// `DeleteRangeRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct DeleteRangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
}

/// `Compare`: a condition of a transaction. Its result is EQUAL (0).
#[derive(Clone, PartialEq, Message)]
pub(super) struct Compare {
    #[prost(int32, tag = "2")]
    pub(super) target: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) key: Vec<u8>,
    #[prost(oneof = "CompareTarget", tags = "4, 7")]
    pub(super) target_union: Option<CompareTarget>,
}

/// `Compare.target_union`, with the `target` that goes with it.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum CompareTarget {
    /// The number of writes since the key was created; 0 for an absent key.
    #[prost(int64, tag = "4")]
    Version(i64),
    /// The key's value.
    #[prost(bytes = "vec", tag = "7")]
    Value(Vec<u8>),
}

impl CompareTarget {
    /// `Compare.CompareTarget`.
    pub(super) const fn target(&self) -> i32 {
        match self {
            Self::Version(_) => 0,
            Self::Value(_) => 3,
        }
    }
}

/// `RequestOp`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct RequestOp {
    #[prost(oneof = "Operation", tags = "2, 3")]
    pub(super) operation: Option<Operation>,
}

/// `RequestOp.request`.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum Operation {
    #[prost(message, tag = "2")]
    Put(PutRequest),
    #[prost(message, tag = "3")]
    Delete(DeleteRangeRequest),
}

/// `TxnRequest`, without `failure` operations.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TxnRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    pub(super) success: Vec<RequestOp>,
}

/// `TxnResponse`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct TxnResponse {
    #[prost(bool, tag = "2")]
    pub(super) succeeded: bool,
}

/// `WatchRequest` that creates a watch.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    pub(super) create: Option<WatchCreateRequest>,
}

/// `WatchCreateRequest`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchCreateRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) range_end: Vec<u8>,
}

/// `WatchResponse`, without its events: a change makes the store read everything that is new.
#[derive(Clone, PartialEq, Message)]
pub(super) struct WatchResponse {
    #[prost(bool, tag = "4")]
    pub(super) is_cancelled: bool,
    #[prost(string, tag = "6")]
    pub(super) cancel_reason: String,
}

/// `KV/Range`.
pub(super) async fn range(channel: Channel, request: RangeRequest) -> Result<RangeResponse, Status> {
    unary(channel, "/etcdserverpb.KV/Range", request).await
}

/// `KV/Txn`.
pub(super) async fn transact(channel: Channel, request: TxnRequest) -> Result<TxnResponse, Status> {
    unary(channel, "/etcdserverpb.KV/Txn", request).await
}

/// `Watch/Watch`, of one range. The member cancels the watch when it has no leader (`hasleader`).
pub(super) async fn watch(
    channel: Channel,
    requests: ReceiverStream<WatchRequest>,
) -> Result<Streaming<WatchResponse>, Status> {
    let mut grpc = ready(channel).await?;
    let mut request = Request::new(requests);
    request.metadata_mut().insert("hasleader", tonic::metadata::MetadataValue::from_static("true"));
    let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
    let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
    grpc.streaming(request, path, codec).await.map(tonic::Response::into_inner)
}

async fn unary<Q, A>(channel: Channel, path: &'static str, request: Q) -> Result<A, Status>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    let mut grpc = ready(channel).await?;
    let codec = ProstCodec::<Q, A>::default();
    let response = grpc.unary(Request::new(request), PathAndQuery::from_static(path), codec).await;
    response.map(tonic::Response::into_inner)
}

async fn ready(channel: Channel) -> Result<Grpc<Channel>, Status> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(MAX_ETCD_ANSWER);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    Ok(grpc)
}
