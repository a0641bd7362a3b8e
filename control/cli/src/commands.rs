//! What each command does: asks the API, and says the answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::bail;
use serde_json::{Value, json};
use weir_resources::{Bundles, Compiler, to_yaml, written_objects};

#[expect(clippy::disallowed_types, reason = "there is no tokio here, and no clock to stop")]
use std::time::Instant;

use crate::args::{AuthorityCommand, Command, CommandLine, Output, TokenCommand};
use crate::client::Client;
use crate::table::table;
use crate::{files, plugin};

/// How long `--wait` waits.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// How long a proxy may refuse something before `--wait` gives up.
const REFUSAL_PATIENCE: Duration = Duration::from_secs(2);

/// How often it asks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Runs a command; what it says.
pub(crate) fn run(line: CommandLine) -> anyhow::Result<String> {
    let CommandLine { server, command } = line;
    let output = server.output;
    if let Command::Validate(files) = &command {
        return validate(&files.files);
    }
    if let Command::Plugin(plugin) = &command
        && let Some(done) = plugin::alone(plugin, output)
    {
        return done;
    }
    let client = Client::new(&server)?;
    match command {
        Command::Apply(it) => {
            let answer = apply(&client, &it.files.files, it.message.as_deref(), false)?;
            if it.wait {
                wait_for_proxies(&client)?;
            }
            let waited = if it.wait { "every proxy has it\n" } else { "" };
            Ok(say(output, &answer, |answer| changes(answer) + waited))
        }
        Command::Diff(it) => {
            let answer = apply(&client, &it.files, None, true)?;
            Ok(say(output, &answer, differences))
        }
        Command::Get { kind, name: Some(name), namespace } => {
            let (kind, namespace) = (kind.unwrap_or_default(), namespace.unwrap_or_else(|| "default".to_owned()));
            let mut object = client.get(&format!("resources/{kind}/{namespace}/{name}"))?;
            let status = object.as_object_mut().and_then(|object| object.remove("status")).unwrap_or_default();
            // What is printed as YAML can be applied again, so that it is only what was written.
            Ok(say(if output == Output::Table { Output::Yaml } else { output }, &object, |_| status.to_string()))
        }
        Command::Get { kind, name: None, namespace } => {
            let found = client.get(&format!("resources{}", query(&[("kind", kind), ("namespace", namespace)])))?;
            Ok(say(output, &found, objects))
        }
        Command::Delete { kind: Some(kind), name: Some(name), namespace, message, .. } => {
            let path = format!("resources/{kind}/{namespace}/{name}{}", query(&[("message", message)]));
            Ok(say(output, &client.ask("DELETE", &path, String::new())?, changes))
        }
        Command::Delete { files, message, .. } => {
            let answer = delete_files(&client, &files, message)?;
            Ok(say(output, &answer, changes))
        }
        Command::Revisions { id: None } => Ok(say(output, &client.get("revisions")?, revisions)),
        Command::Revisions { id: Some(id) } => Ok(say(output, &client.get(&format!("revisions/{id}"))?, revision)),
        Command::Rollback { id, dry_run, message } => {
            let query = query(&[("message", message), ("dry_run", dry_run.then(|| "true".to_owned()))]);
            let answer = client.ask("POST", &format!("revisions/{id}/rollback{query}"), String::new())?;
            Ok(say(output, &answer, if dry_run { differences } else { changes }))
        }
        Command::Status => status(&client, output),
        Command::Proxies => Ok(say(output, &client.get("proxies")?, proxies)),
        Command::Authority { command } => authority(&client, output, command.as_ref()),
        Command::Plugin(command) => plugin::push_list_delete(&client, output, command),
        Command::Token(command) => token(&client, output, command),
        Command::Validate(_) => bail!("`validate` asks nobody"), // Done above.
    }
}

pub(crate) fn say(output: Output, answer: &Value, in_words: impl Fn(&Value) -> String) -> String {
    match output {
        Output::Table => in_words(answer),
        Output::Json => format!("{answer:#}\n"),
        Output::Yaml => to_yaml(answer),
    }
}

fn apply(client: &Client, paths: &[PathBuf], message: Option<&str>, dry_run: bool) -> anyhow::Result<Value> {
    let files = files::read(paths)?;
    let (text, places) = files::joined(&files);
    let query = query(&[
        ("path", Some(files::TOGETHER.to_owned())),
        ("message", message.map(str::to_owned)),
        ("dry_run", dry_run.then(|| "true".to_owned())),
    ]);
    client.ask_with("POST", &format!("apply{query}"), text, &places)
}

/// Waits until every connected proxy has what is told.
#[expect(clippy::disallowed_types, reason = "there is no tokio here, and no clock to stop")]
fn wait_for_proxies(client: &Client) -> anyhow::Result<()> {
    let until = Instant::now() + MAX_WAIT;
    let mut refuses_since = None;
    loop {
        let summary = client.get("status")?;
        if summary["upToDate"] == summary["proxies"] {
            return Ok(());
        }
        // One that refuses may be about to take what was just applied.
        let refusing = summary["refusing"] != 0;
        refuses_since = refusing.then(|| refuses_since.unwrap_or_else(Instant::now));
        if refuses_since.is_some_and(|since| since.elapsed() > REFUSAL_PATIENCE) || Instant::now() > until {
            bail!("it is applied, and not every proxy has it:\n{}", proxies(&client.get("proxies")?));
        }
        thread::sleep(LOOK_AGAIN);
    }
}

fn delete_files(client: &Client, paths: &[PathBuf], message: Option<String>) -> anyhow::Result<Value> {
    let files = files::read(paths)?;
    let written: Vec<_> = files.iter().map(written_objects).collect();
    if let Some(refusal) = written.iter().flat_map(|written| &written.refusals).next() {
        bail!("nothing is deleted: {refusal}");
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
    client.ask("POST", &format!("delete{}", query(&[("message", message)])), Value::from(names).to_string())
}

fn validate(paths: &[PathBuf]) -> anyhow::Result<String> {
    let files = files::read(paths)?;
    let mut compiler = Compiler::new();
    compiler.set_bundles(&Arc::new(Bundles::elsewhere()));
    match compiler.compile(&files) {
        Ok(compiled) => Ok(format!("valid: {} objects\n", compiled.objects().count())),
        Err(refusals) => {
            let texts: Vec<String> = refusals.iter().map(ToString::to_string).collect();
            bail!("refused for {} reasons\n{}", refusals.len(), texts.join("\n"))
        }
    }
}

fn status(client: &Client, output: Output) -> anyhow::Result<String> {
    let (summary, found, connected) = (client.get("status")?, client.get("resources")?, client.get("proxies")?);
    let all = json!({"summary": summary, "objects": found, "proxies": connected});
    Ok(say(output, &all, |all| {
        let count = |name: &str| all["summary"][name].to_string();
        format!(
            "revision {}, {} objects, {} proxies: {} up to date, {} refusing\n\n{}\n{}",
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

fn authority(client: &Client, output: Output, command: Option<&AuthorityCommand>) -> anyhow::Result<String> {
    let status = match command {
        None => client.get("authority")?,
        Some(AuthorityCommand::Rotate) => client.ask("POST", "authority/rotation", String::new())?,
    };
    Ok(say(output, &status, |status| {
        let roots = list(&status["roots"]).map(|root| {
            let signs = if root["signs"] == true { "signs" } else { "" };
            vec![text(root, "sha256"), signs.to_owned(), text(root, "signsFrom"), text(root, "ends")]
        });
        let lives = &status["certificateLifetimeSeconds"];
        let head = format!("trust domain {}; certificates live {lives} s\n", text(status, "trustDomain"));
        head + &table(&["ROOT", "", "SIGNS FROM", "ENDS"], &roots.collect::<Vec<_>>())
    }))
}

fn token(client: &Client, output: Output, command: TokenCommand) -> anyhow::Result<String> {
    match command {
        TokenCommand::Make { name, role, namespace, workload, expires_in_seconds } => {
            let namespaces = (!namespace.is_empty()).then_some(namespace);
            let body = json!({"name": name, "role": role, "namespaces": namespaces, "workload": workload,
                              "expiresInSeconds": expires_in_seconds});
            let made = client.ask("POST", "tokens", body.to_string())?;
            Ok(say(output, &made, |made| format!("{}\n", text(made, "secret"))))
        }
        TokenCommand::List => Ok(say(output, &client.get("tokens")?, |tokens| {
            let rows = list(tokens).map(|it| {
                let namespaces = list(&it["namespaces"]).filter_map(Value::as_str).collect::<Vec<_>>().join(",");
                let fields = ["id", "name", "role"].map(|name| text(it, name));
                let mut row = fields.to_vec();
                row.push(if namespaces.is_empty() { "all".to_owned() } else { namespaces });
                row.extend([text(it, "created"), text(it, "expires")]);
                row
            });
            table(&["ID", "NAME", "ROLE", "NAMESPACES", "CREATED", "EXPIRES"], &rows.collect::<Vec<_>>())
        })),
        TokenCommand::Revoke { id } => {
            let revoked = client.ask("DELETE", &format!("tokens/{id}"), String::new())?;
            Ok(say(output, &revoked, |it| format!("{} revoked\n", text(it, "name"))))
        }
    }
}

fn objects(found: &Value) -> String {
    let rows = list(found).map(|object| {
        let metadata = &object["metadata"];
        let status = &object["status"];
        let from = status["file"].as_str().map_or_else(|| format!("revision {}", status["revision"]), str::to_owned);
        let programmed = text(&status["programmed"], "message");
        vec![text(object, "kind"), text(metadata, "namespace"), text(metadata, "name"), from, programmed]
    });
    table(&["KIND", "NAMESPACE", "NAME", "FROM", "PROGRAMMED"], &rows.collect::<Vec<_>>())
}

fn proxies(connected: &Value) -> String {
    let rows = list(connected).map(|proxy| {
        let gateway = proxy["gateway"].as_str().unwrap_or("all").to_owned();
        let has = if proxy["serves"].is_null() { &proxy["accepted"] } else { &proxy["serves"] };
        let state = match (proxy["failed"].as_array().map_or(0, Vec::len), has == &proxy["newest"]) {
            (0, true) => "up to date".to_owned(),
            (0, false) => format!("{} ms behind", proxy["lagMs"]),
            (count, _) => format!("refuses {count}: {}", text(&proxy["failed"][0], "reason")),
        };
        vec![text(proxy, "node"), gateway, text(proxy, "program"), format!("{has}/{}", proxy["newest"]), state]
    });
    table(&["PROXY", "GATEWAY", "PROGRAM", "GENERATION", "STATE"], &rows.collect::<Vec<_>>())
}

fn changes(answer: &Value) -> String {
    let rows: Vec<_> = list(&answer["changes"]).map(|it| vec![named(it), text(it, "effect")]).collect();
    let lines: String = rows.iter().map(|row| format!("{} {}\n", row[0], row[1])).collect();
    format!("{lines}revision {}\n", answer["revision"])
}

fn differences(answer: &Value) -> String {
    let mut said = String::new();
    for it in list(&answer["changes"]) {
        said.push_str(&format!("{} would be {}\n{}", named(it), text(it, "effect"), indented(&text(it, "diff"))));
    }
    for scope in list(&answer["scopes"]) {
        let gateway = scope["gateway"].as_str().map_or("every Gateway".to_owned(), |name| format!("Gateway {name}"));
        let nodes: Vec<&str> = list(&scope["proxies"]).filter_map(Value::as_str).collect();
        said.push_str(&format!("\nproxies of {gateway} ({}) would be told:\n", nodes.join(", ")));
        for resource in list(&scope["resources"]) {
            let (kind, name, effect) = (text(resource, "kind"), text(resource, "name"), text(resource, "effect"));
            said.push_str(&format!("  {kind} {name} {effect}\n"));
        }
        if list(&scope["resources"]).next().is_none() {
            said.push_str("  nothing new\n");
        }
    }
    said
}

fn revisions(found: &Value) -> String {
    let rows = list(found).map(|it| {
        let action = match &it["action"] {
            Value::String(action) => action.clone(),
            action => format!("rollback to {}", action["rollback"]["to"]),
        };
        let fields = [it["id"].to_string(), text(it, "time"), text(it, "author"), action, it["objects"].to_string()];
        let mut row = fields.to_vec();
        row.push(text(it, "message"));
        row
    });
    table(&["REVISION", "TIME", "AUTHOR", "ACTION", "OBJECTS", "MESSAGE"], &rows.collect::<Vec<_>>())
}

fn revision(it: &Value) -> String {
    let mut said = revisions(&json!([it]));
    for change in list(&it["changes"]) {
        said.push_str(&format!("\n{} {}\n{}", named(change), text(change, "effect"), indented(&text(change, "diff"))));
    }
    said
}

fn named(it: &Value) -> String {
    let (kind, namespace, name) = (text(it, "kind"), text(it, "namespace"), text(it, "name"));
    if namespace.is_empty() { format!("{kind} {name}") } else { format!("{kind} {namespace}/{name}") }
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

pub(crate) fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// `?name=value&…` of those that are there, escaped.
pub(crate) fn query(fields: &[(&str, Option<String>)]) -> String {
    let fields = fields.iter().filter_map(|(name, value)| Some(format!("{name}={}", escaped(value.as_ref()?))));
    let fields: Vec<String> = fields.collect();
    if fields.is_empty() { String::new() } else { format!("?{}", fields.join("&")) }
}

/// RFC 3986 §2.3: unreserved characters stand for themselves.
pub(crate) fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        assert_eq!(query(&[("a", None), ("b", Some("x y&z/ä".to_owned()))]), "?b=x%20y%26z%2F%C3%A4");
        assert_eq!(query(&[("a", None)]), "");
    }
}
