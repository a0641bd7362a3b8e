//! Output of commands: the response of the control API as a table, as JSON or as YAML. Texts of others, such as the
//! names of proxies, have no control character in any output.

use std::borrow::Cow;
use std::fmt::Write;

use serde_json::Value;
use weir_model::{is_unprintable, printable, printable_lines};
use weir_resources::to_yaml;

use crate::args::Output;

/// Formats a response; `to_table` formats it for a terminal.
pub(crate) fn render(output: Output, response: &Value, to_table: impl Fn(&Value) -> String) -> String {
    match output {
        Output::Table => printable_lines(&to_table(response)).into_owned(),
        Output::Json => format!("{}\n", printable_json(&format!("{response:#}"))),
        Output::Yaml => printable_lines(&to_yaml(response)).into_owned(),
    }
}

/// Formats a response that has no table: as YAML unless JSON is requested.
pub(crate) fn render_document(output: Output, response: &Value) -> String {
    render(if output == Output::Table { Output::Yaml } else { output }, response, to_yaml)
}

/// Returns a JSON text with escapes in place of unprintable characters. serde_json escapes those of ASCII only, and all
/// others are in strings.
fn printable_json(json: &str) -> Cow<'_, str> {
    let is_escaped = |character: char| character != '\n' && is_unprintable(character);
    if !json.contains(is_escaped) {
        return Cow::Borrowed(json);
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for character in json.chars() {
        if is_escaped(character) {
            // All of them are in the Basic Multilingual Plane; writing to a String does not fail.
            write!(escaped, "\\u{:04x}", u32::from(character)).ok();
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// Returns a string field; an empty text if it is absent.
pub(crate) fn str_field(value: &Value, name: &str) -> String {
    text(&value[name]).unwrap_or_default()
}

/// Returns a string; `None` for another value.
pub(crate) fn text(value: &Value) -> Option<String> {
    value.as_str().map(|text| printable(text).into_owned())
}

/// Returns the items of an array; none if the value is no array.
pub(crate) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Returns the strings of an array, joined by a separator.
pub(crate) fn join_items(value: &Value, separator: &str) -> String {
    items(value).filter_map(text).collect::<Vec<_>>().join(separator)
}

/// Returns `KIND NAMESPACE/NAME` of an object; without the namespace if it is cluster-scoped.
pub(crate) fn object_name(object: &Value) -> String {
    let [kind, namespace, name] = ["kind", "namespace", "name"].map(|field| str_field(object, field));
    if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") }
}

/// Indents every line of a string field by two spaces.
pub(crate) fn indent_field(value: &Value, name: &str) -> String {
    let text = value[name].as_str().unwrap_or_default();
    text.lines().map(|line| format!("  {}\n", printable(line))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_output_has_control_characters() {
        let response = json!({"name": "a\nb  \u{1b}[2J\u{9b}m\u{202e}x", "list": ["c\rd"]});
        let table = |value: &Value| format!("{} {}\n", str_field(value, "name"), join_items(&value["list"], ", "));
        for output in [Output::Table, Output::Json, Output::Yaml] {
            let text = render(output, &response, table);
            let is_raw = |character: char| character != '\n' && is_unprintable(character);
            assert!(!text.contains(is_raw) && !text.contains("a\nb"), "{output:?}: {text:?}");
            match output {
                Output::Table => assert_eq!(text, "a\\nb  \\u{1b}[2J\\u{9b}m\\u{202e}x c\\rd\n"),
                Output::Json => assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), response),
                Output::Yaml => assert_eq!(text.lines().count(), 3, "{text}"),
            }
        }
    }
}
