//! `Secret`: validation. Only the format is checked here; the TLS code checks that the key belongs to the certificate.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::limits::{MAX_OBJECT_NAME_BYTES, MAX_SECRET_BYTES};
use crate::spec::SecretDocument;
use crate::suggest::quoted;
use crate::yaml::{FieldErrors, FieldPathRef};

/// The type of a Secret with a certificate.
const TLS: &str = "kubernetes.io/tls";
/// The type of a Secret with other values.
const OPAQUE: &str = "Opaque";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
/// The key of CA certificates, in a Secret or a ConfigMap.
pub(crate) const CA_CERTIFICATES: &str = "ca.crt";

/// A validated Secret.
pub(crate) enum Secret {
    /// A certificate for listeners, or for connections to servers.
    Certificate {
        /// The certificate chain, as PEM.
        certificates: Arc<str>,
        /// The private key, as PEM.
        key: Arc<str>,
        /// CA certificates, as PEM.
        authorities: Option<Arc<str>>,
    },
    /// Texts by key, for references.
    Opaque(BTreeMap<String, Arc<str>>),
}

impl Secret {
    /// Returns the CA certificates in `ca.crt`.
    pub(crate) fn authorities(&self) -> Option<&str> {
        match self {
            Self::Certificate { authorities, .. } => authorities.as_deref(),
            Self::Opaque(texts) => texts.get(CA_CERTIFICATES).map(|text| &**text),
        }
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret")
    }
}

/// The values of a Secret as written.
struct SecretData {
    data: BTreeMap<String, String>,
    plain: BTreeMap<String, String>,
}

/// Validates a Secret. Messages repeat none of its values.
pub(crate) fn check(document: SecretDocument, errors: &mut FieldErrors) -> Option<Secret> {
    let SecretDocument { api_version: _, kind: _, metadata: _, r#type, data, string_data, immutable: _ } = document;
    let root = FieldPathRef::ROOT;
    let values = SecretData { data: data.unwrap_or_default(), plain: string_data.unwrap_or_default() };
    let is_tls = match r#type.as_deref() {
        Some(TLS) => true,
        Some(OPAQUE) => false,
        None => [CERTIFICATE, KEY].iter().any(|name| values.has(name)),
        Some(other) => {
            let reason = format!("{} is used by nothing", quoted(other));
            errors.add(&root.field("type"), reason, format!("write `{TLS}` or `{OPAQUE}`"));
            true
        }
    };
    if is_tls { values.certificate(errors) } else { values.opaque(errors) }
}

impl SecretData {
    fn has(&self, name: &str) -> bool {
        self.data.contains_key(name) || self.plain.contains_key(name)
    }

    /// Returns the maps with their field names.
    fn maps(&self) -> [(&'static str, &BTreeMap<String, String>); 2] {
        [("data", &self.data), ("stringData", &self.plain)]
    }

    fn certificate(&self, errors: &mut FieldErrors) -> Option<Secret> {
        let root = FieldPathRef::ROOT;
        for (map, fields) in self.maps() {
            for name in fields.keys().filter(|name| ![CERTIFICATE, KEY, CA_CERTIFICATES].contains(&name.as_str())) {
                let hint = format!("remove it, or write `type: {OPAQUE}`");
                errors.add(&root.field(map).field(name), "is used by nothing", hint);
            }
        }
        let certificates = self.pem(CERTIFICATE, "-----BEGIN CERTIFICATE-----", errors);
        let key = self.pem(KEY, "PRIVATE KEY-----", errors);
        let authorities = self.has(CA_CERTIFICATES).then(|| self.text(CA_CERTIFICATES, errors)).flatten();
        let authorities = authorities.map(|(_, text)| Arc::from(text));
        Some(Secret::Certificate { certificates: certificates?, key: key?, authorities })
    }

    fn opaque(&self, errors: &mut FieldErrors) -> Option<Secret> {
        let root = FieldPathRef::ROOT;
        let is_key = |name: &str| {
            let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
            !name.is_empty() && name.len() <= MAX_OBJECT_NAME_BYTES && name.bytes().all(is_legal)
        };
        for (map, fields) in self.maps() {
            for name in fields.keys().filter(|name| !is_key(name)) {
                let hint = format!("use up to {MAX_OBJECT_NAME_BYTES} letters, digits, `-`, `.` and `_`");
                errors.add(&root.field(map).field(name), "is not a key of a Secret", hint);
            }
        }
        let names = self.data.keys().chain(self.plain.keys().filter(|name| !self.data.contains_key(*name)));
        let mut texts = BTreeMap::new();
        for name in names {
            if let Some((_, text)) = self.text(name, errors) {
                texts.insert(name.clone(), Arc::from(text));
            }
        }
        let bytes: usize = texts.values().map(|text: &Arc<str>| text.len()).sum();
        if bytes > MAX_SECRET_BYTES {
            errors.add(&root.field("data"), format!("{bytes} bytes"), format!("use at most {MAX_SECRET_BYTES}"));
        }
        Some(Secret::Opaque(texts))
    }

    /// Returns the name of the map that contains a value, and its text; `None` without a value.
    fn text(&self, name: &str, errors: &mut FieldErrors) -> Option<(&'static str, String)> {
        if let Some(text) = self.plain.get(name) {
            return Some(("stringData", text.clone())); // As in Kubernetes, it overrides `data`.
        }
        let bytes = BASE64_STANDARD.decode(self.data.get(name)?.split_whitespace().collect::<String>()).ok();
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        if text.is_none() {
            let hint = "write it with `base64 -w0`, or plain in `stringData`";
            errors.add(&FieldPathRef::ROOT.field("data").field(name), "is not base64 of a text", hint);
        }
        Some(("data", text?))
    }

    fn pem(&self, name: &str, marker: &str, errors: &mut FieldErrors) -> Option<Arc<str>> {
        let root = FieldPathRef::ROOT;
        if !self.has(name) {
            let hint = format!("write the PEM into `stringData`, as `{name}: |`");
            errors.add(&root.field("stringData").field(name), "missing", hint);
            return None;
        }
        let (map, text) = self.text(name, errors)?;
        if !text.contains(marker) {
            let hint = format!("it has a line with `{marker}`");
            errors.add(&root.field(map).field(name), "holds no PEM of it", hint);
            return None;
        }
        Some(Arc::from(text))
    }
}
