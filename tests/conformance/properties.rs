//! Cases that read every property in several callbacks of a stream.

use crate::case::{Case, RequestSpec};

/// Paths of properties, with dots in place of the NUL bytes that guests write.
pub(crate) const PATHS: [&str; 99] = [
    "xds.route_metadata.filter_metadata",
    "xds.route_metadata.filter_metadata.labels",
    "xds.route_metadata.filter_metadata.labels.team",
    "xds.route_metadata.filter_metadata.labels.nothing",
    "xds.route_metadata.filter_metadata.nothing",
    "xds.route_metadata.nothing",
    "xds.cluster_metadata.filter_metadata.labels.team",
    "request.path",
    "request.url_path",
    "request.query",
    "request.host",
    "request.scheme",
    "request.method",
    "request.headers.x-sent",
    "request.headers.x-missing",
    "request.referer",
    "request.useragent",
    "request.protocol",
    "request.time",
    "request.duration",
    "request.size",
    "request.nothing",
    "request",
    "response.code",
    "response.code_details",
    "response.flags",
    "response.grpc_status",
    "response.headers.x-two",
    "response.trailers.x-origin-trailer",
    "response.size",
    "response.nothing",
    "response.backend_latency",
    "connection.id",
    "connection_id",
    "connection.mtls",
    "connection.requested_server_name",
    "connection.tls_version",
    "connection.subject_local_certificate",
    "connection.subject_peer_certificate",
    "connection.dns_san_local_certificate",
    "connection.dns_san_peer_certificate",
    "connection.uri_san_local_certificate",
    "connection.uri_san_peer_certificate",
    "connection.sha256_peer_certificate_digest",
    "connection.termination_details",
    "connection.transport_failure_reason",
    "connection.nothing",
    "connection",
    "source.address",
    "source.port",
    "destination.address",
    "destination.port",
    "source.nothing",
    "upstream.address",
    "upstream.port",
    "upstream.local_address",
    "upstream.tls_version",
    "upstream.subject_local_certificate",
    "upstream.uri_san_peer_certificate",
    "upstream.transport_failure_reason",
    "upstream.request_attempt_count",
    "upstream.num_endpoints",
    "upstream.locality",
    "upstream.nothing",
    "upstream.cx_pool_ready_duration",
    "metadata",
    "metadata.filter_metadata",
    "metadata.filter_metadata.nobody.key",
    "metadata.nothing",
    "filter_state.nothing",
    "upstream_filter_state.nothing",
    "filter_state",
    "xds",
    "xds.node.id",
    "xds.node.cluster",
    "xds.node.metadata.KEY",
    "xds.node.nothing",
    "xds.cluster_name",
    "xds.cluster_metadata",
    "xds.route_name",
    "xds.route_metadata",
    "xds.virtual_host_name",
    "xds.virtual_host_metadata",
    "xds.upstream_host_metadata",
    "xds.filter_chain_name",
    "xds.listener_direction",
    "xds.listener_metadata",
    "xds.nothing",
    "node.id",
    "cluster_name",
    "cluster_metadata",
    "route_name",
    "route_metadata",
    "listener_direction",
    "listener_metadata",
    "upstream_host_metadata",
    "plugin_name",
    "plugin_vm_id",
    "nothing.at.all",
];

/// Properties whose value differs from run to run.
const VOLATILE: [&str; 13] = [
    "request.time",
    "request.duration",
    "response.backend_latency",
    "connection.id",
    "connection_id",
    "source.address",
    "source.port",
    "destination.address",
    "destination.port",
    "upstream.address",
    "upstream.port",
    "upstream.local_address",
    "upstream.cx_pool_ready_duration",
];

/// Returns true if a property's value differs from run to run.
pub(crate) fn is_volatile(path: &str) -> bool {
    VOLATILE.contains(&path)
}

/// Returns a case for each property, which reads it in three callbacks.
pub(crate) fn cases() -> Vec<Case> {
    let case = |path: &&str| {
        let read = format!("proxy_get_property \"{}\"", path.replace('.', "\\0"));
        let steps = ["request_headers", "response_headers", "log"].map(|callback| format!("{callback} {read}"));
        let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
        let headers = vec![("x-sent", "yes"), ("user-agent", "case"), ("referer", "before")];
        let case = Case::new(format!("property {path}"), &steps);
        let is_volatile = is_volatile(path);
        Case { is_volatile, ..case.with_request(RequestSpec { query: "?a=1&b=2", headers, ..RequestSpec::full() }) }
    };
    PATHS.iter().map(case).collect()
}
