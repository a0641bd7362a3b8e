//! A route's changes of headers, with parsed names and values. `stream` applies them to requests before they are
//! forwarded and to responses before they are sent downstream.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Headers to set, then to add, then to remove (Gateway API `HTTPHeaderFilter`).
#[derive(Debug, Default)]
pub(crate) struct CompiledHeaderModifier {
    set: Box<[(HeaderName, HeaderValue)]>,
    add: Box<[(HeaderName, HeaderValue)]>,
    remove: Box<[HeaderName]>,
}

impl CompiledHeaderModifier {
    /// Compiles the model; `None` without changes. The model has validated names and values; an invalid one would be
    /// omitted.
    pub(super) fn of(model: &weir_model::HeaderModifier) -> Option<Box<Self>> {
        (!model.is_empty()).then(|| Box::new(Self::new(model)))
    }

    pub(super) fn new(model: &weir_model::HeaderModifier) -> Self {
        let name = |name: &Arc<str>| HeaderName::from_bytes(name.as_bytes()).ok();
        let pair = |(key, value): &(Arc<str>, Arc<str>)| Some((name(key)?, HeaderValue::from_str(value).ok()?));
        let model = model.edits();
        Self {
            set: model.set.iter().filter_map(pair).collect(),
            add: model.add.iter().filter_map(pair).collect(),
            remove: model.remove.iter().filter_map(name).collect(),
        }
    }

    /// Applies the changes to `headers`.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apply_sets_then_adds_then_removes() {
        let texts = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| (Arc::from(*a), Arc::from(*b))).collect();
        let edits = CompiledHeaderModifier::new(&weir_model::HeaderModifier::new(weir_model::HeaderEdits {
            set: texts(&[("a", "new"), ("b", "set")]),
            add: texts(&[("a", "more"), ("c", "added"), ("d", "gone")]),
            remove: vec![Arc::from("d"), Arc::from("e")],
        }));
        let mut headers = HeaderMap::new();
        for (name, value) in [("a", "old"), ("a", "older"), ("e", "x"), ("f", "y")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        edits.apply(&mut headers);
        let mut lines: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
        lines.sort();
        assert_eq!(lines, ["a=more", "a=new", "b=set", "c=added", "f=y"]);
    }
}
