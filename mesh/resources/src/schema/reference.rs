//! `docs/configuration.md`, written from the types' doc comments, the table of what is not supported, and the bounds.
//! A test compares the file with this text.

use std::fmt::Write;

use weir_model::limits::{
    DEFAULT_CONNECT_TIMEOUT, DEFAULT_PLUGIN_CALL_TIME, DEFAULT_PLUGIN_MEMORY_BYTES, DEFAULT_PLUGIN_START_TIME,
    DEFAULT_REQUEST_TIMEOUT, MAX_CHAIN_PLUGINS, MAX_ENDPOINTS, MAX_MATCHES, MAX_MIRRORS, MAX_PATH_MATCH_BYTES,
    MAX_PLUGIN_CALL_TIME, MAX_PLUGIN_CONFIGURATION_BYTES, MAX_PLUGIN_MEMORY_BYTES, MAX_PLUGIN_START_TIME,
    MAX_REGEX_BYTES, MAX_TARGETS, MAX_WEIGHT, MIN_PLUGIN_MEMORY_BYTES,
};
use weir_model::{ByteSize, HumanDuration};

use crate::limits::{
    MAX_DEPTH, MAX_DOCUMENTS, MAX_FILE_BYTES, MAX_HOSTNAMES, MAX_LISTENERS, MAX_RULE_MATCHES, MAX_RULES,
    MAX_TOTAL_BYTES, MAX_VALUES,
};
use crate::schema::shape::{Field, Shape};
use crate::schema::unsupported::{self, UNSUPPORTED_KINDS};
use crate::schema::{shape, spec_schema, upstream};
use crate::written::{GATEWAY_GROUP, Kind};

const INTRODUCTION: &str = "\
# Configuration

This page is written from the code (`mesh/resources/src/written`, and the upstream Gateway API types); change it there,
and run `UPDATE_DOCS=1 cargo test -p weir-resources --test documentation`.

`weir-proxy --config PATH` reads the `.yaml`, `.yml` and `.json` files of a folder, or one file. A file holds documents
with `---` between them. Either all of them are valid together and serve, or every mistake is reported at once with
file, line, column, field, reason and hint, and what served before goes on serving. A field that is unknown or not
supported is refused, never ignored. `weir-proxy validate PATH` says the same without serving.

An object's namespace is `default` when it names none. YAML is read as version 1.2: `yes` and `on` are texts, `0755` is
a number in decimal. Anchors and aliases may be used; merge keys (`<<`), tags and directives (`%`) may not.
";

const HOW_TO_READ: &str = "\
In the tables `[]` stands for the entries of a list and `{}` for names of your choice. Fields in **bold** must be there.
";

/// The text of `docs/configuration.md`.
pub fn configuration_reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("\n## An example\n\n```yaml\n");
    text.push_str(include_str!("../../tests/good.yaml"));
    text.push_str("```\n\n");
    text.push_str(HOW_TO_READ);
    for kind in Kind::ALL {
        describe(kind, &mut text);
    }
    describe_metadata(&mut text);
    describe_bounds(&mut text);
    describe_unsupported_kinds(&mut text);
    text
}

fn describe(kind: Kind, text: &mut String) {
    line(text, &format!("\n## {}\n", kind.name()));
    line(text, &format!("`apiVersion: {}`\n", kind.api_versions().join("` or `apiVersion: ")));
    line(text, &introduction(kind));
    line(text, "\n| field | value | meaning |\n|---|---|---|");
    let Shape::Record(fields) = shape(kind) else { return };
    if kind == Kind::Secret {
        let own = |field: &&Field| ["type", "data", "stringData"].contains(&field.name.as_str());
        for field in fields.iter().filter(own) {
            line(text, &row(kind, field, &field.name));
        }
    }
    for field in fields.iter().filter(|field| field.name == "spec") {
        describe_fields(kind, &field.shape, "spec", text);
    }
    let unsupported: Vec<_> = unsupported::of(kind).filter(|entry| entry.path.starts_with("spec")).collect();
    if !unsupported.is_empty() {
        line(text, "\nNot supported:\n");
    }
    for entry in unsupported {
        line(text, &format!("- `{}`: {}", entry.path, entry.hint));
    }
}

fn introduction(kind: Kind) -> String {
    let text = match kind {
        Kind::Gateway => {
            "Where the proxy listens. Without `addresses` it listens on 127.0.0.1: plain HTTP leaves the machine only \
             when somebody asks for it, with `addresses: [{value: 0.0.0.0}]`. Listeners that share a port become one, \
             named `namespace/gateway/listener` after the first of them; each answers for its own host name alone, the \
             most specific one first. The class is `weir`, and needs no GatewayClass."
        }
        Kind::HttpRoute => {
            "Which requests go where. The host is looked up first: an exact name, then the longest wildcard, then the \
             routes without host name; a request that none of that host's routes matches is answered with 404. Of the \
             routes of a host the most specific match wins: an exact path, then a regular expression (longer ones \
             first), then the longest prefix; then a match on the method, more headers, more query parameters; then \
             the older object, the namespace and name in alphabetical order, and the order written. A route that \
             attaches to nothing is refused. Requests of a rule whose weights are all 0 are answered with 500."
        }
        Kind::ReferenceGrant => {
            "Lets HTTPRoutes or TCPRoutes of another namespace refer to the Services of its own. Without one such a reference is \
             refused."
        }
        Kind::GatewayClass => {
            "A class of Gateways; optional. Its controller is `weir.dev/gateway-controller`, or its Gateways are refused."
        }
        Kind::TcpRoute
        | Kind::Service
        | Kind::Filter
        | Kind::BackendPolicy
        | Kind::AccessPolicy
        | Kind::Secret
        | Kind::Mesh => {
            let schema = spec_schema(kind);
            let doc = schema.get("description").and_then(serde_json::Value::as_str).unwrap_or_default();
            return doc.split_whitespace().collect::<Vec<_>>().join(" ");
        }
    };
    text.to_owned()
}

fn describe_fields(kind: Kind, shape: &Shape, path: &str, text: &mut String) {
    match shape {
        Shape::List(element) => describe_fields(kind, element, &format!("{path}[]"), text),
        Shape::Map(element) => describe_fields(kind, element, &format!("{path}{{}}"), text),
        Shape::Record(fields) => {
            for field in fields.iter().filter(|field| field.refused.is_none()) {
                let path = format!("{path}.{}", field.name);
                line(text, &row(kind, field, &path));
                describe_fields(kind, &field.shape, &path, text);
            }
        }
        _ => {}
    }
}

fn row(kind: Kind, field: &Field, path: &str) -> String {
    let name = if field.required { format!("**`{path}`**") } else { format!("`{path}`") };
    let mut doc = upstream::meaning(kind, path).unwrap_or(&field.doc).replace('|', "\\|");
    if let Shape::Choice(choices) = &field.shape {
        let documented = choices.iter().filter(|choice| choice.refused.is_none() && !choice.doc.is_empty());
        let meanings: Vec<String> =
            documented.map(|choice| format!("`{}`: {}", choice.text, choice.doc.trim_end_matches('.'))).collect();
        if !meanings.is_empty() {
            doc = format!("{doc} {}.", meanings.join("; "));
        }
    }
    format!("| {name} | {} | {doc} |", value(&field.shape))
}

fn value(shape: &Shape) -> String {
    match shape {
        Shape::Choice(choices) => {
            let allowed = choices.iter().filter(|choice| choice.refused.is_none());
            allowed.map(|choice| format!("`{}`", choice.text)).collect::<Vec<_>>().join(", ")
        }
        Shape::List(element) => match &**element {
            Shape::Record(_) | Shape::Open(_) => "list".to_owned(),
            element => format!("list of {}", value(element)),
        },
        Shape::Record(_) | Shape::Open(_) | Shape::Map(_) => "map".to_owned(),
        Shape::Text => "text".to_owned(),
        other => other.in_words().to_owned(),
    }
}

fn describe_metadata(text: &mut String) {
    line(text, "\n## metadata\n\nThe same for every kind.\n\n| field | value | meaning |\n|---|---|---|");
    let Shape::Record(fields) = shape(Kind::Service) else { return };
    for field in fields.iter().filter(|field| field.name == "metadata") {
        describe_fields(Kind::Service, &field.shape, "metadata", text);
    }
}

fn describe_bounds(text: &mut String) {
    let size = |bytes: usize| ByteSize(u64::try_from(bytes).unwrap_or(u64::MAX)).to_string();
    let rows = [
        ("a file", size(MAX_FILE_BYTES)),
        ("all files together", size(MAX_TOTAL_BYTES)),
        ("documents in a file", MAX_DOCUMENTS.to_string()),
        ("values in a document, aliases expanded", MAX_VALUES.to_string()),
        ("lists and maps inside each other", MAX_DEPTH.to_string()),
        ("listeners of a Gateway", MAX_LISTENERS.to_string()),
        ("host names of an HTTPRoute", MAX_HOSTNAMES.to_string()),
        ("rules of an HTTPRoute", MAX_RULES.to_string()),
        ("matches of a rule", MAX_RULE_MATCHES.to_string()),
        ("headers, and query parameters, of a match", MAX_MATCHES.to_string()),
        ("a path", size(MAX_PATH_MATCH_BYTES)),
        ("a regular expression", size(MAX_REGEX_BYTES)),
        ("`backendRefs` of a rule", MAX_TARGETS.to_string()),
        ("mirrors of a rule", MAX_MIRRORS.to_string()),
        ("a weight", MAX_WEIGHT.to_string()),
        ("endpoints of a Service", MAX_ENDPOINTS.to_string()),
        ("Filters before a request", MAX_CHAIN_PLUGINS.to_string()),
        ("`config` of a Filter, as JSON", size(MAX_PLUGIN_CONFIGURATION_BYTES)),
    ];
    line(text, "\n## Bounds\n\n| what | at most |\n|---|---|");
    for (what, most) in rows {
        line(text, &format!("| {what} | {most} |"));
    }
    let (least, most) = (ByteSize(MIN_PLUGIN_MEMORY_BYTES), ByteSize(MAX_PLUGIN_MEMORY_BYTES));
    let (call, start) = (HumanDuration(MAX_PLUGIN_CALL_TIME), HumanDuration(MAX_PLUGIN_START_TIME));
    let rows = [
        ("memory of a Filter", ByteSize(DEFAULT_PLUGIN_MEMORY_BYTES).to_string(), format!("{least} to {most}")),
        ("`callTime` of a Filter", HumanDuration(DEFAULT_PLUGIN_CALL_TIME).to_string(), format!("1ms to {call}")),
        ("`startTime` of a Filter", HumanDuration(DEFAULT_PLUGIN_START_TIME).to_string(), format!("1ms to {start}")),
        ("`timeouts.connect` of a BackendPolicy", HumanDuration(DEFAULT_CONNECT_TIMEOUT).to_string(), String::new()),
        ("`timeouts.request`", HumanDuration(DEFAULT_REQUEST_TIMEOUT).to_string(), "`0s` = no limit".to_owned()),
    ];
    line(text, "\n## Defaults\n\n| what | when left out | allowed |\n|---|---|---|");
    for (what, default, allowed) in rows {
        line(text, &format!("| {what} | {default} | {allowed} |"));
    }
}

fn describe_unsupported_kinds(text: &mut String) {
    line(text, "\n## Kinds that are not supported\n");
    for (kind, hint) in UNSUPPORTED_KINDS {
        line(text, &format!("- {kind}: {hint}"));
    }
    line(text, &format!("\nKinds of `{GATEWAY_GROUP}` are those of the standard channel."));
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a String never fails");
}
