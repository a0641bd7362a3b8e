//! Changes to headers that a route asks for, compiled: names and values are ready to be inserted. Used by `stream` on
//! requests before they are forwarded and on responses before they are sent down.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Set, then add, then remove (Gateway API `HTTPHeaderFilter`).
#[derive(Debug, Default)]
pub(crate) struct HeaderEdits {
    set: Box<[(HeaderName, HeaderValue)]>,
    add: Box<[(HeaderName, HeaderValue)]>,
    remove: Box<[HeaderName]>,
}

impl HeaderEdits {
    /// The model has checked names and values; one that slips through is left out rather than sent.
    pub(super) fn new(model: &weir_model::HeaderEdits) -> Self {
        let name = |name: &Arc<str>| HeaderName::from_bytes(name.as_bytes()).ok();
        let pair = |(key, value): &(Arc<str>, Arc<str>)| Some((name(key)?, HeaderValue::from_str(value).ok()?));
        Self {
            set: model.set.iter().filter_map(pair).collect(),
            add: model.add.iter().filter_map(pair).collect(),
            remove: model.remove.iter().filter_map(name).collect(),
        }
    }

    /// Changes the headers.
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
    fn set_then_add_then_remove() {
        let texts = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| (Arc::from(*a), Arc::from(*b))).collect();
        let edits = HeaderEdits::new(&weir_model::HeaderEdits {
            set: texts(&[("a", "new"), ("b", "set")]),
            add: texts(&[("a", "more"), ("c", "added"), ("d", "gone")]),
            remove: vec![Arc::from("d"), Arc::from("e")],
        });
        let mut headers = HeaderMap::new();
        for (name, value) in [("a", "old"), ("a", "older"), ("e", "x"), ("f", "y")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        edits.apply(&mut headers);
        let mut left: Vec<_> =
            headers.iter().map(|(name, value)| format!("{name}={}", value.to_str().unwrap())).collect();
        left.sort();
        assert_eq!(left, ["a=more", "a=new", "b=set", "c=added", "f=y"]);
    }
}
