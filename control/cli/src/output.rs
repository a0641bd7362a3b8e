//! Output of commands: the response of the control API as a table, as JSON or as YAML.

use serde_json::Value;
use weir_resources::to_yaml;

use crate::args::Output;

/// Formats a response; `to_table` formats it for a terminal.
pub(crate) fn render(output: Output, response: &Value, to_table: impl Fn(&Value) -> String) -> String {
    match output {
        Output::Table => to_table(response),
        Output::Json => format!("{response:#}\n"),
        Output::Yaml => to_yaml(response),
    }
}

/// Formats a response that has no table: as YAML unless JSON is requested.
pub(crate) fn render_document(output: Output, response: &Value) -> String {
    render(if output == Output::Table { Output::Yaml } else { output }, response, to_yaml)
}

/// Returns a string field; an empty text if it is absent.
pub(crate) fn str_field(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

/// Returns the items of an array; none if the value is no array.
pub(crate) fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Returns the strings of an array, joined by commas.
pub(crate) fn join_items(value: &Value) -> String {
    items(value).filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

/// Returns `KIND NAMESPACE/NAME` of an object; without the namespace if it is cluster-scoped.
pub(crate) fn object_name(object: &Value) -> String {
    let [kind, namespace, name] = ["kind", "namespace", "name"].map(|field| str_field(object, field));
    if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") }
}

/// Indents every line by two spaces.
pub(crate) fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}
