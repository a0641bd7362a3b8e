//! `docs/configuration.md` is what the code says. `UPDATE_DOCS=1` writes it.

use std::path::{Path, PathBuf};

use weir_resources::{Compiler, SourceFile, configuration_reference};

#[test]
fn the_documentation_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let expected = configuration_reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/configuration.md is old: UPDATE_DOCS=1 cargo test -p weir-resources --test documentation"
    );
}

#[test]
fn the_example_is_valid() {
    let reference = configuration_reference();
    let example = reference.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let files = [SourceFile { path: PathBuf::from("example.yaml"), text: example.into() }];
    let compiled = Compiler::new().compile(&files).unwrap_or_else(|refusals| {
        panic!("{}", refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    });
    assert_eq!(compiled.snapshot.listeners.len(), 1);
}
