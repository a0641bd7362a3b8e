//! Signs for workloads: who asks proves who it is by the certificate of its connection, or by a join token that was made
//! for one workload.

use std::sync::Arc;

use tonic::{Request, Status};
use tracing::{info, warn};
use weir_identity::wire::{Certificates, SignRequest, Signed};
use weir_model::{SpiffeId, Workload};

use crate::access::Tokens;
use crate::authority::{Authority, AuthorityError};
use crate::serve::mutual::Peer;
use crate::task;

/// The service.
pub struct CertificateSigner {
    authority: Arc<Authority>,
    tokens: Arc<Tokens>,
}

impl CertificateSigner {
    /// A signer with an authority, which believes these tokens.
    pub fn new(authority: Arc<Authority>, tokens: Arc<Tokens>) -> Arc<Self> {
        Arc::new(Self { authority, tokens })
    }

    /// Who asks.
    fn attest(&self, request: &Request<SignRequest>) -> Result<(SpiffeId, String), Status> {
        let bearer = request.metadata().contains_key("authorization");
        if let Some(id) = request.extensions().get::<Peer>().and_then(Peer::id_now).filter(|_| !bearer) {
            return Ok((id.clone(), "its certificate".to_owned()));
        }
        let text = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let text = text.and_then(|text| text.strip_prefix("Bearer "));
        let text = text.ok_or_else(|| {
            Status::unauthenticated("say who you are: by a certificate of this mesh, or by a join token (--join-token)")
        })?;
        let token = self.tokens.find(text).ok_or_else(|| {
            Status::unauthenticated("the join token is not known here, or has ended; make another: `weir token make`")
        })?;
        let workload = token.workload.as_deref().and_then(|text| text.split_once('/'));
        let workload = workload.and_then(|(namespace, account)| Workload::of_account(namespace, account).ok());
        let workload = workload.ok_or_else(|| {
            Status::permission_denied(format!("the token `{}` is for the API, not for a workload", token.name))
        })?;
        Ok((self.authority.domain().id(&workload), format!("the token {}", token.id)))
    }
}

impl Certificates for CertificateSigner {
    async fn sign(&self, request: Request<SignRequest>) -> Result<Signed, Status> {
        let address = request.extensions().get::<Peer>().map(|peer| peer.address);
        let (id, proof) = self.attest(&request).inspect_err(|status| {
            warn!(?address, "a certificate is refused: {}", status.message());
        })?;
        let (authority, who) = (Arc::clone(&self.authority), id.clone());
        let bytes = request.into_inner().request;
        let signed = task::blocking(move || authority.sign(&bytes, &who)).await;
        let signed = signed.ok_or_else(|| Status::internal("signing failed by a bug of weir-control"))?;
        match signed {
            Ok(signed) => {
                info!(%id, proof, ?address, "signed");
                Ok(signed)
            }
            Err(AuthorityError::Request(reason)) => Err(Status::invalid_argument(reason)),
            Err(error) => {
                warn!(%id, "a certificate cannot be signed: {error}");
                Err(Status::unavailable("the authority cannot sign now; its log says why"))
            }
        }
    }
}
