//! How a workload gets its identity: it makes a key, asks the control plane to sign for it, and keeps the key to itself.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::CertificateDer;
use tonic::Request;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

use crate::own::{NotOurs, WorkloadIdentity, pinned_config};
use crate::roots::Roots;
use crate::wire::{MAX_MESSAGE_BYTES, SIGN, SignRequest, Signed};

/// What a workload without an identity proves itself with: `weir_<id>_<secret>.<SHA-256 of the root's certificate>`. By the
/// latter it knows its control plane.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    secret: String,
    pin: [u8; 32],
}

impl fmt::Debug for JoinToken {
    /// Without the secret.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JoinToken")
    }
}

impl FromStr for JoinToken {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SHAPE: &str =
            "is not a join token; make one by `weir token make NAME --role proxy --workload NS/ACCOUNT`";
        let (secret, pin) = text.trim().rsplit_once('.').ok_or(SHAPE)?;
        let is_plain = pin.len() == 64 && pin.is_ascii() && secret.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_plain || secret.is_empty() {
            return Err(SHAPE);
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(pin.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| SHAPE)?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| SHAPE)?;
        }
        Ok(Self { secret: secret.to_owned(), pin: bytes })
    }
}

impl JoinToken {
    /// TLS to a control plane that is known by this token alone.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        pinned_config(self.pin)
    }
}

/// A key, and the request to sign for it.
pub struct CertificateRequest {
    key: KeyPair,
    request: Vec<u8>,
}

impl CertificateRequest {
    /// A new key: ECDSA on P-256.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn new() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let request = CertificateParams::default().serialize_request(&key)?.der().to_vec();
        Ok(Self { key, request })
    }

    /// Has the control plane sign; `token` is for one whose connection does not prove who it is.
    ///
    /// # Errors
    /// What went wrong, in one line.
    pub async fn sign(self, channel: Channel, token: Option<&JoinToken>) -> Result<WorkloadIdentity, String> {
        let mut request = Request::new(SignRequest { request: self.request });
        if let Some(token) = token {
            let value = format!("Bearer {}", token.secret).parse().map_err(|_| "the join token has odd characters")?;
            request.metadata_mut().insert("authorization", value);
        }
        let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        grpc.ready().await.map_err(|error| error.to_string())?;
        let path = http::uri::PathAndQuery::from_static(SIGN);
        let codec = ProstCodec::<SignRequest, Signed>::default();
        let answer = grpc.unary(request, path, codec).await;
        let Signed { chain, roots } = answer.map_err(|status| status.message().to_owned())?.into_inner();
        let certificates = |all: Vec<Vec<u8>>| all.into_iter().map(CertificateDer::from).collect();
        let identity =
            WorkloadIdentity::new(certificates(chain), self.key.serialize_der(), Roots::new(certificates(roots)));
        identity.map_err(|error: NotOurs| format!("the control plane has signed something odd: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_join_token_has_a_secret_and_a_pin() {
        let text = format!("weir_ab_cd.{}", "0f".repeat(32));
        let token: JoinToken = text.parse().unwrap();
        assert_eq!((token.secret.as_str(), token.pin), ("weir_ab_cd", [15; 32]));
        assert_eq!(format!("{token:?}"), "JoinToken");
        for wrong in ["", "weir_ab_cd", ".00", "a.0g", &format!("a.{}", "ä".repeat(32)), &text[..text.len() - 1]] {
            assert!(wrong.parse::<JoinToken>().is_err(), "{wrong}");
        }
    }
}
