//! Files of the cache folder that are stored once per replica of the control plane: the identity and the last known
//! good configuration. A proxy finds them again after some replicas have changed. Used by `config` and `identity`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use weir_model::{ContentHash, write_private};

/// The copies of one file, with equal content.
#[derive(Debug, Clone)]
pub(crate) struct ReplicaFiles {
    paths: Vec<PathBuf>,
}

/// The owner and the location of [`ReplicaFiles`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplicaFilesOptions<'a> {
    /// The cache folder.
    pub(crate) cache: &'a Path,
    /// The folder below it.
    pub(crate) folder: &'static str,
    /// The extension of the file names.
    pub(crate) extension: &'static str,
    /// The URLs of the replicas.
    pub(crate) urls: &'a [String],
    /// The node id of the proxy.
    pub(crate) node: &'a str,
    /// The Gateway that the proxy serves.
    pub(crate) gateway: Option<&'a str>,
}

impl ReplicaFiles {
    /// Returns the paths. File names are hashes of URL, node and Gateway, so proxies that share a cache folder do not
    /// share these files. Opens no file.
    pub(crate) fn new(options: &ReplicaFilesOptions<'_>) -> Self {
        let ReplicaFilesOptions { cache, folder, extension, urls, node, gateway } = *options;
        let path = |url: &String| {
            let hash = ContentHash::of(&(url, (node, gateway)));
            cache.join(folder).join(format!("{hash}.{extension}"))
        };
        Self { paths: urls.iter().map(path).collect() }
    }

    /// Returns the most recently modified copy; `None` if no copy exists. Blocks on the disk.
    pub(crate) fn newest(&self) -> Option<&Path> {
        let modified = |path: &&PathBuf| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        self.paths.iter().filter(|path| modified(path).is_some()).max_by_key(modified).map(PathBuf::as_path)
    }

    /// Replaces every copy by a private file with this content, and calls `on_error` for each copy that cannot be
    /// written. Blocks on the disk.
    pub(crate) fn write(&self, bytes: &[u8], on_error: impl Fn(&Path, io::Error)) {
        for path in &self.paths {
            if let Err(error) = write_private(path, bytes) {
                on_error(path, error);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_found_after_one_replica_has_changed() {
        let cache = tempfile::tempdir().unwrap();
        let files = |urls: &[&str]| {
            let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
            let (cache, node) = (cache.path(), "node");
            ReplicaFiles::new(&ReplicaFilesOptions {
                cache,
                folder: "xds",
                extension: "resources",
                urls: &urls,
                node,
                gateway: None,
            })
        };
        assert_eq!(files(&["https://a:1"]).newest(), None);
        files(&["https://a:1", "https://b:1"]).write(b"content", |path, error| panic!("{}: {error}", path.display()));
        let found = files(&["https://b:1", "https://c:1"]);
        assert_eq!(fs::read(found.newest().unwrap()).unwrap(), b"content");
        assert_eq!(files(&["https://c:1"]).newest(), None);
    }
}
