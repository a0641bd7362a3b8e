//! Layout: sizes and first lines of files, where libraries may be used, the order of modules, paths in documents.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::baseline::Fault;
use crate::source::SourceFile;

/// The longest file, in lines without its unit tests.
const MAX_LINES: usize = 500;

/// A foreign library and the folders where shipped code may use it.
struct LibraryHome {
    library: &'static str,
    folders: &'static [&'static str],
}

const LIBRARY_HOMES: [LibraryHome; 9] = [
    LibraryHome { library: "wasmtime", folders: &["host-abi/"] },
    LibraryHome { library: "serde_saphyr", folders: &["mesh/resources/"] },
    LibraryHome { library: "gateway_api", folders: &["mesh/resources/"] },
    LibraryHome { library: "k8s_openapi", folders: &["mesh/resources/"] },
    LibraryHome { library: "proxy_wasm", folders: &["sdk/"] },
    LibraryHome { library: "prost", folders: &["mesh/xds/", "mesh/identity/", "control/src/"] },
    LibraryHome { library: "envoy_types", folders: &["mesh/xds/"] },
    LibraryHome { library: "rustls", folders: &["mesh/identity/", "control/cli/"] },
    // The API needs its timeouts for a head, which axum's server does not offer.
    LibraryHome { library: "hyper", folders: &["proxy/", "control/src/net/http_server.rs"] },
];

/// Reports files without a first line `//!`, and files that are too long.
pub(crate) fn check_size_and_head(file: &SourceFile, faults: &mut Vec<Fault>) {
    if !file.text.starts_with("//! ") {
        faults.push(Fault::new(&file.path, 1, "head", "must begin with `//!` and its subject".to_owned()));
    }
    let lines = file.shipped_lines().count();
    if lines > MAX_LINES && !file.is_test() {
        let message = format!("is {lines} lines long without its unit tests; split it");
        faults.push(Fault::new(&file.path, MAX_LINES, "size", message));
    }
}

/// Reports uses of a library outside its home folders.
pub(crate) fn check_library_homes(file: &SourceFile, faults: &mut Vec<Fault>) {
    for LibraryHome { library, folders } in LIBRARY_HOMES {
        if folders.iter().any(|folder| file.path.starts_with(folder)) || file.is_test() {
            continue;
        }
        for (number, line) in file.code_lines().filter(|(_, line)| names_path(line, library)) {
            let message = format!("`{library}` may be used in {} only: {}", folders.join(", "), line.trim());
            faults.push(Fault::new(&file.path, number, &format!("home {library}"), message));
        }
    }
}

/// Returns whether the line contains `library::`, not `other_library::` and not `crate::library::`.
fn names_path(line: &str, library: &str) -> bool {
    let needle = format!("{library}::");
    line.match_indices(&needle).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        before.is_none_or(|before| !before.is_alphanumeric() && before != '_' && before != ':')
    })
}

/// Reports constants of a `limits.rs` without a comment.
pub(crate) fn check_limits_are_explained(file: &SourceFile, faults: &mut Vec<Fault>) {
    if file.name() != "limits.rs" {
        return;
    }
    let mut is_explained = false;
    for (number, line) in file.shipped_lines().map(|(number, line)| (number, line.trim_start())) {
        let is_limit = line.contains("const ") && line.contains(':') && !line.contains("fn ");
        if is_limit && !line.starts_with("//") && !line.contains("// ") && !is_explained {
            let message = "a limit needs a comment: its unit and its reason".to_owned();
            faults.push(Fault::new(&file.path, number, "limit", message));
        }
        is_explained = line.starts_with("///") || (is_explained && line.starts_with("#["));
    }
}

/// Reports marks of unfinished work that name no issue.
pub(crate) fn check_open_tasks(file: &SourceFile, faults: &mut Vec<Fault>) {
    for (index, line) in file.text.lines().enumerate() {
        for mark in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")] {
            if line.contains(mark) && !line.contains(&format!("{mark}(#")) && !line.contains(&format!("{mark} #")) {
                let message = format!("{mark} needs the number of an issue: {mark}(#12)");
                faults.push(Fault::new(&file.path, index + 1, "open", message));
            }
        }
    }
}

/// Reports imports of a module that `lib.rs` lists above the importing one. `lib.rs` lists modules in reading order.
pub(crate) fn check_module_order(files: &[&SourceFile], faults: &mut Vec<Fault>) {
    for library in files.iter().filter(|file| file.path.ends_with("src/lib.rs")) {
        let source = library.path.trim_end_matches("lib.rs");
        let declared = |(_, line): (usize, &str)| {
            let rest = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
            rest.strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned)
        };
        let modules: Vec<String> = library.code_lines().filter_map(declared).collect();
        let place: BTreeMap<&str, usize> = modules.iter().enumerate().map(|(at, name)| (name.as_str(), at)).collect();
        for file in files.iter().filter(|file| file.path.starts_with(source)) {
            let inner = &file.path[source.len()..];
            let own = inner.split('/').next().unwrap_or_default().trim_end_matches(".rs");
            let Some(&own_place) = place.get(own) else { continue };
            for (number, line) in file.code_lines() {
                let above =
                    crate_paths(line).into_iter().find(|name| place.get(name).is_some_and(|&at| at < own_place));
                if let Some(above) = above {
                    let message = format!("imports upwards: `{above}` is above `{own}` in {}", library.path);
                    faults.push(Fault::new(&file.path, number, &format!("order {above}"), message));
                }
            }
        }
    }
}

/// Returns the modules that a line names as `crate::module` or in `crate::{module, ...}`.
fn crate_paths(line: &str) -> Vec<&str> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let mut names = Vec::new();
    for (start, _) in line.match_indices("crate::") {
        if line[..start].ends_with('$') {
            continue;
        }
        let rest = &line[start + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => names.extend(group.split(',').map(|part| {
                let part = part.trim_start();
                &part[..part.find(|c| !is_name(c)).unwrap_or(part.len())]
            })),
            None => names.push(&rest[..rest.find(|c| !is_name(c)).unwrap_or(rest.len())]),
        }
    }
    names
}

/// Reports paths of this repository that do not exist: in backticks or links of Markdown, in backticks of comments.
pub(crate) fn check_paths_in_docs(root: &Path, files: &[SourceFile], faults: &mut Vec<Fault>) {
    for file in files {
        let folder = root.join(&file.path).parent().map(Path::to_path_buf).unwrap_or_default();
        for (number, line) in prose_lines(file) {
            let mut check = |named: &str, path: PathBuf| {
                if !path.exists() {
                    let message = format!("there is no {named}");
                    faults.push(Fault::new(&file.path, number, &format!("path {named}"), message));
                }
            };
            for code in line.split('`').skip(1).step_by(2).filter(|code| is_repository_path(root, code)) {
                check(code, root.join(code));
            }
            if file.syntax.is_some() {
                continue;
            }
            for link in line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
                if !link.is_empty() && !link.contains("://") {
                    check(link, folder.join(link));
                }
            }
        }
    }
}

/// Returns the numbered lines of a Markdown file outside code blocks, or the comment lines of a Rust file.
fn prose_lines(file: &SourceFile) -> Vec<(usize, &str)> {
    let numbered = file.text.lines().enumerate().map(|(index, line)| (index + 1, line));
    if file.syntax.is_some() {
        return numbered.filter(|(_, line)| line.trim_start().starts_with("//")).collect();
    }
    let is_page = file.path.starts_with("docs/") || !file.path.contains('/') || file.name() == "README.md";
    let mut in_block = false;
    let is_prose = |(_, line): &(usize, &str)| {
        let is_fence = line.trim_start().starts_with("```");
        in_block ^= is_fence;
        is_page && !is_fence && !in_block
    };
    numbered.filter(is_prose).collect()
}

/// Returns whether `code` looks like `folder/file` with a folder of this repository.
fn is_repository_path(root: &Path, code: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let Some((first, _)) = code.split_once('/') else { return false };
    !first.is_empty()
        && !first.starts_with('.')
        && code.chars().all(legal)
        && root.join(first).is_dir()
        && first != "target"
}

/// Reports examples without a README whose `sh` blocks `tests/examples.rs` can run.
pub(crate) fn check_examples(root: &Path, faults: &mut Vec<Fault>) {
    for entry in fs::read_dir(root.join("examples")).expect("a folder of examples") {
        let path = entry.expect("a readable entry").path();
        if !path.is_dir() {
            continue;
        }
        let example = path.strip_prefix(root).expect("below the root").display().to_string();
        let readme = fs::read_to_string(path.join("README.md")).unwrap_or_default();
        if !readme.contains("```sh") {
            let message = "needs a README.md with an `sh` block, which a test runs".to_owned();
            faults.push(Fault::new(&example, 1, "example", message));
        }
    }
}
