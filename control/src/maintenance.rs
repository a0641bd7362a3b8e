//! The commands `weir-control backup`, `restore`, `check` and `recover`. Each works on a store directly; a folder must not
//! be in use by a running control plane.

use std::fs::File;
use std::io::{self, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use weir_model::{TrustDomain, write_private_with};

use crate::access::TokenStore;
use crate::app::create_admin_token;
use crate::bundle_store::{BundleStore, TrustedSigners};
use crate::ca::{CaOptions, CaStorage, CertificateAuthority};
use crate::limits::{DEFAULT_CERTIFICATE_LIFETIME, DEFAULT_CLOCK_SKEW, MAX_PAGE, ROOT_LIFETIME};
use crate::store::{ADMIN_TOKEN_FILE, BackupHeader, Maintenance, ResourceStore, StoreOptions, read_backup};
use crate::workload_registry::WorkloadRegistry;

/// A command on a store.
#[derive(Debug)]
pub enum MaintenanceTask {
    /// Writes a backup.
    BackUp {
        /// The store.
        store: StoreOptions,
        /// The file to write.
        file: PathBuf,
    },
    /// Replaces the store by a backup.
    Restore {
        /// The store.
        store: StoreOptions,
        /// The backup.
        file: PathBuf,
        /// True if the store may have content.
        replace: bool,
    },
    /// Reads all of the store.
    Check {
        /// The store.
        store: StoreOptions,
    },
    /// Reads all of a backup.
    CheckBackup {
        /// The backup.
        file: PathBuf,
    },
    /// Accepts the present state of the store.
    AcceptStore {
        /// The store.
        store: StoreOptions,
    },
    /// Creates a new root for roots that are lost.
    CreateRoot {
        /// The store.
        store: StoreOptions,
        /// The trust domain of the mesh.
        trust_domain: TrustDomain,
    },
    /// Creates an admin token.
    CreateAdminToken {
        /// The store.
        store: StoreOptions,
    },
}

impl MaintenanceTask {
    /// Runs the command, and prints its result in one line.
    ///
    /// # Errors
    /// The store or a file cannot be read or written, is damaged, or is not what the command is for.
    pub fn run(self) -> anyhow::Result<()> {
        let result = match self {
            Self::BackUp { store, file } => back_up(&store, &file)?,
            Self::Restore { store, file, replace } => restore(&store, &file, replace)?,
            Self::Check { store } => check(&store)?,
            Self::CheckBackup { file } => describe(&check_backup(&file)?),
            Self::AcceptStore { store } => accept(&store)?,
            Self::CreateRoot { store, trust_domain } => create_root(&store, trust_domain)?,
            Self::CreateAdminToken { store } => create_token(&store)?,
        };
        writeln!(io::stdout(), "{result}").context("standard output cannot be written")
    }
}

fn back_up(options: &StoreOptions, path: &Path) -> anyhow::Result<String> {
    let store = Maintenance::open(options, false)?;
    let header = write_private_with(path, |file| {
        let mut output = io::BufWriter::new(file);
        Ok::<_, anyhow::Error>(store.back_up(&mut output)?) // Flushes the output.
    });
    header.map(|header| describe(&header)).with_context(|| format!("{} cannot be written", path.display()))
}

fn restore(options: &StoreOptions, path: &Path, may_replace: bool) -> anyhow::Result<String> {
    let header = check_backup(path)?; // Nothing is deleted for a backup that cannot be read to its end.
    let store = if may_replace { Maintenance::open_for_restore(options)? } else { Maintenance::open(options, true)? };
    if let Some(id) = store.id()?.filter(|id| *id != header.store) {
        bail!(
            "the store {} is of the mesh {id}, and the backup of {}; nothing was changed",
            options.location,
            header.store
        );
    }
    if !may_replace && !store.is_empty()? {
        bail!("the store {} is not empty; --replace deletes what it has", options.location);
    }
    let restored = store.restore(open(path)?)?;
    let (id, revision) = (restored.id, restored.revision);
    Ok(format!(
        "restored the store {id} at revision {revision}; tokens that were revoked since the backup are valid again"
    ))
}

/// Reads all of a store as a control plane would, and the history and bundles that it would read later.
fn check(options: &StoreOptions) -> anyhow::Result<String> {
    let store = Arc::new(ResourceStore::open(options)?);
    let state = store.load()?;
    let mut history = 0;
    let mut before = None;
    loop {
        let page = store.revisions(before, MAX_PAGE)?;
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        for meta in &page {
            store.revision(meta.id)?;
            history += 1;
        }
    }
    let bundles = BundleStore::open(Arc::clone(&store), TrustedSigners::default())?;
    for bundle in bundles.all() {
        bundles.bytes(&bundle.id())?;
    }
    let tokens = TokenStore::load(&store)?;
    let workloads = WorkloadRegistry::open(Arc::clone(&store))?;
    CertificateAuthority::check_roots(&CaStorage::of(&store, &options.folder))?;
    let (id, revision, objects) = (store.id(), state.revision, state.objects.len());
    let (bundles, tokens, workloads) = (bundles.all().len(), tokens.all().len(), workloads.all().len());
    Ok(format!(
        "the store {id} is intact: revision {revision}, {objects} objects, {history} revisions of history, {bundles} bundles, \
         {tokens} tokens, {workloads} registered workloads"
    ))
}

fn check_backup(path: &Path) -> anyhow::Result<BackupHeader> {
    let checked = read_backup(open(path)?, |_, _| Ok(()));
    checked.map_err(|reason| anyhow!("{}: {reason}", path.display()))
}

fn describe(header: &BackupHeader) -> String {
    let BackupHeader { store, revision, time, .. } = header;
    format!(
        "a complete backup of the store {store} at revision {revision}, made at {time}; it contains the keys of the roots"
    )
}

fn open(path: &Path) -> anyhow::Result<BufReader<File>> {
    let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
    Ok(BufReader::new(file))
}

fn accept(options: &StoreOptions) -> anyhow::Result<String> {
    let accepted = Maintenance::open(options, true)?.accept()?;
    let (id, revision) = (accepted.id, accepted.revision);
    // The first start of an empty store creates roots and a token. One that has them keeps them.
    Ok(format!("accepted the store {id} at revision {revision}; start the control plane"))
}

fn create_root(options: &StoreOptions, domain: TrustDomain) -> anyhow::Result<String> {
    let store = Arc::new(ResourceStore::open(options)?);
    let storage = CaStorage::of(&store, &options.folder);
    if CertificateAuthority::check_roots(&storage).is_ok() {
        bail!("{storage} has roots; `weir ca rotate` replaces them without an interruption");
    }
    let root = CertificateAuthority::replace_lost_roots(&CaOptions {
        storage,
        external: None,
        domain,
        lifetime: DEFAULT_CERTIFICATE_LIFETIME,
        clock_skew: DEFAULT_CLOCK_SKEW,
        root_lifetime: ROOT_LIFETIME,
        may_create_root: true,
    })?;
    Ok(format!("created the root {root}; create a join token for each workload, and start it with the token"))
}

fn create_token(options: &StoreOptions) -> anyhow::Result<String> {
    let store = ResourceStore::open(options)?;
    create_admin_token(&options.folder, &TokenStore::load(&store)?, &store)?;
    let path = options.folder.join(ADMIN_TOKEN_FILE);
    Ok(format!("created an admin token in {}", path.display()))
}
