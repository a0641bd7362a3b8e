//! Keys: parses them, and verifies signatures with them.
//!
//! A key has one algorithm. A token with another algorithm never reaches the key, so an RSA key cannot be used as a
//! shared secret.

use std::fmt;

use hmac::{Hmac, Mac};
use p256::EncodedPoint;
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature, VerifyingKey};
use sha2::Sha256;

use super::reason::KeyError;
use super::rsa;
use crate::base64;

/// The shortest secret, in bytes: the length of the digest (RFC 7518 §3.2).
const MIN_SECRET_BYTES: usize = 32;

/// The start of a P-256 key in DER, up to its coordinates (RFC 5480).
const P256_DER: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7, 3,
    0x42, 0, 4,
];

/// The algorithm identifier of RSA in DER (RFC 3279 §2.3.1).
const RSA_DER: [u8; 15] = [0x30, 0x0d, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];

const DER_INTEGER: u8 = 0x02;
const DER_BIT_STRING: u8 = 0x03;
const DER_SEQUENCE: u8 = 0x30;

/// The accepted signature algorithms (RFC 7518 §3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256. The key that verifies can also sign.
    Hs256,
    /// RSA, PKCS#1 v1.5, with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
}

impl Algorithm {
    /// Returns the algorithm with this name, which is case-sensitive.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "HS256" => Some(Self::Hs256),
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            _ => None,
        }
    }
}

/// A key that verifies signatures.
pub struct Key {
    algorithm: Algorithm,
    material: Material,
}

enum Material {
    /// The HMAC state after the key, without a message.
    Secret(Box<Hmac<Sha256>>),
    Rsa(rsa::PublicKey),
    P256(Box<VerifyingKey>),
}

/// Prints the algorithm only, since a key may be secret.
impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({:?})", self.algorithm)
    }
}

impl Key {
    /// Creates a key for HS256.
    pub fn secret(secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < MIN_SECRET_BYTES {
            return Err("stands for less than 32 bytes, so it could be guessed");
        }
        if secret.iter().all(|byte| byte == &secret[0]) {
            return Err("is one byte again and again, so it could be guessed");
        }
        let hmac = Hmac::new_from_slice(secret).map_err(|_| "is no key")?;
        Ok(Self { algorithm: Algorithm::Hs256, material: Material::Secret(Box::new(hmac)) })
    }

    /// Creates a key for RS256 from the modulus and the exponent.
    pub fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        let key = rsa::PublicKey::new(modulus, exponent)?;
        Ok(Self { algorithm: Algorithm::Rs256, material: Material::Rsa(key) })
    }

    /// Creates a key for ES256 from the coordinates of its point.
    pub fn p256(x: &[u8], y: &[u8]) -> Result<Self, KeyError> {
        let (Ok(x), Ok(y)) = (<[u8; 32]>::try_from(x), <[u8; 32]>::try_from(y)) else {
            return Err("needs an x and a y of 32 bytes each");
        };
        let point = EncodedPoint::from_affine_coordinates(&x.into(), &y.into(), false);
        let key = VerifyingKey::from_encoded_point(&point).map_err(|_| "is not a point of the curve P-256")?;
        Ok(Self { algorithm: Algorithm::Es256, material: Material::P256(Box::new(key)) })
    }

    /// Parses a PEM text of `-----BEGIN PUBLIC KEY-----`.
    pub fn pem(text: &str) -> Result<Self, KeyError> {
        if text.contains("PRIVATE KEY") {
            return Err("is a private key, which only the issuer may have; use the public key");
        }
        let der = pem_bytes(text).ok_or("must be a PEM text of BEGIN PUBLIC KEY, one key and nothing else")?;
        if let Some(point) = der.strip_prefix(&P256_DER) {
            let (x, y) = point.split_at_checked(32).unwrap_or_default();
            return Self::p256(x, y);
        }
        let (modulus, exponent) = rsa_numbers(&der).ok_or("holds neither an RSA key nor one of the curve P-256")?;
        Self::rsa(modulus, exponent)
    }

    /// Returns the `alg` that a token must have to be verified with this key.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns whether `signature` is this key's signature of `message`.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Secret(hmac) => hmac.as_ref().clone().chain_update(message).verify_slice(signature).is_ok(),
            Material::Rsa(key) => key.verifies(message, signature),
            // RFC 7518 §3.4: r and s as 64 bytes, never DER. `from_slice` rejects zero and values not below the order.
            Material::P256(key) => {
                Signature::from_slice(signature).is_ok_and(|signature| key.verify(message, &signature).is_ok())
            }
        }
    }
}

fn pem_bytes(text: &str) -> Option<Vec<u8>> {
    let inner = text.trim().strip_prefix("-----BEGIN PUBLIC KEY-----")?.strip_suffix("-----END PUBLIC KEY-----")?;
    let symbols: Vec<u8> = inner.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    base64::decode(&symbols)
}

/// Returns the modulus and the exponent of a key in DER (RFC 5280 §4.1, RFC 8017 §A.1.1).
fn rsa_numbers(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let whole = sole_element(DER_SEQUENCE, der)?.strip_prefix(&RSA_DER)?;
    let key = sole_element(DER_SEQUENCE, sole_element(DER_BIT_STRING, whole)?.strip_prefix(&[0])?)?;
    let (modulus, rest) = first(DER_INTEGER, key)?;
    Some((modulus, sole_element(DER_INTEGER, rest)?))
}

fn sole_element(tag: u8, der: &[u8]) -> Option<&[u8]> {
    first(tag, der).filter(|(_, rest)| rest.is_empty()).map(|(content, _)| content)
}

/// Returns the content of the first element, and the bytes after it.
fn first(tag: u8, der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = match *der {
        [found, length, ..] if found == tag && length < 0x80 => (usize::from(length), &der[2..]),
        [found, 0x81, length, ..] if found == tag => (usize::from(length), &der[3..]),
        [found, 0x82, high, low, ..] if found == tag => (usize::from(high) << 8 | usize::from(low), &der[4..]),
        _ => return None,
    };
    rest.split_at_checked(length)
}
