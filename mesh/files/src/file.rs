//! Reads resource files: one file, or every resource file of a folder. Called by the file source, off the main thread.
//! Bounded in number and size; what cannot be read is refused with the file's name, never left out.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_resources::{Refusal, SourceFile};

use crate::limits::{MAX_RESOURCE_BYTES, MAX_RESOURCE_FILE_BYTES, MAX_RESOURCE_FILES};
use crate::watch::{WatchPlan, is_resource_name};

/// Lists the files of a configuration in the order they are read in, and what to watch for changes of that list.
///
/// # Errors
/// The path is not there or cannot be listed, or holds too many files.
pub(crate) fn list(root: &Path) -> (WatchPlan, Result<Vec<PathBuf>, Vec<Refusal>>) {
    let mut plan = WatchPlan::default();
    if !root.is_dir() {
        plan.add_path(root);
        return (plan, if root.exists() { Ok(vec![root.to_owned()]) } else { Err(vec![missing(root)]) });
    }
    plan.add_resource_folder(root);
    let listed = names(root).map_err(|error| vec![refusal(root, unreadable(&error), "check its permissions")]);
    let files = listed.and_then(|names| {
        if names.len() > MAX_RESOURCE_FILES {
            let reason =
                format!("the folder has {} resource files, at most {MAX_RESOURCE_FILES} are read", names.len());
            return Err(vec![refusal(root, reason, "put several resources into one file")]);
        }
        Ok(names)
    });
    for file in files.iter().flatten() {
        plan.add_path(file);
    }
    (plan, files)
}

/// Reads files.
///
/// # Errors
/// A refusal for each file that cannot be read.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<SourceFile>, Vec<Refusal>> {
    let mut files = Vec::with_capacity(paths.len());
    let mut refusals = Vec::new();
    let mut budget = MAX_RESOURCE_BYTES;
    for path in paths {
        match text(path, &mut budget) {
            Ok(text) => files.push(SourceFile { path: path.clone(), text }),
            Err((reason, hint)) => refusals.push(refusal(path, reason, hint)),
        }
    }
    if refusals.is_empty() { Ok(files) } else { Err(refusals) }
}

fn names(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Links are followed: a link to a folder is none of ours, a link to nowhere is read and refused.
        if is_resource_name(&entry.file_name()) && !entry.path().is_dir() {
            names.push(entry.path());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn text(path: &Path, budget: &mut u64) -> Result<Arc<str>, (String, &'static str)> {
    let failed = |error: io::Error| (unreadable(&error), "check that it is there and may be read");
    let file = File::open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(("is not a plain file".to_owned(), "give resource files other names than pipes and devices"));
    }
    let limit = MAX_RESOURCE_FILE_BYTES.min(*budget);
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    let length = bytes.len() as u64;
    if length > MAX_RESOURCE_FILE_BYTES {
        return Err((format!("has more than {MAX_RESOURCE_FILE_BYTES} bytes"), "split it into several files"));
    }
    if length > limit {
        return Err((format!("all files together have more than {MAX_RESOURCE_BYTES} bytes"), "remove some"));
    }
    *budget -= length;
    let text = String::from_utf8(bytes).map_err(|error| {
        let place = error.utf8_error().valid_up_to();
        (format!("is not UTF-8 text at byte {place}"), "save it as UTF-8")
    })?;
    Ok(Arc::from(text))
}

fn unreadable(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

fn missing(root: &Path) -> Refusal {
    refusal(root, "is not there".to_owned(), "give --config the file or folder with your resources")
}

/// A refusal of a whole file or folder.
pub(crate) fn refusal(path: &Path, reason: String, hint: &str) -> Refusal {
    Refusal { file: path.to_owned(), ..Refusal::unplaced(reason, hint) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_folder_is_read_in_order_and_without_what_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["b.yaml", "a.yml", "c.json", ".hidden.yaml", "d.yaml~", "e.txt"] {
            fs::write(path(name), name).unwrap();
        }
        fs::create_dir(path("sub.yaml")).unwrap();
        symlink("e.txt", path("link.yaml")).unwrap();
        let (_, listed) = list(folder.path());
        let files = read(&listed.unwrap()).unwrap();
        let read: Vec<_> =
            files.iter().map(|file| (file.path.file_name().unwrap().to_str().unwrap(), &*file.text)).collect();
        assert_eq!(read, [("a.yml", "a.yml"), ("b.yaml", "b.yaml"), ("c.json", "c.json"), ("link.yaml", "e.txt")]);
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        symlink("nowhere", path("a.yaml")).unwrap();
        fs::write(path("b.yaml"), b"a: \xff").unwrap();
        fs::write(path("c.yaml"), "a: 1").unwrap();
        let refusals = read(&list(folder.path()).1.unwrap()).unwrap_err();
        let reasons: Vec<_> = refusals.iter().map(|refusal| (refusal.file.clone(), refusal.reason.as_str())).collect();
        assert_eq!(reasons.len(), 2);
        assert!(reasons[0].0 == path("a.yaml") && reasons[0].1.starts_with("cannot be read: No such file"));
        assert_eq!(reasons[1], (path("b.yaml"), "is not UTF-8 text at byte 3"));
        let gone = list(&path("gone")).1.unwrap_err();
        assert_eq!(gone[0].reason, "is not there");
    }
}
