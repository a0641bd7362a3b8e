//! Builds the parts in order and runs them until a signal. Called by `main`. `anyhow` is used here and nowhere below.
//!
//! ```text
//! store ─► tokens ─► listeners ─► publisher (stored objects and files) ─► API, xDS, modules ─► signal
//! ```
//!
//! All stored objects and files are compiled before the first publish. If one does not compile, the process exits with
//! an error, and the proxies keep their last configuration.

mod files;

mod roots;

mod store_watch;

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
use weir_file_source::{FileSource, WatchSignal};
use weir_identity::{ServerCertificate, ServerConfig, server_tls_config};
use weir_model::{ClusterName, HostMatch, TrustDomain, write_atomic, write_private};
use weir_resources::Diagnostic;

use crate::access::{AuditLog, Role, TokenRequest, TokenStore};
use crate::api::{ApiState, RequestPermits, serve_api};
use crate::app::store_watch::StoreFollowers;
use crate::bundle_store::{BundleStore, TrustedSigners};
use crate::ca::{CaFiles, CaOptions, CaStorage, CertificateAuthority};
use crate::clock::{Clock, ClockJumpDetector};
use crate::filter_validation::FilterValidator;
use crate::health::Health;
use crate::limits::{ENDPOINT_DEBOUNCE, EXPIRY_INTERVAL};
use crate::module_store::ModuleStore;
use crate::net::ConnectionShares;
use crate::publish::{ChangeError, FilesError, Publisher, PublisherDeps, ShrinkPolicy};
use crate::serve::{CaService, MtlsServices, serve_ads, serve_modules, serve_mtls};
use crate::snapshot_cache::SnapshotCache;
use crate::status::ConnectedProxies;
use crate::store::{ADMIN_TOKEN_FILE, ResourceStore, StoreOptions};
use crate::task;
use crate::workload_registry::WorkloadRegistry;

/// The options of a control plane, fixed at start.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// The file or folder of resources, if any.
    pub config: Option<PathBuf>,
    /// The store, and the folder of this process: the audit log, the first token, and the roots of the CA.
    pub store: StoreOptions,
    /// The address of the API.
    pub api: SocketAddr,
    /// The certificate and key files of the API, if it is served over TLS.
    pub api_tls: Option<(PathBuf, PathBuf)>,
    /// The plaintext address of ADS.
    pub xds: SocketAddr,
    /// The mTLS address of ADS and certificates.
    pub xds_mtls: SocketAddr,
    /// The trust domain of the signed identities.
    pub trust_domain: TrustDomain,
    /// The validity of a certificate.
    pub certificate_lifetime: Duration,
    /// The validity of a root.
    pub root_lifetime: Duration,
    /// The largest difference between the clocks of the mesh, at most half of the lifetime of a certificate.
    pub clock_skew: Duration,
    /// The files of an external CA, if any.
    pub ca: Option<CaFiles>,
    /// The address of modules.
    pub modules: SocketAddr,
    /// The cluster through which an Envoy fetches modules.
    pub module_cluster: ClusterName,
    /// The folder of shipped modules.
    pub plugins: PathBuf,
    /// The folder of compiled modules.
    pub cache: PathBuf,
    /// The time for compiling one module.
    pub compile_timeout: Duration,
    /// The trusted signers of bundles.
    pub trusted_signers: TrustedSigners,
    /// The file that the bound addresses are written to.
    pub address_path: Option<PathBuf>,
    /// The format of the process log.
    pub log_format: LogFormat,
}

/// The format of the process log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text, one line per event.
    Text,
    /// JSON, one object per line.
    Json,
}

/// Runs a control plane until a signal.
///
/// # Errors
/// The start failed, or a server stopped. The text is one line for the operator.
pub fn run(bootstrap: Bootstrap) -> anyhow::Result<()> {
    start_log(bootstrap.log_format);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")?;
    let outcome = runtime.block_on(serve(bootstrap));
    runtime.shutdown_background(); // Blocking work that is still running has no unsaved result.
    outcome
}

async fn serve(bootstrap: Bootstrap) -> anyhow::Result<()> {
    let shares = ConnectionShares::raise_limit();
    let folder = &bootstrap.store.folder;
    let store = Arc::new(ResourceStore::open(&bootstrap.store)?);
    let tokens = Arc::new(TokenStore::load(&store)?);
    make_folder(folder)?;
    let ca = Arc::new(CertificateAuthority::open(CaOptions {
        storage: CaStorage::of(&store, folder),
        external: bootstrap.ca.clone(),
        domain: bootstrap.trust_domain.clone(),
        lifetime: bootstrap.certificate_lifetime,
        root_lifetime: bootstrap.root_lifetime,
        may_create_root: !store.is_initialized(),
        clock_skew: bootstrap.clock_skew,
    })?);
    if !tokens.has_admin() {
        create_first_token(folder, &tokens, &store)?;
    }
    store.mark_initialized()?;
    let audit_path = folder.join("audit.log");
    let audit = AuditLog::open(&audit_path).with_context(|| format!("{} cannot be written", audit_path.display()))?;
    let listeners = Listeners::bind(&bootstrap).await?;
    let bundles = Arc::new(BundleStore::open(Arc::clone(&store), bootstrap.trusted_signers.clone())?);
    let module_store = Arc::new(ModuleStore::new(bootstrap.plugins.clone()).with_bundles(Arc::clone(&bundles)));
    let module_address = listeners.modules.local_addr()?;
    let snapshot_cache =
        SnapshotCache::new(Arc::clone(&module_store), module_address, bootstrap.module_cluster.clone());
    let registry = Arc::new(WorkloadRegistry::open(Arc::clone(&store))?);
    let publisher = Publisher::new(PublisherDeps {
        store: Arc::clone(&store),
        snapshot_cache: Arc::clone(&snapshot_cache),
        bundles,
        validator: FilterValidator::new(bootstrap.cache.clone(), bootstrap.compile_timeout),
        registry,
    })?;
    let files = initial_publish(&bootstrap, &publisher).await?;
    let followers =
        StoreFollowers { publisher: Arc::clone(&publisher), tokens: Arc::clone(&tokens), ca: Arc::clone(&ca) };
    task::spawn("leases", expire_workloads(Arc::clone(&publisher)));
    task::spawn("registered endpoints", publish_endpoints(Arc::clone(&publisher)));
    task::spawn("roots", roots::renew(Arc::clone(&ca)));
    let health = Arc::new(Health::default());
    task::spawn("store watch", store_watch::run(Arc::clone(&store), followers, Arc::clone(&health)));
    let proxies = ConnectedProxies::new();
    listeners.log_addresses(&bootstrap)?;
    let Listeners { api, xds, xds_mtls, modules } = listeners;
    let mesh: Arc<str> = Arc::from(store.id());
    let ads = serve_ads(xds, shares.xds, Arc::clone(&snapshot_cache), Arc::clone(&proxies), Arc::clone(&mesh));
    let services = MtlsServices {
        snapshot_cache: Arc::clone(&snapshot_cache),
        proxies: Arc::clone(&proxies),
        ca: Arc::clone(&ca),
        ca_service: CaService::new(Arc::clone(&ca), Arc::clone(&tokens)),
        modules: Arc::clone(&module_store),
        mesh,
    };
    let ads_mtls = serve_mtls(xds_mtls, shares.xds_mtls, services);
    let permits = RequestPermits::new(shares.api);
    let state = Arc::new(ApiState { publisher, snapshot_cache, proxies, tokens, ca, audit, permits, health });
    let api = serve_api(api, shares.api, api_tls(&bootstrap)?, state);
    let modules = serve_modules(modules, shares.modules, module_store);
    tokio::select! {
        ended = ads => ended.context("the xDS server stopped"),
        ended = ads_mtls => ended.context("the xDS mTLS server stopped"),
        () = api => Err(anyhow!("the API server stopped")),
        () = modules => Err(anyhow!("the module server stopped")),
        ended = shutdown_signal(files) => ended,
    }
}

/// Publishes the stored objects and the files. Returns the signal that makes the files be read again, if there are
/// any.
///
/// # Errors
/// An object does not compile.
async fn initial_publish(bootstrap: &Bootstrap, publisher: &Arc<Publisher>) -> anyhow::Result<Option<WatchSignal>> {
    let Some(path) = &bootstrap.config else {
        let publisher = Arc::clone(publisher);
        let published =
            task::blocking(move || publisher.publish_stored()).await.context("the start failed by a bug")?;
        return match published {
            Ok(()) => Ok(None),
            Err(ChangeError::Invalid(diagnostics)) => Err(startup_error("what is stored", &diagnostics)),
            Err(other) => Err(anyhow!(other)),
        };
    };
    let writer = Arc::clone(publisher);
    let compile = Box::new(move |files: &[_]| writer.validate_files(files));
    let mut source = FileSource::start(path, &bootstrap.plugins, compile)
        .context("files cannot be watched; is fs.inotify.max_user_instances used up?")?
        .with_files();
    let first = source.read().await;
    match files::apply(publisher, first, ShrinkPolicy::Allow).await {
        Ok(()) => {}
        Err(FilesError::Invalid(diagnostics)) => {
            return Err(startup_error(&path.display().to_string(), &diagnostics));
        }
        Err(FilesError::Shrinks(reason)) => return Err(anyhow!(reason)),
    }
    let signal = source.signal();
    let (updates, changes) = watch::channel(None);
    task::spawn("file source", source.follow(updates));
    task::spawn("files", files::follow(Arc::clone(publisher), changes, signal.clone()));
    Ok(Some(signal))
}

fn startup_error(source: &str, diagnostics: &[Diagnostic]) -> anyhow::Error {
    for diagnostic in diagnostics {
        error!("rejected: {diagnostic}");
    }
    anyhow!("{source} rejected, with the {} errors above; nothing was published", diagnostics.len())
}

/// Removes workloads whose lease has expired, every [`EXPIRY_INTERVAL`]. Logs jumps of the wall clock.
async fn expire_workloads(publisher: Arc<Publisher>) {
    let mut jumps = ClockJumpDetector::new(Clock::System.read());
    loop {
        sleep(EXPIRY_INTERVAL).await;
        jumps.check(Clock::System.read());
        if !publisher.workloads().has_expired_leases() {
            continue;
        }
        let publisher = Arc::clone(&publisher);
        task::blocking(move || publisher.expire_workloads()).await;
    }
}

/// Publishes the registered endpoints after each change, at most once per [`ENDPOINT_DEBOUNCE`].
async fn publish_endpoints(publisher: Arc<Publisher>) {
    loop {
        publisher.workloads_changed().await;
        let writer = Arc::clone(&publisher);
        task::blocking(move || writer.publish_endpoints()).await;
        sleep(ENDPOINT_DEBOUNCE).await;
    }
}

/// Creates a folder that only this user may read.
fn make_folder(folder: &Path) -> anyhow::Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("{} cannot be made", folder.display()))
}

/// Creates an admin token in a new store, so that the first API call is possible. A store that has been used gets none:
/// its tokens have expired or were revoked, which an operator decides about.
fn create_first_token(folder: &Path, tokens: &TokenStore, store: &ResourceStore) -> anyhow::Result<()> {
    if store.is_initialized() {
        warn!("no token of the role admin is valid; create one with `weir-control recover admin-token`");
        return Ok(());
    }
    create_admin_token(folder, tokens, store)
}

/// Creates an admin token. It is written to `admin.token` before it becomes valid, so a crash cannot lose it.
pub(crate) fn create_admin_token(folder: &Path, tokens: &TokenStore, store: &ResourceStore) -> anyhow::Result<()> {
    let new = TokenRequest {
        name: "admin".to_owned(),
        role: Role::Admin,
        namespaces: None,
        workload: None,
        expires_in_seconds: None,
    };
    let (token, text) = tokens.generate(new)?;
    let path = folder.join(ADMIN_TOKEN_FILE);
    write_private(&path, format!("{text}\n").as_bytes())
        .with_context(|| format!("{} cannot be written", path.display()))?;
    tokens.insert(store, token)?;
    info!(path = %path.display(), "admin token created; create others with it, and revoke it");
    Ok(())
}

/// Returns the TLS configuration of the API, if there is a certificate for it.
fn api_tls(bootstrap: &Bootstrap) -> anyhow::Result<Option<Arc<ServerConfig>>> {
    let Some((certificate, key)) = &bootstrap.api_tls else { return Ok(None) };
    let read = |path: &Path| fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()));
    let loaded = ServerCertificate::from_pem(&read(certificate)?, &read(key)?);
    let loaded = loaded.with_context(|| format!("--api-tls-cert {}", certificate.display()))?;
    Ok(Some(server_tls_config(vec![(HostMatch::Any, loaded)], &[b"h2", b"http/1.1"])))
}

/// The listeners of the process.
struct Listeners {
    api: TcpListener,
    xds: TcpListener,
    xds_mtls: TcpListener,
    modules: TcpListener,
}

impl Listeners {
    async fn bind(bootstrap: &Bootstrap) -> anyhow::Result<Self> {
        Ok(Self {
            xds_mtls: bind(bootstrap.xds_mtls).await?,
            api: bind(bootstrap.api).await?,
            xds: bind(bootstrap.xds).await?,
            modules: bind(bootstrap.modules).await?,
        })
    }

    /// Logs the bound addresses, and writes them to `--address-path` as JSON.
    fn log_addresses(&self, bootstrap: &Bootstrap) -> anyhow::Result<()> {
        let (api, xds, modules) = (self.api.local_addr()?, self.xds.local_addr()?, self.modules.local_addr()?);
        let xds_mtls = self.xds_mtls.local_addr()?;
        info!(%api, %xds, %xds_mtls, %modules, store = %bootstrap.store.location, "listening");
        let Some(path) = &bootstrap.address_path else { return Ok(()) };
        let text = json!({"api": api, "xds": xds, "xdsMtls": xds_mtls, "modules": modules}).to_string();
        write_atomic(path, text.as_bytes())
            .with_context(|| format!("--address-path {} cannot be written", path.display()))
    }
}

async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{address} cannot be listened on"))
}

/// Returns at SIGTERM or SIGINT. SIGHUP reads the files again. No drain is needed: acknowledged changes are on disk,
/// and proxies keep their configuration.
async fn shutdown_signal(files: Option<WatchSignal>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hang_up.recv() => files.iter().for_each(WatchSignal::request_rescan),
        }
    }
    info!("shutting down; proxies keep their configuration");
    Ok(())
}

fn start_log(style: LogFormat) {
    let builder = tracing_subscriber::fmt().with_writer(io::stderr).with_max_level(LevelFilter::INFO);
    // `try_init` fails if a test has installed another subscriber.
    match style {
        LogFormat::Text => {
            drop(builder.with_ansi(io::stderr().is_terminal()).try_init());
        }
        LogFormat::Json => {
            drop(builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init());
        }
    }
}
