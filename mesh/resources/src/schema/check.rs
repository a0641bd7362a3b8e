//! The second validation step: a document against the schema of its kind. Reports every field that is unknown, missing,
//! of the wrong type or not supported.

use crate::schema::definition::{EnumValue, Field, Schema, Support};
use crate::schema::renamed::renamed_hint;
use crate::suggest::{hint, listing, quoted};
use crate::yaml::{FieldErrors, FieldPathRef, Node, Value};

/// Checks a value and its children.
pub(crate) fn check(node: &Node, schema: &Schema, path: &FieldPathRef<'_>, errors: &mut FieldErrors) {
    match (schema, &node.value) {
        (Schema::Any, _)
        | (_, Value::Error)
        | (Schema::Text | Schema::TextOr(_), Value::Text(_))
        | (Schema::Boolean, Value::Boolean(_)) => {}
        (Schema::Number, Value::Number(_)) => {}
        (Schema::Integer { min, max }, Value::Number(number)) => {
            if !number.as_i64().is_some_and(|number| (*min..=*max).contains(&number)) {
                errors.add(path, format!("{number} is not a whole number that fits"), range_hint(*min, *max));
            }
        }
        (Schema::TextOr(record), Value::Map(_)) => check(node, record, path, errors),
        (Schema::Enum(values), Value::Text(text)) => check_enum(text, values, path, errors),
        (Schema::List(element), Value::List(entries)) => {
            for (index, entry) in entries.iter().enumerate() {
                check(entry, element, &path.entry(index), errors);
            }
        }
        (Schema::Map(element), Value::Map(entries)) => {
            for (key, entry) in entries {
                check(entry, element, &path.field(&key.text), errors);
            }
        }
        (Schema::Record(fields), Value::Map(_)) => check_record(node, fields, UnknownFields::Rejected, path, errors),
        (Schema::OpenRecord(fields), Value::Map(_)) => check_record(node, fields, UnknownFields::Allowed, path, errors),
        (schema, value) => errors.add(path, mismatch(schema, value), mismatch_hint(schema, value)),
    }
}

/// The handling of fields that are not in a record's schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnknownFields {
    Rejected,
    Allowed,
}

fn check_record(
    node: &Node,
    fields: &[Field],
    unknown: UnknownFields,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) {
    let Value::Map(entries) = &node.value else { return };
    for (key, entry) in entries {
        let at = path.field(&key.text);
        match fields.iter().find(|field| field.name == key.text) {
            None if unknown == UnknownFields::Allowed => {}
            None => errors.add(&at, "unknown field", unknown_hint(&key.text, fields)),
            Some(Field { support: Support::Unsupported(hint), .. }) => errors.add(&at, "not supported", *hint),
            Some(Field { support: Support::Renamed(new), .. }) => {
                errors.add(&at, "unknown field", renamed_hint(&key.text, new));
            }
            Some(field) if !field.required && matches!(entry.value, Value::Null) => {}
            Some(field) => check(entry, &field.schema, &at, errors),
        }
    }
    for field in fields.iter().filter(|field| field.required && node.field(&field.name).is_none()) {
        let hint = format!("add `{}`: {}", field.name, expectation(&field.schema));
        errors.add(&path.field(&field.name), "missing", hint);
    }
}

fn check_enum(text: &str, values: &[EnumValue], path: &FieldPathRef<'_>, errors: &mut FieldErrors) {
    match values.iter().find(|value| value.text == text) {
        None => {
            let allowed = values.iter().filter(|value| value.support.is_supported()).map(|value| value.text.as_str());
            errors.add(
                path,
                format!("{} is not one of the allowed values", quoted(text)),
                hint(text, allowed, "use one of"),
            );
        }
        Some(EnumValue { support: Support::Unsupported(hint), .. }) => {
            errors.add(path, format!("{} is not supported", quoted(text)), *hint);
        }
        Some(EnumValue { support: Support::Renamed(new), .. }) => {
            let reason = format!("{} is not one of the allowed values", quoted(text));
            errors.add(path, reason, renamed_hint(text, new));
        }
        Some(_) => {}
    }
}

fn unknown_hint(name: &str, fields: &[Field]) -> String {
    let known = fields.iter().filter(|field| field.support.is_supported()).map(|field| field.name.as_str());
    hint(name, known, "the fields here are")
}

fn mismatch(schema: &Schema, value: &Value) -> String {
    match value {
        Value::Null => format!("must be {}, but is empty", schema.type_name()),
        value => format!("must be {}, not {}", schema.type_name(), value.type_name()),
    }
}

/// Returns the hint for a value of the wrong type. Omits the value, which may be a secret in the wrong place.
fn mismatch_hint(schema: &Schema, value: &Value) -> String {
    match (schema, value) {
        (Schema::Text | Schema::TextOr(_), Value::Number(_) | Value::Boolean(_)) => "put it in quotes".to_owned(),
        (Schema::Boolean, Value::Text(_)) => "write `true` or `false`, without quotes".to_owned(),
        (Schema::Integer { .. } | Schema::Number, Value::Text(_)) => "write a number, without quotes".to_owned(),
        (Schema::List(_), _) => "begin each entry with `- `, or write `[first, second]`".to_owned(),
        (Schema::Record(_) | Schema::OpenRecord(_) | Schema::Map(_), Value::List(_)) => {
            "write `name: value` lines, without `- `".to_owned()
        }
        (Schema::Record(fields), Value::Text(text)) => match enum_field_with(fields, text) {
            Some(field) => format!("write `{{{field}: {text}}}`"),
            None => format!("write {}", expectation(schema)),
        },
        (schema, _) => format!("write {}", expectation(schema)),
    }
}

/// Returns the enum field of a record that has this value: the record may have replaced a plain text.
fn enum_field_with<'a>(fields: &'a [Field], text: &str) -> Option<&'a str> {
    let has_value = |field: &&Field| match &field.schema {
        Schema::Enum(values) => values.iter().any(|value| value.text == text),
        _ => false,
    };
    fields.iter().find(has_value).map(|field| field.name.as_str())
}

fn expectation(schema: &Schema) -> String {
    match schema {
        Schema::Enum(values) => {
            let allowed = values.iter().filter(|value| value.support.is_supported()).map(|value| value.text.as_str());
            format!("one of {}", listing(allowed))
        }
        Schema::Record(fields) | Schema::OpenRecord(fields) => {
            let fields = fields.iter().filter(|field| field.support.is_supported()).map(|field| field.name.as_str());
            format!("a map with {}", listing(fields))
        }
        other => other.type_name().to_owned(),
    }
}

fn range_hint(min: i64, max: i64) -> String {
    match (min, max) {
        (i64::MIN, _) => "write it without a fraction".to_owned(),
        (_, i64::MAX) => format!("use {min} or more, without a fraction"),
        _ => format!("use one between {min} and {max}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::kinds::kind_schema;
    use crate::spec::Kind;
    use crate::yaml::parse;

    #[test]
    fn check_reports_all_errors() {
        let text = "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {nam: a, labels: {x: 1}}\n\
                    spec: {ports: {port: 80}, endpoints: [{address: 1, weigth: 2}], dns: x, selector: {}}\n";
        let document = parse(text).documents.remove(0);
        let mut errors = FieldErrors::default();
        check(&document.root, kind_schema(Kind::ServiceEntry), &FieldPathRef::ROOT, &mut errors);
        let found: Vec<_> = errors
            .into_vec()
            .iter()
            .map(|error| format!("{}: {} ({})", error.path, error.reason, error.hint))
            .collect();
        assert_eq!(
            found,
            [
                "metadata.nam: unknown field (did you mean `name`?)",
                "metadata.labels.x: must be a text, not a number (put it in quotes)",
                "metadata.name: missing (add `name`: a text)",
                "spec.ports: must be a list, not a map (begin each entry with `- `, or write `[first, second]`)",
                "spec.endpoints[0].address: must be a text, not a number (put it in quotes)",
                "spec.endpoints[0].weigth: unknown field (did you mean `weight`?)",
                "spec.dns: must be a map, not a text (write a map with host, port)",
                "spec.selector: not supported (list the `endpoints`, or write `dns`)",
            ]
        );
    }
}
