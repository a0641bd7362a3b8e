//! `ConfigMap`: validation.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::limits::MAX_SECRET_BYTES;
use crate::resource::secret::CA_CERTIFICATES;
use crate::spec::ConfigMapDocument;
use crate::yaml::{FieldErrors, FieldPathRef};

/// A validated ConfigMap.
#[derive(Debug)]
pub(crate) struct ConfigMap {
    /// The text of `ca.crt`, if there is one.
    pub(crate) authorities: Option<Arc<str>>,
}

/// Validates a ConfigMap.
pub(crate) fn check(document: ConfigMapDocument, errors: &mut FieldErrors) -> Option<ConfigMap> {
    let ConfigMapDocument { api_version: _, kind: _, metadata: _, data, binary_data: _, immutable: _ } = document;
    let mut data: BTreeMap<String, String> = data.unwrap_or_default();
    let bytes: usize = data.iter().map(|(key, text)| key.len() + text.len()).sum();
    if bytes > MAX_SECRET_BYTES {
        let hint = format!("use at most {MAX_SECRET_BYTES}");
        errors.add(&FieldPathRef::ROOT.field("data"), format!("{bytes} bytes"), hint);
        return None;
    }
    Some(ConfigMap { authorities: data.remove(CA_CERTIFICATES).map(Arc::from) })
}
