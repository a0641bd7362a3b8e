//! Builds the parts in order and runs them until drained. Called by `main`; `anyhow` is used here and nowhere below.
//!
//! ```text
//! Bootstrap ─► App::build: telemetry, workers, admin, configuration ─► App::run ─► signal or /drain ─► end
//! ```
//!
//! A bad start ends with one line that says what to do, and leaves nothing behind.

mod agent;
mod bootstrap;
mod end;
mod runtimes;
mod signals;
mod validate;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, anyhow};
use tokio::sync::{mpsc, watch};
use tracing::info;
use weir_file_source::{FileSource, WatchSignal, compile_alone};

pub use bootstrap::{AgentOptions, Bootstrap, CompileOptions, ConfigFrom, LogStyle, ValidateOptions};

use crate::active::{ControlPlaneLink, Modules, ModulesOptions, Warmer, WarmerOptions};
use crate::admin::{Admin, AdminServer, Ending};
use crate::app::runtimes::{WorkerThreads, WorkersOptions};
use crate::app::signals::{Asked, Signals};
use crate::config::{
    Applied, ConfigSource, ConfigState, ConfigStateOptions, ConfigStatus, LastGood, Outcome, Publisher, XdsOptions,
    XdsSource, apply_updates,
};
use crate::drain::{DrainTrigger, drain_pair};
use crate::filter::PluginState;
use crate::identity::{ControlPlane, Identity, IdentityOptions, keep, restore};
use crate::limits::{OUTCOME_QUEUE, VM_REQUEST_QUEUE};
use crate::listener::{ListenerSet, ListenerSetOptions};
use crate::task;
use crate::telemetry::{AccessLogTarget, AccessLogWriter, Log, LogLevel, Metrics};
use weir_loader::{CompilerProcess, compile_here};

/// Runs a proxy until it has drained.
///
/// # Errors
/// A bad start, in one line for whoever started it.
pub fn run(bootstrap: Bootstrap) -> anyhow::Result<()> {
    let log = Log::start(bootstrap.log_style.into()).context("no thread for the log")?;
    runtimes::raise_file_limit();
    let runtime = runtimes::main_runtime().context("no main runtime")?;
    let outcome = runtime.block_on(async { App::build(bootstrap, log.level()).await?.run().await });
    runtime.shutdown_background(); // What still blocks there has nothing to lose.
    outcome
}

/// Runs an agent until it is asked to end.
///
/// # Errors
/// A bad start, in one line for whoever started it.
pub fn run_agent(options: AgentOptions) -> anyhow::Result<()> {
    let _log = Log::start(options.log_style.into()).context("no thread for the log")?;
    let runtime = runtimes::main_runtime().context("no main runtime")?;
    let outcome = runtime.block_on(agent::run(options));
    runtime.shutdown_background();
    outcome
}

/// Says whether a running proxy would take these files, and why not: on standard output and error.
pub fn validate(options: ValidateOptions) -> anyhow::Result<ExitCode> {
    let runtime = runtimes::main_runtime().context("no main runtime")?;
    let valid = runtime.block_on(validate::validate(options));
    runtime.shutdown_background();
    valid
}

/// The child process that compiles a module; see `weir-loader`.
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
    signals: Signals,
    endings: mpsc::Receiver<Ending>,
}

impl App {
    /// Builds the parts in order; from files the first configuration serves when this returns.
    async fn build(bootstrap: Bootstrap, log_level: Option<LogLevel>) -> anyhow::Result<Self> {
        let metrics = Arc::new(Metrics::new(bootstrap.workers));
        let access_log = start_access_log(&bootstrap, &metrics)?;
        let publisher = Publisher::new();
        let control_plane = control_plane(&bootstrap.source)?;
        let identity = begin_identity(&bootstrap, control_plane.as_ref())?;
        let workers = WorkerThreads::start(&WorkersOptions {
            workers: bootstrap.workers,
            active: publisher.active(),
            metrics: Arc::clone(&metrics),
            drain_timeout: bootstrap.drain_timeout,
            identity: Arc::clone(&identity),
            access_log: &access_log,
        })?;
        let signals = Signals::listen().context("signals cannot be listened for")?;
        let overrides = bootstrap.binds.clone();
        let listeners = ListenerSet::new(ListenerSetOptions { overrides, assignments: workers.assignments() });
        let (drain, drain_watcher) = drain_pair();
        let plugin_state = PluginState::new(bootstrap.source.node());
        let status = ConfigStatus::new(Arc::clone(&metrics));
        let (ending_sender, endings) = mpsc::channel(1);
        let admin = Admin {
            active: publisher.active(),
            status: Arc::clone(&status),
            listeners: listeners.states(),
            metrics: Arc::clone(&metrics),
            plugin_state: Arc::clone(&plugin_state),
            log_level,
            drain: drain_watcher,
            endings: ending_sender,
        };
        start_admin(&bootstrap, admin).await?;
        let warmer =
            warmer(&bootstrap, plugin_state, (&metrics, control_plane.clone().zip(Some(Arc::clone(&identity)))));
        let (outcomes, heard) = mpsc::channel(OUTCOME_QUEUE);
        let outcomes = Some(outcomes);
        let options = ConfigStateOptions { warmer, listeners, publisher, status, metrics, outcomes };
        let mut config = ConfigState::new(options);
        let source = begin(&bootstrap, &mut config, (heard, control_plane, identity)).await?;
        Ok(Self { bootstrap, access_log, workers, drain, source, config, signals, endings })
    }

    /// Serves until it is asked to end and has drained.
    async fn run(self) -> anyhow::Result<()> {
        let Self { bootstrap, access_log, mut workers, drain, source, config, mut signals, mut endings } = self;
        let (sender, updates) = watch::channel(None);
        let signal = source.signal();
        task::spawn("configuration source", source.follow(sender));
        task::spawn("configuration", apply_updates(updates, config, (drain.watcher(), bootstrap.drain_timeout)));
        let ending = loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::End => break Ending::Gracefully,
                    Asked::ReadAgain => {
                        signal.iter().for_each(WatchSignal::look_again);
                        access_log.reopen();
                    }
                },
                Some(ending) = endings.recv() => break ending,
                failed = workers.failed() => {
                    return Err(anyhow!("worker {failed} has ended by a bug of the proxy; the log says where"));
                }
            }
        };
        end::end(ending, (drain, bootstrap.drain_timeout), workers, (signals, endings)).await;
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

async fn start_admin(bootstrap: &Bootstrap, admin: Admin) -> anyhow::Result<()> {
    let server = AdminServer::bind(bootstrap.admin).await?;
    let address = server.address();
    info!(%address, "admin pages are served");
    if let Some(path) = &bootstrap.admin_address_path {
        bootstrap::write_whole(path, &format!("{address}\n"))
            .with_context(|| format!("--admin-address-path {} cannot be written", path.display()))?;
    }
    task::spawn("admin server", server.serve(Arc::new(admin)));
    Ok(())
}

/// What loads modules and starts plugins, for `run`.
fn warmer(
    bootstrap: &Bootstrap,
    state: Arc<PluginState>,
    (metrics, link): (&Arc<Metrics>, Option<ControlPlaneLink>),
) -> Arc<Warmer> {
    let modules = ModulesOptions {
        cache: bootstrap.cache.clone(),
        builtins: bootstrap.plugins.clone(),
        compiler: CompilerProcess::this_program(),
        control_plane: link.filter(|(control_plane, _)| control_plane.is_mutual()),
    };
    let modules = Modules::new(modules, Arc::clone(metrics));
    let (restarts, mut requests) = mpsc::channel::<crate::filter::VmRequest>(VM_REQUEST_QUEUE);
    task::spawn("vm requests", async move {
        while let Some(request) = requests.recv().await {
            // At most one for each plugin and worker is under way: the plugin sees to it.
            task::spawn("vm start", async move {
                tokio::time::sleep_until(request.not_before()).await;
                task::blocking("vm start", move || request.start()).await;
            });
        }
    });
    Warmer::new(WarmerOptions { modules, state, restarts, workers: bootstrap.workers })
}

/// The control plane that says what to serve, if one does.
fn control_plane(source: &ConfigFrom) -> anyhow::Result<Option<Arc<ControlPlane>>> {
    let ConfigFrom::ControlPlane { urls, .. } = source else { return Ok(None) };
    ControlPlane::new(urls)
        .map(|control_plane| Some(Arc::new(control_plane)))
        .map_err(|reason| anyhow!("--xds {reason}"))
}

/// Where something of a proxy is kept: once for each replica of its control plane, so that it is found when some of them
/// have changed. Two proxies with one cache do not mix.
fn kept_paths(
    cache: &Path,
    (folder, extension): (&str, &str),
    urls: &[String],
    who: (&str, Option<&str>),
) -> Vec<PathBuf> {
    let path = |url: &String| {
        let who = weir_model::Version::of(&(url, who));
        cache.join(folder).join(format!("{who}.{extension}"))
    };
    urls.iter().map(path).collect()
}

/// Who the proxy is: nobody, or whom the control plane says, as soon as it does.
fn begin_identity(bootstrap: &Bootstrap, control_plane: Option<&Arc<ControlPlane>>) -> anyhow::Result<Arc<Identity>> {
    let identity = Identity::none();
    let Some(control_plane) = control_plane.filter(|it| it.is_mutual()).map(Arc::clone) else { return Ok(identity) };
    let ConfigFrom::ControlPlane { urls, node, gateway, join_token } = &bootstrap.source else { return Ok(identity) };
    let paths = kept_paths(&bootstrap.cache, ("identity", "pem"), urls, (node, gateway.as_deref()));
    let options = IdentityOptions { control_plane, join_token: join_token.clone(), paths };
    let left = restore(&options, &identity);
    if identity.get().is_none() && join_token.is_none() {
        return Err(anyhow!("this proxy has no identity: give --join-token-path FILE, made by `weir token make`"));
    }
    task::spawn("identity", keep(options, Arc::clone(&identity), left));
    Ok(identity)
}

/// The source of the configuration. What files say first is read and served; a refusal of it is a bad start.
async fn begin(
    bootstrap: &Bootstrap,
    config: &mut ConfigState,
    (outcomes, control_plane, identity): (mpsc::Receiver<Outcome>, Option<Arc<ControlPlane>>, Arc<Identity>),
) -> anyhow::Result<ConfigSource> {
    let path = match (&bootstrap.source, control_plane) {
        (ConfigFrom::ControlPlane { urls, node, gateway, .. }, Some(control_plane)) => {
            let who = (node.as_str(), gateway.as_deref());
            let last_good = LastGood::open(kept_paths(&bootstrap.cache, ("xds", "resources"), urls, who));
            let (node, gateway) = (node.clone(), gateway.clone());
            let options = XdsOptions { control_plane, node, gateway, identity };
            return Ok(ConfigSource::ControlPlane(Box::new(XdsSource::new(options, last_good, outcomes))));
        }
        (ConfigFrom::ControlPlane { .. }, None) => return Err(anyhow!("--xds names no control plane")),
        (ConfigFrom::Files(path), _) => path,
    };
    let mut source = FileSource::start(path, &bootstrap.plugins, compile_alone())
        .context("files cannot be watched; is fs.inotify.max_user_instances used up?")?;
    let update = source.read().await;
    match config.begin(update).await {
        Applied::Serves | Applied::Unchanged => Ok(ConfigSource::Files(Box::new(source))),
        Applied::Refused(refusals) => {
            let (path, count) = (path.display(), refusals.len());
            Err(anyhow!(
                "{path} is refused for the {count} reasons above; `weir-proxy validate {path}` says them again"
            ))
        }
    }
}
