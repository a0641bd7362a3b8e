//! `weir plugin`: bundles made and signed here, pushed to the control plane.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};
use weir_bundle::{Bundle, SigningKey};
use weir_resources::{Manifest, Refusal, SourceFile};

use crate::args::{Output, PluginCommand};
use crate::client::Client;
use crate::commands::{escaped, list, query, say, text};
use crate::oci;
use crate::table::table;

/// What needs no control plane; `None` for the rest.
pub(crate) fn alone(command: &PluginCommand, output: Output) -> Option<anyhow::Result<String>> {
    Some(match command {
        PluginCommand::Pack { module, manifest, out } => pack(module, manifest, out.as_deref()),
        PluginCommand::Key { key } => make_key(key),
        PluginCommand::Sign { bundle, key } => sign(bundle, key),
        PluginCommand::Inspect { bundle } => inspect(bundle, output),
        PluginCommand::Push { .. } | PluginCommand::List | PluginCommand::Delete { .. } => return None,
    })
}

/// What a control plane is asked.
pub(crate) fn push_list_delete(client: &Client, output: Output, command: PluginCommand) -> anyhow::Result<String> {
    match command {
        PluginCommand::Push { bundle, manifest, key, dry_run } => {
            let (bytes, said) = assemble(&bundle, manifest.as_deref(), key.as_deref())?;
            let id = format!("{}/{}", escaped(&said.bundle.name), escaped(&said.bundle.version));
            let query = query(&[("dry_run", dry_run.then(|| "true".to_owned()))]);
            let answer = client.send("PUT", &format!("bundles/{id}{query}"), bytes)?;
            Ok(say(output, &answer, |answer| pushed(answer, dry_run)))
        }
        PluginCommand::List => Ok(say(output, &client.get("bundles")?, bundles)),
        PluginCommand::Delete { name, version } => {
            let path = format!("bundles/{}/{}", escaped(&name), escaped(&version));
            let answer = client.ask("DELETE", &path, String::new())?;
            Ok(say(output, &answer, |it| format!("{} {} deleted\n", text(it, "name"), text(it, "version"))))
        }
        _ => bail!("this asks nobody"), // Done in `alone`.
    }
}

fn pack(module: &Path, manifest: &Path, out: Option<&Path>) -> anyhow::Result<String> {
    let (bytes, said) = packed(module, manifest)?;
    let named = || PathBuf::from(format!("{}-{}.wasm", said.bundle.name, said.bundle.version));
    let out = out.map_or_else(named, Path::to_owned);
    write_whole(&out, &bytes)?;
    Ok(format!("{} is the bundle {}\n", out.display(), said.bundle))
}

/// A key appears with its permissions, and never in the place of another.
fn make_key(path: &Path) -> anyhow::Result<String> {
    let key = SigningKey::generate()?;
    let failed = || format!("{} cannot be made", path.display());
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(failed)?;
    file.write_all(key.to_pem()?.as_bytes()).and_then(|()| file.sync_all()).with_context(failed)?;
    let mut public = path.as_os_str().to_owned();
    public.push(".pub");
    write_whole(Path::new(&public), key.public().to_pem().as_bytes())?;
    Ok(format!("{}\n", key.public()))
}

fn sign(path: &Path, key: &Path) -> anyhow::Result<String> {
    let bytes = read_file(path)?;
    let key = read_key(key)?;
    let failed = || format!("{} is not signed", path.display());
    let bundle = Bundle::read(&bytes).with_context(failed)?;
    let said = said_by(path, &bundle)?; // Who signs says that this is what it says it is.
    write_whole(path, &bundle.signed_with(&key).with_context(failed)?)?;
    Ok(format!("{} is signed by {}\n", said.bundle, key.public()))
}

fn inspect(path: &Path, output: Output) -> anyhow::Result<String> {
    let bytes = read(path)?;
    let bundle = taken_apart(path, &bytes)?;
    let manifest: Value = bundle.manifest().map(serde_json::from_str).transpose()?.unwrap_or_default();
    let signers: Vec<String> = bundle.signers().iter().map(ToString::to_string).collect();
    let shown = json!({"bytes": bytes.len(), "manifest": manifest, "signers": signers});
    // The whole is short, and a table would not hold a schema.
    Ok(say(if output == Output::Table { Output::Yaml } else { output }, &shown, ToString::to_string))
}

/// The bundle that is pushed, and what it says of itself: as it is, or put together here.
fn assemble(path: &Path, manifest: Option<&Path>, key: Option<&Path>) -> anyhow::Result<(Vec<u8>, Manifest)> {
    let (bytes, said) = match manifest {
        Some(manifest) => packed(path, manifest)?,
        None => {
            let bytes = read(path)?;
            let said = said_by(path, &taken_apart(path, &bytes)?)?;
            (bytes, said)
        }
    };
    let Some(key) = key else { return Ok((bytes, said)) };
    Ok((taken_apart(path, &bytes)?.signed_with(&read_key(key)?)?, said))
}

fn packed(module: &Path, manifest: &Path) -> anyhow::Result<(Vec<u8>, Manifest)> {
    let text = fs::read_to_string(manifest).with_context(|| format!("{} cannot be read", manifest.display()))?;
    let said = Manifest::read(&SourceFile { path: manifest.to_owned(), text: text.into() })
        .map_err(|refusals| refused(&refusals))?;
    let bytes = read(module)?;
    let bundle = taken_apart(module, &bytes)?;
    Ok((bundle.with_manifest(&said.value.to_string())?, said))
}

fn taken_apart<'a>(path: &Path, bytes: &'a [u8]) -> anyhow::Result<Bundle<'a>> {
    Bundle::read(bytes).map_err(|error| anyhow!("{} {error}", path.display()))
}

/// What a bundle says of itself.
fn said_by(path: &Path, bundle: &Bundle<'_>) -> anyhow::Result<Manifest> {
    let missing = || anyhow!("{} has no manifest; write one, and add --manifest FILE", path.display());
    let text = bundle.manifest().ok_or_else(missing)?;
    Manifest::read(&SourceFile { path: path.to_owned(), text: text.into() }).map_err(|refusals| refused(&refusals))
}

fn refused(refusals: &[Refusal]) -> anyhow::Error {
    let texts: Vec<String> = refusals.iter().map(ToString::to_string).collect();
    anyhow!("the manifest is refused for {} reasons\n{}", texts.len(), texts.join("\n"))
}

/// A file, or what a registry has.
fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    if let Some(url) = path.to_str().filter(|path| path.starts_with(oci::SCHEME)) {
        return oci::pull(url);
    }
    read_file(path)
}

fn read_file(path: &Path) -> anyhow::Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("{} cannot be read", path.display()))
}

fn read_key(path: &Path) -> anyhow::Result<SigningKey> {
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    SigningKey::from_pem(&text).map_err(|error| anyhow!("{}: {error}", path.display()))
}

/// The file is there whole or not at all.
fn write_whole(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".tmp");
    let written = fs::write(&draft, bytes).and_then(|()| fs::rename(&draft, path));
    written.with_context(|| format!("{} cannot be written", path.display()))
}

fn pushed(answer: &Value, dry_run: bool) -> String {
    let (name, version) = (text(answer, "name"), text(answer, "version"));
    let what = match (dry_run, answer["isNew"] == true) {
        (true, _) => "would be kept",
        (false, true) => "is kept",
        (false, false) => "was there already",
    };
    let imports: Vec<&str> = list(&answer["unknownImports"]).filter_map(Value::as_str).collect();
    let warning = match imports.as_slice() {
        [] => String::new(),
        imports => format!("warning: no proxy has {}: calls of it fail\n", imports.join(", ")),
    };
    let hint = format!("use it in a Filter: module: {{bundle: {name}, version: \"{version}\"}}\n");
    format!("{name} {version} {what}: it starts and takes its example\n{warning}{hint}")
}

fn bundles(found: &Value) -> String {
    let rows = list(found).map(|it| {
        let joined = |name: &str| list(&it[name]).filter_map(Value::as_str).collect::<Vec<_>>().join(",");
        let signers =
            list(&it["signers"]).filter_map(Value::as_str).map(|key| key.chars().take(16).collect::<String>());
        vec![
            text(it, "name"),
            text(it, "version"),
            text(it, "abi"),
            it["bytes"].to_string(),
            signers.collect::<Vec<_>>().join(","),
            text(it, "author"),
            joined("usedBy"),
        ]
    });
    table(&["NAME", "VERSION", "ABI", "BYTES", "SIGNED BY", "PUSHED BY", "USED BY"], &rows.collect::<Vec<_>>())
}
