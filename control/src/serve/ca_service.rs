//! The gRPC service of the CA. A workload authenticates with its certificate, or with a join token that was created
//! for it.

use std::sync::Arc;

use tonic::{Request, Status};
use tracing::{info, warn};
use weir_identity::ca_proto::{CertificateService, SignRequest, SignResponse};
use weir_model::{SpiffeId, Workload, printable};

use crate::access::{TokenStore, bearer_token};
use crate::ca::{CaError, CertificateAuthority};
use crate::serve::mtls::PeerIdentity;
use crate::task;

/// Signs the certificates of workloads.
pub struct CaService {
    ca: Arc<CertificateAuthority>,
    tokens: Arc<TokenStore>,
}

impl CaService {
    /// Returns a service that signs with `ca` and accepts join tokens of `tokens`.
    pub fn new(ca: Arc<CertificateAuthority>, tokens: Arc<TokenStore>) -> Arc<Self> {
        Arc::new(Self { ca, tokens })
    }

    /// Returns the identity of the client, and how it was proved, for the log.
    fn attest(&self, request: &Request<SignRequest>) -> Result<(SpiffeId, String), Status> {
        let bearer = request.metadata().contains_key("authorization");
        if let Some(id) =
            request.extensions().get::<PeerIdentity>().and_then(PeerIdentity::valid_spiffe_id).filter(|_| !bearer)
        {
            return Ok((id.clone(), "its certificate".to_owned()));
        }
        let text = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let text = text.and_then(bearer_token);
        let text = text.ok_or_else(|| {
            Status::unauthenticated(
                "authentication is required: a certificate of this mesh, or a join token (--join-token)",
            )
        })?;
        let token = self.tokens.authenticate(text).ok_or_else(|| {
            Status::unauthenticated("the join token is unknown or has expired; create another: `weir token make`")
        })?;
        let workload = token.workload.as_deref().and_then(|text| text.split_once('/'));
        let workload =
            workload.and_then(|(namespace, account)| Workload::from_service_account(namespace, account).ok());
        let workload = workload.ok_or_else(|| {
            Status::permission_denied(format!("the token `{}` is for the API, not for a workload", token.name))
        })?;
        Ok((self.ca.domain().id(&workload), format!("the token {}", token.id)))
    }
}

impl CertificateService for CaService {
    async fn sign(&self, request: Request<SignRequest>) -> Result<SignResponse, Status> {
        let address = request.extensions().get::<PeerIdentity>().map(|peer| peer.address);
        let (id, proof) = self.attest(&request).inspect_err(|status| {
            warn!(?address, "certificate request rejected: {}", printable(status.message()));
        })?;
        let (ca, subject) = (Arc::clone(&self.ca), id.clone());
        let bytes = request.into_inner().request;
        let signed = task::blocking(move || ca.sign(&bytes, &subject)).await;
        let signed = signed.ok_or_else(|| Status::internal("signing failed by a bug of weir-control"))?;
        match signed {
            Ok(signed) => {
                info!(%id, proof, ?address, "certificate issued");
                Ok(signed)
            }
            Err(CaError::Request(reason)) => Err(Status::invalid_argument(reason)),
            Err(error) => {
                warn!(%id, "cannot sign certificate: {error}");
                Err(Status::unavailable("the CA cannot sign now; the log of weir-control has the reason"))
            }
        }
    }
}
