//! `weir bundle`: packs and signs bundles, and pushes them to the control plane.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};
use weir_bundle::{Bundle, SigningKey};
use weir_model::atomic_file;
use weir_resources::{Diagnostic, Manifest, SourceFile};

use crate::args::{BundleCommand, Output};
use crate::client::Client;
use crate::oci;
use crate::output::{items, join_items, render, render_document, str_field};
use crate::table::table;
use crate::url::{escape, query};

/// A bundle in memory, with its manifest.
struct BuiltBundle {
    bytes: Vec<u8>,
    manifest: Manifest,
}

/// Runs a command that needs no control plane; returns `None` for the others.
pub(crate) fn run_local(command: &BundleCommand, output: Output) -> Option<anyhow::Result<String>> {
    Some(match command {
        BundleCommand::Build { module, manifest, out } => pack(module, manifest, out.as_deref()),
        BundleCommand::Keygen { key } => create_key(key),
        BundleCommand::Sign { bundle, key } => sign(bundle, key),
        BundleCommand::Inspect { bundle } => inspect(bundle, output),
        BundleCommand::Push { .. } | BundleCommand::List | BundleCommand::Delete { .. } => return None,
    })
}

/// Runs a command that calls the control plane.
pub(crate) fn run_remote(client: &Client, output: Output, command: BundleCommand) -> anyhow::Result<String> {
    match command {
        BundleCommand::Push { bundle, manifest, key, dry_run } => {
            let BuiltBundle { bytes, manifest } = build(&bundle, manifest.as_deref(), key.as_deref())?;
            let id = format!("{}/{}", escape(&manifest.bundle.name), escape(&manifest.bundle.version));
            let query = query(&[("dry_run", dry_run.then(|| "true".to_owned()))]);
            let response = client.send_bytes("PUT", &format!("bundles/{id}{query}"), bytes)?;
            Ok(render(output, &response, |response| push_result(response, dry_run)))
        }
        BundleCommand::List => Ok(render(output, &client.get("bundles")?, bundles)),
        BundleCommand::Delete { name, version } => {
            let path = format!("bundles/{}/{}", escape(&name), escape(&version));
            let response = client.request("DELETE", &path, String::new())?;
            let deleted =
                |bundle: &Value| format!("{} {} deleted\n", str_field(bundle, "name"), str_field(bundle, "version"));
            Ok(render(output, &response, deleted))
        }
        _ => bail!("this needs no control plane"), // Handled by `run_local`.
    }
}

fn pack(module: &Path, manifest: &Path, out: Option<&Path>) -> anyhow::Result<String> {
    let BuiltBundle { bytes, manifest } = packed(module, manifest)?;
    let default = || PathBuf::from(format!("{}-{}.wasm", manifest.bundle.name, manifest.bundle.version));
    let out = out.map_or_else(default, Path::to_owned);
    write_file(&out, &bytes)?;
    Ok(format!("{} is the bundle {}\n", out.display(), manifest.bundle))
}

/// Creates a key file with mode 0600. An existing file is not replaced.
fn create_key(path: &Path) -> anyhow::Result<String> {
    let key = SigningKey::generate()?;
    let failed = || format!("{} cannot be made", path.display());
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(failed)?;
    file.write_all(key.to_pem()?.as_bytes()).and_then(|()| file.sync_all()).with_context(failed)?;
    let mut public = path.as_os_str().to_owned();
    public.push(".pub");
    write_file(Path::new(&public), key.public().to_pem().as_bytes())?;
    Ok(format!("{}\n", key.public()))
}

fn sign(path: &Path, key: &Path) -> anyhow::Result<String> {
    let bytes = read_file(path)?;
    let key = read_key(key)?;
    let failed = || format!("{} is not signed", path.display());
    let bundle = Bundle::read(&bytes).with_context(failed)?;
    let manifest = manifest_of(path, &bundle)?; // A bundle with a malformed manifest is not signed.
    write_file(path, &bundle.signed_with(&key).with_context(failed)?)?;
    Ok(format!("{} is signed by {}\n", manifest.bundle, key.public()))
}

fn inspect(path: &Path, output: Output) -> anyhow::Result<String> {
    let bytes = read(path)?;
    let bundle = parse_bundle(path, &bytes)?;
    let manifest: Value = bundle.manifest().map(serde_json::from_str).transpose()?.unwrap_or_default();
    let signers: Vec<String> = bundle.signers().iter().map(ToString::to_string).collect();
    let document = json!({"bytes": bytes.len(), "manifest": manifest, "signers": signers});
    Ok(render_document(output, &document))
}

/// Reads a bundle, or packs a module with a manifest; then signs it, if there is a key.
fn build(path: &Path, manifest: Option<&Path>, key: Option<&Path>) -> anyhow::Result<BuiltBundle> {
    let mut built = match manifest {
        Some(manifest) => packed(path, manifest)?,
        None => {
            let bytes = read(path)?;
            let manifest = manifest_of(path, &parse_bundle(path, &bytes)?)?;
            BuiltBundle { bytes, manifest }
        }
    };
    if let Some(key) = key {
        built.bytes = parse_bundle(path, &built.bytes)?.signed_with(&read_key(key)?)?;
    }
    Ok(built)
}

fn packed(module: &Path, manifest: &Path) -> anyhow::Result<BuiltBundle> {
    let text = fs::read_to_string(manifest).with_context(|| format!("{} cannot be read", manifest.display()))?;
    let manifest = parse_manifest(manifest, text)?;
    let bytes = parse_bundle(module, &read(module)?)?.with_manifest(&manifest.value.to_string())?;
    Ok(BuiltBundle { bytes, manifest })
}

fn parse_bundle<'a>(path: &Path, bytes: &'a [u8]) -> anyhow::Result<Bundle<'a>> {
    Bundle::read(bytes).map_err(|error| anyhow!("{} {error}", path.display()))
}

/// Returns the manifest in a bundle.
fn manifest_of(path: &Path, bundle: &Bundle<'_>) -> anyhow::Result<Manifest> {
    let missing = || anyhow!("{} has no manifest; write one, and add --manifest FILE", path.display());
    parse_manifest(path, bundle.manifest().ok_or_else(missing)?.to_owned())
}

fn parse_manifest(path: &Path, text: String) -> anyhow::Result<Manifest> {
    Manifest::read(&SourceFile { path: path.to_owned(), text: text.into() })
        .map_err(|diagnostics| manifest_error(&diagnostics))
}

fn manifest_error(diagnostics: &[Diagnostic]) -> anyhow::Error {
    let texts: Vec<String> = diagnostics.iter().map(ToString::to_string).collect();
    anyhow!("the manifest is invalid: {} errors\n{}", texts.len(), texts.join("\n"))
}

/// Reads a file, or pulls an `oci://` reference.
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

fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    atomic_file::write_atomic(path, bytes).with_context(|| format!("{} cannot be written", path.display()))
}

fn push_result(response: &Value, dry_run: bool) -> String {
    let (name, version) = (str_field(response, "name"), str_field(response, "version"));
    let result = match (dry_run, response["isNew"] == true) {
        (true, _) => "would be stored",
        (false, true) => "is stored",
        (false, false) => "was there already",
    };
    let imports = join_items(&response["unknownImports"], ", ");
    let warning = match imports.as_str() {
        "" => String::new(),
        imports => format!("warning: no proxy has {imports}: calls of it fail\n"),
    };
    let hint = format!("use it in a Filter: module: {{bundle: {name}, version: \"{version}\"}}\n");
    format!("{name} {version} {result}: it starts with its example\n{warning}{hint}")
}

fn bundles(found: &Value) -> String {
    let rows = items(found).map(|bundle| {
        let signers = items(&bundle["signers"]).filter_map(Value::as_str);
        let signers: Vec<String> = signers.map(|key| key.chars().take(16).collect()).collect();
        vec![
            str_field(bundle, "name"),
            str_field(bundle, "version"),
            str_field(bundle, "abi"),
            bundle["bytes"].to_string(),
            signers.join(","),
            str_field(bundle, "author"),
            join_items(&bundle["usedBy"], ","),
        ]
    });
    table(&["NAME", "VERSION", "ABI", "BYTES", "SIGNED BY", "PUSHED BY", "USED BY"], &rows.collect::<Vec<_>>())
}
