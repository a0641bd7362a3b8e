//! Artifacts that tests run: Weir's programs, the filters of `tests/`, and modules written as text.
//!
//! The cargo that runs the test builds each artifact once per test process, so none is older than its sources.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Returns the path of the proxy's binary: `WEIR_PROXY` if that is set, otherwise the binary that is built now.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("WEIR_PROXY").map_or_else(|| program("weir-proxy"), PathBuf::from))
}

/// Builds Weir's programs on the first call, and returns the path of `name`: `weir-proxy`, `weir-control` or `weir`.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(build_programs);
    let path = target_folder().join("debug").join(name);
    assert!(path.is_file(), "cargo built no {}", path.display());
    path
}

fn build_programs() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // The features of the whole workspace, so that artifacts of `cargo test --workspace` are reused.
    command.args(["build", "--quiet", "--workspace", "--bin", "weir-proxy", "--bin", "weir-control", "--bin", "weir"]);
    let output = command.current_dir(repository()).output().expect("cargo starts");
    assert!(output.status.success(), "the programs do not build:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// Returns the module of `tests/filter`, which runs the steps of its configuration.
pub fn test_filter() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("filter");
        weir_sdk::testing::build_with_profile(folder, "plugin").unwrap_or_else(|error| panic!("{error}"))
    })
}

/// Returns the module of `tests/probe`, which makes any hostcall from any callback.
pub fn probe() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("probe");
        weir_sdk::testing::build_with_profile(folder, "plugin").unwrap_or_else(|error| panic!("{error}"))
    })
}

/// Returns the folder of the shipped modules, as `cargo xtask plugins` writes them: with only the callbacks that they
/// need.
pub fn shipped_modules() -> PathBuf {
    let folder = target_folder().join("debug").join("plugins");
    assert!(folder.join("auth.wasm").is_file(), "{} has no modules: run `cargo xtask plugins`", folder.display());
    folder
}

/// Returns the binary of a module in the WebAssembly text format.
pub fn wasm_from_wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns the cache of compiled modules that all test runs share. Without it most of a run's time is compilation.
pub(crate) fn module_cache() -> PathBuf {
    let folder = target_folder().join("tmp");
    fs::create_dir_all(&folder).expect("a target folder that can be written");
    folder.join("weir-module-cache")
}

/// Returns the repository's root.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository")
}

/// Returns cargo's target folder. The test's binary is in `target/PROFILE/deps`.
pub(crate) fn target_folder() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.ancestors().nth(3).expect("target/PROFILE/deps/TEST").to_owned()
}

/// Copies a folder. The files of the copy have mode 0600, which a checkout does not preserve.
pub fn copy_private(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be created");
    for entry in fs::read_dir(from).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let copy = to.join(path.file_name().expect("an entry has a name"));
        if path.is_dir() {
            copy_private(&path, &copy);
        } else {
            fs::copy(&path, &copy).expect("a file can be copied");
            fs::set_permissions(&copy, fs::Permissions::from_mode(0o600)).expect("a file has permissions");
        }
    }
}
