//! What is built before a test can run: the proxy's binary, the test filter, modules written as text. Each is built
//! once per test process, by the cargo that runs the test, so it is never older than the sources.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The proxy's binary: `WEIR_PROXY`, or built now.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| std::env::var_os("WEIR_PROXY").map_or_else(|| program("weir-proxy"), PathBuf::from))
}

/// One of our programs, built now: `weir-control`, `weir`.
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
    // With the whole workspace's features, so that what `cargo test --workspace` has built is not built again.
    command.args(["build", "--quiet", "--workspace", "--bin", "weir-proxy", "--bin", "weir-control", "--bin", "weir"]);
    let output = command.current_dir(repository()).output().expect("cargo starts");
    assert!(output.status.success(), "our programs do not build:\n{}", String::from_utf8_lossy(&output.stderr));
}

/// The filter of `tests/filter`: what it does is in its configuration.
pub fn test_filter() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("filter");
        weir_sdk::testing::build_with_profile(folder, "plugin").unwrap_or_else(|error| panic!("{error}"))
    })
}

/// The filter of `tests/probe`: makes any hostcall from any callback.
pub fn probe() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(|| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("probe");
        weir_sdk::testing::build_with_profile(folder, "plugin").unwrap_or_else(|error| panic!("{error}"))
    })
}

/// The shipped modules, as `cargo xtask plugins` leaves them: only the callbacks that they need.
pub fn shipped_modules() -> PathBuf {
    let folder = target_folder().join("debug").join("plugins");
    assert!(folder.join("auth.wasm").is_file(), "{} has no modules: run `cargo xtask plugins`", folder.display());
    folder
}

/// A module from its text.
pub fn module_of_wat(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"))
}

/// Compiled modules of all test runs: tests would spend their time compiling the same module else.
pub(crate) fn module_cache() -> PathBuf {
    let folder = target_folder().join("tmp");
    std::fs::create_dir_all(&folder).expect("a target folder that can be written");
    folder.join("weir-module-cache")
}

/// The repository's root.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository")
}

/// A test runs in `target/PROFILE/deps`.
pub(crate) fn target_folder() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.ancestors().nth(3).expect("target/PROFILE/deps/TEST").to_owned()
}
