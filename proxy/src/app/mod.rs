//! Builds the parts in order and runs them until drained. Called by `main`; `anyhow` is used here and nowhere below.
//!
//! ```text
//! Bootstrap ─► App::build: telemetry, workers, admin, configuration ─► App::run ─► signal or /drain ─► shutdown
//! ```
//!
//! A failed start prints one line with the reason and a fix, and leaves no files or processes behind.

mod agent;
mod validate;
mod shutdown;
mod threads;
mod signals;
mod bootstrap;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use tokio::sync::{mpsc, watch};
use tracing::info;
use weir_file_source::{FileSource, WatchSignal, default_compiler};
use weir_loader::{CompilerProcess, compile_here};
use weir_model::write_atomic;

pub use crate::telemetry::LogFormat;
pub use bootstrap::{AgentOptions, Bootstrap, CompileOptions, ConfigSourceOptions, ValidateOptions};

use crate::active::{AuthenticatedControlPlane, ModuleLoader, ModuleLoaderOptions, OpenFailure, Warmer, WarmerOptions};
use crate::admin::{AdminServer, AdminState, ShutdownMode};
use crate::app::shutdown::Shutdown;
use crate::app::signals::{SignalAction, SignalListener};
use crate::app::threads::{WorkerThreads, WorkersOptions};
use crate::config::{
    ApplyResult, ConfigSource, ConfigState, ConfigStateOptions, ConfigStatus, LastKnownGood, Publisher, UpdateOutcome,
    XdsOptions, XdsSource, apply_updates,
};
use crate::control_plane::ControlPlane;
use crate::drain::{DrainTrigger, drain_pair};
use crate::filter::SharedPluginState;
use crate::identity::{Identity, IdentityOptions, renew_forever, restore};
use crate::limits::{OUTCOME_QUEUE, VM_START_QUEUE};
use crate::listener::{ListenerSet, ListenerSetOptions};
use crate::replica_files::{ReplicaFiles, ReplicaFilesOptions};
use crate::task;
use crate::telemetry::{AccessLogTarget, AccessLogWriter, Log, LogLevelHandle, Metrics};
use crate::upstream::Resolver;

/// Runs a proxy until it has shut down.
///
/// # Errors
/// The reason of a failed start, in one line.
pub fn run(bootstrap: Bootstrap) -> anyhow::Result<()> {
    let log = Log::start(bootstrap.log_format).context("no thread for the log")?;
    threads::raise_file_limit();
    let runtime = threads::main_runtime().context("no main runtime")?;
    let outcome = runtime.block_on(async { App::build(bootstrap, log.level()).await?.run().await });
    runtime.shutdown_background(); // Blocking work that still runs there has nothing to lose.
    outcome
}

/// Runs an agent until a signal stops it.
///
/// # Errors
/// The reason of a failed start, in one line.
pub fn run_agent(options: AgentOptions) -> anyhow::Result<()> {
    let _log = Log::start(options.log_format).context("no thread for the log")?;
    let runtime = threads::main_runtime().context("no main runtime")?;
    let outcome = runtime.block_on(agent::run(options));
    runtime.shutdown_background();
    outcome
}

/// Validates files as a running proxy does. Prints a summary on standard output, or all diagnostics on standard error.
/// Returns exit code 1 for an invalid configuration.
pub fn validate(options: ValidateOptions) -> anyhow::Result<ExitCode> {
    let runtime = threads::main_runtime().context("no main runtime")?;
    let valid = runtime.block_on(validate::validate(options));
    runtime.shutdown_background();
    valid
}

/// Compiles a module into the cache, as the child process of a proxy (see `weir-loader`).
pub fn compile(options: CompileOptions) -> ExitCode {
    if compile_here(&options.into()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The parts of a running proxy.
struct App {
    bootstrap: Bootstrap,
    access_log: AccessLogWriter,
    workers: WorkerThreads,
    drain: DrainTrigger,
    source: ConfigSource,
    config: ConfigState,
    signals: SignalListener,
    shutdown_requests: mpsc::Receiver<ShutdownMode>,
}

impl App {
    /// Builds the parts in order. With files, the first configuration serves when this returns.
    async fn build(bootstrap: Bootstrap, log_level: Option<LogLevelHandle>) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new(bootstrap.workers));
        let access_log = start_access_log(&bootstrap, &metrics)?;
        let publisher = Publisher::new();
        let control_plane = control_plane(&bootstrap.source)?;
        let identity = init_identity(&bootstrap, control_plane.as_ref())?;
        let workers = WorkerThreads::start(&WorkersOptions {
            workers: bootstrap.workers,
            active: publisher.active(),
            metrics: Arc::clone(&metrics),
            drain_timeout: bootstrap.drain_timeout,
            identity: Arc::clone(&identity),
            access_log: &access_log,
        })?;
        let signals = SignalListener::register().context("signals cannot be registered")?;
        let overrides = bootstrap.binds.clone();
        let listeners = ListenerSet::new(ListenerSetOptions { overrides, assignments: workers.assignments() });
        let (drain, drain_watcher) = drain_pair();
        let plugin_state = SharedPluginState::new(bootstrap.source.node());
        let status = ConfigStatus::new(Arc::clone(&metrics));
        let (shutdown_sender, shutdown_requests) = mpsc::channel(1);
        let admin = AdminState {
            active: publisher.active(),
            status: Arc::clone(&status),
            listeners: listeners.statuses(),
            metrics: Arc::clone(&metrics),
            plugin_state: Arc::clone(&plugin_state),
            identity: Arc::clone(&identity),
            log_level,
            drain: drain_watcher,
            shutdown_requests: shutdown_sender,
        };
        start_admin(&bootstrap, admin).await?;
        let authenticated = control_plane.clone().map(|control_plane| {
            let identity = Arc::clone(&identity);
            AuthenticatedControlPlane { control_plane, identity }
        });
        let warmer = warmer(&bootstrap, plugin_state, &metrics, authenticated);
        let (outcome_sender, outcomes) = mpsc::channel(OUTCOME_QUEUE);
        let outcome_sender = Some(outcome_sender);
        let options = ConfigStateOptions { warmer, listeners, publisher, status, metrics, outcomes: outcome_sender };
        let mut config = ConfigState::new(options);
        let xds = control_plane.map(|control_plane| XdsParts { control_plane, identity, outcomes });
        let source = load_initial_config(&bootstrap, &mut config, xds).await?;
        Ok(Self { bootstrap, access_log, workers, drain, source, config, signals, shutdown_requests })
    }

    /// Serves until a signal or an admin request shuts the proxy down.
    async fn run(self) -> anyhow::Result<()> {
        let Self { bootstrap, access_log, mut workers, drain, source, config, mut signals, mut shutdown_requests } =
            self;
        let (sender, updates) = watch::channel(None);
        let signal = source.signal();
        task::spawn("configuration source", source.run(sender));
        let drain_timeout = bootstrap.drain_timeout;
        task::spawn("configuration", apply_updates(updates, config, drain.watcher(), drain_timeout));
        let mode = loop {
            tokio::select! {
                action = signals.next() => match action {
                    SignalAction::Shutdown => break ShutdownMode::Graceful,
                    SignalAction::Reload => {
                        signal.iter().for_each(WatchSignal::request_rescan);
                        access_log.reopen();
                    }
                },
                Some(mode) = shutdown_requests.recv() => break mode,
                worker = workers.exited() => {
                    return Err(anyhow!("worker {worker} has exited by a bug of the proxy; see the panic in the log"));
                }
            }
        };
        Shutdown { drain, drain_timeout, workers, signals, requests: shutdown_requests }.run(mode).await;
        access_log.close();
        Ok(())
    }
}

fn start_access_log(bootstrap: &Bootstrap, metrics: &Arc<Metrics>) -> anyhow::Result<AccessLogWriter> {
    let target = bootstrap.access_log.clone().map_or(AccessLogTarget::Stdout, AccessLogTarget::File);
    AccessLogWriter::start(target, Arc::clone(metrics)).with_context(|| match &bootstrap.access_log {
        Some(path) => format!("the access log {} cannot be opened", path.display()),
        None => "the access log cannot be started".to_owned(),
    })
}

async fn start_admin(bootstrap: &Bootstrap, admin: AdminState) -> anyhow::Result<()> {
    let server = AdminServer::bind(bootstrap.admin).await?;
    let address = server.address();
    info!(%address, "admin server listening");
    if let Some(path) = &bootstrap.admin_address_path {
        write_atomic(path, format!("{address}\n").as_bytes())
            .with_context(|| format!("--admin-address-path {} cannot be written", path.display()))?;
    }
    task::spawn("admin server", server.serve(Arc::new(admin)));
    Ok(())
}

/// Returns the warmer, and starts the task that serves VM start requests of workers.
fn warmer(
    bootstrap: &Bootstrap,
    state: Arc<SharedPluginState>,
    metrics: &Arc<Metrics>,
    control_plane: Option<AuthenticatedControlPlane>,
) -> Arc<Warmer> {
    let modules = ModuleLoaderOptions {
        cache: bootstrap.cache.clone(),
        builtins: bootstrap.plugins.clone(),
        compiler: CompilerProcess::this_program(bootstrap.compile_timeout),
        control_plane: control_plane.filter(|authenticated| authenticated.control_plane.is_mutual()),
    };
    let modules = ModuleLoader::new(modules, Arc::clone(metrics));
    let (restarts, mut requests) = mpsc::channel::<crate::filter::VmStartRequest>(VM_START_QUEUE);
    task::spawn("vm requests", async move {
        while let Some(request) = requests.recv().await {
            // Each plugin has at most one open request per worker.
            task::spawn("vm start", async move {
                tokio::time::sleep_until(request.not_before()).await;
                task::blocking("vm start", move || request.start()).await;
            });
        }
    });
    let open_failure = match &bootstrap.source {
        ConfigSourceOptions::Files(_) => OpenFailure::Skip,
        ConfigSourceOptions::ControlPlane { .. } => OpenFailure::Reject, // `XdsSource` marks the plugin as failed.
    };
    let resolver = Resolver::new(bootstrap.name_servers.clone());
    Warmer::new(WarmerOptions { modules, state, restarts, workers: bootstrap.workers, resolver, open_failure })
}

/// Returns the control plane of the bootstrap; `None` if the configuration comes from files.
fn control_plane(source: &ConfigSourceOptions) -> anyhow::Result<Option<Arc<ControlPlane>>> {
    let ConfigSourceOptions::ControlPlane { urls, .. } = source else { return Ok(None) };
    ControlPlane::new(urls)
        .map(|control_plane| Some(Arc::new(control_plane)))
        .map_err(|reason| anyhow!("--xds {reason}"))
}

/// Returns the identity of the proxy, and starts its renewal. Without mutual TLS, it stays empty.
fn init_identity(bootstrap: &Bootstrap, control_plane: Option<&Arc<ControlPlane>>) -> anyhow::Result<Arc<Identity>> {
    let Some(control_plane) = control_plane.filter(|control_plane| control_plane.is_mutual()) else {
        return Ok(Identity::empty());
    };
    let ConfigSourceOptions::ControlPlane { urls, node, gateway, join_token, .. } = &bootstrap.source else {
        return Ok(Identity::empty());
    };
    let identity = Identity::issued_by(control_plane);
    let files = ReplicaFiles::new(&ReplicaFilesOptions {
        cache: &bootstrap.cache,
        folder: "identity",
        extension: "pem",
        urls,
        node,
        gateway: gateway.as_deref(),
    });
    let control_plane = Arc::clone(control_plane);
    let options = IdentityOptions { control_plane, join_token: join_token.clone(), files };
    let restored = restore(&options, &identity);
    if identity.get().is_none() && join_token.is_none() {
        return Err(anyhow!("this proxy has no identity; set --join-token-path FILE, created by `weir token make`"));
    }
    task::spawn("identity", renew_forever(options, Arc::clone(&identity), restored));
    Ok(identity)
}

/// The parts of a control plane as configuration source.
struct XdsParts {
    control_plane: Arc<ControlPlane>,
    identity: Arc<Identity>,
    outcomes: mpsc::Receiver<UpdateOutcome>,
}

/// Returns the source of the configuration. Files are read and applied first; a rejection of them is an error.
async fn load_initial_config(
    bootstrap: &Bootstrap,
    config: &mut ConfigState,
    xds: Option<XdsParts>,
) -> anyhow::Result<ConfigSource> {
    let path = match (&bootstrap.source, xds) {
        (ConfigSourceOptions::ControlPlane { urls, node, gateway, accepted_mesh, .. }, Some(xds)) => {
            let last_known_good = LastKnownGood::open(ReplicaFiles::new(&ReplicaFilesOptions {
                cache: &bootstrap.cache,
                folder: "xds",
                extension: "resources",
                urls,
                node,
                gateway: gateway.as_deref(),
            }));
            let XdsParts { control_plane, identity, outcomes } = xds;
            let (node, gateway, accepted_mesh) = (node.clone(), gateway.clone(), accepted_mesh.clone());
            let options = XdsOptions { control_plane, node, gateway, accepted_mesh, identity };
            return Ok(ConfigSource::ControlPlane(Box::new(XdsSource::new(options, last_known_good, outcomes))));
        }
        (ConfigSourceOptions::ControlPlane { .. }, None) => return Err(anyhow!("--xds names no control plane")),
        (ConfigSourceOptions::Files(path), _) => path,
    };
    let mut source = FileSource::start(path, &bootstrap.plugins, default_compiler())
        .context("files cannot be watched; is fs.inotify.max_user_instances used up?")?;
    let update = source.read().await;
    match config.apply_first(update).await {
        ApplyResult::Active | ApplyResult::Unchanged => Ok(ConfigSource::Files(Box::new(source))),
        ApplyResult::Rejected(diagnostics) => {
            let (path, count) = (path.display(), diagnostics.len());
            Err(anyhow!(
                "{path} is rejected for the {count} reasons above; `weir-proxy validate {path}` prints them again"
            ))
        }
    }
}
