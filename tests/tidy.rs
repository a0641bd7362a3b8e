//! The style of the house, checked: `path:line: message` for each fault, all at once.
//!
//! Run by `cargo test -p weir-tests --test tidy`. Each check below is one function over the files of the repository;
//! to add one, write the function and name it in `everything_is_tidy`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The longest file, in lines without its tests.
const MAX_LINES: usize = 500;

/// Words that name nothing. They may stand in no file name and no public item.
const EMPTY_WORDS: [&str; 10] =
    ["util", "utils", "common", "helper", "helpers", "manager", "managers", "misc", "base", "stuff"];

/// A crate of ours, the crates of ours that it may import, and the foreign crates that it must never import.
type Arrows = (&'static str, &'static [&'static str], &'static [&'static str]);

const ARROWS: [Arrows; 12] = [
    ("weir-host-abi", &[], &["hyper", "tonic", "rustls"]),
    ("weir-model", &[], &["tokio", "hyper", "tonic", "prost", "rustls", "wasmtime"]),
    ("weir-resources", &["weir-model"], &["tokio", "hyper", "tonic", "wasmtime"]),
    ("weir-xds", &["weir-model"], &["hyper", "tonic", "tokio"]),
    ("weir-loader", &["weir-host-abi", "weir-model"], &["hyper", "tonic", "wasmtime"]),
    ("weir-bundle", &[], &["tokio", "hyper", "wasmtime"]),
    ("weir-file-source", &["weir-resources"], &["hyper", "tonic", "wasmtime"]),
    ("weir-identity", &["weir-model"], &["hyper", "wasmtime"]),
    (
        "weir-proxy",
        &[
            "weir-file-source",
            "weir-host-abi",
            "weir-identity",
            "weir-loader",
            "weir-resources",
            "weir-model",
            "weir-xds",
        ],
        &["wasmtime", "proxy-wasm"],
    ),
    (
        "weir-control",
        &[
            "weir-bundle",
            "weir-file-source",
            "weir-host-abi",
            "weir-identity",
            "weir-loader",
            "weir-resources",
            "weir-model",
            "weir-xds",
        ],
        &["wasmtime"],
    ),
    ("weir-cli", &["weir-identity", "weir-bundle", "weir-resources"], &["tokio", "tonic", "wasmtime"]),
    ("weir-sdk", &[], &["tokio", "hyper", "wasmtime"]),
];

/// A foreign library and the one folder where it may be used.
const HOMES: [(&str, &str); 9] = [
    ("wasmtime", "host-abi/"),
    ("serde_saphyr", "mesh/resources/"),
    ("gateway_api", "mesh/resources/"),
    ("k8s_openapi", "mesh/resources/"),
    ("proxy_wasm", "sdk/"),
    ("prost", "control/"),
    ("envoy_types", "mesh/xds/"),
    ("rustls", "mesh/identity/"),
    ("hyper", "proxy/"),
];

/// One text file of the repository.
struct File {
    /// Relative to the repository, with forward slashes.
    path: String,
    text: String,
}

impl File {
    fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/")
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Numbered lines before the tests at the end of the file.
    fn shipped_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.text.find("#[cfg(test)]\nmod tests").unwrap_or(self.text.len());
        self.text[..end].lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// [`File::shipped_lines`] without comments.
    fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let without_comment = |(number, line): (usize, &'_ str)| {
            let is_comment = line.trim_start().starts_with("//");
            (!is_comment).then_some(number)
        };
        let code: Vec<usize> = self.shipped_lines().filter_map(without_comment).collect();
        self.shipped_lines().filter(move |(number, _)| code.binary_search(number).is_ok())
    }
}

#[test]
fn everything_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the repository");
    let mut files = Vec::new();
    collect(root, root, &mut files);
    files.sort_by(|left, right| left.path.cmp(&right.path));

    let mut faults = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        check_size_and_head(file, &mut faults);
        check_homes(file, &mut faults);
        check_words(file, &mut faults);
        check_limits_are_explained(file, &mut faults);
        check_open_tasks(file, &mut faults);
    }
    check_module_order(&files, &mut faults);
    check_crate_arrows(root, &mut faults);
    check_paths_in_docs(root, &files, &mut faults);
    check_examples(root, &mut faults);

    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && !matches!(name, "target" | "node_modules") {
            collect(root, &path, files);
        } else if matches!(path.extension().and_then(|end| end.to_str()), Some("rs" | "md")) {
            let relative = path.strip_prefix(root).expect("below the root");
            let text = fs::read_to_string(&path).expect("a text file");
            files.push(File { path: relative.to_string_lossy().replace('\\', "/"), text });
        }
    }
}

fn check_size_and_head(file: &File, faults: &mut Vec<String>) {
    if !file.text.starts_with("//! ") {
        faults.push(format!("{}:1: must begin with `//!`: what this file does, and who calls it", file.path));
    }
    let lines = file.shipped_lines().count();
    if lines > MAX_LINES && !file.is_test() {
        faults.push(format!("{}:{MAX_LINES}: is {lines} lines long without its tests; split it", file.path));
    }
}

fn check_homes(file: &File, faults: &mut Vec<String>) {
    for (library, home) in HOMES {
        if file.path.starts_with(home) || file.is_test() {
            continue;
        }
        for (number, line) in file.code_lines().filter(|(_, line)| names_path(line, library)) {
            let line = line.trim();
            faults.push(format!("{}:{number}: `{library}` may be used in {home} only: {line}", file.path));
        }
    }
}

/// Whether the line holds `library::`, not `other_library::` and not `crate::library::`.
fn names_path(line: &str, library: &str) -> bool {
    let needle = format!("{library}::");
    line.match_indices(&needle).any(|(start, _)| {
        let before = line[..start].chars().next_back();
        before.is_none_or(|before| !before.is_alphanumeric() && before != '_' && before != ':')
    })
}

fn check_words(file: &File, faults: &mut Vec<String>) {
    let mut check = |number: usize, name: &str| {
        if let Some(word) = words(name).into_iter().find(|word| EMPTY_WORDS.contains(&word.as_str())) {
            faults.push(format!("{}:{number}: `{word}` in `{name}` says nothing; say what it does", file.path));
        }
    };
    check(1, file.name().trim_end_matches(".rs"));
    for (number, line) in file.code_lines() {
        let Some(rest) = line.trim_start().strip_prefix("pub ") else { continue };
        let kinds = ["fn ", "struct ", "enum ", "trait ", "mod ", "const ", "static ", "type "];
        if let Some(item) = kinds.iter().find_map(|kind| rest.strip_prefix(kind)) {
            let end = item.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(item.len());
            check(number, &item[..end]);
        }
    }
}

/// The words of `snake_case` and `CamelCase`, in lower case.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for character in name.chars() {
        let begins_word = character == '_' || character.is_uppercase();
        let last = words.last_mut().expect("never empty");
        if begins_word && last.chars().any(char::is_lowercase) || character == '_' {
            words.push(String::new());
        }
        if character != '_' {
            words.last_mut().expect("never empty").extend(character.to_lowercase());
        }
    }
    words
}

fn check_limits_are_explained(file: &File, faults: &mut Vec<String>) {
    if file.name() != "limits.rs" {
        return;
    }
    let mut is_explained = false;
    for (number, line) in file.shipped_lines().map(|(number, line)| (number, line.trim_start())) {
        let is_limit = line.contains("const ") && line.contains(':') && !line.contains("fn ");
        if is_limit && !line.starts_with("//") && !line.contains("// ") && !is_explained {
            faults.push(format!("{}:{number}: a limit needs a comment: its unit and its reason", file.path));
        }
        is_explained = line.starts_with("///") || (is_explained && line.starts_with("#["));
    }
}

fn check_open_tasks(file: &File, faults: &mut Vec<String>) {
    for (index, line) in file.text.lines().enumerate() {
        for mark in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")] {
            if line.contains(mark) && !line.contains(&format!("{mark}(#")) && !line.contains(&format!("{mark} #")) {
                faults.push(format!("{}:{}: {mark} needs the number of an issue: {mark}(#12)", file.path, index + 1));
            }
        }
    }
}

/// `lib.rs` lists modules in reading order, and each imports only from below.
fn check_module_order(files: &[File], faults: &mut Vec<String>) {
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
                    let listed = format!("`{above}` stands above `{own}` in {}", library.path);
                    faults.push(format!("{}:{number}: imports upwards: {listed}", file.path));
                }
            }
        }
    }
}

/// The modules that a line names as `crate::module` or in `crate::{module, ...}`.
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

fn check_crate_arrows(root: &Path, faults: &mut Vec<String>) {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let metadata =
        Command::new(cargo).args(["metadata", "--format-version", "1", "--no-deps"]).current_dir(root).output();
    let metadata = metadata.expect("cargo metadata runs").stdout;
    let metadata: serde_json::Value = serde_json::from_slice(&metadata).expect("cargo metadata is JSON");
    for package in metadata["packages"].as_array().expect("a list of packages") {
        let name = package["name"].as_str().unwrap_or_default();
        let manifest = PathBuf::from(package["manifest_path"].as_str().unwrap_or_default());
        let manifest = manifest.strip_prefix(root).unwrap_or(&manifest).display().to_string();
        let is_plugin = manifest.starts_with("plugins/") || manifest.starts_with("examples/");
        let listed = ARROWS.iter().find(|arrows| arrows.0 == name);
        let (ours, never): (&[&str], &[&str]) = match listed {
            Some((_, ours, never)) => (ours, never),
            None if is_plugin => (&["weir-sdk"], &["proxy-wasm", "tokio", "wasmtime"]),
            None => continue,
        };
        for dependency in package["dependencies"].as_array().expect("a list of dependencies") {
            let import = dependency["name"].as_str().unwrap_or_default();
            let is_shipped = dependency["kind"].is_null();
            let is_wrong = (import.starts_with("weir-") && !ours.contains(&import)) || never.contains(&import);
            if is_shipped && is_wrong {
                faults.push(format!("{manifest}:1: {name} must not import {import}"));
            }
        }
    }
}

fn check_paths_in_docs(root: &Path, files: &[File], faults: &mut Vec<String>) {
    let is_doc = |file: &&File| file.path.starts_with("docs/") || file.name() == "README.md";
    for file in files.iter().filter(|file| file.path.ends_with(".md")).filter(is_doc) {
        let folder = root.join(&file.path).parent().map(Path::to_path_buf).unwrap_or_default();
        let mut in_block = false;
        for (index, line) in file.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                in_block = !in_block;
            }
            if in_block {
                continue;
            }
            let mut check = |named: &str, path: PathBuf| {
                if !path.exists() {
                    faults.push(format!("{}:{}: there is no {named}", file.path, index + 1));
                }
            };
            for code in line.split('`').skip(1).step_by(2).filter(|code| is_repository_path(root, code)) {
                check(code, root.join(code));
            }
            for link in line.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
                if !link.is_empty() && !link.contains("://") {
                    check(link, folder.join(link));
                }
            }
        }
    }
}

/// Whether it looks like `folder/file` with a folder of this repository.
fn is_repository_path(root: &Path, code: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let Some((first, _)) = code.split_once('/') else { return false };
    !first.is_empty()
        && !first.starts_with('.')
        && code.chars().all(legal)
        && root.join(first).is_dir()
        && first != "target"
}

/// Every example can be read and is run: `tests/examples.rs` runs the `sh` blocks of its README.
fn check_examples(root: &Path, faults: &mut Vec<String>) {
    for entry in fs::read_dir(root.join("examples")).expect("a folder of examples") {
        let path = entry.expect("a readable entry").path();
        if !path.is_dir() {
            continue;
        }
        let named = path.strip_prefix(root).expect("below the root").display().to_string();
        match fs::read_to_string(path.join("README.md")) {
            Ok(readme) if readme.contains("```sh") => {}
            Ok(_) => faults.push(format!("{named}/README.md:1: has no `sh` block, so no test runs this example")),
            Err(_) => faults.push(format!("{named}:1: an example needs a README.md")),
        }
    }
}
