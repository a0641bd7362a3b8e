//! The rules of the code base that a program can check. Each fault is reported as `path:line: message`, all at once.
//!
//! `cargo test -p weir-tidy` runs it. Each module holds one group of checks, and each check is a function from source
//! files to faults. `baseline.txt` lists the faults that are tolerated; it may only shrink.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod baseline;
mod crates;
mod denied_types;
mod imports;
mod layout;
mod naming;
mod signatures;
mod source;

use std::path::Path;

use baseline::Fault;
use source::SourceFile;

#[test]
fn repository_follows_the_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/tidy/ is in the repository");
    let files = source::collect(root);
    let rust: Vec<&SourceFile> = files.iter().filter(|file| file.path.ends_with(".rs")).collect();

    let mut faults: Vec<Fault> = Vec::new();
    for file in &rust {
        layout::check_size_and_head(file, &mut faults);
        layout::check_library_homes(file, &mut faults);
        layout::check_limits_are_explained(file, &mut faults);
        layout::check_open_tasks(file, &mut faults);
        naming::check_identifiers(file, &mut faults);
        naming::check_docstrings(file, &mut faults);
        signatures::check_tuple_parameters(file, &mut faults);
    }
    layout::check_module_order(&rust, &mut faults);
    imports::check_circles(&rust, &mut faults);
    crates::check_arrows(root, &mut faults);
    layout::check_paths_in_docs(root, &files, &mut faults);
    layout::check_examples(root, &mut faults);

    let tolerated = include_str!("baseline.txt");
    let report = baseline::compare(&faults, tolerated);
    assert!(report.is_empty(), "{} faults:\n{}", report.len(), report.join("\n"));
}
