//! A document as a tree of values, each with the place where it was written: the index from field path to line and
//! column. Made by `parse`, read by the checks, and thrown away when they are done.

use serde_json::Number;

use crate::document::path::{FieldPath, FieldStep};

/// A place in a text, both from 1; columns are counted in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Mark {
    /// The line.
    pub(crate) line: u32,
    /// The column.
    pub(crate) column: u32,
}

/// A value and where it begins.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    /// The value.
    pub(crate) value: Value,
    /// Where it begins.
    pub(crate) mark: Mark,
}

/// A value, as in JSON.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Null,
    /// What could not be read and was refused already: nobody is to object to it again.
    Unreadable,
    Boolean(bool),
    Number(Number),
    Text(String),
    List(Vec<Tree>),
    /// In the order written; no two have the same key.
    Map(Vec<(Key, Tree)>),
}

/// The name of a field, and where it was written.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    /// The name.
    pub(crate) text: String,
    /// Where it begins.
    pub(crate) mark: Mark,
}

impl Tree {
    /// A value that nobody has written down here.
    pub(crate) fn of(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        let key = |text: &String| Key { text: text.clone(), mark: Mark::default() };
        let value = match json {
            Json::Null => Value::Null,
            Json::Bool(value) => Value::Boolean(*value),
            Json::Number(number) => Value::Number(number.clone()),
            Json::String(text) => Value::Text(text.clone()),
            Json::Array(entries) => Value::List(entries.iter().map(Self::of).collect()),
            Json::Object(fields) => Value::Map(fields.iter().map(|(name, it)| (key(name), Self::of(it))).collect()),
        };
        Self { value, mark: Mark::default() }
    }

    /// The field of a map.
    pub(crate) fn field(&self, name: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key.text == name).map(|(_, tree)| tree),
            _ => None,
        }
    }

    /// The text, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Where a field was written: its name, or the value of an entry of a list. Of a field that is not there, the
    /// nearest around it that is.
    pub(crate) fn locate(&self, path: &FieldPath) -> Mark {
        let mut mark = self.mark;
        let mut tree = self;
        for step in &path.0 {
            let found = match (step, &tree.value) {
                (FieldStep::Field(name), Value::Map(entries)) => {
                    entries.iter().find(|(key, _)| key.text == *name).map(|(key, value)| (key.mark, value))
                }
                (FieldStep::Entry(index), Value::List(entries)) => entries.get(*index).map(|it| (it.mark, it)),
                _ => None,
            };
            let Some((found_mark, found_tree)) = found else { break };
            mark = found_mark;
            tree = found_tree;
        }
        mark
    }
}

impl Value {
    /// The value as JSON.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        match self {
            Self::Null | Self::Unreadable => serde_json::Value::Null,
            Self::Boolean(value) => serde_json::Value::Bool(*value),
            Self::Number(number) => serde_json::Value::Number(number.clone()),
            Self::Text(text) => serde_json::Value::String(text.clone()),
            Self::List(entries) => entries.iter().map(|entry| entry.value.to_json()).collect(),
            Self::Map(entries) => serde_json::Value::Object(
                entries.iter().map(|(key, it)| (key.text.clone(), it.value.to_json())).collect(),
            ),
        }
    }

    /// What it is, in words: `a text`, `a list`.
    pub(crate) fn in_words(&self) -> &'static str {
        match self {
            Self::Null | Self::Unreadable => "nothing",
            Self::Boolean(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "a text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}
