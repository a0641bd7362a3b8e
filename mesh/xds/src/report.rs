//! What became of what a proxy has accepted: a module may not load, an address may be taken. An ACK is given before
//! anybody knows; the report comes after it, on the same stream, as a request of a kind that is ours alone and has nothing
//! to ask for. It is sent to our own control plane only, which says in its responses who it is.

use prost::Message;

use crate::kind::Kind;
use crate::limits::{MAX_ERROR_BYTES, MAX_REPORTED};
use crate::proto::{DeltaDiscoveryRequest, FailedResource, ReportMessage, Status, pack, type_url};

/// What became of everything up to a response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// The number of the response; all before it are meant, too.
    pub nonce: u64,
    /// What does not work: which resource, and why. Everything else serves.
    pub failed: Vec<(Kind, String, String)>,
}

impl Report {
    /// As a request.
    pub(crate) fn request(&self) -> DeltaDiscoveryRequest {
        let failed = self.failed.iter().take(MAX_REPORTED).map(|(kind, name, reason)| FailedResource {
            type_url: kind.type_url(),
            name: name.clone(),
            reason: reason.chars().take(MAX_ERROR_BYTES / 4).collect(),
        });
        let message = ReportMessage { nonce: self.nonce.to_string(), failed: failed.collect() };
        DeltaDiscoveryRequest {
            type_url: type_url::<ReportMessage>(),
            error_detail: Some(Status { details: vec![pack(&message)], ..Status::default() }),
            ..DeltaDiscoveryRequest::default()
        }
    }

    /// The report in a request, if it is one. What cannot be read of it is left out.
    pub(crate) fn of(request: &DeltaDiscoveryRequest) -> Option<Self> {
        if request.type_url != type_url::<ReportMessage>() {
            return None;
        }
        let detail = request.error_detail.as_ref()?.details.first()?;
        let ReportMessage { nonce, failed } = ReportMessage::decode(&*detail.value).ok()?;
        let failed = failed.into_iter().take(MAX_REPORTED).filter_map(|failed| {
            let FailedResource { type_url, name, reason } = failed;
            Some((Kind::of_url(&type_url)?, name, reason.chars().take(MAX_ERROR_BYTES).collect()))
        });
        Some(Self { nonce: nonce.parse().ok()?, failed: failed.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_through() {
        let failed = vec![(Kind::Plugin, "default/guard".to_owned(), "the module traps at its start".to_owned())];
        let report = Report { nonce: 17, failed };
        assert_eq!(Report::of(&report.request()), Some(report));
        assert_eq!(Report::of(&DeltaDiscoveryRequest::default()), None);
        let broken = DeltaDiscoveryRequest { error_detail: None, ..Report::default().request() };
        assert_eq!(Report::of(&broken), None);
    }
}
