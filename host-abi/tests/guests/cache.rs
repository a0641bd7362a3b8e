//! Tests of the cache folder: stored artifacts are loaded, other files are not, and no file ends the process.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use weir_host_abi::limits::{MAX_CACHED_ARTIFACTS, STALE_TEMPORARY};
use weir_host_abi::{CacheError, Engine, Module, ModuleCache, ModuleHash, Plugin, Vm};

use crate::fixture::{engine, guest, host, settings};

fn wasm() -> Vec<u8> {
    wat::parse_str(guest("", "")).unwrap()
}

/// Returns a cache with one artifact, the path of the artifact and its content.
fn filled(folder: &Path) -> (ModuleCache, PathBuf, Vec<u8>) {
    let cache = ModuleCache::open(folder.join("cache")).unwrap();
    let artifact = Module::precompile(engine(), &wasm()).unwrap();
    cache.store(engine(), &ModuleHash::of(&wasm()), &artifact).unwrap();
    let files: Vec<_> = fs::read_dir(folder.join("cache")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let bytes = fs::read(&files[0]).unwrap();
    (cache, files[0].clone(), bytes)
}

fn write_private(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn stored_module_is_loaded_and_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, file, _) = filled(folder.path());
    let hash = ModuleHash::of(&wasm());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let module = cache.load(engine(), &hash).unwrap();
    assert_eq!(module.hash(), hash);
    let mut host = host();
    Vm::start(&[Plugin::new(settings(), module).into()], &mut host).unwrap();
    let again = ModuleCache::open(folder.path().join("cache")).unwrap();
    assert!(again.load(engine(), &hash).is_some());
    assert!(again.load(engine(), &ModuleHash::of(b"another")).is_none());
    assert!(file.exists());
}

#[test]
fn artifact_loads_only_in_engine_with_same_settings() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, ..) = filled(folder.path());
    let hash = ModuleHash::of(&wasm());
    let same = Engine::new().unwrap();
    assert!(cache.load(&same, &hash).is_some());
    assert_eq!(same.compatibility(), engine().compatibility());
}

#[test]
fn corrupt_artifact_is_absent() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, file, good) = filled(folder.path());
    let hash = ModuleHash::of(&wasm());
    let mut bad: Vec<Vec<u8>> = Vec::new();
    // Flips bits in every part of the header, and across the code.
    bad.extend((0..84).map(|at| flipped(&good, at)));
    bad.extend((0..40).map(|part| flipped(&good, 84 + part * (good.len() - 85) / 39)));
    bad.extend([0, 1, 83, 84, 85, good.len() / 2, good.len() - 1].map(|length| good[..length].to_vec()));
    bad.push([good.as_slice(), b"x"].concat());
    bad.push(vec![0; good.len()]);
    bad.push(good[84..].to_vec());
    bad.push(wasm());
    assert!(bad.len() > 100);
    for bytes in &bad {
        write_private(&file, bytes);
        assert!(cache.load(engine(), &hash).is_none());
        assert!(!file.exists(), "an unusable file is removed");
    }
    write_private(&file, &good);
    assert!(cache.load(engine(), &hash).is_some());
}

fn flipped(good: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = good.to_vec();
    bytes[at] ^= 1 << (at % 8);
    bytes
}

#[test]
fn file_accessible_to_other_users_is_absent() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, file, good) = filled(folder.path());
    let hash = ModuleHash::of(&wasm());
    for mode in [0o644, 0o660, 0o602] {
        write_private(&file, &good);
        fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
        assert!(cache.load(engine(), &hash).is_none(), "{mode:o}");
        assert!(!file.exists());
    }
    let elsewhere = folder.path().join("elsewhere");
    write_private(&elsewhere, &good);
    symlink(&elsewhere, &file).unwrap();
    assert!(cache.load(engine(), &hash).is_none());
    assert!(fs::symlink_metadata(&file).is_err() && elsewhere.exists(), "the link is removed, its target is not");
    fs::create_dir(&file).unwrap();
    assert!(cache.load(engine(), &hash).is_none());
    fs::remove_dir(&file).unwrap();
    let pipe = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, &file, pipe, rustix::fs::Mode::from(0o600), 0).unwrap();
    assert!(cache.load(engine(), &hash).is_none());
    if rustix::process::geteuid().is_root() {
        write_private(&file, &good);
        std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
        assert!(cache.load(engine(), &hash).is_none());
        assert!(file.exists(), "a file of another user is not removed");
    }
}

#[test]
fn folder_writable_by_other_users_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let open = |name: &str| ModuleCache::open(folder.path().join(name));
    for mode in [0o777, 0o770, 0o702] {
        let path = folder.path().join("writable");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let error = open("writable").unwrap_err();
        assert!(matches!(error, CacheError::Writable { mode: found, .. } if found == mode), "{error}");
        assert!(error.to_string().contains("chmod 700"), "{error}");
        fs::remove_dir(&path).unwrap();
    }
    fs::write(folder.path().join("file"), b"").unwrap();
    assert!(matches!(open("file").unwrap_err(), CacheError::NotAFolder { .. }));
    open("real").unwrap();
    symlink(folder.path().join("real"), folder.path().join("link")).unwrap();
    assert!(matches!(open("link").unwrap_err(), CacheError::NotAFolder { .. }));
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(folder.path().join("real"), Some(65534), None).unwrap();
        assert!(matches!(open("real").unwrap_err(), CacheError::ForeignOwner { owner: 65534, .. }));
    }
}

#[test]
fn only_stale_temporary_files_are_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (_cache, file, _) = filled(folder.path());
    let cache = file.parent().unwrap();
    let [old, new] = ["old", "new"].map(|name| cache.join(format!(".temporary-{name}")));
    for path in [&old, &new] {
        write_private(path, b"half");
    }
    let past = SystemTime::now() - STALE_TEMPORARY - Duration::from_secs(1);
    File::options().write(true).open(&old).unwrap().set_modified(past).unwrap();
    ModuleCache::open(cache).unwrap();
    assert!(!old.exists() && new.exists() && file.exists());
}

#[test]
fn store_removes_oldest_artifact_beyond_limit() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, file, _) = filled(folder.path());
    File::options().write(true).open(&file).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
    for number in 0..MAX_CACHED_ARTIFACTS {
        write_private(&file.with_file_name(format!("{number}.code")), b"");
    }
    cache.store(engine(), &ModuleHash::of(b"one more"), b"code").unwrap();
    assert!(!file.exists(), "the oldest is removed first");
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), MAX_CACHED_ARTIFACTS);
}

#[test]
fn failed_store_leaves_cache_unchanged() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, file, good) = filled(folder.path());
    let gone = folder.path().join("gone");
    fs::rename(file.parent().unwrap(), &gone).unwrap();
    assert!(matches!(cache.store(engine(), &ModuleHash::of(b""), b"code"), Err(CacheError::Io { .. })));
    assert_eq!(fs::read(gone.join(file.file_name().unwrap())).unwrap(), good);
}
