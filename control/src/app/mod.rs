//! Builds the parts in order and runs them until a signal. Called by `main`; `anyhow` is used here and nowhere below.
//!
//! ```text
//! store ─► tokens ─► publisher (with the files, if any) ─► addresses are bound ─► API, xDS, modules ─► signal ─► end
//! ```
//!
//! Nothing is told to any proxy before everything that is stored and written was understood: a bad start ends with a line
//! that says what to do, and proxies go on with what they have.

mod replicas;

use std::fs;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{error, info, warn};
use tracing_subscriber::filter::LevelFilter;
use weir_file_source::{FileSource, Update, WatchSignal};
use weir_identity::{ServerCertificate, ServerConfig, https_config};
use weir_model::{ClusterName, HostMatch, TrustDomain};
use weir_resources::Refusal;

use crate::access::{AuditLog, NewToken, Role, Tokens};
use crate::api::{Api, serve_api};
use crate::authority::{Authority, AuthorityOptions, GivenFiles, RootsPlace};
use crate::board::Board;
use crate::bundle::{BundleShelf, TrustedSigners};
use crate::limits::{EXPIRY_INTERVAL, WORKLOADS_PAUSE};
use crate::loader::Loader;
use crate::module_store::ModuleStore;
use crate::private_file;
use crate::publish::{Publisher, Refused};
use crate::registry::Registry;
use crate::serve::{CertificateSigner, serve_ads, serve_modules, serve_mutual};
use crate::status::ProxyBook;
use crate::store::{ResourceStore, StorePlace};
use crate::task;

/// What a control plane is started with.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// The file or folder of resources, if any.
    pub config: Option<PathBuf>,
    /// Where what is applied is kept.
    pub store: StorePlace,
    /// The folder of what is this process's own: its audit log, the first token.
    pub folder: PathBuf,
    /// Where the API is.
    pub api: SocketAddr,
    /// The files of its certificate and key, when it is served by TLS.
    pub api_tls: Option<(PathBuf, PathBuf)>,
    /// Where proxies connect.
    pub xds: SocketAddr,
    /// Where proxies connect that prove who they are.
    pub xds_mtls: SocketAddr,
    /// Whose identities are signed.
    pub trust_domain: TrustDomain,
    /// How long a certificate lives.
    pub certificate_lifetime: Duration,
    /// What an authority above the mesh has given.
    pub ca: Option<GivenFiles>,
    /// Where modules are fetched.
    pub modules: SocketAddr,
    /// The cluster by which an Envoy fetches them.
    pub module_cluster: ClusterName,
    /// The folder of shipped modules.
    pub plugins: PathBuf,
    /// The folder of compiled modules.
    pub cache: PathBuf,
    /// Whose bundles are taken.
    pub trusted_signers: TrustedSigners,
    /// Where the real addresses are written to.
    pub address_path: Option<PathBuf>,
    /// How the process log looks.
    pub log_style: LogStyle,
}

/// How the process log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStyle {
    /// Lines for people.
    Text,
    /// Lines of JSON.
    Json,
}

/// Runs a control plane until it is asked to end.
///
/// # Errors
/// A bad start, in one line for whoever started it.
pub fn run(bootstrap: Bootstrap) -> anyhow::Result<()> {
    start_log(bootstrap.log_style);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let outcome = runtime.block_on(serve(bootstrap));
    runtime.shutdown_background(); // What still blocks there has nothing to lose.
    outcome
}

async fn serve(bootstrap: Bootstrap) -> anyhow::Result<()> {
    let store = Arc::new(ResourceStore::open(&bootstrap.store)?);
    let tokens = Arc::new(Tokens::load(&store)?);
    make_folder(&bootstrap.folder)?;
    make_first_token(&bootstrap.folder, &tokens, &store)?;
    let audit_path = bootstrap.folder.join("audit.log");
    let audit = AuditLog::open(&audit_path).with_context(|| format!("{} cannot be written", audit_path.display()))?;
    let authority = Arc::new(Authority::open(AuthorityOptions {
        place: if store.is_shared() {
            RootsPlace::Store(Arc::clone(&store))
        } else {
            RootsPlace::File(bootstrap.folder.join("authority.json"))
        },
        given: bootstrap.ca.clone(),
        domain: bootstrap.trust_domain.clone(),
        lifetime: bootstrap.certificate_lifetime,
    })?);
    let mutual = bind(bootstrap.xds_mtls).await?;
    let (api, xds, modules) = (bind(bootstrap.api).await?, bind(bootstrap.xds).await?, bind(bootstrap.modules).await?);
    let bundles = Arc::new(BundleShelf::open(Arc::clone(&store), bootstrap.trusted_signers.clone())?);
    let module_store = Arc::new(ModuleStore::new(bootstrap.plugins.clone()).with_bundles(Arc::clone(&bundles)));
    let board = Board::new(Arc::clone(&module_store), modules.local_addr()?, bootstrap.module_cluster.clone());
    let registry = Arc::new(Registry::open(Arc::clone(&store))?);
    let filters = (bundles, Loader::new(bootstrap.cache.clone()));
    let publisher = Publisher::new(Arc::clone(&store), Arc::clone(&board), filters, registry)?;
    let files = begin(&bootstrap, &publisher).await?;
    let shared = (Arc::clone(&publisher), Arc::clone(&tokens), Arc::clone(&authority));
    task::spawn("leases", expire_workloads(Arc::clone(&publisher)));
    task::spawn("workloads", tell_workloads(Arc::clone(&publisher)));
    task::spawn("other control planes", replicas::follow(store, shared));
    let book = ProxyBook::new();
    announce(&bootstrap, (&api, &xds, &mutual), &modules)?;
    let ads = serve_ads(xds, Arc::clone(&board), Arc::clone(&book));
    let signer = CertificateSigner::new(Arc::clone(&authority), Arc::clone(&tokens));
    let told = (Arc::clone(&board), Arc::clone(&book));
    let mutual = serve_mutual(mutual, told, (Arc::clone(&authority), signer), Arc::clone(&module_store));
    let served = serve_api(api, api_tls(&bootstrap)?, Api::new(publisher, board, book, (tokens, audit), authority));
    let modules = serve_modules(modules, module_store);
    tokio::select! {
        ended = ads => ended.context("proxies are served no more"),
        ended = mutual => ended.context("proxies are served no more"),
        ended = served => ended.context("the API is served no more"),
        ended = modules => ended.context("modules are served no more"),
        ended = until_asked(files) => ended,
    }
}

/// Tells what is stored and written. What is wrong with it is a bad start.
async fn begin(bootstrap: &Bootstrap, publisher: &Arc<Publisher>) -> anyhow::Result<Option<WatchSignal>> {
    let Some(path) = &bootstrap.config else {
        let publisher = Arc::clone(publisher);
        let begun = task::blocking(move || publisher.begin()).await.context("the start failed by a bug")?;
        return match begun {
            Ok(()) => Ok(None),
            Err(Refused::Invalid(refusals)) => Err(refused("what is stored", &refusals)),
            Err(other) => Err(anyhow!(other)),
        };
    };
    let writer = Arc::clone(publisher);
    let compile = Box::new(move |files: &[_]| writer.check_files(files));
    let mut source = FileSource::start(path, &bootstrap.plugins, compile)
        .context("files cannot be watched; is fs.inotify.max_user_instances used up?")?;
    let first = source.read().await;
    if let Err(refusals) = take_files(publisher, first).await {
        return Err(refused(&path.display().to_string(), &refusals));
    }
    let signal = source.signal();
    let (updates, changes) = watch::channel(None);
    task::spawn("file source", source.follow(updates));
    task::spawn("files", follow_files(Arc::clone(publisher), changes));
    Ok(Some(signal))
}

fn refused(what: &str, refusals: &[Refusal]) -> anyhow::Error {
    for refusal in refusals {
        error!("refused: {refusal}");
    }
    anyhow!("{what} is refused for the {} reasons above; nothing is told to any proxy", refusals.len())
}

async fn follow_files(publisher: Arc<Publisher>, mut updates: watch::Receiver<Option<Update>>) {
    while updates.changed().await.is_ok() {
        let Some(update) = updates.borrow_and_update().clone() else { continue };
        match take_files(&publisher, update).await {
            Ok(()) => info!("the files have changed and are told"),
            Err(refusals) => {
                refusals.iter().for_each(|refusal| warn!("refused: {refusal}"));
                warn!(refusals = refusals.len(), "the files are refused; what was told before goes on");
            }
        }
    }
}

/// Workloads that do not say any more that they are there are gone in time.
async fn expire_workloads(publisher: Arc<Publisher>) {
    loop {
        sleep(EXPIRY_INTERVAL).await;
        if !publisher.workloads().is_due() {
            continue;
        }
        let publisher = Arc::clone(&publisher);
        task::blocking(move || publisher.expire_workloads()).await;
    }
}

/// Tells of workloads that have come or gone; what changes soon after is told together.
async fn tell_workloads(publisher: Arc<Publisher>) {
    loop {
        publisher.workloads_changed().await;
        let writer = Arc::clone(&publisher);
        task::blocking(move || writer.tell_workloads()).await;
        sleep(WORKLOADS_PAUSE).await;
    }
}

/// Tells files that have settled.
async fn take_files(publisher: &Arc<Publisher>, update: Update) -> Result<(), Vec<Refusal>> {
    if let Err(refusals) = update.outcome {
        return Err(refusals.to_vec());
    }
    let publisher = Arc::clone(publisher);
    let taken = task::blocking(move || publisher.set_files(&update.files)).await;
    taken.unwrap_or(Ok(())) // The process ends.
}

/// For this user alone.
fn make_folder(folder: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("{} cannot be made", folder.display()))
}

/// Somebody has to be able to do the first thing: when nobody may do everything, a token that may lies in the store's
/// folder. It is in the file before it is one, so that it cannot be lost in between.
fn make_first_token(folder: &Path, tokens: &Tokens, store: &ResourceStore) -> anyhow::Result<()> {
    if tokens.has_admin() {
        return Ok(());
    }
    let new = NewToken {
        name: "admin".to_owned(),
        role: Role::Admin,
        namespaces: None,
        workload: None,
        expires_in_seconds: None,
    };
    let (token, text) = tokens.draw(new)?;
    let path = folder.join("admin.token");
    private_file::write(&path, format!("{text}\n").as_bytes())
        .with_context(|| format!("{} cannot be written", path.display()))?;
    tokens.keep(store, token)?;
    info!(path = %path.display(), "made a token that may do everything; keep it, or make others and revoke it");
    Ok(())
}

/// TLS of the API, if there is a certificate for it.
fn api_tls(bootstrap: &Bootstrap) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    let Some((certificate, key)) = &bootstrap.api_tls else { return Ok(None) };
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()));
    let loaded = ServerCertificate::from_pem(&read(certificate)?, &read(key)?);
    let loaded = loaded.with_context(|| format!("--api-tls-cert {}", certificate.display()))?;
    Ok(Some(https_config(vec![(HostMatch::Any, loaded)], &[b"h2", b"http/1.1"])))
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{address} cannot be listened on"))
}

fn announce(
    bootstrap: &Bootstrap,
    (api, xds, mutual): (&TcpListener, &TcpListener, &TcpListener),
    modules: &TcpListener,
) -> anyhow::Result<()> {
    let (api, xds, modules) = (api.local_addr()?, xds.local_addr()?, modules.local_addr()?);
    let xds_mtls = mutual.local_addr()?;
    info!(%api, %xds, %xds_mtls, %modules, store = %bootstrap.store, "the control plane serves");
    let Some(path) = &bootstrap.address_path else { return Ok(()) };
    let text = json!({"api": api, "xds": xds, "xdsMtls": xds_mtls, "modules": modules}).to_string();
    let draft = path.with_extension("tmp");
    fs::write(&draft, text)
        .and_then(|()| fs::rename(&draft, path))
        .with_context(|| format!("--address-path {} cannot be written", path.display()))
}

/// Ends at SIGTERM and SIGINT; has the files read again at SIGHUP. What was acknowledged is on disk, so that nothing needs
/// to be waited for; proxies go on with what they have.
async fn until_asked(files: Option<WatchSignal>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => files.iter().for_each(WatchSignal::look_again),
        }
    }
    info!("asked to end; proxies go on with what they have");
    Ok(())
}

fn start_log(style: LogStyle) {
    let builder = tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(LevelFilter::INFO);
    // Another log is there already in tests.
    match style {
        LogStyle::Text => {
            drop(builder.with_ansi(io::stderr().is_terminal()).try_init());
        }
        LogStyle::Json => {
            drop(builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init());
        }
    }
}
