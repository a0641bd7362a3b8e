//! Reads resource files: one file, or every resource file of a folder. Called by the file source on a blocking thread.
//! Bounded in number and size. A file that cannot be read is reported with its path, never skipped.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_resources::{Diagnostic, SourceFile};

use crate::file_name::is_resource_file_name;
use crate::limits::{MAX_RESOURCE_BYTES, MAX_RESOURCE_FILE_BYTES, MAX_RESOURCE_FILES};
use crate::watch::WatchPlan;

/// Lists the files of a configuration in reading order, and plans the watch that notices changes of the list.
///
/// # Errors
/// The path does not exist, cannot be listed, or has more than [`MAX_RESOURCE_FILES`] files.
pub(crate) fn list(root: &Path) -> (WatchPlan, Result<Vec<PathBuf>, Vec<Diagnostic>>) {
    let mut plan = WatchPlan::default();
    if !root.is_dir() {
        plan.add_path(root);
        return (plan, if root.exists() { Ok(vec![root.to_owned()]) } else { Err(vec![missing(root)]) });
    }
    plan.add_resource_folder(root);
    let listed = names(root).map_err(|error| vec![diagnostic(root, unreadable(&error), "check its permissions")]);
    let files = listed.and_then(|names| {
        if names.len() > MAX_RESOURCE_FILES {
            let reason =
                format!("the folder has {} resource files, at most {MAX_RESOURCE_FILES} are read", names.len());
            return Err(vec![diagnostic(root, reason, "put several resources into one file")]);
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
/// One diagnostic per file that cannot be read.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<SourceFile>, Vec<Diagnostic>> {
    let mut files = Vec::with_capacity(paths.len());
    let mut diagnostics = Vec::new();
    let mut budget = MAX_RESOURCE_BYTES;
    for path in paths {
        match text(path, &mut budget) {
            Ok(text) => files.push(SourceFile { path: path.clone(), text }),
            Err((reason, hint)) => diagnostics.push(diagnostic(path, reason, hint)),
        }
    }
    if diagnostics.is_empty() { Ok(files) } else { Err(diagnostics) }
}

fn names(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Whatever it is: reading reports what is no file.
        if is_resource_file_name(&entry.file_name()) {
            names.push(entry.path());
        }
    }
    names.sort_unstable();
    Ok(names)
}

fn text(path: &Path, budget: &mut u64) -> Result<Arc<str>, (String, &'static str)> {
    let failed = |error: io::Error| (unreadable(&error), "check that it is there and may be read");
    // Opening a pipe would wait for its other end.
    let file = File::options().read(true).custom_flags(NONBLOCK).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err((
            "is not a plain file".to_owned(),
            "give folders, pipes and devices other names than resource files",
        ));
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
        let offset = error.utf8_error().valid_up_to();
        (format!("is not UTF-8 text at byte {offset}"), "save it as UTF-8")
    })?;
    Ok(Arc::from(text))
}

/// Flag of `open(2)`: a pipe or a device is opened without waiting. It has no effect on files.
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();

fn unreadable(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

fn missing(root: &Path) -> Diagnostic {
    diagnostic(root, "is not there".to_owned(), "give --config the file or folder with your resources")
}

/// Returns a diagnostic of a whole file or folder.
pub(crate) fn diagnostic(path: &Path, reason: String, hint: &str) -> Diagnostic {
    Diagnostic { file: path.to_owned(), ..Diagnostic::without_position(reason, hint) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn folder_is_read_in_order_without_other_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["b.yaml", "a.yml", "c.json", ".hidden.yaml", "d.yaml~", "e.txt"] {
            fs::write(path(name), name).unwrap();
        }
        fs::create_dir(path("sub")).unwrap();
        symlink("e.txt", path("link.yaml")).unwrap();
        let (_, listed) = list(folder.path());
        let files = read(&listed.unwrap()).unwrap();
        let read: Vec<_> =
            files.iter().map(|file| (file.path.file_name().unwrap().to_str().unwrap(), &*file.text)).collect();
        assert_eq!(read, [("a.yml", "a.yml"), ("b.yaml", "b.yaml"), ("c.json", "c.json"), ("link.yaml", "e.txt")]);
    }

    #[test]
    fn unreadable_file_is_reported_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        symlink("nowhere", path("a.yaml")).unwrap();
        fs::write(path("b.yaml"), b"a: \xff").unwrap();
        fs::write(path("c.yaml"), "a: 1").unwrap();
        let diagnostics = read(&list(folder.path()).1.unwrap()).unwrap_err();
        let reasons: Vec<_> =
            diagnostics.iter().map(|diagnostic| (diagnostic.file.clone(), diagnostic.reason.as_str())).collect();
        assert_eq!(reasons.len(), 2);
        assert!(reasons[0].0 == path("a.yaml") && reasons[0].1.starts_with("cannot be read: No such file"));
        assert_eq!(reasons[1], (path("b.yaml"), "is not UTF-8 text at byte 3"));
        fs::remove_file(path("a.yaml")).unwrap();
        fs::remove_file(path("b.yaml")).unwrap();
        fs::create_dir(path("folder.yaml")).unwrap();
        rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe.yaml"), rustix::fs::Mode::RUSR).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket.yaml")).unwrap();
        let diagnostics = read(&list(folder.path()).1.unwrap()).unwrap_err();
        let reported: Vec<_> = diagnostics.iter().map(|diagnostic| diagnostic.file.clone()).collect();
        assert_eq!(reported, ["folder.yaml", "pipe.yaml", "socket.yaml"].map(path));
        assert!(diagnostics[..2].iter().all(|diagnostic| diagnostic.reason == "is not a plain file"));
        let gone = list(&path("gone")).1.unwrap_err();
        assert_eq!(gone[0].reason, "is not there");
    }
}
