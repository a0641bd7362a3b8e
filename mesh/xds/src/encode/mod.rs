//! Encodes the model as Envoy's messages: for `weir-proxy`, for Envoy, and for proxyless gRPC. Called by
//! `resource_set.rs`. Fields that only `weir-proxy` reads are where Envoy ignores them: in metadata under `weir.dev`,
//! and in the message `weir.v1.Plugin` around a plugin.

mod capabilities;
mod cluster;
pub(crate) mod grpc;
mod listener;
mod metadata;
mod plugin;
mod protocol_options;
mod route;
mod tcp;
mod retry;
mod tls;

use std::time::Duration;

use crate::proto::{core, protobuf};

pub use capabilities::NON_STREAM_CAPABILITIES;
pub(crate) use cluster::{PROTOCOL_OPTIONS, cluster, cluster_alias, endpoints};
pub(crate) use listener::{HttpFilters, PLAIN_UNTIL, filter_order, has_cors, listener, tcp_listener};
pub(crate) use plugin::plugin;
pub(crate) use protocol_options::{KIB, MAX_TARGET_BYTES};
pub(crate) use retry::{GRPC_WORDS, PREVIOUS_HOSTS, RETRY_AFTER, RETRY_ON, idempotent_method};
pub(crate) use route::{NO_BACKEND_DETAIL, WHOLE_PATH, removed_prefix, route_table};
pub(crate) use tcp::{inline_network_plugin, network_plugin, tcp_proxy};
pub use tls::workload_secrets;
pub(crate) use tls::{
    SYSTEM_ROOTS, https, identity_source, inspector, mesh as mesh_tls, secret, server_name, upstream as upstream_tls,
};

/// The config source `ads: {}`: the resource comes on the ADS stream.
pub(crate) fn ads_config_source() -> core::ConfigSource {
    let ads = core::config_source::ConfigSourceSpecifier::Ads(core::AggregatedConfigSource {});
    core::ConfigSource {
        resource_api_version: core::ApiVersion::V3 as i32,
        config_source_specifier: Some(ads),
        ..core::ConfigSource::default()
    }
}

/// A config source with its own gRPC stream to a cluster of the client's bootstrap.
fn cluster_config_source(name: &str) -> core::ConfigSource {
    let cluster =
        core::grpc_service::EnvoyGrpc { cluster_name: name.to_owned(), ..core::grpc_service::EnvoyGrpc::default() };
    let service = core::GrpcService {
        target_specifier: Some(core::grpc_service::TargetSpecifier::EnvoyGrpc(cluster)),
        ..core::GrpcService::default()
    };
    let source = core::ApiConfigSource {
        api_type: core::api_config_source::ApiType::Grpc as i32,
        transport_api_version: core::ApiVersion::V3 as i32,
        grpc_services: vec![service],
        ..core::ApiConfigSource::default()
    };
    core::ConfigSource {
        resource_api_version: core::ApiVersion::V3 as i32,
        config_source_specifier: Some(core::config_source::ConfigSourceSpecifier::ApiConfigSource(source)),
        ..core::ConfigSource::default()
    }
}

pub(crate) fn duration(duration: Duration) -> protobuf::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    // Less than 1,000,000,000, so it fits.
    protobuf::Duration { seconds, nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default() }
}

fn socket_address(address: &str, port: u16) -> core::Address {
    let socket = core::SocketAddress {
        address: address.to_owned(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(u32::from(port))),
        ..core::SocketAddress::default()
    };
    core::Address { address: Some(core::address::Address::SocketAddress(socket)) }
}

const fn bool_value(value: bool) -> protobuf::BoolValue {
    protobuf::BoolValue { value }
}

const fn uint32_value(value: u32) -> protobuf::UInt32Value {
    protobuf::UInt32Value { value }
}
