//! Envoy's types under short names, the envelopes of the stream, and two messages of our own. Beside the envelopes and
//! the service stubs nothing of this leaves the crate (invariant I2).

use prost::Name;

pub(crate) use envoy_types::pb::envoy::config::core::v3::ControlPlane;
pub use envoy_types::pb::envoy::config::core::v3::Node;
pub use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
pub use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
pub use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
pub use envoy_types::pb::envoy::service::secret::v3::secret_discovery_service_server::{
    SecretDiscoveryService, SecretDiscoveryServiceServer,
};
pub use envoy_types::pb::google::protobuf::Any;
pub use envoy_types::pb::google::rpc::Status;

pub(crate) use envoy_types::pb::envoy::config::cluster::v3 as cluster;
pub(crate) use envoy_types::pb::envoy::config::core::v3 as core;
pub(crate) use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
pub(crate) use envoy_types::pb::envoy::config::listener::v3 as listener;
pub(crate) use envoy_types::pb::envoy::config::route::v3 as route;
pub(crate) use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
pub(crate) use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
pub(crate) use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
pub(crate) use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
pub(crate) use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
pub(crate) use envoy_types::pb::envoy::extensions::filters::network::wasm::v3::Wasm as NetworkWasm;
pub(crate) use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
pub(crate) use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream_http;
pub(crate) use envoy_types::pb::envoy::extensions::wasm::v3 as wasm;
pub(crate) use envoy_types::pb::envoy::service::discovery::v3::Resource;
pub(crate) use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
pub(crate) use envoy_types::pb::envoy::r#type::v3 as kinds;
pub(crate) use envoy_types::pb::google::protobuf;

/// What stands in the list of capabilities of a plugin that may do nothing: to Envoy an empty list is no list.
pub(crate) const NO_CAPABILITY: &str = "none";

/// `weir.v1.Plugin`: a filter as our own proxies get it, with what Envoy has no fields for.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Plugin {
    /// As Envoy gets it.
    #[prost(message, optional, tag = "1")]
    pub(crate) wasm: Option<Wasm>,
    /// Linear memory of a VM.
    #[prost(uint64, tag = "2")]
    pub(crate) memory_bytes: u64,
    /// CPU time of one call.
    #[prost(message, optional, tag = "3")]
    pub(crate) call_time: Option<protobuf::Duration>,
    /// Time to start and configure a VM.
    #[prost(message, optional, tag = "4")]
    pub(crate) start_time: Option<protobuf::Duration>,
    /// CPU time of all calls in one second; like everything below, the default when it is not there.
    #[prost(message, optional, tag = "5")]
    pub(crate) cpu_per_second: Option<protobuf::Duration>,
    /// Elements of all tables of a VM.
    #[prost(uint32, optional, tag = "6")]
    pub(crate) table_elements: Option<u32>,
    /// Log messages in one second.
    #[prost(uint64, optional, tag = "7")]
    pub(crate) log_bytes_per_second: Option<u64>,
    /// A head that it has changed.
    #[prost(uint64, optional, tag = "8")]
    pub(crate) head_bytes: Option<u64>,
    /// A body that it holds back or makes.
    #[prost(uint64, optional, tag = "9")]
    pub(crate) body_bytes: Option<u64>,
    /// Callouts under way at once.
    #[prost(uint32, optional, tag = "10")]
    pub(crate) callouts: Option<u32>,
    /// Shared data of its VM id.
    #[prost(uint64, optional, tag = "11")]
    pub(crate) shared_data_bytes: Option<u64>,
    /// Metrics of its VM id.
    #[prost(uint32, optional, tag = "12")]
    pub(crate) metrics: Option<u32>,
    /// True when each stream has a VM of its own.
    #[prost(bool, tag = "13")]
    pub(crate) vm_for_each_stream: bool,
    /// The clusters that its callouts may go to; all when it is not there.
    #[prost(message, optional, tag = "14")]
    pub(crate) services: Option<Names>,
    /// After so many streams a VM has served long enough.
    #[prost(uint64, optional, tag = "15")]
    pub(crate) recycle_requests: Option<u64>,
    /// After this time.
    #[prost(message, optional, tag = "16")]
    pub(crate) recycle_age: Option<protobuf::Duration>,
    /// Once its memory has grown to this.
    #[prost(uint64, optional, tag = "17")]
    pub(crate) recycle_memory_bytes: Option<u64>,
    /// [`SEES_ENDS`] and [`ONE_VM`], added up; 0 is a filter like others.
    #[prost(uint32, tag = "18")]
    pub(crate) kind: u32,
}

/// A plugin that is told of the ends of streams alone.
pub(crate) const SEES_ENDS: u32 = 1;

/// A plugin with one VM in the process, which no stream goes through.
pub(crate) const ONE_VM: u32 = 2;

/// A list that may be empty or not be there.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Names {
    /// What is in it.
    #[prost(string, repeated, tag = "1")]
    pub(crate) names: Vec<String>,
}

impl Name for Plugin {
    const NAME: &'static str = "Plugin";
    const PACKAGE: &'static str = "weir.v1";

    fn type_url() -> String {
        type_url::<Self>()
    }
}

/// `weir.v1.Report`: what became of what a proxy has accepted.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReportMessage {
    /// The last response that this is about.
    #[prost(string, tag = "1")]
    pub(crate) nonce: String,
    /// What does not work.
    #[prost(message, repeated, tag = "2")]
    pub(crate) failed: Vec<FailedResource>,
}

/// A resource that was accepted and does not work.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FailedResource {
    /// The type URL of its kind.
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    /// Its name.
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    /// Why not.
    #[prost(string, tag = "3")]
    pub(crate) reason: String,
}

impl Name for ReportMessage {
    const NAME: &'static str = "Report";
    const PACKAGE: &'static str = "weir.v1";

    fn type_url() -> String {
        type_url::<Self>()
    }
}

/// What our control plane calls itself: a proxy of ours reports to nobody else.
pub(crate) const CONTROL_PLANE: &str = "weir-control";

/// `type.googleapis.com/` and the full name.
pub(crate) fn type_url<M: Name>() -> String {
    format!("type.googleapis.com/{}.{}", M::PACKAGE, M::NAME)
}

/// A message with its type.
pub(crate) fn pack<M: Name>(message: &M) -> Any {
    Any { type_url: type_url::<M>(), value: message.encode_to_vec() }
}

/// Where the resources of our own key lie in `filter_metadata`.
pub(crate) const METADATA: &str = "weir.dev";
