//! Files of a watched folder, which are changed in three styles: renamed into place as by an editor, truncated and
//! written in parts as by a script, or replaced behind a `..data` link as by Kubernetes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// Style of a change of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WriteStyle {
    /// Written to another file, which is renamed over the old one.
    Rename,
    /// Truncated in place and written in two parts.
    InParts,
    /// Written to a new folder, to which the link `..data` is moved.
    Link,
}

pub(crate) const WRITE_STYLES: [WriteStyle; 3] = [WriteStyle::Rename, WriteStyle::InParts, WriteStyle::Link];

/// A folder of plain files and of links through `..data`.
pub(crate) struct WatchedFolder {
    folder: PathBuf,
    linked: BTreeMap<String, Vec<u8>>,
    generation: usize,
}

impl WatchedFolder {
    /// Creates the links in a folder. `linked` are the files behind `..data`.
    pub(crate) fn new(folder: PathBuf, linked: BTreeMap<String, Vec<u8>>) -> Self {
        let mut watched_folder = Self { folder, linked, generation: 0 };
        watched_folder.swap();
        for name in watched_folder.linked.keys() {
            symlink(format!("..data/{name}"), watched_folder.folder.join(name)).unwrap();
        }
        watched_folder
    }

    /// Changes a file. The change is complete when this returns.
    pub(crate) async fn write(&mut self, style: WriteStyle, name: &str, bytes: &[u8]) {
        let path = self.folder.join(name);
        match style {
            WriteStyle::Rename => {
                let draft = self.folder.join(".draft");
                fs::write(&draft, bytes).unwrap();
                fs::rename(draft, path).unwrap();
            }
            WriteStyle::InParts => {
                let (first, second) = bytes.split_at(bytes.len() / 2);
                let mut file = File::create(path).unwrap();
                file.write_all(first).unwrap();
                tokio::task::yield_now().await; // The proxy may read the file in between.
                file.write_all(second).unwrap();
            }
            WriteStyle::Link => {
                self.linked.insert(name.to_owned(), bytes.to_vec());
                self.swap();
            }
        }
    }

    /// Replaces the linked files as kubelet does: creates a folder, renames a new link over the old one, removes the
    /// old folder.
    fn swap(&mut self) {
        let (old, new) = (format!("..v{}", self.generation), format!("..v{}", self.generation + 1));
        self.generation += 1;
        fs::create_dir(self.folder.join(&new)).unwrap();
        for (name, bytes) in &self.linked {
            fs::write(self.folder.join(&new).join(name), bytes).unwrap();
        }
        let link = self.folder.join("..data_tmp");
        symlink(new, &link).unwrap();
        fs::rename(link, self.folder.join("..data")).unwrap();
        fs::remove_dir_all(self.folder.join(old)).ok(); // The first call has no old folder.
    }
}
