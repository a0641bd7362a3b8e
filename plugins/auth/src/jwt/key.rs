//! Keys: which are accepted, and whether a signature is theirs.
//!
//! A key has one algorithm. It is asked for by that algorithm and never by the one that a token names, so no token
//! can have an RSA key taken for a shared secret.

use std::fmt;

use hmac::{Hmac, Mac};
use p256::EncodedPoint;
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use sha2::Sha256;

use super::{Fault, rsa};
use crate::base64;

/// RFC 7518 §3.2: at least as long as the digest.
const MIN_SECRET_BYTES: usize = 32;

/// RFC 5480: a P-256 key in DER, up to its x and y.
const P256_DER: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7, 3,
    0x42, 0, 4,
];

/// RFC 3279 §2.3.1: "RSA", in DER.
const RSA_DER: [u8; 15] = [0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];

const DER_INTEGER: u8 = 0x02;
const DER_BIT_STRING: u8 = 0x03;
const DER_SEQUENCE: u8 = 0x30;

/// How a token may be signed (RFC 7518 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256: whoever can verify can also sign.
    Hs256,
    /// RSA, PKCS#1 v1.5, with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

impl Algorithm {
    /// By its name, exactly.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "HS256" => Some(Self::Hs256),
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            _ => None,
        }
    }
}

/// What verifies a signature.
pub struct Key {
    algorithm: Algorithm,
    material: Material,
}

enum Material {
    /// Keyed, without a message so far.
    Secret(Box<Hmac<Sha256>>),
    Rsa(rsa::PublicKey),
    P256(Box<VerifyingKey>),
}

/// A key is never printed.
impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({:?})", self.algorithm)
    }
}

impl Key {
    /// For HS256.
    pub fn secret(secret: &[u8]) -> Result<Self, Fault> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err("stands for less than 32 bytes, so it could be guessed");
        }
        if secret.iter().all(|byte| byte == &secret[0]) {
            return Err("is one byte again and again, so it could be guessed");
        }
        let hmac = Hmac::new_from_slice(secret).map_err(|_| "is no key")?;
        Ok(Self { algorithm: Algorithm::Hs256, material: Material::Secret(Box::new(hmac)) })
    }

    /// For RS256, from the modulus and the exponent.
    pub fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, Fault> {
        let key = rsa::PublicKey::new(modulus, exponent)?;
        Ok(Self { algorithm: Algorithm::Rs256, material: Material::Rsa(key) })
    }

    /// For ES256, from the coordinates.
    pub fn p256(x: &[u8], y: &[u8]) -> Result<Self, Fault> {
        let (Ok(x), Ok(y)) = (<[u8; 32]>::try_from(x), <[u8; 32]>::try_from(y)) else {
            return Err("needs an x and a y of 32 bytes each");
        };
        let point = EncodedPoint::from_affine_coordinates(&x.into(), &y.into(), false);
        let key = VerifyingKey::from_encoded_point(&point).map_err(|_| "is not a point of the curve P-256")?;
        Ok(Self { algorithm: Algorithm::Es256, material: Material::P256(Box::new(key)) })
    }

    /// From `-----BEGIN PUBLIC KEY-----`.
    pub fn pem(text: &str) -> Result<Self, Fault> {
        if text.contains("PRIVATE KEY") {
            return Err("is a private key, which nobody but the issuer should have; give the public one");
        }
        let der = unarmoured(text).ok_or("must be a PEM text of BEGIN PUBLIC KEY, one key and nothing else")?;
        if let Some(point) = der.strip_prefix(&P256_DER) {
            let (x, y) = point.split_at_checked(32).unwrap_or_default();
            return Self::p256(x, y);
        }
        let (modulus, exponent) = rsa_numbers(&der).ok_or("holds neither an RSA key nor one of the curve P-256")?;
        Self::rsa(modulus, exponent)
    }

    /// What a token must name to be verified by this key.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Secret(hmac) => hmac.as_ref().clone().chain_update(message).verify_slice(signature).is_ok(),
            Material::Rsa(key) => key.verifies(message, signature),
            // RFC 7518 §3.4: r and s as 64 bytes, never DER. Zero and what is not below the order is refused here.
            Material::P256(key) => {
                Signature::from_slice(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
            }
        }
    }
}

fn unarmoured(text: &str) -> Option<Vec<u8>> {
    let inner = text.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?.strip_suffix("-----END PUBLIC KEY-----")?;
    let symbols: Vec<u8> = inner.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    base64::decode(&symbols)
}

/// The modulus and the exponent of a key in DER (RFC 5280 §4.1, RFC 8017 §A.1.1).
fn rsa_numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let whole = only(DER_SEQUENCE, der)?.strip_prefix(&RSA_DER)?;
    let key = only(DER_SEQUENCE, only(DER_BIT_STRING, whole)?.strip_prefix(&[0])?)?;
    let (modulus, rest) = first(DER_INTEGER, key)?;
    Some((modulus, only(DER_INTEGER, rest)?))
}

fn only(tag: u8, der: &[u8]) -> Option<&[u8]> {
    first(tag, der).filter(|(_, rest)| rest.is_empty()).map(|(content, _)| content)
}

/// The content of the first element, and what follows it.
fn first(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match *der {
        [found, length, ..] if found == tag && length < 0x80 => (usize::from(length), &der[2..]),
        [found, 0x81, length, ..] if found == tag => (usize::from(length), &der[3..]),
        [found, 0x82, high, low, ..] if found == tag => (usize::from(high) << 8 | usize::from(low), &der[4..]),
        _ => return None,
    };
    rest.split_at_checked(length)
}
