//! `docs/configuration.md` equals the generated reference. `UPDATE_DOCS=1` writes the file.

use std::path::{Path, PathBuf};

use weir_resources::{Compiler, SourceFile, configuration_reference};

#[test]
fn configuration_md_equals_generated_reference() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let expected = configuration_reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == expected,
        "docs/configuration.md is out of date: UPDATE_DOCS=1 cargo test -p weir-resources --test documentation"
    );
}

#[test]
fn example_is_valid() {
    let reference = configuration_reference();
    let example = reference.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let files = [SourceFile { path: PathBuf::from("example.yaml"), text: example.into() }];
    let compiled = Compiler::new().compile(&files).unwrap_or_else(|diagnostics| {
        panic!("{}", diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    });
    assert_eq!(compiled.snapshot.listeners.len(), 1);
}
