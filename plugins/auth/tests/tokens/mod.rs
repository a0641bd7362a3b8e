//! Creates valid and invalid tokens for the tests, with fixed keys.

#![allow(dead_code, reason = "each test binary uses a part")]

use crypto_bigint::modular::runtime_mod::{DynResidue, DynResidueParams};
use crypto_bigint::{Encoding, U2048};
use hmac::{Hmac, Mac};
use p256::ecdsa::signature::Signer;
use p256::ecdsa::{Signature, SigningKey};
use sha2::{Digest, Sha256};

/// The time of the tests, in seconds since 1970.
pub(crate) const NOW: u64 = 1_700_000_000;

/// The secrets of the HS256 keys `h1` and `h2`.
pub(crate) const SECRETS: [&[u8]; 2] = [b"the first secret is 32 bytes long", b"the second secret is long as well"];

/// The public key of the RS256 key `r1`.
pub(crate) const RSA_PEM: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAw+r7aOiJYL/D0ek+FwCt
+tuguSz4BvzLmrXE3HPZUUDd1ZncypFsGk6gal9M/Ig17bRKPApAPNqHO/WH+8W1
ghLHBnWCKgdvmAJpQ1guw/1EjoOauQj3YKk3Bjh9tQLekEOmSU39ruOAmjBnOEvH
2988ErrsPaCD/wwGU9ZJmYQubQ3MA/scINfVxSsFjHCKRV1DWmOgfHOYTYQ7sawj
3D2YazCbrWFA3PqhC03yeAjY53t9FwydxZoU+TCBMtV0aV8+BueSaXMVJKxyW6SM
7QgcPFIA7rMVygf2xticIjSFbIcM0kFT4L8h4DpMVtyM5haW1Tipx61z52fNFDc3
EQIDAQAB
-----END PUBLIC KEY-----";

/// The modulus of `r1`.
const RSA_MODULUS: &str = "\
     C3EAFB68E88960BFC3D1E93E1700ADFADBA0B92CF806FCCB9AB5C4DC73D95140DDD599DCCA916C1A4EA06A5F4CFC8835EDB4\
     4A3C0A403CDA873BF587FBC5B58212C70675822A076F98026943582EC3FD448E839AB908F760A93706387DB502DE9043A649\
     4DFDAEE3809A3067384BC7DBDF3C12BAEC3DA083FF0C0653D64999842E6D0DCC03FB1C20D7D5C52B058C708A455D435A63A0\
     7C73984D843BB1AC23DC3D986B309BAD6140DCFAA10B4DF27808D8E77B7D170C9DC59A14F9308132D574695F3E06E7926973\
     1524AC725BA48CED081C3C5200EEB315CA07F6C6D89C2234856C870CD24153E0BF21E03A4C56DC8CE61696D538A9C7AD73E7\
     67CD14373711";
const RSA_PRIVATE: &str = "\
     06F3B01F1D5D3E931F6A33EA119BE3108B398D4894B67EC2E4C6FD68CB2D936E07511C8812A20D617397CA9E7E1759E7FBFA\
     D1458721976733B44376A34EF52D5BE83708F568F36198D5C111743018A1448D000B7DF45CFECF9255C4AC653F68515B2D2B\
     DDBA1A3A1566A3400E65D5FE2DD22E61F69F0B3293DAC3E0B6B25EE19B7251887FF694846B25C012165196D7457EC9FD519A\
     0C20DFC70005FA15142C3EAE35B978024A3AC4397F9A994D1113D8D25C64A6DDF24E776033D631D5774FEBD22DF0490D3A54\
     E201792F033E801287386B9B2B28171C88E0D55F97839014C743A17BA0E1C050D87F1555B69E702C3F1ED70321A9D9AD76ED\
     69A53FEB7E01";

/// Encodes base64url without padding.
pub(crate) fn base64url(bytes: &[u8]) -> String {
    const SYMBOLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut padded = [0; 4];
        padded[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(padded);
        for index in 0..=group.len() {
            text.push(char::from(SYMBOLS[(bits >> (18 - 6 * index) & 63) as usize]));
        }
    }
    text
}

/// Returns header and claims, ready to be signed.
pub(crate) fn unsigned(header: &str, claims: &str) -> String {
    format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()))
}

/// Adds a signature.
pub(crate) fn with_signature(unsigned: &str, signature: &[u8]) -> String {
    format!("{unsigned}.{}", base64url(signature))
}

pub(crate) fn hs256_signature(secret: &[u8], message: &str) -> Vec<u8> {
    let mut hmac = Hmac::<Sha256>::new_from_slice(secret).expect("fixed keys are right");
    hmac.update(message.as_bytes());
    hmac.finalize().into_bytes().to_vec()
}

/// Returns a token signed with a secret.
pub(crate) fn hs256(secret: &[u8], header: &str, claims: &str) -> String {
    let unsigned = unsigned(header, claims);
    with_signature(&unsigned, &hs256_signature(secret, &unsigned))
}

/// Returns an ES256 key. The number 7 is the key `e1`, others are unknown to the configurations.
pub(crate) fn es256_key(number: u8) -> SigningKey {
    SigningKey::from_slice(&[number; 32]).expect("fixed keys are right")
}

/// Returns the public coordinates of an ES256 key.
pub(crate) fn es256_coordinates(number: u8) -> (String, String) {
    let point = es256_key(number).verifying_key().to_encoded_point(false);
    (base64url(point.x().expect("fixed keys are right")), base64url(point.y().expect("fixed keys are right")))
}

pub(crate) fn es256_signature(number: u8, message: &str) -> Vec<u8> {
    let signature: Signature = es256_key(number).sign(message.as_bytes());
    signature.to_bytes().to_vec()
}

/// Returns a token signed on P-256.
pub(crate) fn es256(number: u8, header: &str, claims: &str) -> String {
    let unsigned = unsigned(header, claims);
    with_signature(&unsigned, &es256_signature(number, &unsigned))
}

/// Signs a message that is already padded, correctly or not.
pub(crate) fn rsa_signature_of(padded: &[u8; 256]) -> Vec<u8> {
    let modulus = DynResidueParams::new(&U2048::from_be_hex(RSA_MODULUS));
    let message = DynResidue::new(&U2048::from_be_slice(padded), modulus);
    message.pow(&U2048::from_be_hex(RSA_PRIVATE)).retrieve().to_be_bytes().to_vec()
}

/// Pads a message as RFC 8017 §9.2 requires.
pub(crate) fn rsa_padded(message: &str) -> [u8; 256] {
    let mut padded = [0xff; 256];
    padded[..2].copy_from_slice(&[0, 1]);
    let digest_info = b"\x00\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";
    padded[204..224].copy_from_slice(digest_info);
    padded[224..].copy_from_slice(&Sha256::digest(message.as_bytes()));
    padded
}

/// Returns a token signed with RSA.
pub(crate) fn rs256(header: &str, claims: &str) -> String {
    let unsigned = unsigned(header, claims);
    with_signature(&unsigned, &rsa_signature_of(&rsa_padded(&unsigned)))
}
