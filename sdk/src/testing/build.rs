//! Compiles the filter under test to Wasm, with the cargo that runs the test.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::Error;

/// The target. It has no operating system, so the module imports only Proxy-Wasm hostcalls.
const TARGET: &str = "wasm32-unknown-unknown";

/// Builds the crate in `crate_folder` with `--release`. Pass `env!("CARGO_MANIFEST_DIR")`.
pub fn build(crate_folder: impl AsRef<Path>) -> Result<PathBuf, Error> {
    build_with_profile(crate_folder, "release")
}

/// Builds the crate in `crate_folder` with a profile of its workspace.
pub fn build_with_profile(crate_folder: impl AsRef<Path>, profile: &str) -> Result<PathBuf, Error> {
    let manifest = crate_folder.as_ref().join("Cargo.toml");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--lib", "--target", TARGET, "--profile", profile]);
    command.args(["--message-format", "json-render-diagnostics", "--manifest-path"]).arg(&manifest);
    // Flags of the test build, like those of a coverage tool, do not apply to Wasm.
    let output = command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS").output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let hint = format!("if the target is missing: rustup target add {TARGET}");
        return Err(Error::new(format!("{} did not build for {TARGET}; {hint}\n{text}", manifest.display())));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let module = messages.lines().rev().find_map(wasm_file);
    module.ok_or_else(|| Error::new(format!("{} has no `crate-type = [\"cdylib\"]`", manifest.display())))
}

/// Returns the `.wasm` file that a message of cargo names.
fn wasm_file(message: &str) -> Option<PathBuf> {
    let message: Value = serde_json::from_str(message).ok()?;
    let files = message.get("filenames")?.as_array()?;
    files.iter().filter_map(Value::as_str).find(|file| file.ends_with(".wasm")).map(PathBuf::from)
}
