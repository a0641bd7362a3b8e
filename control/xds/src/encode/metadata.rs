//! Our own keys in the metadata of Envoy's messages.

use std::collections::HashMap;

use crate::proto::protobuf::value::Kind;
use crate::proto::protobuf::{ListValue, Struct, Value};
use crate::proto::{METADATA, core};

/// Metadata with these entries, or none when there are none.
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
