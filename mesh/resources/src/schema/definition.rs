//! A schema in the form that validation walks, converted from a JSON Schema.

use serde_json::Value as Json;

use crate::limits::{MAX_DEPTH, MAX_SCHEMA_BYTES};

/// The valid forms of a value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Schema {
    /// Any value.
    Any,
    /// A text.
    Text,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number,
    /// A whole number within bounds.
    Integer { min: i64, max: i64 },
    /// One of these texts.
    Enum(Vec<EnumValue>),
    /// A list of values of one schema.
    List(Box<Self>),
    /// A map with arbitrary keys, and values of one schema.
    Map(Box<Self>),
    /// A map with these fields only.
    Record(Vec<Field>),
    /// A map with these fields and possibly others.
    OpenRecord(Vec<Field>),
    /// A text, or a map of this schema in its place.
    TextOr(Box<Self>),
}

/// The support of a field or an enum value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Support {
    /// Supported.
    Supported,
    /// Known and not supported, with the hint.
    Unsupported(&'static str),
    /// Renamed, with the current name.
    Renamed(&'static str),
}

impl Support {
    /// Returns true for a supported field or value.
    pub(crate) const fn is_supported(self) -> bool {
        matches!(self, Self::Supported)
    }
}

/// A value of an enum.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct EnumValue {
    /// The value.
    pub(crate) text: String,
    /// The description, in one sentence.
    pub(crate) doc: String,
    /// The support of the value.
    pub(crate) support: Support,
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    /// The name.
    pub(crate) name: String,
    /// The description.
    pub(crate) doc: String,
    /// True for a required field.
    pub(crate) required: bool,
    /// The schema of the value. An optional field may also be null.
    pub(crate) schema: Schema,
    /// The support of the field.
    pub(crate) support: Support,
}

impl Schema {
    /// Creates a record whose fields are all required.
    pub(crate) fn record(fields: Vec<(&str, Self, &str)>) -> Self {
        let field = |(name, schema, doc): (&str, Self, &str)| Field {
            name: name.to_owned(),
            doc: doc.to_owned(),
            required: true,
            schema,
            support: Support::Supported,
        };
        Self::Record(fields.into_iter().map(field).collect())
    }

    /// Converts a generated JSON Schema. An unknown construct converts to `Any`; a test checks that no kind has one.
    pub(crate) fn from_schema(root: &Json) -> Self {
        SchemaReader { root, is_generated: true, remaining_bytes: usize::MAX }.read(root, 0)
    }

    /// Converts the JSON Schema of a bundle's author. An unknown construct converts to `Any`.
    pub(crate) fn from_user_schema(root: &Json) -> Self {
        SchemaReader { root, is_generated: false, remaining_bytes: MAX_SCHEMA_BYTES }.read(root, 0)
    }

    /// Marks a field (`spec.rules[].name`) or an enum value (`spec.rules[].filters[].type=CORS`) as not supported or as
    /// renamed. Adds it if the types do not have it.
    pub(crate) fn mark(&mut self, path: &str, support: Support) {
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let (first, value) = first.split_once('=').map_or((first, None), |(first, value)| (first, Some(value)));
        let name = first.trim_end_matches("[]");
        let Self::Record(fields) = self else { return };
        let Some(field) = fields.iter_mut().find(|field| field.name == name) else {
            if rest.is_none() {
                let (name, doc) = (name.to_owned(), String::new());
                fields.push(Field { name, doc, required: false, schema: Self::Any, support });
            }
            return;
        };
        match (rest, value) {
            (Some(rest), _) => field.schema.element_mut().mark(rest, support),
            (None, Some(value)) => field.schema.mark_value(value, support),
            (None, None) => field.support = support,
        }
    }

    fn element_mut(&mut self) -> &mut Self {
        match self {
            Self::List(element) => element.element_mut(),
            other => other,
        }
    }

    fn mark_value(&mut self, text: &str, support: Support) {
        let Self::Enum(values) = self else { return };
        match values.iter_mut().find(|value| value.text == text) {
            Some(value) => value.support = support,
            None => values.push(EnumValue { text: text.to_owned(), doc: String::new(), support }),
        }
    }

    /// Returns the name of the type in messages, with article: `a text`, `a list`.
    pub(crate) const fn type_name(&self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Text | Self::TextOr(_) | Self::Enum(_) => "a text",
            Self::Boolean => "true or false",
            Self::Number => "a number",
            Self::Integer { .. } => "a whole number",
            Self::List(_) => "a list",
            Self::Map(_) | Self::Record(_) | Self::OpenRecord(_) => "a map",
        }
    }
}

/// Converts a JSON Schema. A recursive schema ends at the depth and size limits.
struct SchemaReader<'a> {
    root: &'a Json,
    /// True for a generated schema: every record is closed, and of several alternatives the first that is not null is
    /// used, and for a text also a map.
    is_generated: bool,
    /// The remaining size limit, in bytes of names and enum values, plus [`NODE_BYTES`] per node.
    remaining_bytes: usize,
}

/// The size of a schema node without its texts, in bytes.
const NODE_BYTES: usize = 64;

impl SchemaReader<'_> {
    fn charge(&mut self, bytes: usize) {
        self.remaining_bytes = self.remaining_bytes.saturating_sub(bytes);
    }

    fn read(&mut self, schema: &Json, depth: usize) -> Schema {
        if self.remaining_bytes == 0 || depth > MAX_DEPTH {
            return Schema::Any;
        }
        self.charge(NODE_BYTES);
        let root = self.root;
        if let Some(name) = schema["$ref"].as_str() {
            let named = name.strip_prefix("#/$defs/").map_or(&Json::Null, |name| &root["$defs"][name]);
            return self.read(named, depth + 1);
        }
        let is_null = |schema: &Json| schema["type"] == "null";
        if let Some(either) = schema["anyOf"].as_array() {
            // `Option<T>`: an optional field may be null anyway.
            if !self.is_generated && either.iter().any(is_null) {
                return Schema::Any;
            }
            let mut others = either.iter().filter(|schema| !is_null(schema));
            return match (others.next(), others.next()) {
                (Some(first), Some(second)) if self.is_generated => {
                    match (self.read(first, depth + 1), self.read(second, depth + 1)) {
                        (Schema::Text, record @ Schema::Record(_)) => Schema::TextOr(Box::new(record)),
                        (first, _) => first,
                    }
                }
                (Some(only), None) => self.read(only, depth + 1),
                _ => Schema::Any,
            };
        }
        if let Some(mut enum_values) = enum_values(schema) {
            self.charge(enum_values.iter().map(|value| value.text.len() + NODE_BYTES).sum());
            if self.remaining_bytes == 0 {
                return Schema::Any;
            }
            if !self.is_generated {
                enum_values.iter_mut().for_each(|value| value.doc.clear());
            }
            return Schema::Enum(enum_values);
        }
        let kind = match &schema["type"] {
            // In a user schema `null` is a value like any other.
            Json::Array(kinds) if !self.is_generated && kinds.iter().any(|kind| kind == "null") => None,
            Json::Array(kinds) => {
                let mut kinds = kinds.iter().filter_map(|kind| kind.as_str().filter(|kind| *kind != "null"));
                let first = kinds.next();
                first.filter(|_| self.is_generated || kinds.next().is_none())
            }
            kind => kind.as_str(),
        };
        match kind {
            Some("string") => Schema::Text,
            Some("boolean") => Schema::Boolean,
            Some("number") => Schema::Number,
            // JSON Schema: 5.0 is an integer, and integers are unbounded.
            Some("integer") if !self.is_generated => Schema::Number,
            Some("integer") => integer(schema),
            Some("array") => Schema::List(Box::new(self.read(&schema["items"], depth + 1))),
            Some("object") => self.object(schema, depth),
            _ => Schema::Any,
        }
    }

    fn object(&mut self, schema: &Json, depth: usize) -> Schema {
        let Some(properties) = schema["properties"].as_object() else {
            return Schema::Map(Box::new(self.read(&schema["additionalProperties"], depth + 1)));
        };
        let is_required = |name: &str| {
            schema["required"].as_array().is_some_and(|names| names.iter().any(|required| required == name))
        };
        let mut fields = Vec::new();
        for (name, property) in properties {
            self.charge(name.len());
            if self.remaining_bytes == 0 {
                return Schema::Any;
            }
            fields.push(Field {
                name: name.clone(),
                doc: if self.is_generated { doc(property) } else { String::new() },
                required: is_required(name),
                schema: self.read(property, depth + 1),
                support: Support::Supported,
            });
        }
        let may_hold_more = schema.get("patternProperties").is_some() || schema["additionalProperties"] != false;
        let is_closed = self.is_generated || !may_hold_more;
        if is_closed { Schema::Record(fields) } else { Schema::OpenRecord(fields) }
    }
}

/// Returns the enum values: from `enum`, or from `oneOf` with a `const` each, which schemars generates for values with
/// doc comments.
fn enum_values(schema: &Json) -> Option<Vec<EnumValue>> {
    let value = |text: &Json, doc: String| {
        Some(EnumValue { text: text.as_str()?.to_owned(), doc, support: Support::Supported })
    };
    if let Some(texts) = schema["enum"].as_array() {
        return texts.iter().map(|text| value(text, String::new())).collect();
    }
    schema["oneOf"].as_array()?.iter().map(|one| value(&one["const"], doc(one))).collect()
}

fn integer(schema: &Json) -> Schema {
    let (lowest, highest) = match schema["format"].as_str() {
        Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
        Some("uint32") => (0, i64::from(u32::MAX)),
        Some("uint16") => (0, i64::from(u16::MAX)),
        _ => (i64::MIN, i64::MAX),
    };
    Schema::Integer {
        min: schema["minimum"].as_i64().unwrap_or(lowest),
        max: schema["maximum"].as_i64().unwrap_or(highest),
    }
}

/// Returns the first paragraph of a description, on one line.
fn doc(schema: &Json) -> String {
    let description = schema["description"].as_str().unwrap_or_default();
    let paragraph = description.split("\n\n").next().unwrap_or_default();
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::kinds::kind_schema;
    use crate::spec::Kind;

    fn any_paths(schema: &Schema, path: &str, found: &mut Vec<String>) {
        match schema {
            Schema::Any => found.push(path.to_owned()),
            Schema::List(element) => any_paths(element, &format!("{path}[]"), found),
            Schema::TextOr(record) => any_paths(record, path, found),
            Schema::Map(element) => any_paths(element, &format!("{path}{{}}"), found),
            Schema::Record(fields) => {
                for field in fields.iter().filter(|field| field.support.is_supported()) {
                    any_paths(&field.schema, &format!("{path}.{}", field.name), found);
                }
            }
            _ => {}
        }
    }

    /// Every part of every generated schema is converted: only configurations of plugins are `Any`.
    #[test]
    fn generated_schemas_convert_completely() {
        let mut found = Vec::new();
        for kind in Kind::ALL {
            any_paths(kind_schema(kind), kind.name(), &mut found);
        }
        let foreign: Vec<String> = ["apiKeys", "basic", "jwt"]
            .iter()
            .map(|name| format!("AuthorizationPolicy.spec.credentials.{name}{{}}"))
            .collect();
        assert_eq!(found[0], "Filter.spec.config{}");
        assert_eq!(found[1..], foreign, "these belong to the auth filter");
    }
}
