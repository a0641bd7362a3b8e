//! Envoy's protobuf types under short names, and the messages of the package `weir.v1`. Only discovery requests and
//! responses, their node and status, and the service stubs leave the crate (invariant I2).

use prost::Name;

pub use envoy_types::pb::envoy::config::core::v3::{ControlPlane, Node};
pub use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
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
pub(crate) use envoy_types::pb::envoy::extensions::filters::http::cors::v3 as cors;
pub(crate) use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
pub(crate) use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
pub(crate) use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
pub(crate) use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
pub(crate) use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3 as tcp;
pub(crate) use envoy_types::pb::envoy::extensions::filters::network::wasm::v3::Wasm as NetworkWasm;
pub(crate) use envoy_types::pb::envoy::extensions::http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig;
pub(crate) use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate as PreviousHosts;
pub(crate) use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
pub(crate) use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream_http;
pub(crate) use envoy_types::pb::envoy::extensions::wasm::v3 as wasm;
pub(crate) use envoy_types::pb::envoy::service::discovery::v3::Resource;
pub(crate) use envoy_types::pb::envoy::r#type::matcher::v3 as matcher;
pub(crate) use envoy_types::pb::envoy::r#type::v3 as kinds;
pub(crate) use envoy_types::pb::google::protobuf;

/// The only entry in `allowed_capabilities` of a plugin without capabilities. Envoy reads an empty list as
/// unrestricted.
pub(crate) const NO_CAPABILITY: &str = "none";

/// `weir.v1.Plugin`: Envoy's Wasm filter, and the limits that it has no fields for. Sent to `weir-proxy` only.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Plugin {
    /// The filter as Envoy receives it.
    #[prost(message, optional, tag = "1")]
    pub(crate) wasm: Option<Wasm>,
    /// Limit of a VM's linear memory.
    #[prost(uint64, tag = "2")]
    pub(crate) memory_bytes: u64,
    /// Limit of one callback's CPU time.
    #[prost(message, optional, tag = "3")]
    pub(crate) call_time: Option<protobuf::Duration>,
    /// Limit of the time to start and configure a VM.
    #[prost(message, optional, tag = "4")]
    pub(crate) start_time: Option<protobuf::Duration>,
    /// Limit of the CPU time of all callbacks in one second. Absent limits, here and below, take their default.
    #[prost(message, optional, tag = "5")]
    pub(crate) cpu_per_second: Option<protobuf::Duration>,
    /// Limit of the elements in all tables of a VM.
    #[prost(uint32, optional, tag = "6")]
    pub(crate) table_elements: Option<u32>,
    /// Limit of the bytes logged in one second.
    #[prost(uint64, optional, tag = "7")]
    pub(crate) log_bytes_per_second: Option<u64>,
    /// Limit of a header map that the plugin changed.
    #[prost(uint64, optional, tag = "8")]
    pub(crate) head_bytes: Option<u64>,
    /// Limit of a body that the plugin buffers or replaces.
    #[prost(uint64, optional, tag = "9")]
    pub(crate) body_bytes: Option<u64>,
    /// Limit of concurrent callouts.
    #[prost(uint32, optional, tag = "10")]
    pub(crate) callouts: Option<u32>,
    /// Limit of the shared data of its VM id.
    #[prost(uint64, optional, tag = "11")]
    pub(crate) shared_data_bytes: Option<u64>,
    /// Limit of the metrics of its VM id.
    #[prost(uint32, optional, tag = "12")]
    pub(crate) metrics: Option<u32>,
    /// True when each stream runs in its own VM.
    #[prost(bool, tag = "13")]
    pub(crate) vm_for_each_stream: bool,
    /// Clusters that callouts may use. Absent: all clusters.
    #[prost(message, optional, tag = "14")]
    pub(crate) services: Option<Names>,
    /// Streams after which a VM is recycled.
    #[prost(uint64, optional, tag = "15")]
    pub(crate) recycle_requests: Option<u64>,
    /// Age at which a VM is recycled.
    #[prost(message, optional, tag = "16")]
    pub(crate) recycle_age: Option<protobuf::Duration>,
    /// Linear memory at which a VM is recycled.
    #[prost(uint64, optional, tag = "17")]
    pub(crate) recycle_memory_bytes: Option<u64>,
    /// Bit set of [`KIND_LOG_ONLY`] and [`KIND_SINGLETON`]. 0 is an ordinary HTTP or network filter.
    #[prost(uint32, tag = "18")]
    pub(crate) kind: u32,
    /// Clusters by other names, for callouts.
    #[prost(btree_map = "string, string", tag = "19")]
    pub(crate) cluster_aliases: std::collections::BTreeMap<String, String>,
}

/// Bit of a plugin that receives only the end of each stream (`proxy_on_log`).
pub(crate) const KIND_LOG_ONLY: u32 = 1;

/// Bit of a plugin with one VM in the process and no streams (Envoy's singleton Wasm service).
pub(crate) const KIND_SINGLETON: u32 = 2;

/// A list of names. As an optional field it distinguishes an empty list from an absent one.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Names {
    /// The names.
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

/// `weir.v1.Report`: the proxy's report on accepted resources that failed. See `report.rs`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ReportMessage {
    /// The nonce of the last response that the report covers.
    #[prost(string, tag = "1")]
    pub(crate) nonce: String,
    /// The failed resources.
    #[prost(message, repeated, tag = "2")]
    pub(crate) failed: Vec<FailedResource>,
    /// The reason for which the certificate of the proxy is not renewed, for operators; empty if it is.
    #[prost(string, tag = "3")]
    pub(crate) certificate_failure: String,
}

/// A resource that was accepted and failed afterwards.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct FailedResource {
    /// The type URL of the resource.
    #[prost(string, tag = "1")]
    pub(crate) type_url: String,
    /// The name of the resource.
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    /// The reason of the failure, for operators.
    #[prost(string, tag = "3")]
    pub(crate) reason: String,
    /// True if requests that need the resource fail.
    #[prost(bool, tag = "4")]
    pub(crate) is_blocking: bool,
}

impl Name for ReportMessage {
    const NAME: &'static str = "Report";
    const PACKAGE: &'static str = "weir.v1";

    fn type_url() -> String {
        type_url::<Self>()
    }
}

/// The begin of `control_plane.identifier` of `weir-control`, which is `weir-control/MESH`, or this alone before releases
/// with ids of meshes. `weir-proxy` sends reports to no other control plane.
const CONTROL_PLANE: &str = "weir-control";

/// Returns the identifier of a control plane of a mesh.
pub(crate) fn control_plane(mesh: Option<&str>) -> ControlPlane {
    let identifier = mesh.map_or(CONTROL_PLANE.to_owned(), |mesh| format!("{CONTROL_PLANE}/{mesh}"));
    ControlPlane { identifier }
}

/// Returns the id of the mesh in the identifier of a `weir-control`. `None` if it has none, and for other control planes.
pub(crate) fn mesh_of(control_plane: &ControlPlane) -> Option<&str> {
    control_plane.identifier.strip_prefix(CONTROL_PLANE)?.strip_prefix('/')
}

/// Returns the id of the mesh whose control plane has sent a response. `None` if the response has no id: other control
/// planes send none, or one of each replica.
pub fn mesh_id(response: &DeltaDiscoveryResponse) -> Option<&str> {
    mesh_of(response.control_plane.as_ref()?)
}

/// Returns true for a `weir-control`.
pub(crate) fn is_weir(control_plane: &ControlPlane) -> bool {
    control_plane.identifier == CONTROL_PLANE || mesh_of(control_plane).is_some()
}

/// Returns the type URL of a message, `type.googleapis.com/` and its full name.
pub(crate) fn type_url<M: Name>() -> String {
    format!("type.googleapis.com/{}.{}", M::PACKAGE, M::NAME)
}

/// Packs a message into an `Any`.
pub(crate) fn pack<M: Name>(message: &M) -> Any {
    Any { type_url: type_url::<M>(), value: message.encode_to_vec() }
}

/// The key of Weir's own fields in `filter_metadata`.
pub(crate) const METADATA: &str = "weir.dev";
