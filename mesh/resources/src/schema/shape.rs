//! What a value may look like: a JSON Schema as this crate's types generate it, in the form that checks can walk.

use serde_json::Value as Json;

use crate::limits::{MAX_DEPTH, MAX_SCHEMA_BYTES};

/// What a value may look like.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Shape {
    /// Anything.
    Any,
    /// A text.
    Text,
    /// `true` or `false`.
    Boolean,
    /// Any number.
    Number,
    /// A whole number.
    Integer { min: i64, max: i64 },
    /// One of some texts.
    Choice(Vec<Choice>),
    /// Values of one shape.
    List(Box<Self>),
    /// Names of the writer's choice with values of one shape.
    Map(Box<Self>),
    /// These fields and no others.
    Record(Vec<Field>),
    /// These fields, and others.
    Open(Vec<Field>),
}

/// A text that is allowed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Choice {
    /// The text.
    pub(crate) text: String,
    /// What it means, in a sentence.
    pub(crate) doc: String,
    /// A hint, when it is known and not supported.
    pub(crate) refused: Option<&'static str>,
}

/// A field of a record.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Field {
    /// Its name.
    pub(crate) name: String,
    /// What it means.
    pub(crate) doc: String,
    /// True when it must be there.
    pub(crate) required: bool,
    /// What its value may look like; an optional one may also be null.
    pub(crate) shape: Shape,
    /// A hint, when it is known and not supported.
    pub(crate) refused: Option<&'static str>,
}

impl Shape {
    /// A record whose fields are all required.
    pub(crate) fn record(fields: Vec<(&str, Self, &str)>) -> Self {
        let field = |(name, shape, doc): (&str, Self, &str)| Field {
            name: name.to_owned(),
            doc: doc.to_owned(),
            required: true,
            shape,
            refused: None,
        };
        Self::Record(fields.into_iter().map(field).collect())
    }

    /// The shape that a generated schema describes. What it does not understand it takes for anything; a test holds
    /// that against every kind.
    pub(crate) fn from_schema(root: &Json) -> Self {
        SchemaReader { root, is_ours: true, left: usize::MAX }.shape(root, 0)
    }

    /// As much as can be said of the shape that somebody else's schema describes; the rest is anything.
    pub(crate) fn from_foreign_schema(root: &Json) -> Self {
        SchemaReader { root, is_ours: false, left: MAX_SCHEMA_BYTES }.shape(root, 0)
    }

    /// Marks a field (`spec.rules[].name`), or one value of a choice (`spec.rules[].filters[].type=CORS`), as known
    /// and not supported. One that the types do not have is added.
    pub(crate) fn refuse(&mut self, path: &str, hint: &'static str) {
        let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
        let (first, choice) = first.split_once('=').map_or((first, None), |(first, choice)| (first, Some(choice)));
        let name = first.trim_end_matches("[]");
        let Self::Record(fields) = self else { return };
        let Some(field) = fields.iter_mut().find(|field| field.name == name) else {
            if rest.is_none() {
                let (name, doc) = (name.to_owned(), String::new());
                fields.push(Field { name, doc, required: false, shape: Self::Any, refused: Some(hint) });
            }
            return;
        };
        match (rest, choice) {
            (Some(rest), _) => field.shape.element_mut().refuse(rest, hint),
            (None, Some(choice)) => field.shape.refuse_choice(choice, hint),
            (None, None) => field.refused = Some(hint),
        }
    }

    fn element_mut(&mut self) -> &mut Self {
        match self {
            Self::List(element) => element.element_mut(),
            other => other,
        }
    }

    fn refuse_choice(&mut self, text: &str, hint: &'static str) {
        let Self::Choice(choices) = self else { return };
        match choices.iter_mut().find(|choice| choice.text == text) {
            Some(choice) => choice.refused = Some(hint),
            None => choices.push(Choice { text: text.to_owned(), doc: String::new(), refused: Some(hint) }),
        }
    }

    /// What it is, in words: `a text`, `a list`.
    pub(crate) const fn in_words(&self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Text | Self::Choice(_) => "a text",
            Self::Boolean => "true or false",
            Self::Number => "a number",
            Self::Integer { .. } => "a whole number",
            Self::List(_) => "a list",
            Self::Map(_) | Self::Record(_) | Self::Open(_) => "a map",
        }
    }
}

/// Reads a schema; what refers to itself ends.
struct SchemaReader<'a> {
    root: &'a Json,
    /// Generated from our types: every record is closed, and of several shapes the first that is not null counts.
    is_ours: bool,
    /// How many bytes of names and choices may still be read, and a little for each part.
    left: usize,
}

/// What a part of a schema costs beside its texts, in bytes.
const PART_BYTES: usize = 64;

impl SchemaReader<'_> {
    fn pay(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
    }

    fn shape(&mut self, schema: &Json, depth: usize) -> Shape {
        if self.left == 0 || depth > MAX_DEPTH {
            return Shape::Any;
        }
        self.pay(PART_BYTES);
        let root = self.root;
        if let Some(name) = schema["$ref"].as_str() {
            let named = name.strip_prefix("#/$defs/").map_or(&Json::Null, |name| &root["$defs"][name]);
            return self.shape(named, depth + 1);
        }
        let is_null = |schema: &Json| schema["type"] == "null";
        if let Some(either) = schema["anyOf"].as_array() {
            // `Option<T>`: the null is allowed by the field being optional.
            if !self.is_ours && either.iter().any(is_null) {
                return Shape::Any;
            }
            let mut others = either.iter().filter(|it| !is_null(it));
            return match (others.next(), others.next()) {
                (Some(only), second) if self.is_ours || second.is_none() => self.shape(only, depth + 1),
                _ => Shape::Any,
            };
        }
        if let Some(mut choices) = choices(schema) {
            self.pay(choices.iter().map(|choice| choice.text.len() + PART_BYTES).sum());
            if self.left == 0 {
                return Shape::Any;
            }
            if !self.is_ours {
                choices.iter_mut().for_each(|choice| choice.doc.clear());
            }
            return Shape::Choice(choices);
        }
        let kind = match &schema["type"] {
            // `null` is a value like any other to somebody else.
            Json::Array(kinds) if !self.is_ours && kinds.iter().any(|kind| kind == "null") => None,
            Json::Array(kinds) => {
                let mut kinds = kinds.iter().filter_map(|kind| kind.as_str().filter(|kind| *kind != "null"));
                let first = kinds.next();
                first.filter(|_| self.is_ours || kinds.next().is_none())
            }
            kind => kind.as_str(),
        };
        match kind {
            Some("string") => Shape::Text,
            Some("boolean") => Shape::Boolean,
            Some("number") => Shape::Number,
            Some("integer") if !self.is_ours => Shape::Number, // As large as one likes, and 5.0 is one.
            Some("integer") => integer(schema),
            Some("array") => Shape::List(Box::new(self.shape(&schema["items"], depth + 1))),
            Some("object") => self.object(schema, depth),
            _ => Shape::Any,
        }
    }

    fn object(&mut self, schema: &Json, depth: usize) -> Shape {
        let Some(properties) = schema["properties"].as_object() else {
            return Shape::Map(Box::new(self.shape(&schema["additionalProperties"], depth + 1)));
        };
        let is_required =
            |name: &str| schema["required"].as_array().is_some_and(|names| names.iter().any(|it| it == name));
        let mut fields = Vec::new();
        for (name, property) in properties {
            self.pay(name.len());
            if self.left == 0 {
                return Shape::Any;
            }
            fields.push(Field {
                name: name.clone(),
                doc: if self.is_ours { doc(property) } else { String::new() },
                required: is_required(name),
                shape: self.shape(property, depth + 1),
                refused: None,
            });
        }
        let may_hold_more = schema.get("patternProperties").is_some() || schema["additionalProperties"] != false;
        let is_closed = self.is_ours || !may_hold_more;
        if is_closed { Shape::Record(fields) } else { Shape::Open(fields) }
    }
}

/// The allowed texts: `enum`, or `oneOf` with a `const` each where the values have doc comments.
fn choices(schema: &Json) -> Option<Vec<Choice>> {
    let choice = |text: &Json, doc: String| Some(Choice { text: text.as_str()?.to_owned(), doc, refused: None });
    if let Some(texts) = schema["enum"].as_array() {
        return texts.iter().map(|text| choice(text, String::new())).collect();
    }
    schema["oneOf"].as_array()?.iter().map(|one| choice(&one["const"], doc(one))).collect()
}

fn integer(schema: &Json) -> Shape {
    let (lowest, highest) = match schema["format"].as_str() {
        Some("int32") => (i64::from(i32::MIN), i64::from(i32::MAX)),
        Some("uint32") => (0, i64::from(u32::MAX)),
        Some("uint16") => (0, i64::from(u16::MAX)),
        _ => (i64::MIN, i64::MAX),
    };
    Shape::Integer {
        min: schema["minimum"].as_i64().unwrap_or(lowest),
        max: schema["maximum"].as_i64().unwrap_or(highest),
    }
}

/// The first paragraph of a description, on one line.
fn doc(schema: &Json) -> String {
    let description = schema["description"].as_str().unwrap_or_default();
    let paragraph = description.split("\n\n").next().unwrap_or_default();
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::shape as shape_of;
    use crate::written::Kind;

    fn holes(shape: &Shape, path: &str, found: &mut Vec<String>) {
        match shape {
            Shape::Any => found.push(path.to_owned()),
            Shape::List(element) => holes(element, &format!("{path}[]"), found),
            Shape::Map(element) => holes(element, &format!("{path}{{}}"), found),
            Shape::Record(fields) => {
                for field in fields.iter().filter(|field| field.refused.is_none()) {
                    holes(&field.shape, &format!("{path}.{}", field.name), found);
                }
            }
            _ => {}
        }
    }

    /// Every part of every generated schema is understood: nothing passes for anything but what is handed to a plugin.
    #[test]
    fn the_shapes_have_no_holes() {
        let mut found = Vec::new();
        for kind in Kind::ALL {
            holes(shape_of(kind), kind.name(), &mut found);
        }
        let foreign: Vec<String> =
            ["apiKeys", "basic", "jwt"].iter().map(|it| format!("AccessPolicy.spec.credentials.{it}{{}}")).collect();
        assert_eq!(found[0], "Filter.spec.config{}");
        assert_eq!(found[1..], foreign, "these are the auth filter's");
    }
}
