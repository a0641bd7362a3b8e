//! `Secret`: validation. Only the format is checked here; the TLS code checks that the key belongs to the certificate.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::spec::SecretDocument;
use crate::suggest::quoted;
use crate::yaml::{FieldErrors, FieldPathRef};

/// The type of a Secret with a certificate.
const TYPE: &str = "kubernetes.io/tls";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// A validated Secret.
pub(crate) struct Secret {
    /// The certificate chain, as PEM.
    pub(crate) certificates: Arc<str>,
    /// The private key, as PEM.
    pub(crate) key: Arc<str>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret")
    }
}

/// Validates a Secret. Messages repeat none of its values.
pub(crate) fn check(document: SecretDocument, errors: &mut FieldErrors) -> Option<Secret> {
    let SecretDocument { api_version: _, kind: _, metadata: _, r#type, data, string_data, immutable: _ } = document;
    let root = FieldPathRef::ROOT;
    if let Some(other) = r#type.filter(|other| other != TYPE) {
        let reason = format!("{} is used by nothing", quoted(&other));
        errors.add(&root.field("type"), reason, format!("write `{TYPE}`"));
    }
    let (data, plain) = (data.unwrap_or_default(), string_data.unwrap_or_default());
    for (map, fields) in [("data", &data), ("stringData", &plain)] {
        for name in fields.keys().filter(|name| ![CERTIFICATE, KEY, "ca.crt"].contains(&name.as_str())) {
            errors.add(&root.field(map).field(name), "is used by nothing", "remove it");
        }
    }
    let certificates = read(&data, &plain, CERTIFICATE, "-----BEGIN CERTIFICATE-----", errors);
    let key = read(&data, &plain, KEY, "PRIVATE KEY-----", errors);
    Some(Secret { certificates: certificates?, key: key? })
}

fn read(
    data: &BTreeMap<String, String>,
    plain: &BTreeMap<String, String>,
    name: &str,
    marker: &str,
    errors: &mut FieldErrors,
) -> Option<Arc<str>> {
    let root = FieldPathRef::ROOT;
    let (place, text) = match (plain.get(name), data.get(name)) {
        (Some(text), _) => (root.field("stringData"), text.clone()), // As in Kubernetes, it overrides `data`.
        (None, Some(encoded)) => {
            let place = root.field("data");
            let bytes = BASE64_STANDARD.decode(encoded.split_whitespace().collect::<String>()).ok();
            let Some(text) = bytes.and_then(|bytes| String::from_utf8(bytes).ok()) else {
                errors.add(
                    &place.field(name),
                    "is not base64 of a text",
                    "write it with `base64 -w0`, or plain in `stringData`",
                );
                return None;
            };
            (place, text)
        }
        (None, None) => {
            let hint = format!("write the PEM into `stringData`, as `{name}: |`");
            errors.add(&root.field("stringData").field(name), "missing", hint);
            return None;
        }
    };
    if !text.contains(marker) {
        errors.add(&place.field(name), "holds no PEM of it", format!("it has a line with `{marker}`"));
        return None;
    }
    Some(Arc::from(text))
}
