//! Encodes a cluster (CDS) and its endpoints (EDS). They are separate resources, because endpoints change more often.

use std::collections::HashMap;

use weir_model::{
    Cluster, Discovery, Endpoint, EndpointAddress, GatewayDuration, LbPolicy, TcpKeepalive, UnixPath, UpstreamProtocol,
};

use super::metadata::{metadata, text, with_texts};
use super::{ads_config_source, duration, outlier, retry, socket_address, uint32_value};
use crate::client_type::ClientType;
use crate::proto::{cluster as pb, core, endpoint, pack, upstream_http};

/// Envoy's name of the extension that sets the HTTP protocol of a cluster.
pub(crate) const PROTOCOL_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// Encodes a cluster without listed endpoints.
pub(crate) fn cluster(cluster: &Cluster, client_type: ClientType) -> pb::Cluster {
    let name = cluster.name.as_str();
    let (kind, eds, inline) = match &cluster.discovery {
        Discovery::Static(_) => {
            let eds =
                pb::cluster::EdsClusterConfig { eds_config: Some(ads_config_source()), service_name: String::new() };
            (pb::cluster::DiscoveryType::Eds, Some(eds), None)
        }
        Discovery::Dns { host, port } => {
            let endpoints = vec![lb_endpoint(socket_address(host, *port), None)];
            (pb::cluster::DiscoveryType::StrictDns, None, Some(assignment(name, endpoints)))
        }
    };
    let balancing = match cluster.lb_policy {
        LbPolicy::RoundRobin => pb::cluster::LbPolicy::RoundRobin,
        LbPolicy::LeastRequest => pb::cluster::LbPolicy::LeastRequest,
        LbPolicy::Random => pb::cluster::LbPolicy::Random,
    };
    let budget = cluster.retry_budget.as_deref().copied().unwrap_or_default();
    let options = pack(&protocol_options(cluster));
    let request_timeout =
        cluster.request_timeout.map(|timeout| ("requestTimeout", text(&GatewayDuration(timeout).to_string())));
    pb::Cluster {
        name: name.to_owned(),
        eds_cluster_config: eds,
        connect_timeout: Some(duration(cluster.connect_timeout)),
        lb_policy: balancing as i32,
        outlier_detection: cluster.outlier_detection.as_deref().map(outlier::outlier_detection),
        circuit_breakers: Some(retry::budget(&budget)),
        upstream_connection_options: Some(connection_options(cluster.tcp_keepalive)),
        load_assignment: inline,
        typed_extension_protocol_options: HashMap::from([(PROTOCOL_OPTIONS.to_owned(), options)]),
        metadata: with_texts(
            metadata(request_timeout.into_iter().chain(retry::own_budget_fields(&budget))),
            &cluster.metadata,
        ),
        transport_socket: cluster.tls.as_ref().map(|tls| super::tls::upstream(tls, client_type)),
        cluster_discovery_type: Some(pb::cluster::ClusterDiscoveryType::Type(kind as i32)),
        ..pb::Cluster::default()
    }
}

fn connection_options(keepalive: TcpKeepalive) -> pb::UpstreamConnectionOptions {
    let TcpKeepalive { idle_seconds, interval_seconds, probes } = keepalive;
    pb::UpstreamConnectionOptions {
        tcp_keepalive: Some(core::TcpKeepalive {
            keepalive_probes: Some(uint32_value(probes)),
            keepalive_time: Some(uint32_value(idle_seconds)),
            keepalive_interval: Some(uint32_value(interval_seconds)),
        }),
        ..pb::UpstreamConnectionOptions::default()
    }
}

/// Encodes a cluster under another name, with the same endpoints.
pub(crate) fn cluster_alias(alias: &str, original: &Cluster, client_type: ClientType) -> pb::Cluster {
    let mut copy = cluster(original, client_type);
    if let Some(eds) = &mut copy.eds_cluster_config {
        eds.service_name = std::mem::replace(&mut copy.name, alias.to_owned());
    }
    pb::Cluster { name: alias.to_owned(), ..copy }
}

/// Encodes the endpoints of a cluster; `None` when the cluster is resolved by DNS.
pub(crate) fn endpoints(cluster: &Cluster) -> Option<endpoint::ClusterLoadAssignment> {
    let Discovery::Static(endpoints) = &cluster.discovery else { return None };
    let endpoint = |endpoint: &Endpoint| {
        let address = match &endpoint.address {
            EndpointAddress::Socket(address) => socket_address(&address.ip().to_string(), address.port()),
            EndpointAddress::Unix(path) => pipe(path),
        };
        let metadata = metadata(endpoint.version.as_ref().map(|version| ("version", text(version))));
        endpoint::LbEndpoint {
            load_balancing_weight: Some(uint32_value(endpoint.weight.get())),
            ..lb_endpoint(address, metadata)
        }
    };
    // Envoy rejects a weight of 0. Such an endpoint receives no requests, so it is left out.
    let used = endpoints.iter().filter(|endpoint| endpoint.weight.get() > 0);
    Some(assignment(cluster.name.as_str(), used.map(endpoint).collect()))
}

fn pipe(path: &UnixPath) -> core::Address {
    let pipe = core::Pipe { path: path.as_str().to_owned(), ..core::Pipe::default() };
    core::Address { address: Some(core::address::Address::Pipe(pipe)) }
}

/// Returns true if an endpoint is on a Unix socket.
pub(super) fn is_pipe(endpoint: &endpoint::LbEndpoint) -> bool {
    let Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint)) = &endpoint.host_identifier else {
        return false;
    };
    let address = endpoint.address.as_ref().and_then(|address| address.address.as_ref());
    matches!(address, Some(core::address::Address::Pipe(_)))
}

fn assignment(name: &str, lb_endpoints: Vec<endpoint::LbEndpoint>) -> endpoint::ClusterLoadAssignment {
    let locality = endpoint::LocalityLbEndpoints { lb_endpoints, ..endpoint::LocalityLbEndpoints::default() };
    endpoint::ClusterLoadAssignment {
        cluster_name: name.to_owned(),
        endpoints: vec![locality],
        ..endpoint::ClusterLoadAssignment::default()
    }
}

fn lb_endpoint(address: core::Address, metadata: Option<core::Metadata>) -> endpoint::LbEndpoint {
    let endpoint = endpoint::Endpoint { address: Some(address), ..endpoint::Endpoint::default() };
    endpoint::LbEndpoint {
        metadata,
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        ..endpoint::LbEndpoint::default()
    }
}

fn protocol_options(cluster: &Cluster) -> upstream_http::HttpProtocolOptions {
    use upstream_http::http_protocol_options::explicit_http_config::ProtocolConfig;
    use upstream_http::http_protocol_options::{AutoHttpConfig, ExplicitHttpConfig, UpstreamProtocolOptions};

    use super::protocol_options::{http1, http2};
    let http1 = http1(cluster.options.preserve_header_case);
    let explicit =
        |config| UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(config) });
    let protocol = match cluster.protocol {
        UpstreamProtocol::Http1 => explicit(ProtocolConfig::HttpProtocolOptions(http1)),
        UpstreamProtocol::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(http2())),
        UpstreamProtocol::Auto => UpstreamProtocolOptions::AutoConfig(AutoHttpConfig {
            http_protocol_options: Some(http1),
            http2_protocol_options: Some(http2()),
            ..AutoHttpConfig::default()
        }),
    };
    upstream_http::HttpProtocolOptions {
        common_http_protocol_options: Some(super::protocol_options::upstream(&cluster.options)),
        upstream_protocol_options: Some(protocol),
        ..upstream_http::HttpProtocolOptions::default()
    }
}
