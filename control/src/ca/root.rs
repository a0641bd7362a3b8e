//! A root certificate with its key. It signs workload certificates only, never another CA.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use serde::{Deserialize, Serialize};
use weir_identity::not_after;
use weir_identity::pki_types::CertificateDer;
use weir_identity::pki_types::pem::PemObject;
use weir_model::{SpiffeId, TrustDomain};

use crate::limits::MAX_CLOCK_SKEW;

/// A root with its key, as it is stored.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Root {
    /// The certificate (PEM).
    certificate: String,
    /// The private key (PEM, PKCS #8).
    key: String,
    /// The time from which the root signs.
    #[serde(rename = "signsFrom")]
    pub(super) active_from: Timestamp,
    /// The time from which the root is not trusted any more; `None` for a root that no rotation replaces.
    #[serde(rename = "ends")]
    pub(super) expires: Option<Timestamp>,
}

/// The validity of a new certificate.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validity {
    pub(super) from: Timestamp,
    pub(super) lifetime: Duration,
    /// The time before `from` at which the certificate becomes valid, for peers whose clocks are slow.
    pub(super) clock_skew: Duration,
}

impl Root {
    /// Creates a root of a trust domain, which signs from `active_from` on.
    pub(super) fn new(domain: &TrustDomain, active_from: Timestamp, lifetime: Duration) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let validity = Validity { from: Timestamp::now(), lifetime, clock_skew: MAX_CLOCK_SKEW };
        let mut params = params(validity);
        params.distinguished_name.push(DnType::CommonName, format!("root of {domain}"));
        params.subject_alt_names = vec![SanType::URI(format!("spiffe://{domain}").try_into()?)];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key)?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem(), active_from, expires: None })
    }

    /// Creates a root from the signing certificate of an external CA.
    pub(super) fn from_external(certificate: &CertificateDer<'_>, key: String, expires: Option<Timestamp>) -> Self {
        let certificate = pem::encode(&pem::Pem::new("CERTIFICATE", certificate.as_ref()));
        Self { certificate, key, active_from: Timestamp::UNIX_EPOCH, expires }
    }

    /// Returns the root's certificate.
    pub(super) fn certificate(&self) -> Result<CertificateDer<'static>, rcgen::Error> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes())
            .map_err(|error| rcgen::Error::PemError(error.to_string()))
    }

    /// Signs the certificate of a workload. It contains the SPIFFE ID and no other name.
    pub(super) fn sign(
        &self,
        key: &impl PublicKeyData,
        id: &SpiffeId,
        validity: Validity,
    ) -> Result<CertificateDer<'static>, rcgen::Error> {
        // A certificate does not outlive its root.
        let left = |expires: Timestamp| Duration::try_from(expires.duration_since(validity.from)).unwrap_or_default();
        let lifetime = self.expires.map_or(validity.lifetime, |expires| left(expires).min(validity.lifetime));
        let issuer = Issuer::from_ca_cert_pem(&self.certificate, KeyPair::from_pem(&self.key)?)?;
        let mut params = params(Validity { lifetime, ..validity });
        params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate: Certificate = params.signed_by(key, &issuer)?;
        Ok(certificate.der().clone())
    }
}

/// Returns parameters with the validity.
fn params(Validity { from, lifetime, clock_skew }: Validity) -> CertificateParams {
    let time = |time: Timestamp| std::time::SystemTime::from(time).into();
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = time(from - signed(clock_skew));
    params.not_after = time(from + signed(lifetime));
    params
}

/// Converts a duration to one that can be added to a [`Timestamp`].
pub(super) fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// Returns the end of a certificate's validity; `None` if it cannot be read.
pub(super) fn certificate_end(certificate: &CertificateDer<'_>) -> Option<Timestamp> {
    Timestamp::try_from(not_after(certificate).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificate_is_valid_earlier_by_clock_skew() {
        let from = Timestamp::now();
        for seconds in [0, 30, 600] {
            let clock_skew = Duration::from_secs(seconds);
            let params = params(Validity { from, lifetime: Duration::from_secs(3_600), clock_skew });
            let not_before = params.not_before.unix_timestamp();
            assert_eq!(not_before, from.as_second() - i64::try_from(seconds).unwrap());
            assert_eq!(params.not_after.unix_timestamp(), from.as_second() + 3_600);
        }
    }
}
