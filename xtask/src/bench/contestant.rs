//! The proxies that are measured, each with the filter chain that it runs: how each is started.

use std::fmt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use super::process::Running;
use super::setting::{Setting, fill};
use crate::tools;
use crate::workspace::root;

/// A filter configuration that every host of the module is given.
const AUTH: &str = r#"{"apiKeys":{"keys":[{"id":"bench","key":"bench-key"}]},"rules":[{"name":"deny-admin","action":"deny","paths":[{"prefix":"/admin"}]},{"name":"all","action":"allow"}]}"#;

/// Who forwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Weir,
    HaProxy,
    Nginx,
    Envoy,
}

/// Which Wasm filter is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chain {
    Empty,
    /// `xtask/bench/three_headers.wat`: reads, sets and removes a request header.
    ThreeHeaders,
    /// `plugins/auth`: an API key and two rules.
    Auth,
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Contestant {
    pub(super) peer: Peer,
    pub(super) chain: Chain,
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = match self.peer {
            Peer::Weir => "Weir",
            Peer::HaProxy => "HAProxy",
            Peer::Nginx => "nginx",
            Peer::Envoy => "Envoy",
        };
        let chain = match self.chain {
            Chain::Empty => "",
            Chain::ThreeHeaders => ", three header operations",
            Chain::Auth => ", auth",
        };
        f.pad(&format!("{peer}{chain}"))
    }
}

impl Contestant {
    /// Everybody, in the order in which they take turns.
    pub(super) fn all() -> Vec<Self> {
        let with = |peer, chain| Self { peer, chain };
        vec![
            with(Peer::Weir, Chain::Empty),
            with(Peer::HaProxy, Chain::Empty),
            with(Peer::Nginx, Chain::Empty),
            with(Peer::Envoy, Chain::Empty),
            with(Peer::Weir, Chain::ThreeHeaders),
            with(Peer::Envoy, Chain::ThreeHeaders),
            with(Peer::Weir, Chain::Auth),
            with(Peer::Envoy, Chain::Auth),
        ]
    }

    /// Starts it on a free port and waits until it forwards.
    pub(super) fn start(self, setting: &Setting, workers: usize) -> Result<Running> {
        let folder = setting.empty_folder(&format!("{:?}-{:?}", self.peer, self.chain))?;
        let listener = setting.free_address()?;
        let mut place = Place { folder, values: setting.values(), module: None };
        place.set("LISTENER", &listener.to_string());
        place.set("LISTENER_PORT", &listener.port().to_string());
        place.set("WORKERS", &workers.to_string());
        place.put_module(self.chain, setting)?;
        let command = match self.peer {
            Peer::Weir => place.weir(setting, workers)?,
            Peer::HaProxy => place.plain("haproxy", "-f", "haproxy.cfg")?,
            Peer::Nginx => place.plain("nginx", "-c", "nginx.conf")?,
            Peer::Envoy => place.envoy(workers)?,
        };
        Running::start(command, listener, &place.folder)
    }
}

/// The folder of one start, and what is filled into the configurations there.
struct Place {
    folder: PathBuf,
    values: Vec<(&'static str, String)>,
    module: Option<PathBuf>,
}

impl Place {
    fn set(&mut self, name: &'static str, value: &str) {
        self.values.push((name, value.to_owned()));
    }

    fn put_module(&mut self, chain: Chain, setting: &Setting) -> Result<()> {
        self.set("FOLDER", &self.folder.display().to_string());
        let (module, config) = match chain {
            Chain::Empty => return Ok(()),
            Chain::ThreeHeaders => (wat::parse_file(root()?.join("xtask/bench/three_headers.wat"))?, "{}"),
            Chain::Auth => (read(&setting.release().join("plugins/auth.wasm"))?, AUTH),
        };
        // In a folder of its own: Weir watches it, and would see each write of a log beside it.
        let folder = self.folder.join("module");
        fs::create_dir(&folder)?;
        let path = folder.join("bench.wasm");
        fs::write(&path, module)?;
        self.set("MODULE", &path.display().to_string());
        self.set("CONFIG", config);
        self.module = Some(path);
        Ok(())
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
        self.redirect(command)
    }

    fn envoy(&mut self, workers: usize) -> Result<Command> {
        let filter = match self.module {
            Some(_) => self.filled("envoy-filter.yaml")?,
            None => String::new(),
        };
        self.set("FILTER", filter.trim_end());
        let config = self.put("envoy.yaml", &self.filled("envoy.yaml")?)?;
        let mut command = Command::new(tools::envoy()?);
        command.args(["--concurrency", &workers.to_string(), "--disable-hot-restart", "--log-level", "warn"]);
        command.arg("--config-path").arg(config);
        self.redirect(command)
    }

    /// The cache outlives the start, so only the first one compiles.
    fn weir(&self, setting: &Setting, workers: usize) -> Result<Command> {
        let resources = self.folder.join("resources");
        fs::create_dir_all(&resources)?;
        self.put("resources/resources.yaml", &self.filled("weir/resources.yaml")?)?;
        if self.module.is_some() {
            self.put("resources/filter.yaml", &self.filled("weir/filter.yaml")?)?;
        }
        let listener = self.values.iter().rev().find(|(name, _)| *name == "LISTENER").context("a listener")?;
        let mut command = Command::new(setting.release().join("weir-proxy"));
        command.arg("--config").arg(resources).args(["--workers", &workers.to_string(), "--admin", "127.0.0.1:0"]);
        command.arg("--cache").arg(setting.folder().join("cache"));
        command.arg("--bind").arg(format!("bench/edge/http={}", listener.1));
        self.redirect(command)
    }

    /// What it prints goes to files: for Weir and HAProxy that is the access log.
    fn redirect(&self, mut command: Command) -> Result<Command> {
        let out = File::create(self.folder.join("out.log"))?;
        let err = File::create(self.folder.join("err.log"))?;
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        Ok(command)
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}
