//! Reads and writes bundles. Used by `weir bundle` and by the control plane.

use std::ops::Range;

use wasmparser::{Parser, Payload};

use crate::key::{PublicKey, SIGNATURE_BYTES, SigningKey};
use crate::limits::{MAX_MANIFEST_BYTES, MAX_SIGNATURES};

/// The name of the custom section that contains the manifest (JSON).
const MANIFEST: &str = "weir.manifest";

/// The name of a custom section that contains a public key, then its signature.
const SIGNATURE: &str = "weir.signature";

/// The prefix of every signed message. It keeps signatures of other formats from being valid for a bundle.
const SIGNATURE_CONTEXT: &[u8] = b"weir bundle v1\0";

/// An error in a bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The bytes are not a core Wasm module.
    #[error("is no Wasm module: {0}")]
    Module(String),
    /// The manifest is too large, is no text, or is there twice.
    #[error("has a manifest that {0}")]
    Manifest(String),
    /// A signature is wrong, or the signatures are too many or not last.
    #[error("{0}")]
    Signature(String),
}

/// A parsed bundle, borrowed from its bytes.
#[derive(Debug, Clone)]
pub struct Bundle<'a> {
    bytes: &'a [u8],
    manifest: Option<&'a str>,
    /// The bytes of the manifest's section.
    manifest_section: Option<Range<usize>>,
    /// The number of signed bytes: all before the first signature.
    signed_length: usize,
    signatures: Vec<&'a [u8]>,
}

impl<'a> Bundle<'a> {
    /// Parses a bundle and verifies every signature with its own key. The caller decides which keys it trusts.
    ///
    /// # Errors
    /// The bytes are no module, have two manifests, or have a section after a signature; or a signature is wrong.
    pub fn read(bytes: &'a [u8]) -> Result<Self, BundleError> {
        let mut bundle =
            Self { bytes, manifest: None, manifest_section: None, signed_length: bytes.len(), signatures: Vec::new() };
        let mut end = 8; // The magic number and the version.
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(|error| BundleError::Module(error.to_string()))?;
            if let Payload::Version { encoding: wasmparser::Encoding::Component, .. } = payload {
                return Err(BundleError::Module("a component; filters are core modules".to_owned()));
            }
            let Some((_, range)) = payload.as_section() else { continue };
            let range_end = usize::try_from(range.end).unwrap_or(bytes.len());
            let start = std::mem::replace(&mut end, range_end);
            bundle.read_section(&payload, start..range_end)?;
        }
        bundle.check_signatures()?;
        Ok(bundle)
    }

    fn read_section(&mut self, payload: &Payload<'a>, range: Range<usize>) -> Result<(), BundleError> {
        let custom = match payload {
            Payload::CustomSection(section) => Some((section.name(), section.data())),
            _ => None,
        };
        match custom {
            Some((SIGNATURE, data)) => {
                self.signed_length = self.signed_length.min(range.start);
                self.signatures.push(data);
                if self.signatures.len() > MAX_SIGNATURES {
                    return Err(BundleError::Signature(format!("there are more than {MAX_SIGNATURES} signatures")));
                }
            }
            _ if !self.signatures.is_empty() => {
                return Err(BundleError::Signature("something was added after it was signed".to_owned()));
            }
            Some((MANIFEST, _)) if self.manifest.is_some() => {
                return Err(BundleError::Manifest("is there twice".to_owned()));
            }
            Some((MANIFEST, data)) => {
                check_size(data.len())?;
                let text = std::str::from_utf8(data).map_err(|_| BundleError::Manifest("is no text".to_owned()))?;
                (self.manifest, self.manifest_section) = (Some(text), Some(range));
            }
            _ => {}
        }
        Ok(())
    }

    fn check_signatures(&self) -> Result<(), BundleError> {
        if self.signatures.is_empty() {
            return Ok(()); // The message is a copy of the module, made only if a signature needs it.
        }
        let message = signed_message(self.content());
        for data in &self.signatures {
            let wrong = || BundleError::Signature("a signature is not of this bundle: it was changed".to_owned());
            let (key, signature) = parse_signature(data).ok_or_else(wrong)?;
            if !key.verifies(&message, signature) {
                return Err(wrong());
            }
        }
        Ok(())
    }

    /// Returns the manifest (JSON), which is not validated; `None` for a plain module.
    pub const fn manifest(&self) -> Option<&'a str> {
        self.manifest
    }

    /// Returns the signed bytes: all but the signatures.
    pub fn content(&self) -> &'a [u8] {
        &self.bytes[..self.signed_length]
    }

    /// Returns the keys of all signatures, each verified by [`Bundle::read`].
    pub fn signers(&self) -> Vec<PublicKey> {
        self.signatures.iter().filter_map(|data| parse_signature(data)).map(|(key, _)| key).collect()
    }

    /// Returns the module with another manifest and without signatures, which would not be valid for it.
    ///
    /// # Errors
    /// The manifest has more than [`MAX_MANIFEST_BYTES`].
    pub fn with_manifest(&self, manifest: &str) -> Result<Vec<u8>, BundleError> {
        check_size(manifest.len())?;
        let content = self.content();
        let mut bytes = Vec::with_capacity(content.len() + manifest.len() + 32);
        match &self.manifest_section {
            Some(section) => {
                bytes.extend_from_slice(&content[..section.start]);
                bytes.extend_from_slice(&content[section.end..]);
            }
            None => bytes.extend_from_slice(content),
        }
        put_section(&mut bytes, MANIFEST, manifest.as_bytes());
        Ok(bytes)
    }

    /// Returns the bundle with one more signature.
    ///
    /// # Errors
    /// The bundle has [`MAX_SIGNATURES`] already, or one of this key.
    pub fn signed_with(&self, key: &SigningKey) -> Result<Vec<u8>, BundleError> {
        let public = key.public();
        if self.signers().contains(&public) {
            return Err(BundleError::Signature(format!("there is a signature of {public} already")));
        }
        if self.signatures.len() >= MAX_SIGNATURES {
            return Err(BundleError::Signature(format!("there are {MAX_SIGNATURES} signatures already")));
        }
        let mut bytes = self.bytes.to_vec();
        let signature = key.sign(&signed_message(self.content()));
        put_section(&mut bytes, SIGNATURE, &[public.as_bytes(), &signature].concat());
        Ok(bytes)
    }
}

fn check_size(length: usize) -> Result<(), BundleError> {
    if length > MAX_MANIFEST_BYTES {
        return Err(BundleError::Manifest(format!("has {length} bytes; at most {MAX_MANIFEST_BYTES} are taken")));
    }
    Ok(())
}

fn signed_message(content: &[u8]) -> Vec<u8> {
    [SIGNATURE_CONTEXT, content].concat()
}

fn parse_signature(data: &[u8]) -> Option<(PublicKey, &[u8])> {
    let (key, signature) = data.split_at_checked(data.len().checked_sub(SIGNATURE_BYTES)?)?;
    Some((PublicKey::from_bytes(key)?, signature))
}

/// Appends a custom section (WebAssembly core specification, 5.5.3): 0, the length of the section, the length of the
/// name, the name, the content.
fn put_section(module: &mut Vec<u8>, name: &str, data: &[u8]) {
    let mut content = Vec::with_capacity(data.len() + name.len() + 5);
    put_leb128(&mut content, name.len());
    content.extend_from_slice(name.as_bytes());
    content.extend_from_slice(data);
    module.push(0);
    put_leb128(module, content.len());
    module.extend_from_slice(&content);
}

/// Appends a length as unsigned LEB128.
fn put_leb128(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let low = u8::try_from(length & 0x7f).expect("seven bits fit");
        length >>= 7;
        if length == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn module() -> Vec<u8> {
        wat::parse_str(r#"(module (func (export "f")) (@custom "name" "\00"))"#).unwrap()
    }

    fn signed(key: &SigningKey) -> Vec<u8> {
        let bundle = Bundle::read(&module()).unwrap().with_manifest(r#"{"name":"a"}"#).unwrap();
        Bundle::read(&bundle).unwrap().signed_with(key).unwrap()
    }

    #[test]
    fn bundle_with_manifest_and_signatures_is_a_valid_module() {
        let (first, second) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let once = signed(&first);
        let twice = Bundle::read(&once).unwrap().signed_with(&second).unwrap();
        let bundle = Bundle::read(&twice).unwrap();
        assert_eq!(bundle.manifest(), Some(r#"{"name":"a"}"#));
        assert_eq!(bundle.signers(), [first.public(), second.public()]);
        assert!(bundle.signed_with(&first).unwrap_err().to_string().contains("already"));
        assert!(Parser::new(0).parse_all(&twice).all(|payload| payload.is_ok()));
        assert!(twice.starts_with(&module()));
        let changed = bundle.with_manifest("{}").unwrap();
        let changed = Bundle::read(&changed).unwrap();
        assert_eq!(
            (changed.manifest(), changed.signers()),
            (Some("{}"), Vec::new()),
            "signatures were of something else"
        );
    }

    #[test]
    fn changed_or_appended_bytes_invalidate_the_signature() {
        let whole = signed(&SigningKey::generate().unwrap());
        for index in 0..whole.len() {
            let mut changed = whole.clone();
            changed[index] ^= 1;
            let read = Bundle::read(&changed);
            assert!(!read.is_ok_and(|bundle| !bundle.signers().is_empty()), "byte {index} of {}", whole.len());
        }
        let mut longer = whole;
        put_section(&mut longer, "more", b"x");
        assert!(Bundle::read(&longer).unwrap_err().to_string().contains("after it was signed"));
    }

    #[test]
    fn malformed_bundle_is_rejected_with_its_fault() {
        let twice = || {
            let mut bytes = module();
            put_section(&mut bytes, MANIFEST, b"{}");
            put_section(&mut bytes, MANIFEST, b"{}");
            bytes
        };
        let binary = || {
            let mut bytes = module();
            put_section(&mut bytes, MANIFEST, &[0xff]);
            bytes
        };
        for (bytes, reason) in [
            (b"PK\x03\x04".to_vec(), "is no Wasm module"),
            (b"\0asm\x0d\0\x01\0".to_vec(), "a component"),
            (twice(), "has a manifest that is there twice"),
            (binary(), "has a manifest that is no text"),
        ] {
            let error = Bundle::read(&bytes).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
        let plain = module();
        let large = " ".repeat(MAX_MANIFEST_BYTES + 1);
        assert!(Bundle::read(&plain).unwrap().with_manifest(&large).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in any::<usize>()) {
            drop(Bundle::read(&bytes));
            let mut bundle = Bundle::read(&module()).unwrap().with_manifest("{}").unwrap();
            let at = cut % bundle.len();
            bundle.splice(at..at, bytes);
            drop(Bundle::read(&bundle));
        }
    }
}
