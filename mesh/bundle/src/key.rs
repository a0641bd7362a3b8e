//! Who signs bundles, and whether they did: Ed25519 (RFC 8032), in the files that `openssl genpkey -algorithm ed25519` and
//! `openssl pkey -pubout` write (RFC 8410).

use std::fmt;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

/// Bytes of a signature.
pub(crate) const SIGNATURE_BYTES: usize = 64;

/// What a public key begins with in a file: the algorithm's name (RFC 8410, 4).
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// Why a text is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct KeyError(String);

/// Whom a signature is from.
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

    /// Every key of a text: `PUBLIC KEY` blocks, one after another.
    ///
    /// # Errors
    /// A block is something else, or there is none.
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

    /// As a `PUBLIC KEY` block.
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

/// A key that signs. Nothing shows it.
pub struct SigningKey(Ed25519KeyPair);

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningKey({})", self.public())
    }
}

impl SigningKey {
    /// A new one.
    ///
    /// # Errors
    /// The system gives no random numbers.
    pub fn generate() -> Result<Self, KeyError> {
        Ed25519KeyPair::generate().map(Self).map_err(|_| KeyError("the system gives no random numbers".to_owned()))
    }

    /// The key of a `PRIVATE KEY` block.
    ///
    /// # Errors
    /// It is none, or not of Ed25519.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let block = pem::parse(text).map_err(|error| KeyError(error.to_string()))?;
        if block.tag() != "PRIVATE KEY" {
            return Err(KeyError(format!("is a {}, not a PRIVATE KEY", block.tag())));
        }
        let key = Ed25519KeyPair::from_pkcs8(block.contents());
        key.map(Self).map_err(|_| KeyError("is no key of Ed25519".to_owned()))
    }

    /// As a `PRIVATE KEY` block.
    ///
    /// # Errors
    /// The library cannot write it; it always can.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        let document = self.0.to_pkcs8v1().map_err(|_| KeyError("the key cannot be written".to_owned()))?;
        Ok(pem::encode(&pem::Pem::new("PRIVATE KEY", document.as_ref())))
    }

    /// Whom its signatures are from.
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

    /// Written by `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout`.
    const OPENSSL: (&str, &str) = (
        "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIC+V3OlzhiaVrmYLBQz/GSqzyM0FCQvTBOy91H7TdOW4\n-----END PRIVATE KEY-----\n",
        "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEALcbN6Jz0WfxmcZfij1ocEs5maeIms3QoruuzPyjCT+0=\n-----END PUBLIC KEY-----\n",
    );

    #[test]
    fn keys_are_read_as_openssl_writes_them_and_as_we_do() {
        let key = SigningKey::from_pem(OPENSSL.0).unwrap();
        assert_eq!(PublicKey::all_from_pem(OPENSSL.1).unwrap(), [key.public()]);
        let made = SigningKey::generate().unwrap();
        assert_eq!(SigningKey::from_pem(&made.to_pem().unwrap()).unwrap().public(), made.public());
        let both = format!("{}{}", made.public().to_pem(), OPENSSL.1);
        assert_eq!(PublicKey::all_from_pem(&both).unwrap(), [made.public(), key.public()]);
        assert!(!format!("{made:?}").contains(made.to_pem().unwrap().lines().nth(1).unwrap()));
    }

    #[test]
    fn what_is_no_key_says_so() {
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
