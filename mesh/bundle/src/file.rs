//! What a bundle's file holds, and how the parts are put into it. Used by `weir plugin` and by the control plane.

use wasmparser::{Parser, Payload};

use crate::key::{PublicKey, SIGNATURE_BYTES, SigningKey};
use crate::limits::{MAX_MANIFEST_BYTES, MAX_SIGNATURES};

/// The custom section of the manifest: JSON.
const MANIFEST: &str = "weir.manifest";

/// The custom section of a signature: the public key, then the signature.
const SIGNATURE: &str = "weir.signature";

/// What is signed begins with this, so that no signature of something else is one of a bundle.
const SIGNED_AS: &[u8] = b"weir bundle v1\0";

/// Why bytes are no bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// Not a Wasm module.
    #[error("is no Wasm module: {0}")]
    Module(String),
    /// A manifest that cannot be one.
    #[error("has a manifest that {0}")]
    Manifest(String),
    /// Signatures that cannot be some.
    #[error("{0}")]
    Signature(String),
}

/// What a file holds.
#[derive(Debug, Clone)]
pub struct Bundle<'a> {
    bytes: &'a [u8],
    manifest: Option<&'a str>,
    /// Where the manifest's section is.
    manifest_at: Option<(usize, usize)>,
    /// Where the signatures begin: what is before them is signed.
    signed: usize,
    signatures: Vec<&'a [u8]>,
}

impl<'a> Bundle<'a> {
    /// Takes a file apart. Signatures are checked, whoever's they are: one that is wrong is no bundle.
    ///
    /// # Errors
    /// It is no module; there are two manifests, or something after a signature; a signature is wrong.
    pub fn read(bytes: &'a [u8]) -> Result<Self, BundleError> {
        let mut bundle = Self { bytes, manifest: None, manifest_at: None, signed: bytes.len(), signatures: Vec::new() };
        let mut end = 8; // The magic number and the version.
        for payload in Parser::new(0).parse_all(bytes) {
            let payload = payload.map_err(|error| BundleError::Module(error.to_string()))?;
            if let Payload::Version { encoding: wasmparser::Encoding::Component, .. } = payload {
                return Err(BundleError::Module("a component; filters are core modules".to_owned()));
            }
            let Some((_, range)) = payload.as_section() else { continue };
            let range_end = usize::try_from(range.end).unwrap_or(bytes.len()); // It is within the bytes.
            let start = std::mem::replace(&mut end, range_end);
            bundle.section(&payload, (start, range_end))?;
        }
        bundle.check_signatures()?;
        Ok(bundle)
    }

    fn section(&mut self, payload: &Payload<'a>, (start, end): (usize, usize)) -> Result<(), BundleError> {
        let custom = match payload {
            Payload::CustomSection(section) => Some((section.name(), section.data())),
            _ => None,
        };
        match custom {
            Some((SIGNATURE, data)) => {
                self.signed = self.signed.min(start);
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
                (self.manifest, self.manifest_at) = (Some(text), Some((start, end)));
            }
            _ => {}
        }
        Ok(())
    }

    fn check_signatures(&self) -> Result<(), BundleError> {
        if self.signatures.is_empty() {
            return Ok(()); // What is signed is as long as the module: it is put together for somebody.
        }
        let message = message(self.content());
        for data in &self.signatures {
            let wrong = || BundleError::Signature("a signature is not of this bundle: it was changed".to_owned());
            let (key, signature) = split(data).ok_or_else(wrong)?;
            if !key.verifies(&message, signature) {
                return Err(wrong());
            }
        }
        Ok(())
    }

    /// The manifest, if there is one.
    pub const fn manifest(&self) -> Option<&'a str> {
        self.manifest
    }

    /// What is signed, or would be: all but the signatures.
    pub fn content(&self) -> &'a [u8] {
        &self.bytes[..self.signed]
    }

    /// Who signed it; each has.
    pub fn signers(&self) -> Vec<PublicKey> {
        self.signatures.iter().filter_map(|data| split(data)).map(|(key, _)| key).collect()
    }

    /// The same module with this manifest, and without signatures: they were of something else.
    ///
    /// # Errors
    /// The manifest is too large.
    pub fn with_manifest(&self, manifest: &str) -> Result<Vec<u8>, BundleError> {
        check_size(manifest.len())?;
        let signed = self.content();
        let mut made = Vec::with_capacity(signed.len() + manifest.len() + 32);
        match self.manifest_at {
            Some((start, end)) => {
                made.extend_from_slice(&signed[..start]);
                made.extend_from_slice(&signed[end..]);
            }
            None => made.extend_from_slice(signed),
        }
        put_section(&mut made, MANIFEST, manifest.as_bytes());
        Ok(made)
    }

    /// The same with one signature more.
    ///
    /// # Errors
    /// There are too many already, or it is signed with this key already.
    pub fn signed_with(&self, key: &SigningKey) -> Result<Vec<u8>, BundleError> {
        let public = key.public();
        if self.signers().contains(&public) {
            return Err(BundleError::Signature(format!("there is a signature of {public} already")));
        }
        if self.signatures.len() >= MAX_SIGNATURES {
            return Err(BundleError::Signature(format!("there are {MAX_SIGNATURES} signatures already")));
        }
        let mut made = self.bytes.to_vec();
        let signature = key.sign(&message(self.content()));
        put_section(&mut made, SIGNATURE, &[public.as_bytes(), &signature].concat());
        Ok(made)
    }
}

fn check_size(length: usize) -> Result<(), BundleError> {
    if length > MAX_MANIFEST_BYTES {
        return Err(BundleError::Manifest(format!("has {length} bytes; at most {MAX_MANIFEST_BYTES} are taken")));
    }
    Ok(())
}

fn message(signed: &[u8]) -> Vec<u8> {
    [SIGNED_AS, signed].concat()
}

fn split(data: &[u8]) -> Option<(PublicKey, &[u8])> {
    let (key, signature) = data.split_at_checked(data.len().checked_sub(SIGNATURE_BYTES)?)?;
    Some((PublicKey::from_bytes(key)?, signature))
}

/// A custom section (WebAssembly core specification, 5.5.3): 0, its length, the length of its name, its name, its content.
fn put_section(module: &mut Vec<u8>, name: &str, data: &[u8]) {
    let mut content = Vec::with_capacity(data.len() + name.len() + 5);
    put_length(&mut content, name.len());
    content.extend_from_slice(name.as_bytes());
    content.extend_from_slice(data);
    module.push(0);
    put_length(module, content.len());
    module.extend_from_slice(&content);
}

/// Unsigned LEB128.
fn put_length(out: &mut Vec<u8>, mut length: usize) {
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
    fn a_module_with_a_manifest_and_signatures_is_still_that_module() {
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
    fn a_signature_is_of_every_byte_before_it_and_nothing_follows() {
        let whole = signed(&SigningKey::generate().unwrap());
        for index in 0..whole.len() {
            let mut changed = whole.clone();
            changed[index] ^= 1;
            let read = Bundle::read(&changed);
            assert!(!read.is_ok_and(|it| !it.signers().is_empty()), "byte {index} of {}", whole.len());
        }
        let mut longer = whole;
        put_section(&mut longer, "more", b"x");
        assert!(Bundle::read(&longer).unwrap_err().to_string().contains("after it was signed"));
    }

    #[test]
    fn what_is_no_bundle_says_why() {
        let twice = || {
            let mut made = module();
            put_section(&mut made, MANIFEST, b"{}");
            put_section(&mut made, MANIFEST, b"{}");
            made
        };
        let binary = || {
            let mut made = module();
            put_section(&mut made, MANIFEST, &[0xff]);
            made
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
        fn nonsense_is_refused_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in any::<usize>()) {
            drop(Bundle::read(&bytes));
            let mut bundle = Bundle::read(&module()).unwrap().with_manifest("{}").unwrap();
            let at = cut % bundle.len();
            bundle.splice(at..at, bytes);
            drop(Bundle::read(&bundle));
        }
    }
}
