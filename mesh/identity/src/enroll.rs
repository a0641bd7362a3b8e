//! Enrolls a workload: creates a key and requests a certificate for it from the control plane. The key is never sent.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use tonic::Request;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

use crate::ca_proto::{MAX_MESSAGE_BYTES, SIGN_PATH, SignRequest, SignResponse};
use crate::trust_bundle::TrustBundle;
use crate::workload_identity::{WorkloadIdentity, pinned_config};

/// The credential of a workload without a certificate: `weir_<id>_<secret>.<SHA-256 of the root's certificate>`. The
/// fingerprint authenticates the control plane to the workload.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    secret: String,
    root_fingerprint: [u8; 32],
}

impl fmt::Debug for JoinToken {
    /// Omits the secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JoinToken")
    }
}

impl FromStr for JoinToken {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SHAPE: &str =
            "is not a join token; make one by `weir token make NAME --role proxy --workload NS/ACCOUNT`";
        let (secret, fingerprint) = text.trim().rsplit_once('.').ok_or(SHAPE)?;
        let is_plain = fingerprint.len() == 64 && fingerprint.is_ascii();
        let is_plain = is_plain && secret.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain || secret.is_empty() {
            return Err(SHAPE);
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(fingerprint.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| SHAPE)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| SHAPE)?;
        }
        Ok(Self { secret: secret.to_owned(), root_fingerprint: bytes })
    }
}

impl JoinToken {
    /// Returns TLS to a control plane that presents the token's root.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        pinned_config(self.root_fingerprint)
    }
}

/// A new key, and the signing request for it.
pub struct CertificateRequest {
    key: KeyPair,
    request: Vec<u8>,
}

impl CertificateRequest {
    /// Creates a key (ECDSA on P-256) and its signing request.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn new() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let request = CertificateParams::default().serialize_request(&key)?.der().to_vec();
        Ok(Self { key, request })
    }

    /// Sends the request to the control plane. `token` authenticates a workload whose connection has no client
    /// certificate.
    ///
    /// # Errors
    /// The call failed, the control plane rejected it, or the response is no identity. The text is one line.
    pub async fn sign(self, channel: Channel, token: Option<&JoinToken>) -> Result<WorkloadIdentity, String> {
        let mut request = Request::new(SignRequest { request: self.request });
        if let Some(token) = token {
            let value = format!("Bearer {}", token.secret).parse().map_err(|_| "the join token has odd characters")?;
            request.metadata_mut().insert("authorization", value);
        }
        let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        grpc.ready().await.map_err(|error| error.to_string())?;
        let path = http::uri::PathAndQuery::from_static(SIGN_PATH);
        let codec = ProstCodec::<SignRequest, SignResponse>::default();
        let response = grpc.unary(request, path, codec).await;
        let SignResponse { chain, roots } = response.map_err(|status| status.message().to_owned())?.into_inner();
        let certificates = |all: Vec<Vec<u8>>| all.into_iter().map(CertificateDer::from).collect();
        let bundle = TrustBundle::new(certificates(roots));
        let identity = WorkloadIdentity::new(certificates(chain), self.key.serialize_der(), bundle);
        identity.map_err(|error| format!("the control plane has signed something odd: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_token_parses_into_secret_and_fingerprint() {
        let text = format!("weir_ab_cd.{}", "0f".repeat(32));
        let token: JoinToken = text.parse().unwrap();
        assert_eq!((token.secret.as_str(), token.root_fingerprint), ("weir_ab_cd", [15; 32]));
        assert_eq!(format!("{token:?}"), "JoinToken");
        for wrong in ["", "weir_ab_cd", ".00", "a.0g", &format!("a.{}", "ä".repeat(32)), &text[..text.len() - 1]] {
            assert!(wrong.parse::<JoinToken>().is_err(), "{wrong}");
        }
    }
}
