//! A strict parser for the JSON of tokens. It rejects documents that two parsers could read differently.
//!
//! Of two equal names `serde_json` uses the last, other parsers use the first. An attacker could exploit the
//! difference. Deep and long documents are rejected too, since every downstream can send them.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The maximum depth of nested objects and lists.
const MAX_DEPTH: usize = 8;

/// The fault of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonError {
    /// The document is not JSON, is not an object, has a name twice, or is too deep.
    Malformed,
    /// The document has more values than allowed.
    TooManyValues,
}

/// Parses an object of at most `max_values` values, without the names.
///
/// # Errors
/// Returns the fault of the document.
pub fn object(text: &[u8], max_values: usize) -> Result<Map<String, Value>, JsonError> {
    let text = std::str::from_utf8(text).map_err(|_| JsonError::Malformed)?;
    let values = Values { left: Cell::new(max_values), exceeded: Cell::new(false) };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict { depth: MAX_DEPTH, values: &values }.deserialize(&mut deserializer);
    match (value, deserializer.end()) {
        _ if values.exceeded.get() => Err(JsonError::TooManyValues),
        (Ok(Value::Object(object)), Ok(())) => Ok(object),
        _ => Err(JsonError::Malformed),
    }
}

/// The values that a document may still have.
struct Values {
    left: Cell<usize>,
    exceeded: Cell<bool>,
}

/// The seed that reads one value, with the rest of the limits.
#[derive(Clone, Copy)]
struct Strict<'c> {
    depth: usize,
    values: &'c Values,
}

impl Strict<'_> {
    fn inner<E: Error>(self) -> Result<Self, E> {
        let depth = self.depth.checked_sub(1).ok_or_else(|| E::custom("too deep"))?;
        Ok(Self { depth, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let Some(left) = self.values.left.get().checked_sub(1) else {
            self.values.exceeded.set(true);
            return Err(D::Error::custom("too many values"));
        };
        self.values.left.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JSON")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Bool(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::from(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::String(text.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(inner)? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.inner()?;
        let mut object = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(inner)?;
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom("the same name twice"));
            }
        }
        Ok(Value::Object(object))
    }
}
