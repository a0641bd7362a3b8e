//! Files that the command line names: read, and put together so that refusals still say which file and line.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use serde_json::Value;
use weir_resources::SourceFile;

/// The files, and the resource files of the folders, in the order named.
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

/// What the text of several files is called where it is sent.
pub(crate) const TOGETHER: &str = "files";

/// A file in a text that was put together.
pub(crate) struct FilePlace {
    path: String,
    /// Lines of the text before it.
    lines_before: usize,
}

/// Says the place of a refusal in its file.
pub(crate) fn place(refusal: &mut Value, places: &[FilePlace]) {
    let line = refusal["line"].as_u64().and_then(|line| usize::try_from(line).ok()).unwrap_or_default();
    let within = places.iter().rev().find(|place| line > place.lines_before);
    if let Some(FilePlace { path, lines_before }) = within.filter(|_| refusal["file"] == TOGETHER) {
        refusal["file"] = Value::from(path.as_str());
        refusal["line"] = Value::from(line - lines_before);
    }
}

/// One text, one document after another, and where each file is in it.
pub(crate) fn joined(files: &[SourceFile]) -> (String, Vec<FilePlace>) {
    let mut text = String::new();
    let mut places = Vec::new();
    for file in files {
        if !text.is_empty() {
            text.push_str("---\n");
        }
        places.push(FilePlace { path: file.path.display().to_string(), lines_before: text.lines().count() });
        text.push_str(&file.text);
        if !text.ends_with('\n') {
            text.push('\n');
        }
    }
    (text, places)
}

fn resource_files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).with_context(|| format!("{} cannot be listed", folder.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_resource = [".yaml", ".yml", ".json"].iter().any(|end| name.ends_with(end)) && !name.starts_with('.');
        if is_resource && path.is_file() {
            found.push(path);
        }
    }
    Ok(found)
}

fn file(path: &Path) -> anyhow::Result<SourceFile> {
    let text = fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(SourceFile { path: path.to_owned(), text: Arc::from(text) })
}
