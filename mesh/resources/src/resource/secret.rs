//! `Secret`: a certificate with its key. Whether the key is the certificate's is found out by whoever has the cryptography.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use crate::document::{Faults, Path};
use crate::suggest::quoted;
use crate::written::SecretDocument;

/// The type of a Secret that is a certificate.
const TYPE: &str = "kubernetes.io/tls";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";

/// A certificate with its key.
pub(crate) struct Secret {
    /// The chain, as PEM.
    pub(crate) certificates: Arc<str>,
    /// The key, as PEM.
    pub(crate) key: Arc<str>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Secret")
    }
}

/// Checks the fields of a Secret. No text of what it holds is repeated.
pub(crate) fn check(document: SecretDocument, faults: &mut Faults) -> Option<Secret> {
    let SecretDocument { api_version: _, kind: _, metadata: _, r#type, data, string_data, immutable: _ } = document;
    let root = Path::ROOT;
    if let Some(other) = r#type.filter(|other| other != TYPE) {
        let reason = format!("{} is used by nothing", quoted(&other));
        faults.add(&root.field("type"), reason, format!("write `{TYPE}`"));
    }
    let (data, plain) = (data.unwrap_or_default(), string_data.unwrap_or_default());
    for (place, fields) in [("data", &data), ("stringData", &plain)] {
        for name in fields.keys().filter(|name| ![CERTIFICATE, KEY, "ca.crt"].contains(&name.as_str())) {
            faults.add(&root.field(place).field(name), "is used by nothing", "remove it");
        }
    }
    let certificates = read((&data, &plain), CERTIFICATE, "-----BEGIN CERTIFICATE-----", faults);
    let key = read((&data, &plain), KEY, "PRIVATE KEY-----", faults);
    Some(Secret { certificates: certificates?, key: key? })
}

fn read(
    (data, plain): (&BTreeMap<String, String>, &BTreeMap<String, String>),
    name: &str,
    mark: &str,
    faults: &mut Faults,
) -> Option<Arc<str>> {
    let root = Path::ROOT;
    let (place, text) = match (plain.get(name), data.get(name)) {
        (Some(text), _) => (root.field("stringData"), text.clone()), // As in Kubernetes, it counts before `data`.
        (None, Some(encoded)) => {
            let place = root.field("data");
            let bytes = BASE64_STANDARD.decode(encoded.split_whitespace().collect::<String>()).ok();
            let Some(text) = bytes.and_then(|bytes| String::from_utf8(bytes).ok()) else {
                faults.add(
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
            faults.add(&root.field("stringData").field(name), "missing", hint);
            return None;
        }
    };
    if !text.contains(mark) {
        faults.add(&place.field(name), "holds no PEM of it", format!("it has a line with `{mark}`"));
        return None;
    }
    Some(Arc::from(text))
}
