//! Clusters and their endpoints.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use prost::Message;
use weir_model::limits::{DEFAULT_CONNECT_TIMEOUT, MAX_ENDPOINTS};
use weir_model::{
    Balancing, Cluster, ClusterName, Discovery, Endpoint, HumanDuration, Rejection, ResourceId, ResourceKind,
    UpstreamProtocol, Weight,
};

use super::fault::{Spot, unsupported};
use super::metadata::{self, Entries};
use super::value::{config_source, duration, host_and_port, socket_address};
use super::whole;
use crate::encode;
use crate::proto::{self, cluster as pb, core, endpoint, protobuf, upstream_http};

/// A cluster as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecodedCluster {
    /// The cluster; its endpoints are not in it when they come apart from it.
    pub(crate) cluster: Cluster,
    /// Where its endpoints are.
    pub(crate) members: Members,
}

/// Where the endpoints of a cluster are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Members {
    /// In the cluster.
    Here,
    /// In a resource of their own, by its name.
    Named(String),
}

/// Decodes a `Cluster`.
pub(crate) fn cluster(name: &str, bytes: &[u8]) -> Result<DecodedCluster, Vec<Rejection>> {
    whole(&ResourceId { kind: ResourceKind::Cluster, name: name.to_owned() }, bytes, decode)
}

#[expect(clippy::too_many_lines, reason = "every field of the message is named once")]
fn decode(message: pb::Cluster, spot: &Spot<'_>) -> Option<DecodedCluster> {
    let pb::Cluster {
        transport_socket_matches,
        transport_socket_matcher,
        name,
        alt_stat_name: _, // Our statistics have names of their own.
        stats_matcher: _,
        eds_cluster_config,
        connect_timeout,
        per_connection_buffer_limit_bytes,
        per_connection_buffer_high_watermark_timeout,
        lb_policy,
        load_assignment,
        health_checks,
        max_requests_per_connection,
        circuit_breakers,
        upstream_http_protocol_options,
        common_http_protocol_options,
        http_protocol_options,
        http2_protocol_options,
        typed_extension_protocol_options,
        dns_refresh_rate,
        dns_jitter,
        dns_failure_refresh_rate,
        respect_dns_ttl,
        dns_lookup_family,
        dns_resolvers,
        use_tcp_for_dns_lookups,
        dns_resolution_config,
        typed_dns_resolver_config,
        wait_for_warm_on_init: _, // Nothing waits for a single cluster here.
        outlier_detection,
        cleanup_interval: _, // Of DNS records that only Envoy keeps.
        upstream_bind_config,
        lb_subset_config,
        common_lb_config,
        transport_socket,
        metadata,
        protocol_selection,
        upstream_connection_options,
        close_connections_on_host_health_failure,
        ignore_health_on_host_removal,
        filters,
        load_balancing_policy,
        lrs_server,
        lrs_report_endpoint_metrics,
        track_timeout_budgets: _,
        upstream_config,
        track_cluster_stats: _,
        preconnect_policy,
        connection_pool_per_downstream_connection,
        queuing_policies,
        cluster_discovery_type,
        lb_config,
    } = message;
    unsupported!(spot; transport_socket_matches, transport_socket_matcher, per_connection_buffer_limit_bytes,
        per_connection_buffer_high_watermark_timeout, health_checks, max_requests_per_connection, circuit_breakers,
        upstream_http_protocol_options, common_http_protocol_options, dns_refresh_rate, dns_jitter,
        dns_failure_refresh_rate, respect_dns_ttl, dns_lookup_family, dns_resolvers, use_tcp_for_dns_lookups,
        dns_resolution_config, typed_dns_resolver_config, outlier_detection, upstream_bind_config, lb_subset_config,
        common_lb_config, protocol_selection, upstream_connection_options,
        close_connections_on_host_health_failure, ignore_health_on_host_removal, filters, load_balancing_policy,
        lrs_server, lrs_report_endpoint_metrics, upstream_config, preconnect_policy,
        connection_pool_per_downstream_connection, queuing_policies, lb_config);
    let (discovery, members) =
        discovery(&name, cluster_discovery_type.as_ref(), (eds_cluster_config, load_assignment), spot)?;
    let texts = metadata::texts(metadata.as_ref());
    let mut own = Entries::of(metadata, spot);
    let request_timeout = own.text("requestTimeout").and_then(|text| {
        let timeout = text.parse::<HumanDuration>().map_err(|error| error.reason);
        own.spot().field("requestTimeout").checked(timeout).map(|timeout| timeout.0)
    });
    own.end();
    let cluster = Cluster {
        name: spot.field("name").checked(ClusterName::new(&name))?,
        discovery,
        protocol: protocol(typed_extension_protocol_options, (http_protocol_options, http2_protocol_options), spot)?,
        balancing: balancing(lb_policy, &spot.field("lb_policy"))?,
        connect_timeout: match connect_timeout {
            Some(timeout) => duration(timeout, &spot.field("connect_timeout"))?,
            None => DEFAULT_CONNECT_TIMEOUT,
        },
        request_timeout,
        tls: super::tls::upstream(transport_socket, &spot.field("transport_socket")),
        metadata: texts,
    };
    Some(DecodedCluster { cluster, members })
}

type Places = (Option<pb::cluster::EdsClusterConfig>, Option<endpoint::ClusterLoadAssignment>);

fn discovery(
    name: &str,
    kind: Option<&pb::cluster::ClusterDiscoveryType>,
    (eds, inline): Places,
    spot: &Spot<'_>,
) -> Option<(Discovery, Members)> {
    let kind = match kind {
        None => Some(pb::cluster::DiscoveryType::Static),
        Some(pb::cluster::ClusterDiscoveryType::Type(kind)) => pb::cluster::DiscoveryType::try_from(*kind).ok(),
        Some(pb::cluster::ClusterDiscoveryType::ClusterType(_)) => None,
    };
    let assignment = spot.field("load_assignment");
    match kind {
        Some(pb::cluster::DiscoveryType::Static) => {
            let endpoints = inline.map_or(Some(Vec::new()), |inline| members(inline, &assignment))?;
            Some((Discovery::Static(endpoints), Members::Here))
        }
        Some(pb::cluster::DiscoveryType::StrictDns | pb::cluster::DiscoveryType::LogicalDns) => {
            let (host, port) = dns(assignment.required(inline)?, &assignment)?;
            Some((Discovery::Dns { host: host.into(), port }, Members::Here))
        }
        Some(pb::cluster::DiscoveryType::Eds) => {
            let spot = spot.field("eds_cluster_config");
            let pb::cluster::EdsClusterConfig { eds_config, service_name } = spot.required(eds)?;
            config_source(eds_config, &spot.field("eds_config"))?;
            let service = if service_name.is_empty() { name.to_owned() } else { service_name };
            Some((Discovery::Static(Vec::new()), Members::Named(service)))
        }
        Some(pb::cluster::DiscoveryType::OriginalDst) | None => {
            spot.field("type").none("is not supported", "use STATIC, STRICT_DNS, LOGICAL_DNS or EDS")
        }
    }
}

/// The one host of a cluster whose endpoints are what it resolves to.
fn dns(assignment: endpoint::ClusterLoadAssignment, spot: &Spot<'_>) -> Option<(String, u16)> {
    let mut hosts = lb_endpoints(assignment, spot)?;
    match (hosts.pop(), hosts.is_empty()) {
        (Some((endpoint, spot)), true) => {
            let endpoint::LbEndpoint { health_status, metadata, load_balancing_weight, host_identifier } = endpoint;
            unsupported!(spot; health_status, load_balancing_weight);
            metadata::nothing(metadata, &spot);
            host_and_port(Some(address(host_identifier, &spot)?), &spot.field("endpoint").field("address"))
        }
        _ => spot.field("endpoints").none("is not one host", "give one host, or a cluster for each"),
    }
}

/// Decodes a `ClusterLoadAssignment`.
pub(crate) fn endpoints(name: &str, bytes: &[u8]) -> Result<Vec<Endpoint>, Vec<Rejection>> {
    whole(&ResourceId { kind: ResourceKind::Cluster, name: name.to_owned() }, bytes, members)
}

fn members(assignment: endpoint::ClusterLoadAssignment, spot: &Spot<'_>) -> Option<Vec<Endpoint>> {
    let endpoints = lb_endpoints(assignment, spot)?;
    if endpoints.len() > MAX_ENDPOINTS {
        let reason = format!("has {} endpoints", endpoints.len());
        return spot.field("endpoints").none(&reason, &format!("at most {MAX_ENDPOINTS}"));
    }
    let read: Vec<Option<Member>> = endpoints.into_iter().map(|(endpoint, spot)| member(endpoint, &spot)).collect();
    let read: Option<Vec<Member>> = read.into_iter().collect();
    Some(read?.into_iter().filter_map(|member| member.0).collect())
}

/// An endpoint, or nothing for one that must not be used now.
struct Member(Option<Endpoint>);

fn member(endpoint: endpoint::LbEndpoint, spot: &Spot<'_>) -> Option<Member> {
    let endpoint::LbEndpoint { health_status, metadata, load_balancing_weight, host_identifier } = endpoint;
    let place = spot.field("endpoint").field("address");
    let address: SocketAddr = socket_address(Some(address(host_identifier, spot)?), &place)?;
    let weight = match load_balancing_weight {
        None => Weight::ONE,
        Some(protobuf::UInt32Value { value }) => {
            let spot = spot.field("load_balancing_weight");
            match Weight::new(value) {
                Some(weight) => weight,
                None => return spot.none("is too large", "at most 1000000"),
            }
        }
    };
    let mut own = Entries::of(metadata, spot);
    let version = own.text("version").map(Arc::from);
    own.end();
    let usable = match core::HealthStatus::try_from(health_status) {
        Ok(core::HealthStatus::Unknown | core::HealthStatus::Healthy | core::HealthStatus::Degraded) => true,
        Ok(core::HealthStatus::Unhealthy | core::HealthStatus::Draining | core::HealthStatus::Timeout) => false,
        Err(_) => return spot.field("health_status").none("is not known", ""),
    };
    Some(Member(usable.then_some(Endpoint { address, weight, version })))
}

fn address(host: Option<endpoint::lb_endpoint::HostIdentifier>, spot: &Spot<'_>) -> Option<core::Address> {
    let endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint) = spot.field("endpoint").required(host)? else {
        return spot.field("endpoint_name").none("is not supported", "give `endpoint`");
    };
    let endpoint::Endpoint { address, health_check_config, hostname, additional_addresses, observability_name: _ } =
        endpoint;
    let spot = spot.field("endpoint");
    unsupported!(spot; health_check_config, hostname, additional_addresses);
    spot.field("address").required(address)
}

/// All endpoints, each with its place.
fn lb_endpoints<'a>(
    assignment: endpoint::ClusterLoadAssignment,
    spot: &Spot<'a>,
) -> Option<Vec<(endpoint::LbEndpoint, Spot<'a>)>> {
    let endpoint::ClusterLoadAssignment { cluster_name: _, endpoints, named_endpoints, policy } = assignment;
    unsupported!(spot; named_endpoints, policy);
    let mut all = Vec::new();
    for (index, locality) in endpoints.into_iter().enumerate() {
        let spot = spot.field("endpoints").entry(index);
        let endpoint::LocalityLbEndpoints {
            locality: _, // Every locality is as near as any other.
            metadata,
            lb_endpoints,
            load_balancing_weight,
            priority,
            proximity,
            lb_config,
        } = locality;
        unsupported!(spot; load_balancing_weight, priority, proximity, lb_config);
        metadata::nothing(metadata, &spot);
        let spot = spot.field("lb_endpoints");
        all.extend(lb_endpoints.into_iter().enumerate().map(|(index, endpoint)| (endpoint, spot.entry(index))));
    }
    Some(all)
}

fn balancing(policy: i32, spot: &Spot<'_>) -> Option<Balancing> {
    match pb::cluster::LbPolicy::try_from(policy) {
        Ok(pb::cluster::LbPolicy::RoundRobin) => Some(Balancing::RoundRobin),
        Ok(pb::cluster::LbPolicy::LeastRequest) => Some(Balancing::LeastRequest),
        Ok(pb::cluster::LbPolicy::Random) => Some(Balancing::Random),
        _ => spot.none("is not supported", "use ROUND_ROBIN, LEAST_REQUEST or RANDOM"),
    }
}

type OldOptions = (Option<core::Http1ProtocolOptions>, Option<core::Http2ProtocolOptions>);

fn protocol(
    options: HashMap<String, protobuf::Any>,
    (http1, http2): OldOptions,
    spot: &Spot<'_>,
) -> Option<UpstreamProtocol> {
    // In the fields that Envoy has deprecated: everything but that they are there must be left at its default.
    if let Some(http2) = http2 {
        plain(&http2, &spot.field("http2_protocol_options"));
        return Some(UpstreamProtocol::Http2);
    }
    if let Some(http1) = http1 {
        plain(&http1, &spot.field("http_protocol_options"));
    }
    let spot = spot.field("typed_extension_protocol_options");
    let mut protocol = UpstreamProtocol::Http1;
    for (name, options) in options {
        let spot = spot.entry(&name);
        if options.type_url != proto::type_url::<upstream_http::HttpProtocolOptions>() {
            spot.refuse("is not supported", &format!("only {} is", encode::PROTOCOL_OPTIONS));
            continue;
        }
        let decoded = upstream_http::HttpProtocolOptions::decode(&*options.value);
        protocol = explicit_protocol(spot.checked(decoded)?, &spot)?;
    }
    Some(protocol)
}

fn explicit_protocol(options: upstream_http::HttpProtocolOptions, spot: &Spot<'_>) -> Option<UpstreamProtocol> {
    use upstream_http::http_protocol_options::explicit_http_config::ProtocolConfig;
    use upstream_http::http_protocol_options::{ExplicitHttpConfig, UpstreamProtocolOptions};
    let upstream_http::HttpProtocolOptions {
        common_http_protocol_options,
        upstream_http_protocol_options,
        http_filters,
        header_validation_config,
        outlier_detection,
        request_mirror_policies,
        hash_policy,
        retry_policy,
        upstream_protocol_options,
    } = options;
    unsupported!(spot; common_http_protocol_options, upstream_http_protocol_options, http_filters,
        header_validation_config, outlier_detection, request_mirror_policies, hash_policy, retry_policy);
    let Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config })) =
        upstream_protocol_options
    else {
        return spot.none("says no protocol", "give `explicit_http_config`");
    };
    let spot = spot.field("explicit_http_config");
    match protocol_config {
        Some(ProtocolConfig::HttpProtocolOptions(options)) => {
            plain(&options, &spot.field("http_protocol_options"));
            Some(UpstreamProtocol::Http1)
        }
        Some(ProtocolConfig::Http2ProtocolOptions(options)) => {
            plain(&options, &spot.field("http2_protocol_options"));
            Some(UpstreamProtocol::Http2)
        }
        Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
            spot.field("http3_protocol_options").none("is not supported", "use HTTP/1 or HTTP/2")
        }
        None => spot.none("says no protocol", "give `http_protocol_options` or `http2_protocol_options`"),
    }
}

/// Options of a codec: the proxy has its own, so that none may be asked for.
fn plain<M: Message + Default + PartialEq>(options: &M, spot: &Spot<'_>) {
    if *options != M::default() {
        spot.refuse("has options", "the proxy has its own; leave it empty");
    }
}
