//! The functions `verify_signature` and `sign`: RSA (PKCS #1 v1.5) and ECDSA, with keys in Envoy's formats:
//! SubjectPublicKeyInfo and PKCS #8, in DER.
//!
//! | function | arguments | result |
//! |---|---|---|
//! | `verify_signature` | 1 hash, 2 public key, 3 signature, 4 text | 1 valid, 2 error |
//! | `sign` | 1 hash, 2 private key, 3 text | 1 success, 2 signature, 3 error |

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{self, EcdsaKeyPair, UnparsedPublicKey, VerificationAlgorithm};

use crate::abi::protobuf::{bytes_field, fields, put_bytes, put_number};
use crate::abi::status::Status;

/// Verifies a signature.
pub(super) fn verify(arguments: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    let request = fields(arguments).ok_or(Status::BadArgument)?;
    let part = |number| bytes_field(&request, number).unwrap_or_default();
    let (hash, key, text) = (part(1), part(2), part(4));
    let outcome = match algorithms(hash) {
        _ if key.is_empty() => return Err(Status::BadArgument),
        [] => Err(format!("{} is not supported.", String::from_utf8_lossy(hash))),
        algorithms => {
            let is_valid = |algorithm: &&'static dyn VerificationAlgorithm| {
                UnparsedPublicKey::new(*algorithm, key).verify(text, part(3)).is_ok()
            };
            if algorithms.iter().any(is_valid) {
                Ok(())
            } else {
                Err("Failed to verify digest. Error code: 0".to_owned())
            }
        }
    };
    match outcome {
        Ok(()) => put_number(out, 1, 1),
        Err(error) => put_bytes(out, 2, error.as_bytes()),
    }
    Ok(())
}

/// Returns the algorithms with this hash. The key determines which of them can succeed.
fn algorithms(hash: &[u8]) -> &'static [&'static dyn VerificationAlgorithm] {
    match hash {
        b"sha1" => &[&signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY],
        b"sha256" => &[
            &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
            &signature::ECDSA_P256_SHA256_ASN1,
            &signature::ECDSA_P384_SHA256_ASN1,
        ],
        b"sha384" => &[
            &signature::RSA_PKCS1_2048_8192_SHA384,
            &signature::ECDSA_P256_SHA384_ASN1,
            &signature::ECDSA_P384_SHA384_ASN1,
        ],
        b"sha512" => &[&signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY, &signature::ECDSA_P521_SHA512_ASN1],
        _ => &[],
    }
}

/// Signs a text.
pub(super) fn sign(arguments: &[u8], out: &mut Vec<u8>) -> Result<(), Status> {
    let request = fields(arguments).ok_or(Status::BadArgument)?;
    let part = |number| bytes_field(&request, number).unwrap_or_default();
    if part(2).is_empty() {
        return Err(Status::BadArgument);
    }
    match make_signature(part(1), part(2), part(3)) {
        Some(signature) => {
            put_number(out, 1, 1);
            put_bytes(out, 2, &signature);
        }
        None => put_bytes(out, 3, b"the key does not support the hash"),
    }
    Ok(())
}

fn make_signature(hash: &[u8], key: &[u8], text: &[u8]) -> Option<Vec<u8>> {
    let random = SystemRandom::new();
    if let Ok(pair) = RsaKeyPair::from_pkcs8(key) {
        let encoding: &'static dyn signature::RsaEncoding = match hash {
            b"sha256" => &signature::RSA_PKCS1_SHA256,
            b"sha384" => &signature::RSA_PKCS1_SHA384,
            b"sha512" => &signature::RSA_PKCS1_SHA512,
            _ => return None,
        };
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &random, text, &mut signature).ok()?;
        return Some(signature);
    }
    let algorithms: &[&'static signature::EcdsaSigningAlgorithm] = match hash {
        b"sha256" => &[&signature::ECDSA_P256_SHA256_ASN1_SIGNING],
        b"sha384" => &[&signature::ECDSA_P384_SHA384_ASN1_SIGNING],
        b"sha512" => &[&signature::ECDSA_P521_SHA512_ASN1_SIGNING],
        _ => &[],
    };
    let pair = algorithms.iter().find_map(|algorithm| EcdsaKeyPair::from_pkcs8(algorithm, key).ok())?;
    Some(pair.sign(&random, text).ok()?.as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
    use aws_lc_rs::signature::KeyPair;

    use super::*;

    fn message(parts: &[(u64, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        parts.iter().for_each(|(field, bytes)| put_bytes(&mut out, *field, bytes));
        out
    }

    fn verified(hash: &[u8], key: &[u8], signature: &[u8], text: &[u8]) -> bool {
        let mut out = Vec::new();
        verify(&message(&[(1, hash), (2, key), (3, signature), (4, text)]), &mut out).unwrap();
        crate::abi::protobuf::varint_field(&fields(&out).unwrap(), 1) == 1
    }

    #[test]
    fn only_matching_signature_is_valid() {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref()).unwrap();
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        let mut out = Vec::new();
        sign(&message(&[(1, b"sha256"), (2, pkcs8.as_ref()), (3, b"text")]), &mut out).unwrap();
        let signature = bytes_field(&fields(&out).unwrap(), 2).unwrap().to_vec();
        assert!(verified(b"sha256", public.as_ref(), &signature, b"text"));
        assert!(!verified(b"sha256", public.as_ref(), &signature, b"other"));
        assert!(!verified(b"sha384", public.as_ref(), &signature, b"text"));
        assert!(!verified(b"md5", public.as_ref(), &signature, b"text"));
        assert!(!verified(b"sha256", b"no key", &signature, b"text"));
        assert_eq!(verify(&message(&[(1, b"sha256")]), &mut Vec::new()), Err(Status::BadArgument));
        assert_eq!(verify(b"\xff", &mut Vec::new()), Err(Status::BadArgument));
    }
}
