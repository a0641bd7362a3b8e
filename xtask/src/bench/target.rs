//! The proxies that are measured, each with a filter chain, and the way to start them.

use std::fmt;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::chain::Chain;
use super::env::{BenchEnv, fill};
use super::process::BenchProcess;
use super::transport::Transport;
use crate::tools;
use crate::workspace::root;

/// The proxy program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProxyKind {
    Weir,
    HaProxy,
    Nginx,
    Envoy,
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BenchTarget {
    pub(super) peer: ProxyKind,
    pub(super) chain: Chain,
    /// The protocols on both sides.
    pub(super) transport: Transport,
    /// Routes of its table; requests take the last of them.
    pub(super) routes: usize,
    /// Limit of HAProxy and nginx, which allocate for it at their start. The others have a higher limit.
    pub(super) max_connections: u32,
}

impl fmt::Display for BenchTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = match self.peer {
            ProxyKind::Weir => "Weir",
            ProxyKind::HaProxy => "HAProxy",
            ProxyKind::Nginx => "nginx",
            ProxyKind::Envoy => "Envoy",
        };
        if self.chain == Chain::Empty {
            return f.pad(peer);
        }
        f.pad(&format!("{peer}, {}", self.chain.name()))
    }
}

impl ProxyKind {
    /// All proxies, in the order in which they take turns.
    pub(super) const ALL: [Self; 4] = [Self::Weir, Self::HaProxy, Self::Nginx, Self::Envoy];

    /// Returns true if it can do this: nginx speaks HTTP/2 to no origin but one of gRPC.
    pub(super) fn supports(self, transport: Transport) -> bool {
        !(transport == Transport::Http2 && self == Self::Nginx)
    }
}

impl BenchTarget {
    /// Returns the target with one route.
    pub(super) const fn of(peer: ProxyKind, chain: Chain) -> Self {
        Self { peer, chain, transport: Transport::Plain, routes: 1, max_connections: 4_096 }
    }

    /// Returns all targets, in the order in which they take turns.
    pub(super) fn all() -> Vec<Self> {
        let with = Self::of;
        let mut all = vec![
            with(ProxyKind::Weir, Chain::Empty),
            with(ProxyKind::HaProxy, Chain::Empty),
            with(ProxyKind::Nginx, Chain::Empty),
            with(ProxyKind::Envoy, Chain::Empty),
            with(ProxyKind::Weir, Chain::ThreeHeaders),
            with(ProxyKind::Envoy, Chain::ThreeHeaders),
            with(ProxyKind::Weir, Chain::Four),
            with(ProxyKind::Envoy, Chain::Four),
        ];
        all.extend(Chain::ALONE.map(|chain| with(ProxyKind::Weir, chain)));
        all
    }

    /// Returns the path of its requests.
    pub(super) fn path(self) -> String {
        if self.routes == 1 { "/".to_owned() } else { format!("/r{}/", self.routes - 1) }
    }

    /// Returns the name of its folder, without characters that are special in shells and configurations.
    fn folder_name(self) -> String {
        let name = format!("{:?}-{:?}-{:?}-{}", self.peer, self.chain, self.transport, self.routes);
        name.chars().map(|letter| if letter.is_alphanumeric() { letter } else { '-' }).collect()
    }

    /// Starts it on a free port and waits until it forwards requests.
    pub(super) fn start(self, env: &BenchEnv, workers: usize) -> Result<BenchProcess> {
        self.start_as(env, workers, |command| command)
    }

    /// Starts it like [`BenchTarget::start`], by a command that wraps the proxy's own.
    pub(super) fn start_as(
        self,
        env: &BenchEnv,
        workers: usize,
        change: impl FnOnce(Command) -> Command,
    ) -> Result<BenchProcess> {
        let folder = env.empty_folder(&self.folder_name())?;
        let listener = env.free_address()?;
        let mut place = RunFolder { folder, values: self.transport.values(env.certificates()), target: self };
        place.values.extend(env.values(self.transport));
        place.set("LISTENER", &listener.to_string());
        place.set("LISTENER_IP", &listener.ip().to_string());
        place.set("LISTENER_PORT", &listener.port().to_string());
        place.set("WORKERS", &workers.to_string());
        place.set("MAX_CONNECTIONS", &self.max_connections.to_string());
        place.set("MAX_SOCKETS", &(2 * self.max_connections).to_string());
        place.put_modules(env)?;
        let command = match self.peer {
            ProxyKind::Weir => place.weir(env, workers)?,
            ProxyKind::HaProxy => place.plain("haproxy", "-f", "haproxy.cfg")?,
            ProxyKind::Nginx => place.plain("nginx", "-c", "nginx.conf")?,
            ProxyKind::Envoy => place.envoy(workers)?,
        };
        let command = place.redirect(change(command))?;
        // nginx listens for one of the two protocols.
        match self.transport.is_http2() && self.peer == ProxyKind::Nginx {
            true => BenchProcess::start_listening(command, listener, &place.folder),
            false => BenchProcess::start(command, listener, &place.folder),
        }
    }
}

/// The folder of one start, and the values that its configurations are filled with.
struct RunFolder {
    folder: PathBuf,
    values: Vec<(&'static str, String)>,
    target: BenchTarget,
}

impl RunFolder {
    fn set(&mut self, name: &'static str, value: &str) {
        self.values.push((name, value.to_owned()));
    }

    /// Writes modules into a separate folder: Weir watches it, and log files there would cause events.
    fn put_modules(&mut self, env: &BenchEnv) -> Result<()> {
        self.set("FOLDER", &self.folder.display().to_string());
        let folder = self.folder.join("modules");
        fs::create_dir(&folder)?;
        let plugins = &env.proxy().plugins;
        for filter in self.target.chain.filters() {
            fs::write(folder.join(format!("{}.wasm", filter.name)), filter.module(plugins)?)?;
        }
        Ok(())
    }

    /// Returns a piece of configuration for each filter, in order.
    fn filled_for_each(&self, name: &str) -> Result<String> {
        let mut text = String::new();
        for filter in self.target.chain.filters() {
            let module = self.folder.join("modules").join(format!("{}.wasm", filter.name)).display().to_string();
            let (named, phase) = (filter.name.replace('_', "-"), filter.phase.to_owned());
            let config = filter.config.to_owned();
            let values = [
                ("MODULE", module),
                ("NAME", named),
                ("PHASE", phase),
                ("CONFIG", config),
                ("ISOLATION", filter.isolation.to_owned()),
            ];
            text.push_str(&fill(&self.filled(name)?, &values));
        }
        Ok(text)
    }

    /// Returns a configuration of `xtask/bench/`, filled in.
    fn filled(&self, name: &str) -> Result<String> {
        let path = root()?.join("xtask/bench").join(name);
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(fill(&text, &self.values))
    }

    fn put(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// Returns the command of a program with one configuration file.
    fn plain(&self, program: &str, flag: &str, name: &str) -> Result<Command> {
        let config = self.put(name, &self.filled(name)?)?;
        let mut command = Command::new(tools::path_of(program).context(program.to_owned())?);
        command.arg(flag).arg(config);
        Ok(command)
    }

    fn envoy(&mut self, workers: usize) -> Result<Command> {
        let filter = self.filled_for_each("envoy-filter.yaml")?;
        self.set("FILTER", filter.trim_end());
        let config = self.put("envoy.yaml", &self.filled("envoy.yaml")?)?;
        let mut command = Command::new(tools::envoy()?);
        command.args(["--concurrency", &workers.to_string(), "--disable-hot-restart", "--log-level", "warn"]);
        command.arg("--config-path").arg(config);
        Ok(command)
    }

    /// The cache outlives the start, so only the first start compiles.
    fn weir(&self, env: &BenchEnv, workers: usize) -> Result<Command> {
        let resources = self.folder.join("resources");
        fs::create_dir_all(&resources)?;
        self.put("resources/resources.yaml", &self.filled("weir/resources.yaml")?)?;
        let more: Vec<String> = (1..self.target.routes).map(route).collect();
        self.put("resources/routes.yaml", &more.join("---\n"))?;
        self.put("resources/filters.yaml", &self.filled_for_each("weir/filter.yaml")?)?;
        let listener = self.values.iter().rev().find(|(name, _)| *name == "LISTENER").context("a listener")?;
        let mut command = Command::new(&env.proxy().program);
        command.arg("--config").arg(resources).args(["--workers", &workers.to_string(), "--admin", "127.0.0.1:0"]);
        command.arg("--cache").arg(env.folder().join("cache"));
        command.arg("--bind").arg(format!("bench/edge/http={}", listener.1));
        Ok(command)
    }

    /// Redirects the output to files: for Weir and HAProxy it is the access log.
    fn redirect(&self, mut command: Command) -> Result<Command> {
        let out = File::create(self.folder.join("out.log"))?;
        let err = File::create(self.folder.join("err.log"))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        Ok(command)
    }
}

/// Returns one more route for Weir.
fn route(number: usize) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\n\
         kind: HTTPRoute\n\
         metadata: {{name: r{number}, namespace: bench}}\n\
         spec:\n  \
           parentRefs: [{{name: edge}}]\n  \
           rules: [{{matches: [{{path: {{type: PathPrefix, value: /r{number}}}}}], backendRefs: [{{name: origin, port: 80}}]}}]\n"
    )
}
