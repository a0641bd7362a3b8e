//! Decodes Weir's own fields in the metadata of Envoy's messages, and texts of others for filters.

use std::collections::HashMap;
use std::sync::Arc;

use weir_model::{Metadata, MetadataGroup};

use super::field_cursor::{FieldCursor, unsupported};
use crate::proto::protobuf::value::Kind;
use crate::proto::protobuf::{Struct, Value};
use crate::proto::{METADATA, core};

/// The fields under `weir.dev` in a message's metadata. Each is taken once; `end` rejects those that remain.
pub(super) struct WeirMetadata<'a> {
    fields: HashMap<String, Value>,
    cursor: FieldCursor<'a>,
}

/// Returns the metadata outside `weir.dev` that filters can read: all string values. Other values are ignored.
pub(super) fn texts(metadata: Option<&core::Metadata>) -> Metadata {
    let groups = metadata.into_iter().flat_map(|metadata| &metadata.filter_metadata);
    let text = |(name, value): (&String, &Value)| match &value.kind {
        Some(Kind::StringValue(text)) => Some((Arc::from(name.as_str()), Arc::from(text.as_str()))),
        _ => None,
    };
    let group = |(name, group): (&String, &Struct)| {
        (Arc::from(name.as_str()), group.fields.iter().filter_map(text).collect::<MetadataGroup>())
    };
    Metadata::new(groups.filter(|(name, _)| *name != METADATA).map(group))
}

impl<'a> WeirMetadata<'a> {
    pub(super) fn of(metadata: Option<core::Metadata>, cursor: &FieldCursor<'a>) -> Self {
        let cursor = cursor.field("metadata").field("filter_metadata").entry(METADATA);
        let core::Metadata { mut filter_metadata, typed_filter_metadata: _ } = metadata.unwrap_or_default();
        let Struct { fields } = filter_metadata.remove(METADATA).unwrap_or_default();
        Self { fields, cursor }
    }

    fn inside(value: Value, cursor: FieldCursor<'a>) -> Option<Self> {
        match value.kind {
            Some(Kind::StructValue(Struct { fields })) => Some(Self { fields, cursor }),
            _ => cursor.reject_value("is no object", ""),
        }
    }

    /// Takes an optional string.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        match self.fields.remove(name)?.kind {
            Some(Kind::StringValue(text)) => Some(text),
            _ => self.cursor.field(name).reject_value("is no text", ""),
        }
    }

    /// Takes a string; rejects an absent one.
    pub(super) fn required_text(&mut self, name: &str) -> Option<String> {
        if !self.fields.contains_key(name) {
            return self.cursor.field(name).reject_value("is missing", "");
        }
        self.text(name)
    }

    /// Takes a list of objects; empty when absent.
    pub(super) fn objects(&mut self, name: &str) -> Vec<Self> {
        let Some(value) = self.fields.remove(name) else { return Vec::new() };
        let cursor = self.cursor.field(name);
        let Some(Kind::ListValue(list)) = value.kind else {
            cursor.reject("is no list", "");
            return Vec::new();
        };
        let entries = list.values.into_iter().enumerate();
        entries.filter_map(|(index, value)| Self::inside(value, cursor.entry(index))).collect()
    }

    /// Returns the cursor of these fields.
    pub(super) fn cursor(&self) -> &FieldCursor<'a> {
        &self.cursor
    }

    /// Rejects all fields that were not taken.
    pub(super) fn end(self) {
        for field in self.fields.into_keys() {
            let field = self.cursor.field(&field);
            field.reject("is not known", "leave it out");
        }
    }
}

/// Rejects fields under `weir.dev` in a message that supports none.
pub(super) fn reject_own(metadata: Option<core::Metadata>, cursor: &FieldCursor<'_>) {
    let core::Metadata { filter_metadata, typed_filter_metadata: _ } = metadata.unwrap_or_default();
    let metadata: Vec<&String> = filter_metadata.keys().filter(|key| *key == METADATA).collect();
    unsupported!(cursor; metadata);
}
