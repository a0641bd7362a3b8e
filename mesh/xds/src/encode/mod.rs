//! Model to protobuf, for proxies of ours, for Envoy, and for gRPC clients that have no proxy. Called by `offer.rs`. What only our own proxies understand is put
//! where Envoy does not look: metadata under `weir.dev`, and a message of our own around a plugin.

mod capabilities;
mod cluster;
pub(crate) mod grpc;
mod listener;
mod metadata;
mod plugin;
mod route;
mod tcp;
mod tls;

use std::time::Duration;

use crate::proto::{core, protobuf};

pub use capabilities::WITHOUT_STREAMS;
pub(crate) use cluster::{PROTOCOL_OPTIONS, cluster, endpoints};
pub(crate) use listener::{PLAIN_UNTIL, filter_order, listener, tcp_listener};
pub(crate) use plugin::plugin;
pub(crate) use route::{RETRIES, RETRY_ON, WHOLE_PATH, removed_prefix, route_table};
pub(crate) use tcp::{network_plugin, network_plugin_within, tcp_proxy};
pub use tls::own_secrets;
pub(crate) use tls::{https, identity_of, inspector, mesh as mesh_tls, secret, server_name, upstream as upstream_tls};

/// Resources are asked for on the stream on which everything comes.
pub(crate) fn by_ads() -> core::ConfigSource {
    let ads = core::config_source::ConfigSourceSpecifier::Ads(core::AggregatedConfigSource {});
    core::ConfigSource {
        resource_api_version: core::ApiVersion::V3 as i32,
        config_source_specifier: Some(ads),
        ..core::ConfigSource::default()
    }
}

/// Resources are asked for on a stream of their own, to a cluster that the proxy knows by itself.
fn by_cluster(name: &str) -> core::ConfigSource {
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
    // Below a thousand million, so it fits.
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

const fn truth(value: bool) -> protobuf::BoolValue {
    protobuf::BoolValue { value }
}

const fn number(value: u32) -> protobuf::UInt32Value {
    protobuf::UInt32Value { value }
}
