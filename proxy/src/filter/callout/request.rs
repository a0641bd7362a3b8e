//! Admitted callouts, the clusters that a plugin may call, and the requests of gRPC callouts.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use weir_host_abi::abi::protobuf::{WireValue, bytes_field, fields, varint_field};
use weir_host_abi::host::GrpcCall;
use weir_model::{ClusterName, PluginName};

use super::table::CalloutPermit;
use crate::body::Body;
use crate::upstream::{Cluster, RequestTarget, UpstreamRequest};

/// The clusters of the active configuration, which callouts of a worker may use.
pub(crate) type ClusterMap = Rc<RefCell<HashMap<ClusterName, Arc<Cluster>>>>;

/// An admitted HTTP callout.
pub(crate) struct HttpCallout {
    /// Id of the callout, for its callback.
    pub(crate) id: u32,
    /// Epoch of the table in which it was admitted.
    pub(crate) epoch: u64,
    /// The cluster that it goes to.
    pub(crate) cluster: Arc<Cluster>,
    /// The request.
    pub(crate) request: UpstreamRequest,
    /// The target in place of the request's path, for an HTTP/1.1 endpoint.
    pub(crate) target: Option<RequestTarget>,
    /// Time until the whole response.
    pub(crate) timeout: Duration,
    /// Permit of the callout, until its response.
    pub(crate) permit: CalloutPermit,
}

/// An admitted gRPC call or stream.
pub(crate) struct GrpcCallout {
    /// Id of the callout, for its callbacks.
    pub(crate) id: u32,
    /// The cluster that it goes to.
    pub(crate) cluster: Arc<Cluster>,
    /// The request.
    pub(crate) request: UpstreamRequest,
    /// Time until its end; `None` is no limit.
    pub(crate) timeout: Option<Duration>,
    /// Permit of the callout, until its end.
    pub(crate) permit: CalloutPermit,
}

/// The response of an HTTP callout.
#[derive(Debug, Default)]
pub(crate) struct CalloutResponse {
    /// The `:status` pseudo-header, empty if the call failed.
    pub(crate) status: String,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: Bytes,
    /// The trailers.
    pub(crate) trailers: HeaderMap,
    /// Reason of the failure, if the call failed.
    pub(crate) failed: Option<&'static str>,
}

/// The reason for which a callout has no cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnknownCluster {
    /// The configuration has no Service port of that name.
    NotFound,
    /// The plugin's capabilities do not have the Service.
    Forbidden,
}

/// Returns the cluster of a name, if the plugin may call it: a name of the plugin's own, or `namespace/service:port`. The
/// namespace defaults to the plugin's, and the port to the service's only one.
///
/// # Errors
/// There is no such cluster, or the plugin may not call it.
pub(crate) fn allowed_cluster(
    clusters: &ClusterMap,
    plugin: &weir_model::Plugin,
    upstream: &[u8],
) -> Result<Arc<Cluster>, UnknownCluster> {
    let name = std::str::from_utf8(upstream).map_err(|_| UnknownCluster::NotFound)?;
    let cluster = match plugin.cluster_aliases.get(name) {
        Some(cluster) => clusters.borrow().get(cluster).cloned(),
        None => find_cluster(clusters, &qualified_name(&plugin.name, name)),
    };
    let cluster = cluster.ok_or(UnknownCluster::NotFound)?;
    if is_allowed(plugin, &cluster.model().name) { Ok(cluster) } else { Err(UnknownCluster::Forbidden) }
}

fn find_cluster(clusters: &ClusterMap, full: &str) -> Option<Arc<Cluster>> {
    let clusters = clusters.borrow();
    if let Some(cluster) = ClusterName::new(full).ok().and_then(|name| clusters.get(&name)) {
        return Some(Arc::clone(cluster));
    }
    let prefix = format!("{full}:");
    let mut ports = clusters.iter().filter(|(name, _)| name.as_str().starts_with(&prefix));
    match (ports.next(), ports.next()) {
        (Some((_, only)), None) => Some(Arc::clone(only)),
        _ => None,
    }
}

/// Returns whether the plugin's list of services allows a cluster. An entry may omit namespace and port.
fn is_allowed(plugin: &weir_model::Plugin, cluster: &ClusterName) -> bool {
    let Some(services) = &plugin.capabilities.callout_clusters else { return true };
    services.iter().any(|service| {
        let full = qualified_name(&plugin.name, service);
        let rest = cluster.as_str().strip_prefix(full.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
    })
}

/// Returns a service name with a namespace, which defaults to the plugin's.
fn qualified_name(plugin: &PluginName, service: &str) -> String {
    if service.contains('/') { service.to_owned() } else { format!("{}/{service}", plugin.namespace()) }
}

/// The destination of a gRPC call. A guest passes a cluster name or an `envoy.config.core.v3.GrpcService`.
pub(crate) struct GrpcTarget {
    pub(crate) cluster: Vec<u8>,
    authority: Option<Vec<u8>>,
    timeout: Option<Duration>,
    metadata: Vec<(Vec<u8>, Vec<u8>)>,
}

impl GrpcTarget {
    /// Returns the target for a cluster name.
    pub(crate) fn from_cluster_name(name: &[u8]) -> Self {
        Self { cluster: name.to_vec(), authority: None, timeout: None, metadata: Vec::new() }
    }

    /// Parses a serialized `GrpcService` with an `envoy_grpc` (fields 1, 3 and 5). `None` for other bytes.
    pub(crate) fn from_grpc_service(bytes: &[u8]) -> Option<Self> {
        let service = fields(bytes)?;
        let envoy = fields(bytes_field(&service, 1)?)?;
        let timeout = bytes_field(&service, 3).and_then(fields).map(|duration| {
            Duration::from_secs(varint_field(&duration, 1))
                .saturating_add(Duration::from_nanos(varint_field(&duration, 2).min(999_999_999)))
        });
        let pair = |field: &(u64, WireValue<'_>)| {
            let WireValue::Bytes(bytes) = field.1 else { return None };
            let pair = fields(bytes).filter(|_| field.0 == 5)?;
            Some((bytes_field(&pair, 1)?.to_vec(), bytes_field(&pair, 2).unwrap_or_default().to_vec()))
        };
        Some(Self {
            cluster: bytes_field(&envoy, 1)?.to_vec(),
            authority: bytes_field(&envoy, 2).map(<[u8]>::to_vec),
            timeout,
            metadata: service.iter().filter_map(pair).collect(),
        })
    }

    /// Returns the timeout of the call, or else of the service.
    pub(crate) fn timeout(&self, call: &GrpcCall<'_>) -> Option<Duration> {
        call.timeout.or(self.timeout)
    }

    /// Returns the request of a call. `None` if a part of it is invalid.
    pub(crate) fn request(&self, call: &GrpcCall<'_>, cluster: &Cluster, body: Body) -> Option<UpstreamRequest> {
        let path = [b"/", call.service, b"/", call.method].concat();
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
        let service = self.metadata.iter().map(|(name, value)| (&name[..], &value[..]));
        for (name, value) in call.metadata.iter().chain(service) {
            if name.first() != Some(&b':') {
                headers.append(HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?);
            }
        }
        let authority = self.authority.as_deref().unwrap_or(cluster.model().name.as_str().as_bytes());
        // A cluster name contains a slash, which is invalid in an authority.
        let authority: Vec<u8> = authority.iter().map(|byte| if *byte == b'/' { b'.' } else { *byte }).collect();
        Some(UpstreamRequest {
            method: Method::POST,
            scheme: "http",
            authority: HeaderValue::from_bytes(&authority).ok()?,
            path: PathAndQuery::try_from(&path[..]).ok()?,
            headers,
            sent_names: None,
            upgrade: None,
            body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_service_is_parsed_into_target() {
        use weir_host_abi::abi::protobuf::{put_bytes, put_number};
        let message = |parts: &[(u64, &[u8])]| {
            let mut out = Vec::new();
            parts.iter().for_each(|(field, bytes)| put_bytes(&mut out, *field, bytes));
            out
        };
        let mut duration = Vec::new();
        put_number(&mut duration, 1, 3);
        let service = message(&[
            (1, &message(&[(1, b"shop/api:80"), (2, b"api.test")])),
            (3, &duration),
            (5, &message(&[(1, b"x-key"), (2, b"value")])),
        ]);
        let target = GrpcTarget::from_grpc_service(&service).unwrap();
        assert_eq!((&target.cluster[..], target.authority.as_deref()), (&b"shop/api:80"[..], Some(&b"api.test"[..])));
        assert_eq!((target.timeout, target.metadata.len()), (Some(Duration::from_secs(3)), 1));
        assert!(GrpcTarget::from_grpc_service(b"plain-name").is_none());
    }
}
