//! Keys of bundle signatures: Ed25519 (RFC 8032), in the PEM files that `openssl genpkey -algorithm ed25519` and
//! `openssl pkey
//! -pubout` write (RFC 8410).

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

/// The size of a signature, in bytes.
pub(crate) const SIGNATURE_BYTES: usize = 64;

/// The DER prefix of a public key: the algorithm's identifier (RFC 8410, section 4).
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// An error in the text of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(String);

/// A public key. Its text is `ed25519:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }

    /// Parses all keys of a PEM text with one or more `PUBLIC KEY` blocks.
    ///
    /// # Errors
    /// The text has no block, or a block that is no Ed25519 public key.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>, KeyError> {
        let blocks = pem::parse_many(text).map_err(|error| KeyError(error.to_string()))?;
        if blocks.is_empty() {
            return Err(KeyError("no `PUBLIC KEY` block is in it".to_owned()));
        }
        let key = |block: &pem::Pem| match (block.tag(), block.contents().strip_prefix(&PUBLIC_PREFIX)) {
            ("PUBLIC KEY", Some(key)) => Self::from_bytes(key).ok_or_else(|| KeyError("a key is cut off".to_owned())),
            ("PUBLIC KEY", None) => Err(KeyError("a key is not of Ed25519".to_owned())),
            (tag, _) => Err(KeyError(format!("a block is a {tag}, not a PUBLIC KEY"))),
        };
        blocks.iter().map(key).collect()
    }

    /// Returns the key as a `PUBLIC KEY` block.
    pub fn to_pem(&self) -> String {
        pem::encode(&pem::Pem::new("PUBLIC KEY", [PUBLIC_PREFIX.as_slice(), &self.0].concat()))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ed25519:")?;
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// A private key. `Debug` prints its public key only.
pub struct SigningKey(Ed25519KeyPair);

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningKey({})", self.public())
    }
}

impl SigningKey {
    /// Generates a key.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub fn generate() -> Result<Self, KeyError> {
        Ed25519KeyPair::generate().map(Self).map_err(|_| KeyError("the system gives no random numbers".to_owned()))
    }

    /// Parses a `PRIVATE KEY` block.
    ///
    /// # Errors
    /// The text is no such block, or no Ed25519 key.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let block = pem::parse(text).map_err(|error| KeyError(error.to_string()))?;
        if block.tag() != "PRIVATE KEY" {
            return Err(KeyError(format!("is a {}, not a PRIVATE KEY", block.tag())));
        }
        let key = Ed25519KeyPair::from_pkcs8(block.contents());
        key.map(Self).map_err(|_| KeyError("is no key of Ed25519".to_owned()))
    }

    /// Returns the key as a `PRIVATE KEY` block.
    ///
    /// # Errors
    /// aws-lc-rs cannot encode the key.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        let document = self.0.to_pkcs8v1().map_err(|_| KeyError("the key cannot be written".to_owned()))?;
        Ok(pem::encode(&pem::Pem::new("PRIVATE KEY", document.as_ref())))
    }

    /// Returns the public key that verifies this key's signatures.
    pub fn public(&self) -> PublicKey {
        PublicKey::from_bytes(self.0.public_key().as_ref()).expect("a key of Ed25519 has 32 bytes")
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A key pair written by `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout`.
    const OPENSSL: (&str, &str) = (
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIC+V3OlzhiaVrmYLBQz/GSqzyM0FCQvTBOy91H7TdOW4\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEALcbN6Jz0WfxmcZfij1ocEs5maeIms3QoruuzPyjCT+0=\n-----END PUBLIC KEY-----\n",
    );

    #[test]
    fn keys_of_openssl_and_own_keys_are_parsed() {
        let key = SigningKey::from_pem(OPENSSL.0).unwrap();
        assert_eq!(PublicKey::all_from_pem(OPENSSL.1).unwrap(), [key.public()]);
        let generated = SigningKey::generate().unwrap();
        assert_eq!(SigningKey::from_pem(&generated.to_pem().unwrap()).unwrap().public(), generated.public());
        let both = format!("{}{}", generated.public().to_pem(), OPENSSL.1);
        assert_eq!(PublicKey::all_from_pem(&both).unwrap(), [generated.public(), key.public()]);
        assert!(!format!("{generated:?}").contains(generated.to_pem().unwrap().lines().nth(1).unwrap()));
    }

    #[test]
    fn malformed_key_is_rejected_with_its_fault() {
        for (text, reason) in [
            ("", "no `PUBLIC KEY` block"),
            (OPENSSL.0, "a block is a PRIVATE KEY"),
            (
                "-----BEGIN PUBLIC KEY-----\nMEEwEwYHKoZIzj0CAQYIKoZIzj0DAQcDKgAE\n-----END PUBLIC KEY-----\n",
                "not of Ed25519",
            ),
        ] {
            let error = PublicKey::all_from_pem(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        assert!(SigningKey::from_pem(OPENSSL.1).unwrap_err().to_string().contains("not a PRIVATE KEY"));
    }
}
