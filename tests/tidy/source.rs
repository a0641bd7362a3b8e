//! The text files of the repository, and the parsed form of its Rust files.

use std::fs;
use std::path::Path;

/// One text file of the repository.
pub(crate) struct SourceFile {
    /// Relative to the repository, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
    /// `None` for files that are not Rust.
    pub(crate) syntax: Option<syn::File>,
}

impl SourceFile {
    /// Parses `text` if `path` ends with `.rs`. Panics if it is not valid Rust.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let is_rust = path.ends_with(".rs");
        let syntax = is_rust.then(|| syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}")));
        Self { path: path.to_owned(), text: text.to_owned(), syntax }
    }

    pub(crate) fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/")
    }

    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Numbered lines before the unit tests at the end of the file.
    pub(crate) fn shipped_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.text.find("#[cfg(test)]\nmod tests").unwrap_or(self.text.len());
        self.text[..end].lines().enumerate().map(|(index, line)| (index + 1, line))
    }

    /// [`SourceFile::shipped_lines`] without comments.
    pub(crate) fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.shipped_lines().filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// Returns all Rust and Markdown files below `root`, in order of their paths.
pub(crate) fn collect(root: &Path) -> Vec<SourceFile> {
    let mut files = Vec::new();
    collect_folder(root, root, &mut files);
    files.sort_by(|left, right| left.path.cmp(&right.path));
    files
}

fn collect_folder(root: &Path, folder: &Path, files: &mut Vec<SourceFile>) {
    for entry in fs::read_dir(folder).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !name.starts_with('.') && !matches!(name, "target" | "node_modules") {
            collect_folder(root, &path, files);
        } else if matches!(path.extension().and_then(|extension| extension.to_str()), Some("rs" | "md")) {
            let relative = path.strip_prefix(root).expect("below the root").to_string_lossy().replace('\\', "/");
            files.push(SourceFile::new(&relative, &fs::read_to_string(&path).expect("a text file")));
        }
    }
}

/// Returns whether an item is compiled for tests only (`#[test]`, `#[cfg(test)]`).
pub(crate) fn is_test_only(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::Path(path) => path.is_ident("test"),
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string() == "test",
        syn::Meta::NameValue(_) => false,
    })
}

/// Returns the words of `snake_case` and `CamelCase` in lower case.
pub(crate) fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut is_after_lowercase = false;
    for character in name.chars() {
        if character == '_' || (character.is_uppercase() && is_after_lowercase) {
            words.push(String::new());
        }
        if character != '_' {
            words.last_mut().expect("never empty").extend(character.to_lowercase());
        }
        is_after_lowercase = character.is_lowercase();
    }
    words
}

#[test]
fn names_split_into_words() {
    for (name, expected) in [("read_all", "read all"), ("BodyError", "body error"), ("ADS", "ads"), ("_x", " x")] {
        assert_eq!(words(name).join(" "), expected, "{name}");
    }
}
