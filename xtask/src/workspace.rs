//! The folders of the repository, and calls of cargo.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Returns the root of the repository.
pub(crate) fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask/ is not in the repository")
}

/// Returns a command of cargo that runs in the repository.
pub(crate) fn cargo(arguments: &[&str]) -> Result<Command> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(arguments).current_dir(root()?);
    Ok(command)
}

/// Runs a command to its end. It inherits standard output and standard error.
pub(crate) fn finish(command: &mut Command) -> Result<()> {
    let program = Path::new(command.get_program()).file_stem().unwrap_or_default().to_owned();
    let named = format!("{} {}", program.display(), line_of(command));
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("{named} did not start"))?;
    ensure!(status.success(), "{named} ended with {status}");
    Ok(())
}

fn line_of(command: &Command) -> String {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// The output of `cargo metadata` for this workspace.
pub(crate) struct Metadata {
    json: Value,
}

impl Metadata {
    pub(crate) fn read() -> Result<Self> {
        let output = cargo(&["metadata", "--format-version", "1", "--no-deps"])?.output()?;
        if !output.status.success() {
            bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(Self { json: serde_json::from_slice(&output.stdout)? })
    }

    /// Returns the target folder.
    pub(crate) fn target(&self) -> Result<PathBuf> {
        Ok(self.json["target_directory"].as_str().context("cargo metadata names no target folder")?.into())
    }

    /// Returns every package: its description as JSON, and the folder of its `Cargo.toml`, relative to the repository.
    pub(crate) fn packages(&self) -> Result<impl Iterator<Item = (&Value, PathBuf)>> {
        let root = root()?;
        let packages = self.json["packages"].as_array().context("cargo metadata names no packages")?;
        Ok(packages.iter().filter_map(move |package| {
            let manifest = Path::new(package["manifest_path"].as_str()?);
            Some((package, manifest.parent()?.strip_prefix(root).ok()?.to_path_buf()))
        }))
    }
}
