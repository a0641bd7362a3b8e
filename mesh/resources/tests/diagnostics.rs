//! Invalid resources: each folder of `diagnostics/` contains files, and in `expected.txt` the exact output of
//! `weir-proxy validate`. The folders of `warnings/` contain valid resources and their warnings. The expected texts are written by hand, before the code that prints them.
#![expect(clippy::unwrap_used, reason = "a test may panic, in its own functions too")]

use std::path::{Path, PathBuf};

use weir_resources::{Compiler, SourceFile};

fn folders() -> Vec<PathBuf> {
    folders_of("tests/diagnostics")
}

fn folders_of(root: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(root);
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

fn files(folder: &Path) -> Vec<SourceFile> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension != "txt"));
    paths.sort();
    let file = |path: &PathBuf| SourceFile {
        path: PathBuf::from(path.file_name().unwrap()),
        text: std::fs::read_to_string(path).unwrap().into(),
    };
    paths.iter().map(file).collect()
}

fn diagnostics(compiler: &mut Compiler, folder: &Path) -> String {
    let diagnostics = compiler.compile(&files(folder)).err().unwrap_or_default();
    diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}

#[test]
fn invalid_files_have_exactly_the_expected_diagnostics() {
    let mut wrong = String::new();
    for folder in folders() {
        let expected = std::fs::read_to_string(folder.join("expected.txt")).unwrap();
        let found = diagnostics(&mut Compiler::new(), &folder);
        if found != expected {
            wrong.push_str(&format!("== {}\nexpected:\n{expected}found:\n{found}\n", folder.display()));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(folders().len() >= 40, "{} cases", folders().len());
}

#[test]
fn valid_files_have_exactly_the_expected_warnings() {
    let mut wrong = String::new();
    for folder in folders_of("tests/warnings") {
        let expected = std::fs::read_to_string(folder.join("expected.txt")).unwrap();
        let mut compiler = Compiler::new();
        let compiled = compiler.compile(&files(&folder)).unwrap();
        let found: String = compiled.warnings.iter().map(|warning| format!("{warning}\n")).collect();
        if found != expected {
            wrong.push_str(&format!("== {}\nexpected:\n{expected}found:\n{found}\n", folder.display()));
        }
        let again = compiler.compile(&files(&folder)).unwrap();
        assert_eq!(again.warnings, compiled.warnings, "cached documents have the same warnings");
    }
    assert!(wrong.is_empty(), "{wrong}");
    let good = [SourceFile { path: PathBuf::from("good.yaml"), text: GOOD.into() }];
    assert_eq!(Compiler::new().compile(&good).unwrap().warnings, []);
}

const GOOD: &str = include_str!("good.yaml");

#[test]
fn rejected_files_do_not_change_next_compilation() {
    let good = [SourceFile { path: PathBuf::from("good.yaml"), text: GOOD.into() }];
    let mut compiler = Compiler::new();
    let first = compiler.compile(&good).unwrap();
    for folder in folders() {
        assert_ne!(diagnostics(&mut compiler, &folder), "", "{}", folder.display());
        let again = compiler.compile(&good).unwrap();
        assert_eq!(first.snapshot, again.snapshot, "{}", folder.display());
        for (name, table) in &again.snapshot.route_tables {
            assert!(std::sync::Arc::ptr_eq(table, &first.snapshot.route_tables[name]), "{name} is rebuilt");
        }
    }
}
