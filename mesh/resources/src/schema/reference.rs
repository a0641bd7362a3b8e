//! The generator of `docs/configuration.md`: from the types' doc comments, the table of unsupported fields, and the
//! limits. A test compares the file with its output.

use std::fmt::Write;

use weir_model::limits::{
    DEFAULT_CONNECT_TIMEOUT, DEFAULT_PLUGIN_CALL_TIME, DEFAULT_PLUGIN_MEMORY_BYTES, DEFAULT_PLUGIN_START_TIME,
    DEFAULT_REQUEST_TIMEOUT, MAX_CHAIN_PLUGINS, MAX_ENDPOINTS, MAX_MATCHES, MAX_MIRRORS, MAX_PATH_MATCH_BYTES,
    MAX_PLUGIN_CALL_TIME, MAX_PLUGIN_CONFIGURATION_BYTES, MAX_PLUGIN_MEMORY_BYTES, MAX_PLUGIN_START_TIME,
    MAX_REGEX_BYTES, MAX_TARGETS, MAX_WEIGHT, MIN_PLUGIN_MEMORY_BYTES,
};
use weir_model::{ByteSize, GatewayDuration};

use crate::limits::{
    MAX_DEPTH, MAX_DOCUMENTS, MAX_FILE_BYTES, MAX_HOSTNAMES, MAX_LIST_VALUES, MAX_LISTENERS, MAX_RULE_MATCHES,
    MAX_RULES, MAX_TOTAL_BYTES, MAX_VALUES,
};
use crate::schema::definition::{Field, Schema};
use crate::schema::gateway_api_docs;
use crate::schema::kinds::{kind_schema, spec_schema};
use crate::schema::unsupported::{self, UNSUPPORTED_KINDS};
use crate::spec::{GATEWAY_GROUP, Kind};

const INTRODUCTION: &str = "\
# Configuration

This page is generated from the code (`mesh/resources/src/spec`, and descriptions of the Gateway API types). Change
the code and run `UPDATE_DOCS=1 cargo test -p weir-resources --test documentation`.

`weir-proxy --config PATH` reads the `.yaml`, `.yml` and `.json` files of a folder, or one file. A file contains
documents with `---` between them. A document is one object, or a list of objects: a list at the top, as `weir get -o
yaml` prints, or `apiVersion: v1`, `kind: List` with `items`, as kubectl prints. The files are accepted or rejected as
a whole. On errors the proxy reports all of them with file, line, column, field, reason and hint, and the previous
configuration stays active. An unknown or unsupported field is rejected, never ignored. `weir-proxy validate PATH`
reports the same errors without starting a proxy.

The default namespace of an object is `default`. YAML is read as version 1.2: `yes` and `on` are texts, `0755` is a
decimal number. Anchors and aliases are supported; merge keys (`<<`), tags and directives (`%`) are not.

What a control plane or a cluster writes is ignored, so that a printed object can be applied: `status`, and `uid`,
`resourceVersion`, `generation` and `managedFields` of `metadata`.
";

const HOW_TO_READ: &str = "\
In the tables `[]` stands for the entries of a list and `{}` for keys of your choice. Fields in **bold** are required.
";

/// Returns the text of `docs/configuration.md`.
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
    describe_limits(&mut text);
    describe_unsupported_kinds(&mut text);
    text
}

fn describe(kind: Kind, text: &mut String) {
    line(text, &format!("\n## {}\n", kind.name()));
    line(text, &format!("`apiVersion: {}`\n", kind.api_versions().join("` or `apiVersion: ")));
    line(text, &introduction(kind));
    line(text, "\n| field | value | description |\n|---|---|---|");
    let Schema::Record(fields) = kind_schema(kind) else { return };
    if !kind.has_spec() {
        let own = |field: &&Field| ["type", "data", "stringData"].contains(&field.name.as_str());
        for field in fields.iter().filter(own) {
            line(text, &row(kind, field, &field.name));
        }
    }
    for field in fields.iter().filter(|field| field.name == "spec") {
        describe_fields(kind, &field.schema, "spec", text);
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
            "Listeners of the proxy. The default address is 127.0.0.1: plaintext HTTP is reachable from other machines \
             only with `addresses: [{value: 0.0.0.0}]`. Listeners that share a port become one, named \
             `namespace/gateway/listener` after the first of them. Each serves its own host name only, and the most \
             specific host name wins. The class is `weir`, which needs no GatewayClass."
        }
        Kind::HttpRoute => {
            "Routes of requests. The host is matched first: an exact name, then the longest wildcard, then routes \
             without host name. A request that matches none of the host's routes is answered with 404. Of the routes \
             of a host the most specific match wins: an exact path, then a regular expression (longer ones first), \
             then the longest prefix; then a match on the method, more headers, more query parameters; then the older \
             object, the namespace and name in alphabetical order, and the order in the document. Of two objects that \
             were applied, the older one is that of the earlier revision, then the first of its request, whatever the \
             clock was; objects with a `creationTimestamp` alone are older, those in files without one are younger. The \
             `status.notes` of an HTTPRoute name the route that wins over an equal match. A route that attaches to no \
             listener is rejected. A rule whose weights are all 0 answers with 500."
        }
        Kind::GrpcRoute => {
            "Routes of gRPC calls. Hosts are matched as for an HTTPRoute. Of the routes of a host the one with the \
             longest service wins, then the longest method, then more headers; then the older object, as for an \
             HTTPRoute. A host of a listener has HTTPRoutes or GRPCRoutes: of two routes of different kinds the younger \
             one is rejected. The content type is not matched. A backend without `protocol` or `appProtocol` is \
             forwarded to by HTTP/2 without TLS. There is no `timeouts`: a call ends after 15 s, after the \
             `timeouts.request` of a BackendTrafficPolicy (`0s` for long streams), or after its own `grpc-timeout` if \
             that is shorter."
        }
        Kind::ReferenceGrant => {
            "Permits HTTPRoutes, GRPCRoutes or TCPRoutes of another namespace to refer to Services of its own namespace. A \
             reference across namespaces without a grant is rejected."
        }
        Kind::BackendTlsPolicy => {
            "TLS to Services: the CAs and the name of their certificates. It applies to HTTPRoutes, TCPRoutes, mirrors and \
             the callouts of filters. Of two policies for one port, the one with `sectionName` applies, then the older \
             one, then the first by name; `weir-proxy validate` and the log name the other one. A connection to a server \
             whose certificate is not accepted fails, with status 503. A port without `protocol` and \
             `appProtocol` has HTTP/2 if the server selects it by ALPN, otherwise HTTP/1.1, and HTTP/1.1 for \
             upgrades; TCPRoutes have no ALPN. A Service with `identity` has the TLS of the mesh \
             and can have no policy. The client certificate is that of the Gateway whose routes lead to the Service \
             (`tls.backend.clientCertificateRef`); Gateways that share such a Service need the same one."
        }
        Kind::GatewayClass => {
            "A class of Gateways; optional. Gateways of a class with another controller than \
             `weir.dev/gateway-controller` are rejected."
        }
        Kind::TcpRoute
        | Kind::ServiceEntry
        | Kind::Filter
        | Kind::BackendTrafficPolicy
        | Kind::ClientTrafficPolicy
        | Kind::AuthorizationPolicy
        | Kind::Secret
        | Kind::ConfigMap
        | Kind::Mesh => {
            let schema = spec_schema(kind);
            let doc = schema.get("description").and_then(serde_json::Value::as_str).unwrap_or_default();
            return doc.split_whitespace().collect::<Vec<_>>().join(" ");
        }
    };
    text.to_owned()
}

fn describe_fields(kind: Kind, schema: &Schema, path: &str, text: &mut String) {
    match schema {
        Schema::List(element) => describe_fields(kind, element, &format!("{path}[]"), text),
        Schema::Map(element) => describe_fields(kind, element, &format!("{path}{{}}"), text),
        Schema::TextOr(record) => describe_fields(kind, record, path, text),
        Schema::Record(fields) => {
            for field in fields.iter().filter(|field| field.support.is_supported()) {
                let path = format!("{path}.{}", field.name);
                line(text, &row(kind, field, &path));
                describe_fields(kind, &field.schema, &path, text);
            }
        }
        _ => {}
    }
}

fn row(kind: Kind, field: &Field, path: &str) -> String {
    let name = if field.required { format!("**`{path}`**") } else { format!("`{path}`") };
    let mut doc = gateway_api_docs::field_doc(kind, path).unwrap_or(&field.doc).replace('|', "\\|");
    if let Schema::Enum(values) = &field.schema {
        let documented = values.iter().filter(|value| value.support.is_supported() && !value.doc.is_empty());
        let meanings: Vec<String> =
            documented.map(|value| format!("`{}`: {}", value.text, value.doc.trim_end_matches('.'))).collect();
        if !meanings.is_empty() {
            doc = format!("{doc} {}.", meanings.join("; "));
        }
    }
    format!("| {name} | {} | {doc} |", value(&field.schema))
}

fn value(schema: &Schema) -> String {
    match schema {
        Schema::Enum(values) => {
            let allowed = values.iter().filter(|value| value.support.is_supported());
            allowed.map(|value| format!("`{}`", value.text)).collect::<Vec<_>>().join(", ")
        }
        Schema::List(element) => match &**element {
            Schema::Record(_) | Schema::OpenRecord(_) => "list".to_owned(),
            element => format!("list of {}", value(element)),
        },
        Schema::Record(_) | Schema::OpenRecord(_) | Schema::Map(_) => "map".to_owned(),
        Schema::Text => "text".to_owned(),
        Schema::TextOr(_) => "text or map".to_owned(),
        other => other.type_name().to_owned(),
    }
}

fn describe_metadata(text: &mut String) {
    line(text, "\n## metadata\n\nCommon to all kinds.\n\n| field | value | description |\n|---|---|---|");
    let Schema::Record(fields) = kind_schema(Kind::ServiceEntry) else { return };
    for field in fields.iter().filter(|field| field.name == "metadata") {
        describe_fields(Kind::ServiceEntry, &field.schema, "metadata", text);
    }
}

fn describe_limits(text: &mut String) {
    let size = |bytes: usize| ByteSize(u64::try_from(bytes).unwrap_or(u64::MAX)).to_string();
    let rows = [
        ("a file", size(MAX_FILE_BYTES)),
        ("all files together", size(MAX_TOTAL_BYTES)),
        ("documents in a file", MAX_DOCUMENTS.to_string()),
        ("values in a document, or in an entry of a list of objects, aliases expanded", MAX_VALUES.to_string()),
        ("values in a list of objects", MAX_LIST_VALUES.to_string()),
        ("nested lists and maps", MAX_DEPTH.to_string()),
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
        ("endpoints of a ServiceEntry", MAX_ENDPOINTS.to_string()),
        ("Filters and AuthorizationPolicies of a request", MAX_CHAIN_PLUGINS.to_string()),
        ("`config` of a Filter, as JSON", size(MAX_PLUGIN_CONFIGURATION_BYTES)),
    ];
    line(text, "\n## Limits\n\n| value | limit |\n|---|---|");
    for (value, limit) in rows {
        line(text, &format!("| {value} | {limit} |"));
    }
    let (least, most) = (ByteSize(MIN_PLUGIN_MEMORY_BYTES), ByteSize(MAX_PLUGIN_MEMORY_BYTES));
    let (call, start) = (GatewayDuration(MAX_PLUGIN_CALL_TIME), GatewayDuration(MAX_PLUGIN_START_TIME));
    let rows = [
        ("memory of a Filter", ByteSize(DEFAULT_PLUGIN_MEMORY_BYTES).to_string(), format!("{least} to {most}")),
        ("`callTimeout` of a Filter", GatewayDuration(DEFAULT_PLUGIN_CALL_TIME).to_string(), format!("1ms to {call}")),
        (
            "`startTimeout` of a Filter",
            GatewayDuration(DEFAULT_PLUGIN_START_TIME).to_string(),
            format!("1ms to {start}"),
        ),
        (
            "`timeouts.connect` of a BackendTrafficPolicy",
            GatewayDuration(DEFAULT_CONNECT_TIMEOUT).to_string(),
            String::new(),
        ),
        (
            "`timeouts.request`",
            GatewayDuration(DEFAULT_REQUEST_TIMEOUT).to_string(),
            "`0s` disables the limit".to_owned(),
        ),
    ];
    line(text, "\n## Defaults\n\n| field | default | allowed |\n|---|---|---|");
    for (field, default, allowed) in rows {
        line(text, &format!("| {field} | {default} | {allowed} |"));
    }
}

fn describe_unsupported_kinds(text: &mut String) {
    line(text, "\n## Kinds that are not supported\n");
    for (kind, hint) in UNSUPPORTED_KINDS {
        line(text, &format!("- {kind}: {hint}"));
    }
    line(text, &format!("\nThe kinds of `{GATEWAY_GROUP}` are those of the standard channel."));
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("writing to a String never fails");
}
