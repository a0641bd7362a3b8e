//! A running `weir-proxy` process.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::http::{self, Message};
use super::{Error, TempDir};

/// Interval of polls while waiting.
const POLL: Duration = Duration::from_millis(5);

/// Polls until a start has failed. A cold start compiles the filter, which takes long on a busy machine.
const MAX_START_POLLS: usize = 12_000; // One minute.

/// Polls until a change has failed. It takes milliseconds, or seconds with a new module.
const MAX_CHANGE_POLLS: usize = 6_000; // Half a minute.

/// A proxy process. Killed on drop.
#[derive(Debug)]
pub struct Proxy {
    child: Child,
    admin: SocketAddr,
    state: TempDir,
}

impl Proxy {
    /// Starts a proxy with a folder of resources and blocks until it serves. Each of `listeners`, named like
    /// `default/edge/http`, is bound to a free port.
    pub fn start(resources: &Path, listeners: &[&str]) -> Result<Self, Error> {
        Self::start_with(resources, listeners, &[])
    }

    /// Starts a proxy as [`Proxy::start`] does, with more arguments.
    pub fn start_with(resources: &Path, listeners: &[&str], arguments: &[OsString]) -> Result<Self, Error> {
        let state = TempDir::new()?;
        let binary = find_binary()?;
        let admin_file = state.path().join("admin-address");
        let mut command = Command::new(&binary);
        command.arg("--config").arg(resources);
        command.args(["--admin", "127.0.0.1:0", "--admin-address-path"]).arg(&admin_file);
        for listener in listeners {
            command.arg("--bind").arg(format!("{listener}=127.0.0.1:0"));
        }
        let log = File::create(log_path(&state))?;
        command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().map_err(|error| Error::file(&binary, &error))?;
        let mut proxy = Self { child, admin: SocketAddr::from(([127, 0, 0, 1], 0)), state };
        proxy.admin = proxy.wait_for_admin(&admin_file)?;
        proxy.wait_until_ready()?;
        Ok(proxy)
    }

    fn wait_for_admin(&mut self, file: &Path) -> Result<SocketAddr, Error> {
        self.wait("open its admin socket", || fs::read_to_string(file).ok()?.trim().parse().ok())
    }

    fn wait_until_ready(&mut self) -> Result<(), Error> {
        let admin = self.admin;
        let is_ready =
            || http::send(admin, &Message::request("GET", "/ready")).is_ok_and(|response| response.status() == 200);
        self.wait("get ready", || is_ready().then_some(()))
    }

    fn wait<T>(&mut self, what: &str, ready: impl Fn() -> Option<T>) -> Result<T, Error> {
        for _ in 0..MAX_START_POLLS {
            if let Some(value) = ready() {
                return Ok(value);
            }
            if let Some(status) = self.child.try_wait()? {
                return Err(Error::new(format!("weir-proxy ended with {status}:\n{}", self.log())));
            }
            thread::sleep(POLL);
        }
        Err(Error::new(format!("weir-proxy did not {what}; its log:\n{}", self.log())))
    }

    /// Returns the path of the executable.
    pub fn binary() -> Result<PathBuf, Error> {
        find_binary()
    }

    /// Blocks until the process exits.
    pub fn wait_for_end(&mut self) -> Result<(), Error> {
        self.child.wait()?;
        Ok(())
    }

    /// Returns the address of the admin pages.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Fetches an admin page.
    pub fn page(&self, path: &str) -> Result<Message, Error> {
        Ok(http::send(self.admin, &Message::request("GET", path))?)
    }

    /// Returns the bound address of a listener.
    pub fn listener(&self, name: &str) -> Result<SocketAddr, Error> {
        let page = self.page("/listeners")?.text();
        let listeners: Value = serde_json::from_str(&page).map_err(|error| Error::new(format!("{error}: {page}")))?;
        let named = |listener: &&Value| listener.get("name").and_then(Value::as_str) == Some(name);
        let listener = listeners.as_array().and_then(|listeners| listeners.iter().find(named));
        let address = listener.and_then(|listener| listener.get("address")?.as_str()?.parse().ok());
        address.ok_or_else(|| Error::new(format!("there is no listener {name}; there are {page}")))
    }

    /// Returns the log so far.
    pub fn log(&self) -> String {
        fs::read(log_path(&self.state)).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// Blocks until `happened` returns true.
    ///
    /// # Errors
    /// Returns the log after 30 seconds.
    pub fn wait_until(&self, what: &str, happened: impl Fn(&Self) -> bool) -> Result<(), Error> {
        for _ in 0..MAX_CHANGE_POLLS {
            if happened(self) {
                return Ok(());
            }
            thread::sleep(POLL);
        }
        Err(Error::new(format!("waited in vain until {what}; the log of weir-proxy:\n{}", self.log())))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn log_path(state: &TempDir) -> PathBuf {
    state.path().join("proxy.log")
}

/// Searches `WEIR_PROXY`, the folders above the running test (which is in `target/debug/deps`), and `PATH`.
fn find_binary() -> Result<PathBuf, Error> {
    if let Some(path) = std::env::var_os("WEIR_PROXY") {
        return Ok(path.into());
    }
    let name = format!("weir-proxy{}", std::env::consts::EXE_SUFFIX);
    let test = std::env::current_exe()?;
    let above = test.ancestors().skip(1).take(3).map(Path::to_path_buf);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = above.chain(std::env::split_paths(&path)).map(|folder| folder.join(&name));
    let found = candidates.into_iter().find(|candidate| candidate.is_file());
    found.ok_or_else(|| {
        Error::new("weir-proxy was not found: set WEIR_PROXY to its path, or build it with `cargo build -p weir-proxy`")
    })
}
