//! The proxies that are measured, each with the filter chain that it runs: how each is started.

use std::fmt;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::chain::Chain;
use super::process::Running;
use super::setting::{Setting, fill};
use crate::tools;
use crate::workspace::root;

/// Who forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Weir,
    HaProxy,
    Nginx,
    Envoy,
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contestant {
    pub(super) peer: Peer,
    pub(super) chain: Chain,
    /// Routes of its table; requests take the last of them.
    pub(super) routes: usize,
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = match self.peer {
            Peer::Weir => "Weir",
            Peer::HaProxy => "HAProxy",
            Peer::Nginx => "nginx",
            Peer::Envoy => "Envoy",
        };
        if self.chain == Chain::Empty {
            return f.pad(peer);
        }
        f.pad(&format!("{peer}, {}", self.chain.name()))
    }
}

impl Contestant {
    /// With one route.
    pub(super) const fn of(peer: Peer, chain: Chain) -> Self {
        Self { peer, chain, routes: 1 }
    }

    /// Everybody, in the order in which they take turns.
    pub(super) fn all() -> Vec<Self> {
        let with = Self::of;
        let mut all = vec![
            with(Peer::Weir, Chain::Empty),
            with(Peer::HaProxy, Chain::Empty),
            with(Peer::Nginx, Chain::Empty),
            with(Peer::Envoy, Chain::Empty),
            with(Peer::Weir, Chain::ThreeHeaders),
            with(Peer::Envoy, Chain::ThreeHeaders),
            with(Peer::Weir, Chain::Four),
            with(Peer::Envoy, Chain::Four),
        ];
        all.extend(Chain::ALONE.map(|chain| with(Peer::Weir, chain)));
        all
    }

    /// The path of the requests that it gets.
    pub(super) fn path(self) -> String {
        if self.routes == 1 { "/".to_owned() } else { format!("/r{}/", self.routes - 1) }
    }

    /// The name of its folder; without letters that shells and configurations mean something by.
    fn folder_name(self) -> String {
        let name = format!("{:?}-{:?}-{}", self.peer, self.chain, self.routes);
        name.chars().map(|letter| if letter.is_alphanumeric() { letter } else { '-' }).collect()
    }

    /// Starts it on a free port and waits until it forwards.
    pub(super) fn start(self, setting: &Setting, workers: usize) -> Result<Running> {
        self.start_as(setting, workers, |command| command)
    }

    /// As [`Contestant::start`], by another command that gets this one.
    pub(super) fn start_as(
        self,
        setting: &Setting,
        workers: usize,
        change: impl FnOnce(Command) -> Command,
    ) -> Result<Running> {
        let folder = setting.empty_folder(&self.folder_name())?;
        let listener = setting.free_address()?;
        let mut place = Place { folder, values: setting.values(), contestant: self };
        place.set("LISTENER", &listener.to_string());
        place.set("LISTENER_IP", &listener.ip().to_string());
        place.set("LISTENER_PORT", &listener.port().to_string());
        place.set("WORKERS", &workers.to_string());
        place.put_modules(setting)?;
        let command = match self.peer {
            Peer::Weir => place.weir(setting, workers)?,
            Peer::HaProxy => place.plain("haproxy", "-f", "haproxy.cfg")?,
            Peer::Nginx => place.plain("nginx", "-c", "nginx.conf")?,
            Peer::Envoy => place.envoy(workers)?,
        };
        Running::start(place.redirect(change(command))?, listener, &place.folder)
    }
}

/// The folder of one start, and what is filled into the configurations there.
struct Place {
    folder: PathBuf,
    values: Vec<(&'static str, String)>,
    contestant: Contestant,
}

impl Place {
    fn set(&mut self, name: &'static str, value: &str) {
        self.values.push((name, value.to_owned()));
    }

    /// In a folder of their own: Weir watches it, and would see each write of a log beside them.
    fn put_modules(&mut self, setting: &Setting) -> Result<()> {
        self.set("FOLDER", &self.folder.display().to_string());
        let folder = self.folder.join("modules");
        fs::create_dir(&folder)?;
        let plugins = &setting.proxy().plugins;
        for filter in self.contestant.chain.filters() {
            fs::write(folder.join(format!("{}.wasm", filter.name)), filter.module(plugins)?)?;
        }
        Ok(())
    }

    /// A piece of configuration for each filter, one after the other.
    fn filled_for_each(&self, name: &str) -> Result<String> {
        let mut text = String::new();
        for filter in self.contestant.chain.filters() {
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

    /// A configuration of `xtask/bench/`, filled in.
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

    /// A program that is told everything by one file.
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

    /// The cache outlives the start, so only the first one compiles.
    fn weir(&self, setting: &Setting, workers: usize) -> Result<Command> {
        let resources = self.folder.join("resources");
        fs::create_dir_all(&resources)?;
        self.put("resources/resources.yaml", &self.filled("weir/resources.yaml")?)?;
        let more: Vec<String> = (1..self.contestant.routes).map(route).collect();
        self.put("resources/routes.yaml", &more.join("---\n"))?;
        self.put("resources/filters.yaml", &self.filled_for_each("weir/filter.yaml")?)?;
        let listener = self.values.iter().rev().find(|(name, _)| *name == "LISTENER").context("a listener")?;
        let mut command = Command::new(&setting.proxy().program);
        command.arg("--config").arg(resources).args(["--workers", &workers.to_string(), "--admin", "127.0.0.1:0"]);
        command.arg("--cache").arg(setting.folder().join("cache"));
        command.arg("--bind").arg(format!("bench/edge/http={}", listener.1));
        Ok(command)
    }

    /// What it prints goes to files: for Weir and HAProxy that is the access log.
    fn redirect(&self, mut command: Command) -> Result<Command> {
        let out = File::create(self.folder.join("out.log"))?;
        let err = File::create(self.folder.join("err.log"))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        Ok(command)
    }
}

/// One more route of Weir's.
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
