//! A document as a tree of values with source positions. Built by `parse`, read during validation, and dropped
//! afterwards.

use serde_json::Number;

use crate::yaml::path::{FieldPath, FieldStep};

/// A position in a text, from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Position {
    /// The line.
    pub(crate) line: u32,
    /// The column.
    pub(crate) column: u32,
}

/// A value and its position.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// The value.
    pub(crate) value: Value,
    /// The position of the value's start.
    pub(crate) position: Position,
}

/// A value, as in JSON.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    /// A value with a reported error; further checks skip it.
    Error,
    Boolean(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    /// In document order, without duplicate keys.
    Map(Vec<(Key, Node)>),
}

/// The key of a field, with its position.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// The key.
    pub(crate) text: String,
    /// The position of the key's start.
    pub(crate) position: Position,
}

impl Node {
    /// Converts a JSON value, without positions.
    pub(crate) fn from_json(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        let key = |text: &String| Key { text: text.clone(), position: Position::default() };
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Boolean(*value),
            Json::Number(number) => Value::Number(number.clone()),
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(entries) => Value::List(entries.iter().map(Self::from_json).collect()),
            Json::Object(fields) => {
                Value::Map(fields.iter().map(|(name, value)| (key(name), Self::from_json(value))).collect())
            }
        };
        Self { value, position: Position::default() }
    }

    /// Returns a field of a map.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node),
            _ => None,
        }
    }

    /// Returns a field of a map.
    pub(crate) fn field_mut(&mut self, name: &str) -> Option<&mut Self> {
        match &mut self.value {
            Value::Map(entries) => entries.iter_mut().find(|(key, _)| key.text == name).map(|(_, node)| node),
            _ => None,
        }
    }

    /// Returns the text, if the value is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the position of a field: of its key, or of an entry of a list. Returns that of the nearest parent if the
    /// field is missing.
    pub(crate) fn locate(&self, path: &FieldPath) -> Position {
        let mut position = self.position;
        let mut node = self;
        for step in &path.0 {
            let found = match (step, &node.value) {
                (FieldStep::Field(name), Value::Map(entries)) => {
                    entries.iter().find(|(key, _)| key.text == *name).map(|(key, value)| (key.position, value))
                }
                (FieldStep::Entry(index), Value::List(entries)) => {
                    entries.get(*index).map(|entry| (entry.position, entry))
                }
                _ => None,
            };
            let Some((found_mark, found_tree)) = found else { break };
            position = found_mark;
            node = found_tree;
        }
        position
    }
}

impl Value {
    /// Returns the value as JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null | Self::Error => serde_json::Value::Null,
            Self::Boolean(value) => serde_json::Value::Bool(*value),
            Self::Number(number) => serde_json::Value::Number(number.clone()),
            Self::Text(text) => serde_json::Value::String(text.clone()),
            Self::List(entries) => entries.iter().map(|entry| entry.value.to_json()).collect(),
            Self::Map(entries) => serde_json::Value::Object(
                entries.iter().map(|(key, node)| (key.text.clone(), node.value.to_json())).collect(),
            ),
        }
    }

    /// Returns the name of the type in messages, with article: `a text`, `a list`.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Self::Null | Self::Error => "nothing",
            Self::Boolean(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}
