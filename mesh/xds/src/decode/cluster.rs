//! Decodes clusters (CDS) and their endpoints (EDS).

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message;
use weir_model::limits::{DEFAULT_CONNECT_TIMEOUT, MAX_ENDPOINTS, MAX_KEEPALIVE_PROBES, MAX_KEEPALIVE_SECONDS};
use weir_model::{
    Cluster, ClusterName, Discovery, Endpoint, GatewayDuration, LbPolicy, Rejection, ResourceId, ResourceKind,
    TcpKeepalive, UpstreamProtocol, UpstreamProtocolOptions, Weight,
};

use super::decode_resource;
use super::field_cursor::{FieldCursor, unsupported};
use super::metadata::{self, WeirMetadata};
use super::outlier;
use super::protocol_options;
use super::retry;
use super::value::{config_source, duration, endpoint_address, host_and_port};
use crate::encode;
use crate::proto::cluster::cluster::DnsLookupFamily;
use crate::proto::{self, cluster as pb, core, endpoint, protobuf, upstream_http};

/// A decoded cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecodedCluster {
    /// The cluster, without endpoints when they come by EDS.
    pub(crate) cluster: Cluster,
    /// The source of its endpoints.
    pub(crate) endpoint_source: EndpointSource,
}

/// The source of a cluster's endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EndpointSource {
    /// The cluster itself: listed endpoints, or DNS.
    Inline,
    /// A `ClusterLoadAssignment` of this name.
    Eds(String),
}

/// Decodes a `Cluster`.
pub(crate) fn cluster(name: &str, bytes: &[u8]) -> Result<DecodedCluster, Vec<Rejection>> {
    decode_resource(&ResourceId { kind: ResourceKind::Cluster, name: name.to_owned() }, bytes, decode)
}

#[expect(clippy::too_many_lines, reason = "every field of the message is named once")]
fn decode(message: pb::Cluster, cursor: &FieldCursor<'_>) -> Option<DecodedCluster> {
    let pb::Cluster {
        transport_socket_matches,
        transport_socket_matcher,
        name,
        alt_stat_name: _, // Metrics have fixed names.
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
        respect_dns_ttl: _, // The TTL is always followed.
        dns_lookup_family,
        dns_resolvers,
        use_tcp_for_dns_lookups,
        dns_resolution_config,
        typed_dns_resolver_config,
        wait_for_warm_on_init: _, // Clusters are not warmed one by one.
        outlier_detection,
        cleanup_interval: _, // Envoy's cache of DNS records.
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
    unsupported!(cursor; transport_socket_matches, transport_socket_matcher, per_connection_buffer_limit_bytes,
        per_connection_buffer_high_watermark_timeout, health_checks, max_requests_per_connection,
        upstream_http_protocol_options, common_http_protocol_options, dns_refresh_rate, dns_jitter,
        dns_failure_refresh_rate, dns_resolvers, use_tcp_for_dns_lookups,
        dns_resolution_config, typed_dns_resolver_config, upstream_bind_config, lb_subset_config,
        common_lb_config, protocol_selection,
        close_connections_on_host_health_failure, ignore_health_on_host_removal, filters, load_balancing_policy,
        lrs_server, lrs_report_endpoint_metrics, upstream_config, preconnect_policy,
        connection_pool_per_downstream_connection, queuing_policies, lb_config);
    // Both address families are resolved.
    if !matches!(DnsLookupFamily::try_from(dns_lookup_family), Ok(DnsLookupFamily::Auto | DnsLookupFamily::All)) {
        cursor.field("dns_lookup_family").reject("is not supported", "use AUTO or ALL");
    }
    let location = EndpointLocation { eds: eds_cluster_config, inline: load_assignment };
    let (discovery, endpoint_source) = discovery(&name, cluster_discovery_type.as_ref(), location, cursor)?;
    let texts = metadata::texts(metadata.as_ref());
    let mut own = WeirMetadata::of(metadata, cursor);
    let request_timeout = own.text("requestTimeout").and_then(|text| {
        let timeout = text.parse::<GatewayDuration>().map_err(|error| error.reason);
        own.cursor().field("requestTimeout").checked(timeout).map(|timeout| timeout.0)
    });
    let retry_budget = retry::budget(circuit_breakers, &mut own, &cursor.field("circuit_breakers"));
    own.end();
    let outlier_detection = match outlier_detection {
        None => Some(None),
        Some(message) => outlier::outlier_detection(message, &cursor.field("outlier_detection")).map(Some),
    };
    let legacy_options = LegacyHttpOptions { http1: http_protocol_options, http2: http2_protocol_options };
    let (protocol, options) = protocol(typed_extension_protocol_options, legacy_options, cursor)?;
    let cluster = Cluster {
        name: cursor.field("name").checked(ClusterName::new(&name))?,
        discovery,
        protocol,
        lb_policy: balancing(lb_policy, &cursor.field("lb_policy"))?,
        connect_timeout: match connect_timeout {
            Some(timeout) => duration(timeout, &cursor.field("connect_timeout"))?,
            None => DEFAULT_CONNECT_TIMEOUT,
        },
        request_timeout,
        outlier_detection: outlier_detection?,
        retry_budget: retry_budget?.shared(),
        tcp_keepalive: tcp_keepalive(upstream_connection_options, &cursor.field("upstream_connection_options"))?,
        options,
        tls: super::upstream_tls::upstream(transport_socket, protocol, &cursor.field("transport_socket")),
        metadata: texts,
    };
    Some(DecodedCluster { cluster, endpoint_source })
}

/// Decodes the options of connections. What is absent has the proxy's default.
fn tcp_keepalive(options: Option<pb::UpstreamConnectionOptions>, cursor: &FieldCursor<'_>) -> Option<TcpKeepalive> {
    let pb::UpstreamConnectionOptions {
        tcp_keepalive,
        set_local_interface_name_on_upstream_connections,
        happy_eyeballs_config,
    } = options.unwrap_or_default();
    unsupported!(cursor; set_local_interface_name_on_upstream_connections, happy_eyeballs_config);
    let default = TcpKeepalive::default();
    let Some(core::TcpKeepalive { keepalive_probes, keepalive_time, keepalive_interval }) = tcp_keepalive else {
        return Some(default);
    };
    let cursor = cursor.field("tcp_keepalive");
    let number = |value: Option<protobuf::UInt32Value>, default: u32, most: u32, name: &str| match value {
        None => Some(default),
        Some(protobuf::UInt32Value { value }) if (1..=most).contains(&value) => Some(value),
        Some(_) => cursor.field(name).reject_value("is out of bounds", &format!("1 to {most}")),
    };
    // All of them before the first `?`: every rejection is reported.
    let idle = number(keepalive_time, default.idle_seconds, MAX_KEEPALIVE_SECONDS, "keepalive_time");
    let interval = number(keepalive_interval, default.interval_seconds, MAX_KEEPALIVE_SECONDS, "keepalive_interval");
    let probes = number(keepalive_probes, default.probes, MAX_KEEPALIVE_PROBES, "keepalive_probes");
    Some(TcpKeepalive { idle_seconds: idle?, interval_seconds: interval?, probes: probes? })
}

/// The fields of a cluster that locate its endpoints.
struct EndpointLocation {
    eds: Option<pb::cluster::EdsClusterConfig>,
    inline: Option<endpoint::ClusterLoadAssignment>,
}

fn discovery(
    name: &str,
    kind: Option<&pb::cluster::ClusterDiscoveryType>,
    location: EndpointLocation,
    cursor: &FieldCursor<'_>,
) -> Option<(Discovery, EndpointSource)> {
    let kind = match kind {
        None => Some(pb::cluster::DiscoveryType::Static),
        Some(pb::cluster::ClusterDiscoveryType::Type(kind)) => pb::cluster::DiscoveryType::try_from(*kind).ok(),
        Some(pb::cluster::ClusterDiscoveryType::ClusterType(_)) => None,
    };
    let EndpointLocation { eds, inline } = location;
    let assignment = cursor.field("load_assignment");
    match kind {
        Some(pb::cluster::DiscoveryType::Static) => {
            let endpoints = inline.map_or(Some(Vec::new()), |inline| load_assignment(inline, &assignment))?;
            Some((Discovery::Static(endpoints), EndpointSource::Inline))
        }
        Some(pb::cluster::DiscoveryType::StrictDns | pb::cluster::DiscoveryType::LogicalDns) => {
            let (host, port) = dns(assignment.required(inline)?, &assignment)?;
            Some((Discovery::Dns { host: host.into(), port }, EndpointSource::Inline))
        }
        Some(pb::cluster::DiscoveryType::Eds) => {
            let cursor = cursor.field("eds_cluster_config");
            let pb::cluster::EdsClusterConfig { eds_config, service_name } = cursor.required(eds)?;
            config_source(eds_config, &cursor.field("eds_config"))?;
            let service = if service_name.is_empty() { name.to_owned() } else { service_name };
            Some((Discovery::Static(Vec::new()), EndpointSource::Eds(service)))
        }
        Some(pb::cluster::DiscoveryType::OriginalDst) | None => {
            cursor.field("type").reject_value("is not supported", "use STATIC, STRICT_DNS, LOGICAL_DNS or EDS")
        }
    }
}

/// Decodes the host of a cluster that is resolved by DNS.
fn dns(assignment: endpoint::ClusterLoadAssignment, cursor: &FieldCursor<'_>) -> Option<(String, u16)> {
    let mut hosts = lb_endpoints(assignment, cursor)?;
    match (hosts.pop(), hosts.is_empty()) {
        (Some((endpoint, cursor)), true) => {
            let endpoint::LbEndpoint { health_status, metadata, load_balancing_weight, host_identifier } = endpoint;
            unsupported!(cursor; health_status, load_balancing_weight);
            metadata::reject_own(metadata, &cursor);
            host_and_port(Some(address(host_identifier, &cursor)?), &cursor.field("endpoint").field("address"))
        }
        _ => cursor.field("endpoints").reject_value("is not one host", "give one host, or a cluster for each"),
    }
}

/// Decodes a `ClusterLoadAssignment`.
pub(crate) fn endpoints(name: &str, bytes: &[u8]) -> Result<Vec<Endpoint>, Vec<Rejection>> {
    decode_resource(&ResourceId { kind: ResourceKind::Cluster, name: name.to_owned() }, bytes, load_assignment)
}

fn load_assignment(assignment: endpoint::ClusterLoadAssignment, cursor: &FieldCursor<'_>) -> Option<Vec<Endpoint>> {
    let endpoints = lb_endpoints(assignment, cursor)?;
    if endpoints.len() > MAX_ENDPOINTS {
        let reason = format!("has {} endpoints", endpoints.len());
        return cursor.field("endpoints").reject_value(&reason, &format!("at most {MAX_ENDPOINTS}"));
    }
    let decoded: Vec<Option<DecodedEndpoint>> =
        endpoints.into_iter().map(|(endpoint, cursor)| lb_endpoint(endpoint, &cursor)).collect();
    let decoded: Option<Vec<DecodedEndpoint>> = decoded.into_iter().collect();
    Some(decoded?.into_iter().filter_map(|endpoint| endpoint.0).collect())
}

/// An endpoint, or `None` for one that is unhealthy or draining.
struct DecodedEndpoint(Option<Endpoint>);

fn lb_endpoint(endpoint: endpoint::LbEndpoint, cursor: &FieldCursor<'_>) -> Option<DecodedEndpoint> {
    let endpoint::LbEndpoint { health_status, metadata, load_balancing_weight, host_identifier } = endpoint;
    let place = cursor.field("endpoint").field("address");
    let address = endpoint_address(address(host_identifier, cursor)?, &place)?;
    let weight = match load_balancing_weight {
        None => Weight::ONE,
        Some(protobuf::UInt32Value { value }) => {
            let cursor = cursor.field("load_balancing_weight");
            match Weight::new(value) {
                Some(weight) => weight,
                None => return cursor.reject_value("is too large", "at most 1000000"),
            }
        }
    };
    let mut own = WeirMetadata::of(metadata, cursor);
    let version = own.text("version").map(Arc::from);
    own.end();
    let usable = match core::HealthStatus::try_from(health_status) {
        Ok(core::HealthStatus::Unknown | core::HealthStatus::Healthy | core::HealthStatus::Degraded) => true,
        Ok(core::HealthStatus::Unhealthy | core::HealthStatus::Draining | core::HealthStatus::Timeout) => false,
        Err(_) => return cursor.field("health_status").reject_value("is not known", ""),
    };
    Some(DecodedEndpoint(usable.then_some(Endpoint { address, weight, version })))
}

fn address(host: Option<endpoint::lb_endpoint::HostIdentifier>, cursor: &FieldCursor<'_>) -> Option<core::Address> {
    let endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint) = cursor.field("endpoint").required(host)? else {
        return cursor.field("endpoint_name").reject_value("is not supported", "give `endpoint`");
    };
    let endpoint::Endpoint { address, health_check_config, hostname, additional_addresses, observability_name: _ } =
        endpoint;
    let cursor = cursor.field("endpoint");
    unsupported!(cursor; health_check_config, hostname, additional_addresses);
    cursor.field("address").required(address)
}

/// Returns the endpoints of all localities, each with its cursor.
fn lb_endpoints<'a>(
    assignment: endpoint::ClusterLoadAssignment,
    cursor: &FieldCursor<'a>,
) -> Option<Vec<(endpoint::LbEndpoint, FieldCursor<'a>)>> {
    let endpoint::ClusterLoadAssignment { cluster_name: _, endpoints, named_endpoints, policy } = assignment;
    unsupported!(cursor; named_endpoints, policy);
    let mut all = Vec::new();
    for (index, locality) in endpoints.into_iter().enumerate() {
        let cursor = cursor.field("endpoints").entry(index);
        let endpoint::LocalityLbEndpoints {
            locality: _, // Localities are not distinguished.
            metadata,
            lb_endpoints,
            load_balancing_weight,
            priority,
            proximity,
            lb_config,
        } = locality;
        unsupported!(cursor; load_balancing_weight, priority, proximity, lb_config);
        metadata::reject_own(metadata, &cursor);
        let cursor = cursor.field("lb_endpoints");
        all.extend(lb_endpoints.into_iter().enumerate().map(|(index, endpoint)| (endpoint, cursor.entry(index))));
    }
    Some(all)
}

fn balancing(policy: i32, cursor: &FieldCursor<'_>) -> Option<LbPolicy> {
    match pb::cluster::LbPolicy::try_from(policy) {
        Ok(pb::cluster::LbPolicy::RoundRobin) => Some(LbPolicy::RoundRobin),
        Ok(pb::cluster::LbPolicy::LeastRequest) => Some(LbPolicy::LeastRequest),
        Ok(pb::cluster::LbPolicy::Random) => Some(LbPolicy::Random),
        _ => cursor.reject_value("is not supported", "use ROUND_ROBIN, LEAST_REQUEST or RANDOM"),
    }
}

/// Envoy's deprecated fields for the HTTP protocol of a cluster.
struct LegacyHttpOptions {
    http1: Option<core::Http1ProtocolOptions>,
    http2: Option<core::Http2ProtocolOptions>,
}

/// Decodes the protocol of the endpoints, and the options of their connections.
fn protocol(
    options: HashMap<String, protobuf::Any>,
    legacy: LegacyHttpOptions,
    cursor: &FieldCursor<'_>,
) -> Option<(UpstreamProtocol, UpstreamProtocolOptions)> {
    let LegacyHttpOptions { http1, http2 } = legacy;
    let preserve_header_case =
        protocol_options::http1(http1.unwrap_or_default(), &cursor.field("http_protocol_options"))?;
    let http1 = UpstreamProtocolOptions { preserve_header_case, ..UpstreamProtocolOptions::default() };
    // The deprecated fields select the protocol by their presence. Their contents must be the defaults.
    let mut decoded = match http2 {
        Some(http2) => {
            protocol_options::http2(http2, &cursor.field("http2_protocol_options"));
            (UpstreamProtocol::Http2, UpstreamProtocolOptions::default())
        }
        None => (UpstreamProtocol::Http1, http1),
    };
    let cursor = cursor.field("typed_extension_protocol_options");
    for (name, options) in options {
        let cursor = cursor.entry(&name);
        if options.type_url != proto::type_url::<upstream_http::HttpProtocolOptions>() {
            cursor.reject("is not supported", &format!("only {} is", encode::PROTOCOL_OPTIONS));
            continue;
        }
        let options = upstream_http::HttpProtocolOptions::decode(&*options.value);
        decoded = selected_protocol(cursor.checked(options)?, &cursor)?;
    }
    Some(decoded)
}

fn selected_protocol(
    options: upstream_http::HttpProtocolOptions,
    cursor: &FieldCursor<'_>,
) -> Option<(UpstreamProtocol, UpstreamProtocolOptions)> {
    use upstream_http::http_protocol_options::explicit_http_config::ProtocolConfig;
    use upstream_http::http_protocol_options::{
        AutoHttpConfig, ExplicitHttpConfig, UpstreamProtocolOptions as ProtocolSelection,
    };
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
    unsupported!(cursor; upstream_http_protocol_options, http_filters, header_validation_config, outlier_detection,
        request_mirror_policies, hash_policy, retry_policy);
    let common = common_http_protocol_options.unwrap_or_default();
    let mut common = protocol_options::upstream(common, &cursor.field("common_http_protocol_options"))?;
    let protocol_config = match upstream_protocol_options {
        Some(ProtocolSelection::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config })) => protocol_config,
        Some(ProtocolSelection::AutoConfig(auto)) => {
            let cursor = cursor.field("auto_config");
            let AutoHttpConfig {
                http_protocol_options,
                http2_protocol_options,
                http3_protocol_options,
                alternate_protocols_cache_options,
            } = auto;
            unsupported!(cursor; http3_protocol_options, alternate_protocols_cache_options);
            let http1 = http_protocol_options.unwrap_or_default();
            common.preserve_header_case = protocol_options::http1(http1, &cursor.field("http_protocol_options"))?;
            let http2 = http2_protocol_options.unwrap_or_default();
            protocol_options::http2(http2, &cursor.field("http2_protocol_options"));
            return Some((UpstreamProtocol::Auto, common));
        }
        Some(ProtocolSelection::UseDownstreamProtocolConfig(_)) => {
            let cursor = cursor.field("use_downstream_protocol_config");
            return cursor.reject_value("is not supported", "use `explicit_http_config` or `auto_config`");
        }
        None => return cursor.reject_value("selects no protocol", "give `explicit_http_config` or `auto_config`"),
    };
    let cursor = cursor.field("explicit_http_config");
    let protocol = match protocol_config {
        Some(ProtocolConfig::HttpProtocolOptions(options)) => {
            common.preserve_header_case = protocol_options::http1(options, &cursor.field("http_protocol_options"))?;
            UpstreamProtocol::Http1
        }
        Some(ProtocolConfig::Http2ProtocolOptions(options)) => {
            protocol_options::http2(options, &cursor.field("http2_protocol_options"));
            UpstreamProtocol::Http2
        }
        Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
            return cursor.field("http3_protocol_options").reject_value("is not supported", "use HTTP/1 or HTTP/2");
        }
        None => {
            let hint = "give `http_protocol_options` or `http2_protocol_options`";
            return cursor.reject_value("selects no protocol", hint);
        }
    };
    Some((protocol, common))
}
