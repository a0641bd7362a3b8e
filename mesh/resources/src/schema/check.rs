//! Pass two of the checks: a document against the shape of its kind. Every field that is unknown, missing, of the wrong
//! type or not supported is reported at once.

use crate::document::{Faults, Path, Tree, Value};
use crate::schema::shape::{Choice, Field, Shape};
use crate::suggest::{hint, listing, quoted};

/// Checks a value and all that is in it.
pub(crate) fn check(tree: &Tree, shape: &Shape, path: &Path<'_>, faults: &mut Faults) {
    match (shape, &tree.value) {
        (Shape::Any, _)
        | (_, Value::Unreadable)
        | (Shape::Text, Value::Text(_))
        | (Shape::Boolean, Value::Boolean(_)) => {}
        (Shape::Number, Value::Number(_)) => {}
        (Shape::Integer { min, max }, Value::Number(number)) => {
            if !number.as_i64().is_some_and(|number| (*min..=*max).contains(&number)) {
                faults.add(path, format!("{number} is not a whole number that fits"), range_hint(*min, *max));
            }
        }
        (Shape::Choice(choices), Value::Text(text)) => check_choice(text, choices, path, faults),
        (Shape::List(element), Value::List(entries)) => {
            for (index, entry) in entries.iter().enumerate() {
                check(entry, element, &path.entry(index), faults);
            }
        }
        (Shape::Map(element), Value::Map(entries)) => {
            for (key, entry) in entries {
                check(entry, element, &path.field(&key.text), faults);
            }
        }
        (Shape::Record(fields), Value::Map(_)) => check_record(tree, fields, Unknown::Refused, path, faults),
        (Shape::Open(fields), Value::Map(_)) => check_record(tree, fields, Unknown::Allowed, path, faults),
        (shape, value) => faults.add(path, mismatch(shape, value), mismatch_hint(shape, value)),
    }
}

/// What becomes of fields that a record does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Refused,
    Allowed,
}

fn check_record(tree: &Tree, fields: &[Field], unknown: Unknown, path: &Path<'_>, faults: &mut Faults) {
    let Value::Map(entries) = &tree.value else { return };
    for (key, value) in entries {
        let at = path.field(&key.text);
        match fields.iter().find(|field| field.name == key.text) {
            None if unknown == Unknown::Allowed => {}
            None => faults.add(&at, "unknown field", unknown_hint(&key.text, fields)),
            Some(Field { refused: Some(hint), .. }) => faults.add(&at, "not supported", *hint),
            Some(field) if !field.required && matches!(value.value, Value::Null) => {}
            Some(field) => check(value, &field.shape, &at, faults),
        }
    }
    for field in fields.iter().filter(|field| field.required && tree.field(&field.name).is_none()) {
        let hint = format!("add `{}`: {}", field.name, expectation(&field.shape));
        faults.add(&path.field(&field.name), "missing", hint);
    }
}

fn check_choice(text: &str, choices: &[Choice], path: &Path<'_>, faults: &mut Faults) {
    match choices.iter().find(|choice| choice.text == text) {
        None => {
            let allowed = choices.iter().filter(|choice| choice.refused.is_none()).map(|choice| choice.text.as_str());
            faults.add(
                path,
                format!("{} is not one of the allowed values", quoted(text)),
                hint(text, allowed, "use one of"),
            );
        }
        Some(Choice { refused: Some(hint), .. }) => {
            faults.add(path, format!("{} is not supported", quoted(text)), *hint);
        }
        Some(_) => {}
    }
}

fn unknown_hint(name: &str, fields: &[Field]) -> String {
    let known = fields.iter().filter(|field| field.refused.is_none()).map(|field| field.name.as_str());
    hint(name, known, "the fields here are")
}

fn mismatch(shape: &Shape, value: &Value) -> String {
    match value {
        Value::Null => format!("must be {}, but nothing is there", shape.in_words()),
        value => format!("must be {}, not {}", shape.in_words(), value.in_words()),
    }
}

/// What to do about it, without repeating the value: it may be a secret that went to the wrong place.
fn mismatch_hint(shape: &Shape, value: &Value) -> String {
    match (shape, value) {
        (Shape::Text, Value::Number(_) | Value::Boolean(_)) => "put it in quotes".to_owned(),
        (Shape::Boolean, Value::Text(_)) => "write `true` or `false`, without quotes".to_owned(),
        (Shape::Integer { .. } | Shape::Number, Value::Text(_)) => "write a number, without quotes".to_owned(),
        (Shape::List(_), _) => "begin each entry with `- `, or write `[first, second]`".to_owned(),
        (Shape::Record(_) | Shape::Open(_) | Shape::Map(_), Value::List(_)) => {
            "write `name: value` lines, without `- `".to_owned()
        }
        (shape, _) => format!("write {}", expectation(shape)),
    }
}

fn expectation(shape: &Shape) -> String {
    match shape {
        Shape::Choice(choices) => {
            let allowed = choices.iter().filter(|choice| choice.refused.is_none()).map(|choice| choice.text.as_str());
            format!("one of {}", listing(allowed))
        }
        Shape::Record(fields) | Shape::Open(fields) => {
            let fields = fields.iter().filter(|field| field.refused.is_none()).map(|field| field.name.as_str());
            format!("a map with {}", listing(fields))
        }
        other => other.in_words().to_owned(),
    }
}

fn range_hint(min: i64, max: i64) -> String {
    if min == i64::MIN || max == i64::MAX {
        return "write it without a fraction".to_owned();
    }
    format!("use one between {min} and {max}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::parse;
    use crate::schema::shape as shape_of;
    use crate::written::Kind;

    #[test]
    fn every_fault_is_found_at_once() {
        let text = "apiVersion: weir.dev/v1alpha1\nkind: Service\nmetadata: {nam: a, labels: {x: 1}}\n\
                    spec: {ports: {port: 80}, endpoints: [{address: 1, weigth: 2}], dns: x, selector: {}}\n";
        let document = parse(text).documents.remove(0);
        let mut faults = Faults::default();
        check(&document.tree, shape_of(Kind::Service), &Path::ROOT, &mut faults);
        let found: Vec<_> =
            faults.into_vec().iter().map(|it| format!("{}: {} ({})", it.path, it.reason, it.hint)).collect();
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
