//! Encodes Weir's own fields, and metadata of resources, in the metadata of Envoy's messages.

use std::collections::HashMap;

use weir_model::Metadata;

use crate::proto::protobuf::value::Kind;
use crate::proto::protobuf::{ListValue, Struct, Value};
use crate::proto::{METADATA, core};

/// Returns metadata with these fields under `weir.dev`; `None` when there are no fields.
pub(super) fn metadata(entries: impl IntoIterator<Item = (&'static str, Value)>) -> Option<core::Metadata> {
    let fields = structure(entries);
    if fields.fields.is_empty() {
        return None;
    }
    Some(core::Metadata {
        filter_metadata: HashMap::from([(METADATA.to_owned(), fields)]),
        ..core::Metadata::default()
    })
}

/// Adds the metadata of a resource to Weir's own fields.
pub(super) fn with_texts(own: Option<core::Metadata>, texts: &Metadata) -> Option<core::Metadata> {
    if texts.is_empty() {
        return own;
    }
    let mut all = own.unwrap_or_default();
    for (name, group) in texts.groups() {
        let fields = group.iter().map(|(key, value)| (key.to_string(), text(value))).collect();
        all.filter_metadata.insert(name.to_owned(), Struct { fields });
    }
    Some(all)
}

pub(super) fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

pub(super) fn list(values: impl Iterator<Item = Value>) -> Value {
    Value { kind: Some(Kind::ListValue(ListValue { values: values.collect() })) }
}

pub(super) fn object(entries: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    Value { kind: Some(Kind::StructValue(structure(entries))) }
}

fn structure(entries: impl IntoIterator<Item = (&'static str, Value)>) -> Struct {
    Struct { fields: entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect() }
}
