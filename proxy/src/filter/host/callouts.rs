//! Admits callouts: the cluster must be allowed, the request valid, and a permit free. Then the callout has an id, and an
//! effect starts it.

use std::sync::Arc;

use tracing::warn;
use weir_host_abi::host::{GrpcCall, HttpCall};
use weir_host_abi::{EndOfStream, Status};

use super::scope::ProxyHost;
use crate::body::Body;
use crate::filter::callout::{
    CalloutKind, CalloutPermit, CalloutRequest, GrpcCallout, GrpcSendError, GrpcSendStream, GrpcTarget, HttpCallout,
    UnknownCluster, allowed_cluster, encode_frame, http_request,
};
use crate::filter::instance::Effect;
use crate::limits::{MAX_CALLOUT_REQUEST_BYTES, MAX_CALLOUT_TIMEOUT, MAX_HOST_BYTES};
use crate::upstream::Cluster;

impl ProxyHost<'_> {
    /// Admits an HTTP callout and returns its id.
    ///
    /// # Errors
    /// `BadArgument` for an unknown or forbidden cluster and for invalid headers, `InternalFailure` beyond a limit.
    pub(super) fn start_http_callout(&self, call: &HttpCall<'_>) -> Result<u32, Status> {
        let instance = self.instance;
        let Some(cluster) = self.callout_cluster(call.upstream) else {
            self.warn_of_unknown_cluster(call.upstream);
            return Err(Status::BadArgument);
        };
        let CalloutRequest { request, target } = http_request(call, cluster.model().protocol).map_err(|reason| {
            if instance.should_log_misuse() {
                warn!(plugin = %instance.plugin.model.name, cluster = %cluster.model().name,
                    "callout rejected: {reason}");
            }
            Status::BadArgument
        })?;
        let permit = self.acquire_callout_permit(call.body.len())?;
        let id = CalloutKind::Http.id(instance.vm.next_callout_id());
        let timeout = call.timeout.unwrap_or(MAX_CALLOUT_TIMEOUT).min(MAX_CALLOUT_TIMEOUT);
        let callout = HttpCallout { id, epoch: instance.callouts.epoch(), cluster, request, target, timeout, permit };
        instance.vm.effects.push(Effect::StartHttpCallout(instance.clone(), Box::new(callout)));
        Ok(id)
    }

    /// Admits a gRPC call, or a stream if the call has no message, and returns its id.
    ///
    /// # Errors
    /// `ParseFailure` for an unknown or forbidden cluster, `InternalFailure` for invalid metadata and beyond a limit.
    pub(super) fn start_grpc_callout(&self, call: &GrpcCall<'_>) -> Result<u32, Status> {
        let instance = self.instance;
        let named =
            self.callout_cluster(call.upstream).map(|cluster| (cluster, GrpcTarget::from_cluster_name(call.upstream)));
        let Some((cluster, target)) = named.or_else(|| {
            let target = GrpcTarget::from_grpc_service(call.upstream)?;
            Some((self.callout_cluster(&target.cluster)?, target))
        }) else {
            self.warn_of_unknown_cluster(call.upstream);
            return Err(Status::ParseFailure);
        };
        let send_stream = GrpcSendStream::default();
        let (kind, body, timeout) = match call.message {
            Some(message) => {
                let timeout = target.timeout(call).unwrap_or(MAX_CALLOUT_TIMEOUT).min(MAX_CALLOUT_TIMEOUT);
                (CalloutKind::GrpcCall, Body::full(encode_frame(message)), Some(timeout))
            }
            None => (CalloutKind::GrpcStream, Body::stream(send_stream.clone()), target.timeout(call)),
        };
        let Some(request) = target.request(call, &cluster, body) else {
            if instance.should_log_misuse() {
                warn!(plugin = %instance.plugin.model.name, cluster = %cluster.model().name,
                    "gRPC callout rejected: service, method and metadata must be valid in a request");
            }
            return Err(Status::InternalFailure);
        };
        let permit = self.acquire_callout_permit(call.message.map_or(0, <[u8]>::len))?;
        let id = kind.id(instance.vm.next_callout_id());
        instance.callouts.add_grpc(id, send_stream);
        let callout = GrpcCallout { id, cluster, request, timeout, permit };
        instance.vm.effects.push(Effect::StartGrpcCallout(instance.clone(), Box::new(callout)));
        Ok(id)
    }

    /// Sends a message on a gRPC stream, which may be the last one. Cancels the stream if too many bytes wait for the
    /// upstream.
    ///
    /// # Errors
    /// `BadArgument` for an id of another kind, `NotFound` for a stream that has ended or does not exist.
    pub(super) fn send_grpc_message(&self, id: u32, message: &[u8], end: EndOfStream) -> Result<(), Status> {
        match self.instance.callouts.send(id, message, end) {
            Ok(()) => Ok(()),
            Err(GrpcSendError::NotStream) => Err(Status::BadArgument),
            Err(GrpcSendError::NotFound) => Err(Status::NotFound),
            Err(GrpcSendError::TooManyBytes) => {
                self.instance.metrics.limited.increment("grpc");
                if self.instance.should_log_misuse() {
                    warn!(plugin = %self.instance.plugin.model.name,
                        "gRPC stream canceled: too many bytes wait for the upstream");
                }
                Ok(())
            }
        }
    }

    /// Returns the cluster of a name, if the plugin may call it.
    fn callout_cluster(&self, upstream: &[u8]) -> Option<Arc<Cluster>> {
        match allowed_cluster(&self.instance.vm.clusters, &self.instance.plugin.model, upstream) {
            Ok(cluster) => Some(cluster),
            Err(UnknownCluster::Forbidden) => {
                self.instance.metrics.limited.increment("services");
                None
            }
            Err(UnknownCluster::NotFound) => None,
        }
    }

    fn warn_of_unknown_cluster(&self, upstream: &[u8]) {
        if !self.instance.should_log_misuse() {
            return;
        }
        let plugin = &self.instance.plugin.model.name;
        let upstream = String::from_utf8_lossy(&upstream[..upstream.len().min(MAX_HOST_BYTES)]);
        warn!(%plugin, %upstream,
            "callout rejected: no Service port of that name that the filter may call; write namespace/service:port, or \
             give one this name in `clusters` of the Filter");
    }

    /// Acquires a permit for one more callout with a request body of `body_bytes` bytes.
    ///
    /// # Errors
    /// `InternalFailure` beyond the plugin's limit of callouts or the limit of body bytes.
    fn acquire_callout_permit(&self, body_bytes: usize) -> Result<CalloutPermit, Status> {
        let instance = self.instance;
        let limit = instance.limits().callouts;
        instance.callouts.acquire_permit(limit, body_bytes).ok_or_else(|| {
            instance.metrics.limited.increment("callouts");
            if instance.should_log_misuse() {
                warn!(plugin = %instance.plugin.model.name, limit, limit_bytes = MAX_CALLOUT_REQUEST_BYTES,
                    "callout rejected: too many are in flight");
            }
            Status::InternalFailure
        })
    }
}
