//! A root: it signs workloads, and nothing that could sign in turn.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use serde::{Deserialize, Serialize};
use weir_identity::pki_types::CertificateDer;
use weir_identity::pki_types::pem::PemObject;
use weir_model::{SpiffeId, TrustDomain};

use crate::limits::{CLOCK_SKEW, ROOT_LIFETIME};

/// A root with its key, as the file keeps it.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Root {
    /// PEM.
    certificate: String,
    /// PEM, PKCS #8.
    key: String,
    /// Since when it signs, or from when on.
    pub(super) signs_from: Timestamp,
    /// When it is believed no more.
    pub(super) ends: Option<Timestamp>,
}

impl Root {
    /// A new root of a trust domain, which signs from a time on.
    pub(super) fn new(domain: &TrustDomain, signs_from: Timestamp) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = params((Timestamp::now(), ROOT_LIFETIME));
        params.distinguished_name.push(DnType::CommonName, format!("root of {domain}"));
        params.subject_alt_names = vec![SanType::URI(format!("spiffe://{domain}").try_into()?)];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem(), signs_from, ends: None })
    }

    /// One that an authority above has given.
    pub(super) fn given(certificate: &CertificateDer<'_>, key: String, ends: Option<Timestamp>) -> Self {
        let certificate = pem::encode(&pem::Pem::new("CERTIFICATE", certificate.as_ref()));
        Self { certificate, key, signs_from: Timestamp::UNIX_EPOCH, ends }
    }

    /// Its certificate.
    pub(super) fn certificate(&self) -> Result<CertificateDer<'static>, rcgen::Error> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes())
            .map_err(|error| rcgen::Error::PemError(error.to_string()))
    }

    /// The certificate of a workload: who it is, and nothing else.
    pub(super) fn sign(
        &self,
        key: &impl PublicKeyData,
        id: &SpiffeId,
        lives: (Timestamp, Duration),
    ) -> Result<CertificateDer<'static>, rcgen::Error> {
        // Nothing outlives who has signed it.
        let left = self.ends.map(|ends| Duration::try_from(ends.duration_since(lives.0)).unwrap_or_default());
        let lives = (lives.0, left.map_or(lives.1, |left| left.min(lives.1)));
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, KeyPair::from_pem(&self.key)?)?;
        let mut params = params(lives);
        params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate: Certificate = params.signed_by(key, &issuer)?;
        Ok(certificate.der().clone())
    }
}

/// Valid from a little before now, for clocks that go slow, until a lifetime from now.
fn params((now, lifetime): (Timestamp, Duration)) -> CertificateParams {
    let time = |time: Timestamp| std::time::SystemTime::from(time).into();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = time(now - signed(CLOCK_SKEW));
    params.not_after = time(now + signed(lifetime));
    params
}

/// A length of time that can be added to a moment.
pub(super) fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}
