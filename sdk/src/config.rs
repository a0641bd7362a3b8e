//! The `config` of a `Filter` resource: JSON text to the filter's own type.
//!
//! A plain `#[derive(Deserialize)]` type is enough for most filters. One that wants to report *every* error of a
//! configuration, not only the first, reads it through [`Fields`]:
//!
//! ```
//! use weir_sdk::config::Fields;
//!
//! #[derive(serde::Deserialize, Debug)]
//! #[serde(try_from = "serde_json::Value")]
//! struct Config {
//!     header: String,
//!     limit: u64,
//! }
//!
//! impl TryFrom<serde_json::Value> for Config {
//!     type Error = weir_sdk::config::Refusal;
//!     fn try_from(json: serde_json::Value) -> Result<Self, Self::Error> {
//!         let mut fields = Fields::root(json);
//!         let header = fields.text("header");
//!         let limit = fields.number("limit");
//!         fields.finish()?;
//!         Ok(Self { header: header.unwrap_or_else(|| "x-limit".into()), limit: limit.unwrap_or(10) })
//!     }
//! }
//!
//! let error = weir_sdk::config::parse::<Config>(br#"{"header": 1, "limmit": 2}"#).unwrap_err().to_string();
//! assert_eq!(error, "header: must be a text, not a number\nlimmit: unknown field; known are: header, limit");
//! ```

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The configuration of a filter that has none: anything but nothing is refused.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// Why a configuration was refused: one line for each error, each beginning with the field's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    errors: Vec<String>,
}

impl Refusal {
    /// One error.
    pub fn new(error: impl Into<String>) -> Self {
        Self { errors: vec![error.into()] }
    }

    /// The errors, in the order in which they were found.
    pub fn errors(&self) -> &[String] {
        &self.errors
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.errors.join("\n"))
    }
}

impl std::error::Error for Refusal {}

/// Reads a configuration; no bytes at all are an empty object.
pub fn parse<C: DeserializeOwned>(json: &[u8]) -> Result<C, Refusal> {
    let json = if json.trim_ascii().is_empty() { b"{}" } else { json };
    serde_json::from_slice(json).map_err(|error| {
        let text = error.to_string();
        // The host has rewritten the YAML as one line of JSON, so a position in it means nothing to anybody.
        let position = format!(" at line {} column {}", error.line(), error.column());
        let text = text.strip_suffix(&position).unwrap_or(&text);
        Refusal { errors: text.lines().map(str::to_owned).collect() }
    })
}

/// One object of a configuration, read field by field. Errors of all objects of a document are kept together, and
/// reading goes on after each.
#[derive(Debug)]
pub struct Fields {
    path: String,
    object: Map<String, Value>,
    known: Vec<&'static str>,
    errors: Rc<RefCell<Vec<String>>>,
    /// Set when it is no object at all: that is the error, and what is missing inside it is none.
    is_mute: bool,
}

impl Fields {
    /// The whole configuration.
    pub fn root(json: Value) -> Self {
        let errors = Rc::default();
        Self::of(String::new(), json, errors)
    }

    fn of(path: String, json: Value, errors: Rc<RefCell<Vec<String>>>) -> Self {
        let mut fields = Self { path, object: Map::new(), known: Vec::new(), errors, is_mute: false };
        match json {
            Value::Object(object) => fields.object = object,
            other => {
                fields.report_self(&format!("must be an object, not {}", kind(&other)));
                fields.is_mute = true;
            }
        }
        fields
    }

    /// An optional text.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            other => self.wrong_kind(name, "a text", &other),
        }
    }

    /// A text that must be there; reports its absence and answers an empty one.
    pub fn required_text(&mut self, name: &'static str) -> String {
        let missing = !self.object.contains_key(name);
        let text = self.text(name);
        if missing {
            self.report(name, "is required");
        }
        text.unwrap_or_default()
    }

    /// An optional whole number that is not negative.
    pub fn number(&mut self, name: &'static str) -> Option<u64> {
        let value = self.take(name)?;
        match value.as_u64() {
            Some(number) => Some(number),
            None => self.wrong_kind(name, "a whole number that is not negative", &value),
        }
    }

    /// A number, with or without decimals, that must be there; reports its absence.
    pub fn required_decimal(&mut self, name: &'static str) -> Option<f64> {
        let Some(value) = self.take(name) else {
            self.report(name, "is required");
            return None;
        };
        value.as_f64().or_else(|| self.wrong_kind(name, "a number", &value))
    }

    /// An optional true or false; absent is false.
    pub fn flag(&mut self, name: &'static str) -> bool {
        match self.take(name) {
            None => false,
            Some(Value::Bool(flag)) => flag,
            Some(other) => self.wrong_kind(name, "true or false", &other).unwrap_or_default(),
        }
    }

    /// A list of texts; absent is empty.
    pub fn texts(&mut self, name: &'static str) -> Vec<String> {
        let mut texts = Vec::new();
        for (index, value) in self.take_list(name).into_iter().enumerate() {
            match value {
                Value::String(text) => texts.push(text),
                other => self.report(&format!("{name}[{index}]"), &format!("must be a text, not {}", kind(&other))),
            }
        }
        texts
    }

    /// An optional object.
    pub fn object(&mut self, name: &'static str) -> Option<Self> {
        let value = self.take(name)?;
        Some(Self::of(self.path_of(name), value, Rc::clone(&self.errors)))
    }

    /// A list of objects; absent is empty.
    pub fn objects(&mut self, name: &'static str) -> Vec<Self> {
        let values = self.take_list(name);
        let path = self.path_of(name);
        let of_index = |(index, value)| Self::of(format!("{path}[{index}]"), value, Rc::clone(&self.errors));
        values.into_iter().enumerate().map(of_index).collect()
    }

    /// Adds an error about the field `name` of this object.
    pub fn report(&self, name: &str, error: &str) {
        if !self.is_mute {
            self.errors.borrow_mut().push(format!("{}: {error}", self.path_of(name)));
        }
    }

    /// Adds an error about this object as a whole.
    pub fn report_self(&self, error: &str) {
        if self.is_mute {
            return;
        }
        let path = if self.path.is_empty() { "config" } else { &self.path };
        self.errors.borrow_mut().push(format!("{path}: {error}"));
    }

    /// Whether nothing has been reported so far, in the whole document.
    pub fn is_clean(&self) -> bool {
        self.errors.borrow().is_empty()
    }

    /// Reports the fields of this object that nobody has read. Call it on each object but the root.
    pub fn close(&mut self) {
        let unread: Vec<String> = std::mem::take(&mut self.object).into_iter().map(|(name, _)| name).collect();
        let known = self.known.join(", ");
        for name in unread {
            self.report(&name, &format!("unknown field; known are: {known}"));
        }
    }

    /// Closes the root and answers with all errors of the document.
    pub fn finish(mut self) -> Result<(), Refusal> {
        self.close();
        let errors = self.errors.take();
        if errors.is_empty() { Ok(()) } else { Err(Refusal { errors }) }
    }

    fn take_list(&mut self, name: &'static str) -> Vec<Value> {
        match self.take(name) {
            None => Vec::new(),
            Some(Value::Array(values)) => values,
            Some(other) => self.wrong_kind(name, "a list", &other).unwrap_or_default(),
        }
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.object.remove(name).filter(|value| !value.is_null())
    }

    fn wrong_kind<T>(&self, name: &str, wanted: &str, found: &Value) -> Option<T> {
        self.report(name, &format!("must be {wanted}, not {}", kind(found)));
        None
    }

    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::{Fields, NoConfig, parse};

    #[test]
    fn every_error_is_reported_with_its_path() {
        let json =
            serde_json::json!({"rules": [{"name": 1}, 2, {"x": 1}], "on": "yes", "count": -1, "words": ["a", 3]});
        let mut root = Fields::root(json);
        for mut rule in root.objects("rules") {
            rule.required_text("name");
            rule.close();
        }
        root.flag("on");
        root.number("count");
        assert_eq!(root.texts("words"), ["a"]);
        let refusal = root.finish().unwrap_err();
        assert_eq!(
            refusal.errors(),
            [
                "rules[1]: must be an object, not a number",
                "rules[0].name: must be a text, not a number",
                "rules[2].name: is required",
                "rules[2].x: unknown field; known are: name",
                "on: must be true or false, not a text",
                "count: must be a whole number that is not negative, not a number",
                "words[1]: must be a text, not a number",
            ]
        );
    }

    #[test]
    fn what_is_no_object_is_one_error() {
        let mut root = Fields::root(serde_json::json!([1]));
        root.required_text("name");
        root.report_self("needs something");
        assert_eq!(root.finish().unwrap_err().errors(), ["config: must be an object, not a list"]);
    }

    #[test]
    fn nothing_is_an_empty_object() {
        assert!(parse::<NoConfig>(b"").is_ok());
        assert!(parse::<NoConfig>(b" \n").is_ok());
        assert!(parse::<NoConfig>(b"{\"a\": 1}").unwrap_err().to_string().contains("unknown field `a`"));
        assert!(parse::<NoConfig>(b"{").is_err());
    }
}
