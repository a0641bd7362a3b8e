//! Reads the files that the command line names. Concatenates them into one request, and maps positions in it back to
//! files.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use serde_json::Value;
use weir_file_source::is_resource_file_name;
use weir_resources::SourceFile;

/// Reads the files, and the resource files of the folders, in the order of the command line. `-` is standard input.
pub(crate) fn read(paths: &[PathBuf]) -> anyhow::Result<Vec<SourceFile>> {
    let mut files = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
            files.push(SourceFile { path: PathBuf::from("stdin"), text: Arc::from(text) });
        } else if path.is_dir() {
            let mut found = resource_files(path)?;
            found.sort();
            if found.is_empty() {
                bail!("{} holds no *.yaml, *.yml or *.json", path.display());
            }
            for path in found {
                files.push(file(&path)?);
            }
        } else {
            files.push(file(path)?);
        }
    }
    Ok(files)
}

/// The file name of a concatenated request, which the control plane's diagnostics contain.
pub(crate) const COMBINED: &str = "files";

/// The position of a file in a concatenated text.
pub(crate) struct FileSpan {
    path: String,
    /// The number of lines before the file.
    lines_before: usize,
}

/// Replaces a diagnostic's position in the concatenated text by that in its file.
pub(crate) fn relocate(diagnostic: &mut Value, spans: &[FileSpan]) {
    let line = diagnostic["line"].as_u64().and_then(|line| usize::try_from(line).ok()).unwrap_or_default();
    let within = spans.iter().rev().find(|span| line > span.lines_before);
    if let Some(FileSpan { path, lines_before }) = within.filter(|_| diagnostic["file"] == COMBINED) {
        diagnostic["file"] = Value::from(path.as_str());
        diagnostic["line"] = Value::from(line - lines_before);
    }
}

/// Concatenates files as YAML documents, and returns the position of each.
pub(crate) fn concat(files: &[SourceFile]) -> (String, Vec<FileSpan>) {
    let mut text = String::new();
    let mut spans = Vec::new();
    for file in files {
        if !text.is_empty() {
            text.push_str("---\n");
        }
        spans.push(FileSpan { path: file.path.display().to_string(), lines_before: text.lines().count() });
        text.push_str(&file.text);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    (text, spans)
}

fn resource_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("{} cannot be listed", folder.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if !path.file_name().is_some_and(is_resource_file_name) {
            continue;
        }
        // Reading a pipe would wait. One that the command line names is read: it may be another command's output.
        if fs::metadata(&path).is_ok_and(|metadata| !metadata.is_file()) {
            bail!("{} is not a plain file; give it another name than a resource file", path.display());
        }
        found.push(path);
    }
    Ok(found)
}

fn file(path: &Path) -> anyhow::Result<SourceFile> {
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(SourceFile { path: path.to_owned(), text: Arc::from(text) })
}
