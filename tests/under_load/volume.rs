//! Files of a watched folder, changed in the three ways in which files are changed: renamed into place by an editor,
//! truncated and written in parts by a script, swapped behind a `..data` link by Kubernetes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// How a file is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// Written beside it and renamed over it.
    Rename,
    /// Truncated in place and written in two parts.
    InParts,
    /// In a new folder that the link `..data` leads to.
    Link,
}

pub(crate) const WAYS: [Way; 3] = [Way::Rename, Way::InParts, Way::Link];

/// A folder of plain files and of links through `..data`.
pub(crate) struct Volume {
    folder: PathBuf,
    linked: BTreeMap<String, Vec<u8>>,
    generation: usize,
}

impl Volume {
    /// Of a folder; `linked` are the files behind `..data`.
    pub(crate) fn new(folder: PathBuf, linked: BTreeMap<String, Vec<u8>>) -> Self {
        let mut volume = Self { folder, linked, generation: 0 };
        volume.swap();
        for name in volume.linked.keys() {
            symlink(format!("..data/{name}"), volume.folder.join(name)).unwrap();
        }
        volume
    }

    /// Changes a file. It is whole when this returns.
    pub(crate) async fn write(&mut self, way: Way, name: &str, bytes: &[u8]) {
        let path = self.folder.join(name);
        match way {
            Way::Rename => {
                let draft = self.folder.join(".draft");
                fs::write(&draft, bytes).unwrap();
                fs::rename(draft, path).unwrap();
            }
            Way::InParts => {
                let (first, second) = bytes.split_at(bytes.len() / 2);
                let mut file = File::create(path).unwrap();
                file.write_all(first).unwrap();
                tokio::task::yield_now().await; // The proxy may well look in between.
                file.write_all(second).unwrap();
            }
            Way::Link => {
                self.linked.insert(name.to_owned(), bytes.to_vec());
                self.swap();
            }
        }
    }

    /// As kubelet does it: a new folder, a new link renamed over the old one, the old folder removed.
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
        fs::remove_dir_all(self.folder.join(old)).ok(); // There is none the first time.
    }
}
