//! The commands: each calls the control API and formats the response.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};
use weir_model::GatewayDuration;
use weir_resources::{BundleCatalog, Compiler, parse_objects};

#[expect(clippy::disallowed_types, reason = "there is no tokio here, and no clock to stop")]
use std::time::Instant;

use crate::args::{CaCommand, Command, CommandLine, Output, TokenCommand};
use crate::client::Client;
use crate::output::{indent_field, items, join_items, object_name, render, render_document, str_field, text};
use crate::table::table;
use crate::url::query;
use crate::{bundle, input};

/// The longest wait of `--wait`.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The time for which a proxy may reject something before `--wait` fails. The next update may fix it.
const REJECTION_PATIENCE: Duration = Duration::from_secs(2);

/// The pause between two requests of `--wait`.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Runs a command and returns its output.
pub(crate) fn run(line: CommandLine) -> anyhow::Result<String> {
    let CommandLine { connection, command } = line;
    let output = connection.output;
    if let Command::Validate(files) = &command {
        return validate(&files.files);
    }
    if let Command::Bundle(command) = &command
        && let Some(result) = bundle::run_local(command, output)
    {
        return result;
    }
    let client = Client::new(&connection)?;
    match command {
        Command::Apply(args) => {
            let change =
                ApplyQuery { message: args.message.clone(), is_dry_run: false, allow_shrink: args.allow_shrink };
            let response = apply(&client, &args.files.files, change)?;
            if args.wait {
                wait_for_proxies(&client)?;
            }
            let waited = if args.wait { "every proxy serves it\n" } else { "" };
            Ok(render(output, &response, |response| changes(response) + waited))
        }
        Command::Diff(args) => {
            let change = ApplyQuery { message: None, is_dry_run: true, allow_shrink: false };
            let response = apply(&client, &args.files, change)?;
            Ok(render(output, &response, differences))
        }
        Command::Get { kind, name: Some(name), namespace } => {
            let (kind, namespace) = (kind.unwrap_or_default(), namespace.unwrap_or_else(|| "default".to_owned()));
            let mut object = client.get(&format!("resources/{kind}/{namespace}/{name}"))?;
            // Without the status, the printed object can be applied again.
            drop(object.as_object_mut().and_then(|object| object.remove("status")));
            Ok(render_document(output, &object))
        }
        Command::Get { kind, name: None, namespace } => {
            let found = client.get(&format!("resources{}", query(&[("kind", kind), ("namespace", namespace)])))?;
            Ok(render(output, &found, objects))
        }
        Command::Delete { kind: Some(kind), name: Some(name), namespace, message, allow_shrink, .. } => {
            let query = query(&[("message", message), flag("allowShrink", allow_shrink)]);
            let path = format!("resources/{kind}/{namespace}/{name}{query}");
            Ok(render(output, &client.request("DELETE", &path, String::new())?, changes))
        }
        Command::Delete { files, message, allow_shrink, .. } => {
            let query = query(&[("message", message), flag("allowShrink", allow_shrink)]);
            let response = delete_files(&client, &files, &query)?;
            Ok(render(output, &response, changes))
        }
        Command::History { revision: None } => Ok(render(output, &client.get("revisions")?, revisions)),
        Command::History { revision: Some(id) } => {
            Ok(render(output, &client.get(&format!("revisions/{id}"))?, revision))
        }
        Command::Rollback { to, revision, dry_run, message, allow_shrink } => {
            let id = to.or(revision).context("`rollback` needs --to REVISION")?;
            let query = query(&[("message", message), flag("dry_run", dry_run), flag("allowShrink", allow_shrink)]);
            let response = client.request("POST", &format!("revisions/{id}/rollback{query}"), String::new())?;
            Ok(render(output, &response, if dry_run { differences } else { changes }))
        }
        Command::Backup { file } => {
            client.download("backup", &file)?;
            Ok(format!("wrote {}; check it with `weir-control check --backup {}`\n", file.display(), file.display()))
        }
        Command::Status => status(&client, output),
        Command::Proxies => Ok(render(output, &client.get("proxies")?, proxies)),
        Command::Ca { command } => ca(&client, output, command.as_ref()),
        Command::Bundle(command) => bundle::run_remote(&client, output, command),
        Command::Token(command) => token(&client, output, command),
        Command::Validate(_) => bail!("`validate` needs no control plane"), // Handled above.
    }
}

/// The query of an apply.
struct ApplyQuery {
    message: Option<String>,
    is_dry_run: bool,
    allow_shrink: bool,
}

fn flag(name: &'static str, is_set: bool) -> (&'static str, Option<String>) {
    (name, is_set.then(|| "true".to_owned()))
}

fn apply(client: &Client, paths: &[PathBuf], change: ApplyQuery) -> anyhow::Result<Value> {
    let ApplyQuery { message, is_dry_run, allow_shrink } = change;
    let files = input::read(paths)?;
    let (text, spans) = input::concat(&files);
    let query = query(&[
        ("path", Some(input::COMBINED.to_owned())),
        ("message", message),
        flag("dry_run", is_dry_run),
        flag("allowShrink", allow_shrink),
    ]);
    client.request_with_files("POST", &format!("apply{query}"), text, &spans)
}

/// Waits until every connected proxy serves the current configuration.
#[expect(clippy::disallowed_types, reason = "there is no tokio here, and no clock to stop")]
fn wait_for_proxies(client: &Client) -> anyhow::Result<()> {
    let until = Instant::now() + MAX_WAIT;
    let mut rejecting_since = None;
    loop {
        let summary = client.get("status")?;
        if summary["upToDate"] == summary["proxies"] {
            return Ok(());
        }
        // A proxy that rejects something may not have received this change yet.
        let is_rejecting = summary["refusing"] != 0;
        rejecting_since = is_rejecting.then(|| rejecting_since.unwrap_or_else(Instant::now));
        if rejecting_since.is_some_and(|since| since.elapsed() > REJECTION_PATIENCE) || Instant::now() > until {
            bail!("applied, but not every proxy serves it:\n{}", proxies(&client.get("proxies")?));
        }
        thread::sleep(POLL_INTERVAL);
    }
}

fn delete_files(client: &Client, paths: &[PathBuf], query: &str) -> anyhow::Result<Value> {
    let files = input::read(paths)?;
    let written: Vec<_> = files.iter().map(parse_objects).collect();
    if let Some(diagnostic) = written.iter().flat_map(|written| &written.diagnostics).next() {
        bail!("nothing is deleted: {diagnostic}");
    }
    let written = written.into_iter().flat_map(|written| written.objects);
    let names = written.map(|object| {
        let (namespace, name) = (&*object.id.namespace, &*object.id.name);
        json!({"kind": object.id.kind.name(), "namespace": namespace, "name": name})
    });
    let names: Vec<Value> = names.collect();
    if names.is_empty() {
        bail!("the files name no object");
    }
    client.request("POST", &format!("delete{query}"), Value::from(names).to_string())
}

fn validate(paths: &[PathBuf]) -> anyhow::Result<String> {
    let files = input::read(paths)?;
    let mut compiler = Compiler::new();
    compiler.set_bundles(&Arc::new(BundleCatalog::unchecked()));
    match compiler.compile(&files) {
        Ok(compiled) => {
            let warnings: String = compiled.warnings.iter().map(|warning| format!("warning: {warning}\n")).collect();
            Ok(format!("{warnings}valid: {} objects\n", compiled.objects().count()))
        }
        Err(diagnostics) => {
            let texts: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
            bail!("invalid: {} errors\n{}", diagnostics.len(), texts.join("\n"))
        }
    }
}

fn status(client: &Client, output: Output) -> anyhow::Result<String> {
    let (summary, found, connected) = (client.get("status")?, client.get("resources")?, client.get("proxies")?);
    let all = json!({"summary": summary, "objects": found, "proxies": connected});
    Ok(render(output, &all, |all| {
        let count = |name: &str| all["summary"][name].to_string();
        format!(
            "revision {}, {} objects, {} proxies: {} up to date, {} rejecting\n\n{}\n{}",
            count("revision"),
            count("objects"),
            count("proxies"),
            count("upToDate"),
            count("refusing"),
            objects(&all["objects"]),
            proxies(&all["proxies"]),
        )
    }))
}

fn ca(client: &Client, output: Output, command: Option<&CaCommand>) -> anyhow::Result<String> {
    let status = match command {
        None | Some(CaCommand::Status) => client.get("authority")?,
        Some(CaCommand::Rotate) => client.request("POST", "authority/rotation", String::new())?,
    };
    Ok(render(output, &status, |status| {
        let roots = items(&status["roots"]).map(|root| {
            let signs = if root["signs"] == true { "active" } else { "" };
            let [sha256, from, trusted, end] =
                ["sha256", "signsFrom", "ends", "certificateEnds"].map(|name| str_field(root, name));
            vec![sha256, signs.to_owned(), from, trusted, end]
        });
        let ttl = Duration::from_secs(status["certificateLifetimeSeconds"].as_u64().unwrap_or_default());
        let domain = str_field(status, "trustDomain");
        let head = format!("trust domain {domain}; certificates expire after {}\n", GatewayDuration(ttl));
        head + &table(&["ROOT", "", "ACTIVE FROM", "TRUSTED UNTIL", "CERTIFICATE ENDS"], &roots.collect::<Vec<_>>())
    }))
}

fn token(client: &Client, output: Output, command: TokenCommand) -> anyhow::Result<String> {
    match command {
        TokenCommand::Create { name, role, namespace, workload, ttl, expires_in_seconds } => {
            let ttl_seconds = ttl.map(|GatewayDuration(ttl)| ttl.as_millis().div_ceil(1_000));
            let expires_in_seconds = ttl_seconds.or(expires_in_seconds.map(u128::from));
            let namespaces = (!namespace.is_empty()).then_some(namespace);
            let body = json!({"name": name, "role": role, "namespaces": namespaces, "workload": workload,
                              "expiresInSeconds": expires_in_seconds});
            let token = client.request("POST", "tokens", body.to_string())?;
            Ok(render(output, &token, |token| format!("{}\n", str_field(token, "secret"))))
        }
        TokenCommand::List => Ok(render(output, &client.get("tokens")?, |tokens| {
            let rows = items(tokens).map(|token| {
                let namespaces = join_items(&token["namespaces"], ",");
                let fields = ["id", "name", "role"].map(|name| str_field(token, name));
                let mut row = fields.to_vec();
                row.push(if namespaces.is_empty() { "all".to_owned() } else { namespaces });
                row.extend([str_field(token, "created"), str_field(token, "expires")]);
                row
            });
            table(&["ID", "NAME", "ROLE", "NAMESPACES", "CREATED", "EXPIRES"], &rows.collect::<Vec<_>>())
        })),
        TokenCommand::Revoke { id } => {
            let revoked = client.request("DELETE", &format!("tokens/{id}"), String::new())?;
            Ok(render(output, &revoked, |token| format!("{} revoked\n", str_field(token, "name"))))
        }
    }
}

fn objects(found: &Value) -> String {
    let rows = items(found).map(|object| {
        let metadata = &object["metadata"];
        let status = &object["status"];
        let from = status["file"].as_str().map_or_else(|| format!("revision {}", status["revision"]), str::to_owned);
        let programmed = str_field(&status["programmed"], "message");
        vec![str_field(object, "kind"), str_field(metadata, "namespace"), str_field(metadata, "name"), from, programmed]
    });
    table(&["KIND", "NAMESPACE", "NAME", "FROM", "PROGRAMMED"], &rows.collect::<Vec<_>>())
}

fn proxies(connected: &Value) -> String {
    let rows = items(connected).map(|proxy| {
        let gateway = proxy["gateway"].as_str().unwrap_or("all").to_owned();
        let has = if proxy["serves"].is_null() { &proxy["accepted"] } else { &proxy["serves"] };
        let state = match (proxy["failed"].as_array().map_or(0, Vec::len), has == &proxy["newest"]) {
            (0, true) => "up to date".to_owned(),
            (0, false) => format!("{} ms behind", proxy["lagMs"]),
            (count, _) => format!("rejects {count}: {}", str_field(&proxy["failed"][0], "reason")),
        };
        let state = match proxy["certificateFailure"].as_str() {
            Some(reason) => format!("{state}; its certificate is not renewed: {reason}"),
            None => state,
        };
        vec![
            str_field(proxy, "node"),
            gateway,
            str_field(proxy, "program"),
            format!("{has}/{}", proxy["newest"]),
            state,
        ]
    });
    table(&["PROXY", "GATEWAY", "CLIENT", "GENERATION", "STATE"], &rows.collect::<Vec<_>>())
}

fn changes(response: &Value) -> String {
    let line = |change| format!("{} {}\n", object_name(change), str_field(change, "effect"));
    let lines: String = items(&response["changes"]).map(line).collect();
    format!("{lines}revision {}\n{}", response["revision"], warnings(response))
}

/// Returns the warnings of a change, each with its hint on a second line.
fn warnings(response: &Value) -> String {
    let line = |warning: &Value| {
        let [object, field, reason, hint] = ["object", "field", "reason", "hint"].map(|name| str_field(warning, name));
        let hint = if hint.is_empty() { hint } else { format!("  hint: {hint}\n") };
        format!("warning: {object}: {field}: {reason}\n{hint}")
    };
    items(&response["warnings"]).map(line).collect()
}

fn differences(response: &Value) -> String {
    let mut output = String::new();
    for change in items(&response["changes"]) {
        let effect = str_field(change, "effect");
        output.push_str(&format!("{} would be {effect}\n{}", object_name(change), indent_field(change, "diff")));
    }
    output.push_str(&warnings(response));
    for scope in items(&response["scopes"]) {
        let gateway = text(&scope["gateway"]).map_or("every Gateway".to_owned(), |name| format!("Gateway {name}"));
        let nodes = join_items(&scope["proxies"], ", ");
        output.push_str(&format!("\nproxies of {gateway} ({nodes}) would receive:\n"));
        for resource in items(&scope["resources"]) {
            let [kind, name, effect] = ["kind", "name", "effect"].map(|field| str_field(resource, field));
            output.push_str(&format!("  {kind} {name} {effect}\n"));
        }
        if items(&scope["resources"]).next().is_none() {
            output.push_str("  no change\n");
        }
    }
    output
}

fn revisions(found: &Value) -> String {
    let rows = items(found).map(|revision| {
        let action = match &revision["action"] {
            Value::String(action) => action.clone(),
            action => format!("rollback to {}", action["rollback"]["to"]),
        };
        vec![
            revision["id"].to_string(),
            str_field(revision, "time"),
            str_field(revision, "author"),
            action,
            revision["objects"].to_string(),
            str_field(revision, "message"),
        ]
    });
    table(&["REVISION", "TIME", "AUTHOR", "ACTION", "OBJECTS", "MESSAGE"], &rows.collect::<Vec<_>>())
}

fn revision(revision: &Value) -> String {
    let mut text = revisions(&json!([revision]));
    for change in items(&revision["changes"]) {
        let effect = str_field(change, "effect");
        text.push_str(&format!("\n{} {effect}\n{}", object_name(change), indent_field(change, "diff")));
    }
    text
}
