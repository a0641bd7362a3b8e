//! Parses the `config` of a `Filter` resource, as JSON, to the filter's own type.
//!
//! A `#[derive(Deserialize)]` type is enough for most filters. To report *every* error of a configuration, not only the
//! first, read it through [`FieldReader`]:
//!
//! ```
//! use weir_sdk::config::FieldReader;
//!
//! #[derive(serde::Deserialize, Debug)]
//! #[serde(try_from = "serde_json::Value")]
//! struct Config {
//!     header: String,
//!     limit: u64,
//! }
//!
//! impl TryFrom<serde_json::Value> for Config {
//!     type Error = weir_sdk::config::ConfigErrors;
//!     fn try_from(json: serde_json::Value) -> Result<Self, Self::Error> {
//!         let mut fields = FieldReader::root(json);
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
use std::ops::RangeInclusive;
use std::rc::Rc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The configuration of a filter without one. Every field is rejected.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoConfig {}

/// The errors of a rejected configuration. `Display` writes one per line, each with the path of its field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<String>,
}

impl ConfigErrors {
    /// Creates a list with one error.
    pub fn new(error: impl Into<String>) -> Self {
        Self { errors: vec![error.into()] }
    }

    /// Returns the errors, in the order in which they were found.
    pub fn errors(&self) -> &[String] {
        &self.errors
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.errors.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}

/// Parses a configuration. An empty text is an empty object.
///
/// # Errors
/// Returns the errors of the JSON parser, or of the type's own `FieldReader`.
pub fn parse<C: DeserializeOwned>(json: &[u8]) -> Result<C, ConfigErrors> {
    let json = if json.trim_ascii().is_empty() { b"{}" } else { json };
    serde_json::from_slice(json).map_err(|error| {
        let text = error.to_string();
        // The control plane converts YAML to one line of JSON, so a position in it is of no use to the operator.
        let position = format!(" at line {} column {}", error.line(), error.column());
        let text = text.strip_suffix(&position).unwrap_or(&text);
        ConfigErrors { errors: text.lines().map(str::to_owned).collect() }
    })
}

/// Reads one object of a configuration, field by field. It collects the errors of all objects of a document, and
/// reading continues after each.
#[derive(Debug)]
pub struct FieldReader {
    path: String,
    object: Map<String, Value>,
    known: Vec<&'static str>,
    errors: Rc<RefCell<Vec<String>>>,
    /// True when the value is no object. That is reported once; missing fields are not reported.
    is_invalid: bool,
}

impl FieldReader {
    /// Reads the whole configuration.
    pub fn root(json: Value) -> Self {
        let errors = Rc::default();
        Self::new(String::new(), json, errors)
    }

    fn new(path: String, json: Value, errors: Rc<RefCell<Vec<String>>>) -> Self {
        let mut fields = Self { path, object: Map::new(), known: Vec::new(), errors, is_invalid: false };
        match json {
            Value::Object(object) => fields.object = object,
            other => {
                fields.report_self(&format!("must be an object, not {}", type_name(&other)));
                fields.is_invalid = true;
            }
        }
        fields
    }

    /// Reads an optional string.
    pub fn text(&mut self, name: &'static str) -> Option<String> {
        match self.take(name)? {
            Value::String(text) => Some(text),
            other => self.wrong_type(name, "a text", &other),
        }
    }

    /// Reads a required string. Reports its absence and returns an empty one.
    pub fn required_text(&mut self, name: &'static str) -> String {
        let missing = !self.object.contains_key(name);
        let text = self.text(name);
        if missing {
            self.report(name, "is required");
        }
        text.unwrap_or_default()
    }

    /// Reads an optional integer that is not negative.
    pub fn number(&mut self, name: &'static str) -> Option<u64> {
        let value = self.take(name)?;
        match value.as_u64() {
            Some(number) => Some(number),
            None => self.wrong_type(name, "a whole number that is not negative", &value),
        }
    }

    /// Reads a required number, with or without decimals. Reports its absence.
    pub fn required_decimal(&mut self, name: &'static str) -> Option<f64> {
        let Some(value) = self.take(name) else {
            self.report(name, "is required");
            return None;
        };
        value.as_f64().or_else(|| self.wrong_type(name, "a number", &value))
    }

    /// Reads an optional boolean; false when absent.
    pub fn flag(&mut self, name: &'static str) -> bool {
        self.flag_or(name, false)
    }

    /// Reads an optional boolean; `default` when absent.
    pub fn flag_or(&mut self, name: &'static str, default: bool) -> bool {
        self.optional_flag(name).unwrap_or(default)
    }

    /// Reads an optional boolean; `None` when absent.
    pub fn optional_flag(&mut self, name: &'static str) -> Option<bool> {
        match self.take(name)? {
            Value::Bool(flag) => Some(flag),
            other => self.wrong_type(name, "true or false", &other),
        }
    }

    /// Reads an optional integer in a range; `default` when absent.
    pub fn number_in(&mut self, name: &'static str, range: RangeInclusive<u64>, default: u64) -> u64 {
        let number = self.number(name).unwrap_or(default);
        if !range.contains(&number) {
            self.report(name, &format!("must be from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// Reads a list of strings; empty when absent.
    pub fn texts(&mut self, name: &'static str) -> Vec<String> {
        let mut texts = Vec::new();
        for (index, value) in self.take_list(name).into_iter().enumerate() {
            match value {
                Value::String(text) => texts.push(text),
                other => {
                    self.report(&format!("{name}[{index}]"), &format!("must be a text, not {}", type_name(&other)));
                }
            }
        }
        texts
    }

    /// Reads an optional object.
    pub fn object(&mut self, name: &'static str) -> Option<Self> {
        let value = self.take(name)?;
        Some(Self::new(self.field_path(name), value, Rc::clone(&self.errors)))
    }

    /// Reads a list of objects; empty when absent.
    pub fn objects(&mut self, name: &'static str) -> Vec<Self> {
        let values = self.take_list(name);
        let path = self.field_path(name);
        let read_entry = |(index, value)| Self::new(format!("{path}[{index}]"), value, Rc::clone(&self.errors));
        values.into_iter().enumerate().map(read_entry).collect()
    }

    /// Reports an error of the field `name` of this object.
    pub fn report(&self, name: &str, error: &str) {
        if !self.is_invalid {
            self.errors.borrow_mut().push(format!("{}: {error}", self.field_path(name)));
        }
    }

    /// Reports an error of this object as a whole.
    pub fn report_self(&self, error: &str) {
        if self.is_invalid {
            return;
        }
        let path = if self.path.is_empty() { "config" } else { &self.path };
        self.errors.borrow_mut().push(format!("{path}: {error}"));
    }

    /// True if no error was reported so far, in the whole document.
    pub fn is_clean(&self) -> bool {
        self.errors.borrow().is_empty()
    }

    /// Reports the fields of this object that were not read. Call it on each object but the root.
    pub fn close(&mut self) {
        let unread: Vec<String> = std::mem::take(&mut self.object).into_iter().map(|(name, _)| name).collect();
        let known = self.known.join(", ");
        for name in unread {
            self.report(&name, &format!("unknown field; known are: {known}"));
        }
    }

    /// Closes the root.
    ///
    /// # Errors
    /// Returns all errors of the document, if there are any.
    pub fn finish(mut self) -> Result<(), ConfigErrors> {
        self.close();
        let errors = self.errors.take();
        if errors.is_empty() { Ok(()) } else { Err(ConfigErrors { errors }) }
    }

    fn take_list(&mut self, name: &'static str) -> Vec<Value> {
        match self.take(name) {
            None => Vec::new(),
            Some(Value::Array(values)) => values,
            Some(other) => self.wrong_type(name, "a list", &other).unwrap_or_default(),
        }
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        if !self.known.contains(&name) {
            self.known.push(name);
        }
        self.object.remove(name).filter(|value| !value.is_null())
    }

    fn wrong_type<T>(&self, name: &str, expected: &str, found: &Value) -> Option<T> {
        self.report(name, &format!("must be {expected}, not {}", type_name(found)));
        None
    }

    fn field_path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

fn type_name(value: &Value) -> &'static str {
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
    use super::{FieldReader, NoConfig, parse};

    #[test]
    fn finish_returns_every_error_with_its_path() {
        let json =
            serde_json::json!({"rules": [{"name": 1}, 2, {"x": 1}], "on": "yes", "count": -1, "words": ["a", 3]});
        let mut root = FieldReader::root(json);
        for mut rule in root.objects("rules") {
            rule.required_text("name");
            rule.close();
        }
        root.flag("on");
        root.number("count");
        assert_eq!(root.texts("words"), ["a"]);
        let errors = root.finish().unwrap_err();
        assert_eq!(
            errors.errors(),
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
    fn absent_and_wrong_values_are_the_default() {
        let mut root = FieldReader::root(serde_json::json!({"on": 1, "small": 1, "large": 9}));
        assert!(root.flag_or("on", true) && root.flag_or("absent", true) && !root.flag("off"));
        assert_eq!(root.number_in("fits", 2..=8, 5), 5);
        assert_eq!((root.number_in("small", 2..=8, 5), root.number_in("large", 2..=9, 5)), (1, 9));
        let errors = root.finish().unwrap_err();
        assert_eq!(errors.errors(), ["on: must be true or false, not a number", "small: must be from 2 to 8"]);
    }

    #[test]
    fn value_that_is_no_object_is_one_error() {
        let mut root = FieldReader::root(serde_json::json!([1]));
        root.required_text("name");
        root.report_self("needs something");
        assert_eq!(root.finish().unwrap_err().errors(), ["config: must be an object, not a list"]);
    }

    #[test]
    fn empty_text_parses_as_empty_object() {
        assert!(parse::<NoConfig>(b"").is_ok());
        assert!(parse::<NoConfig>(b" \n").is_ok());
        assert!(parse::<NoConfig>(b"{\"a\": 1}").unwrap_err().to_string().contains("unknown field `a`"));
        assert!(parse::<NoConfig>(b"{").is_err());
    }
}
