//! The proxy's report on resources that it accepted: a module may fail to load, an address may be in use.
//!
//! An ACK precedes these failures, so the report follows it on the same stream. It is a `DeltaDiscoveryRequest` with
//! the type URL of `weir.v1.Report`, which subscribes to nothing. A proxy sends it to `weir-control` only, which it
//! recognizes by `control_plane.identifier` in responses.

use prost::Message;

use crate::limits::{MAX_ERROR_BYTES, MAX_REPORTED_FAILURES};
use crate::proto::{DeltaDiscoveryRequest, FailedResource, ReportMessage, Status, pack, type_url};
use crate::resource_type::ResourceType;

/// The state of all resources up to and including one response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The nonce of the response, as a number. The report covers all earlier responses, too.
    pub nonce: u64,
    /// The resources that failed. All others serve.
    pub failed: Vec<ReportedFailure>,
    /// The reason for which the certificate of the proxy is not renewed; `None` if the last renewal succeeded.
    pub certificate_failure: Option<String>,
}

/// A resource that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportedFailure {
    /// The type of the resource.
    pub resource_type: ResourceType,
    /// The name of the resource.
    pub name: String,
    /// The reason of the failure.
    pub reason: String,
    /// True if requests that need the resource fail: no earlier version of it serves, and they cannot go on without it.
    /// Proxies of earlier releases always report false.
    pub is_blocking: bool,
}

impl Report {
    /// Encodes the report as a request. Failures beyond [`MAX_REPORTED_FAILURES`] are left out.
    pub fn to_request(&self) -> DeltaDiscoveryRequest {
        let failed = self.failed.iter().take(MAX_REPORTED_FAILURES).map(|failure| FailedResource {
            type_url: failure.resource_type.type_url(),
            name: failure.name.clone(),
            reason: failure.reason.chars().take(MAX_ERROR_BYTES / 4).collect(),
            is_blocking: failure.is_blocking,
        });
        let certificate_failure = self.certificate_failure.as_deref().unwrap_or_default();
        let message = ReportMessage {
            nonce: self.nonce.to_string(),
            failed: failed.collect(),
            certificate_failure: certificate_failure.chars().take(MAX_ERROR_BYTES / 4).collect(),
        };
        DeltaDiscoveryRequest {
            type_url: type_url::<ReportMessage>(),
            error_detail: Some(Status { details: vec![pack(&message)], ..Status::default() }),
            ..DeltaDiscoveryRequest::default()
        }
    }

    /// Decodes the report in a request; `None` when the request is no report. Failures of unknown types are left out.
    pub(crate) fn from_request(request: &DeltaDiscoveryRequest) -> Option<Self> {
        if request.type_url != type_url::<ReportMessage>() {
            return None;
        }
        let detail = request.error_detail.as_ref()?.details.first()?;
        let ReportMessage { nonce, failed, certificate_failure } = ReportMessage::decode(&*detail.value).ok()?;
        let failed = failed.into_iter().take(MAX_REPORTED_FAILURES).filter_map(|failed| {
            let FailedResource { type_url, name, reason, is_blocking } = failed;
            let resource_type = ResourceType::from_type_url(&type_url)?;
            let reason = reason.chars().take(MAX_ERROR_BYTES).collect();
            Some(ReportedFailure { resource_type, name, reason, is_blocking })
        });
        let certificate_failure: String = certificate_failure.chars().take(MAX_ERROR_BYTES).collect();
        let certificate_failure = Some(certificate_failure).filter(|reason| !reason.is_empty());
        Some(Self { nonce: nonce.parse().ok()?, failed: failed.collect(), certificate_failure })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_report_decodes_to_itself() {
        let failure = |is_blocking| ReportedFailure {
            resource_type: ResourceType::Plugin,
            name: "default/guard".to_owned(),
            reason: "the module traps at its start".to_owned(),
            is_blocking,
        };
        let failed = vec![failure(true), failure(false)];
        for certificate_failure in [None, Some("the control plane does not respond".to_owned())] {
            let report = Report { nonce: 17, failed: failed.clone(), certificate_failure };
            assert_eq!(Report::from_request(&report.to_request()), Some(report));
        }
        assert_eq!(Report::from_request(&DeltaDiscoveryRequest::default()), None);
        let broken = DeltaDiscoveryRequest { error_detail: None, ..Report::default().to_request() };
        assert_eq!(Report::from_request(&broken), None);
    }
}
