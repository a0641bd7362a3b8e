//! Our own keys in the metadata of Envoy's messages. Keys of others are theirs: they are left alone.

use std::collections::HashMap;
use std::sync::Arc;

use weir_model::{Metadata, MetadataGroup};

use super::fault::{Spot, unsupported};
use crate::proto::protobuf::value::Kind;
use crate::proto::protobuf::{Struct, Value};
use crate::proto::{METADATA, core};

/// What is ours in a message's metadata. Each entry is taken out once; what is left at the end is refused.
pub(super) struct Entries<'a> {
    fields: HashMap<String, Value>,
    spot: Spot<'a>,
}

/// What filters can read of the metadata of others: their texts. What else they keep there is theirs alone.
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

impl<'a> Entries<'a> {
    pub(super) fn of(metadata: Option<core::Metadata>, spot: &Spot<'a>) -> Self {
        let spot = spot.field("metadata").field("filter_metadata").entry(METADATA);
        let core::Metadata { mut filter_metadata, typed_filter_metadata: _ } = metadata.unwrap_or_default();
        let Struct { fields } = filter_metadata.remove(METADATA).unwrap_or_default();
        Self { fields, spot }
    }

    fn inside(value: Value, spot: Spot<'a>) -> Option<Self> {
        match value.kind {
            Some(Kind::StructValue(Struct { fields })) => Some(Self { fields, spot }),
            _ => spot.none("is no object", ""),
        }
    }

    /// A text, if it is there.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        match self.fields.remove(name)?.kind {
            Some(Kind::StringValue(text)) => Some(text),
            _ => self.spot.field(name).none("is no text", ""),
        }
    }

    /// A text that has to be there.
    pub(super) fn required_text(&mut self, name: &str) -> Option<String> {
        if !self.fields.contains_key(name) {
            return self.spot.field(name).none("is missing", "");
        }
        self.text(name)
    }

    /// The objects of a list, none if it is not there.
    pub(super) fn objects(&mut self, name: &str) -> Vec<Self> {
        let Some(value) = self.fields.remove(name) else { return Vec::new() };
        let spot = self.spot.field(name);
        let Some(Kind::ListValue(list)) = value.kind else {
            spot.refuse("is no list", "");
            return Vec::new();
        };
        let entries = list.values.into_iter().enumerate();
        entries.filter_map(|(index, value)| Self::inside(value, spot.entry(index))).collect()
    }

    /// Where these entries are.
    pub(super) fn spot(&self) -> &Spot<'a> {
        &self.spot
    }

    /// Refuses what nobody has asked for.
    pub(super) fn end(self) {
        for field in self.fields.into_keys() {
            let field = self.spot.field(&field);
            field.refuse("is not known", "leave it out");
        }
    }
}

/// Metadata that can say nothing to us.
pub(super) fn nothing(metadata: Option<core::Metadata>, spot: &Spot<'_>) {
    let core::Metadata { filter_metadata, typed_filter_metadata: _ } = metadata.unwrap_or_default();
    let metadata: Vec<&String> = filter_metadata.keys().filter(|key| *key == METADATA).collect();
    unsupported!(spot; metadata);
}
