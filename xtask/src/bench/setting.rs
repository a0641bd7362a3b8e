//! Where a bench takes place: its folder, its origin, its free addresses.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use weir_sdk::testing::http::{self, Message};

use super::process::Running;
use crate::tools;
use crate::workspace::{Metadata, root};

/// The proxy of ours that is looked at.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    /// The program.
    pub(crate) program: PathBuf,
    /// The folder of its modules.
    pub(crate) plugins: PathBuf,
}

/// What all runs share. The origin stops when this is dropped.
pub(super) struct Setting {
    folder: PathBuf,
    proxy: Proxy,
    origin: Running,
}

impl Setting {
    /// Makes the folder and starts the origin.
    pub(super) fn prepare(proxy: Proxy) -> Result<Self> {
        let target = Metadata::read()?.target()?;
        let folder = target.join("bench");
        let place = folder.join("origin");
        make_empty(&place)?;
        let address = free_address()?;
        let values = [("FOLDER", place.display().to_string()), ("ORIGIN", address.to_string())];
        let text = fs::read_to_string(root()?.join("xtask/bench/origin.conf"))?;
        let config = place.join("nginx.conf");
        fs::write(&config, fill(&text, &values))?;
        let mut command = Command::new(tools::path_of("nginx").context("nginx")?);
        command.arg("-c").arg(config).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(place.join("err.log"))?);
        let origin = Running::start(command, address, &place)?;
        Ok(Self { folder, proxy, origin })
    }

    /// How many requests the origin has answered so far.
    pub(super) fn served(&self) -> Result<u64> {
        let answer =
            http::send(self.origin.address(), &Message::request("GET", "/served").with_header("host", "bench"))?;
        let text = answer.text();
        // "server accepts handled requests", and below it three numbers.
        let third = || text.split_once("requests")?.1.split_whitespace().nth(2)?.parse().ok();
        third().with_context(|| format!("the origin does not count its requests: {text}"))
    }

    /// `target/bench`.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The proxy of ours.
    pub(super) fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// A folder below ours, emptied.
    pub(super) fn empty_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name.to_lowercase());
        make_empty(&folder)?;
        Ok(folder)
    }

    /// An address of this machine that nobody listens on.
    #[expect(clippy::unused_self, reason = "addresses are part of the setting")]
    pub(super) fn free_address(&self) -> Result<SocketAddr> {
        free_address()
    }

    /// What configurations are told about the origin.
    pub(super) fn values(&self) -> Vec<(&'static str, String)> {
        let address = self.origin.address();
        vec![
            ("ORIGIN", address.to_string()),
            ("ORIGIN_IP", address.ip().to_string()),
            ("ORIGIN_PORT", address.port().to_string()),
        ]
    }
}

/// Replaces each `{NAME}`.
pub(super) fn fill(text: &str, values: &[(&'static str, String)]) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
}

/// On an IP address of loopback that is this process's alone: whoever is told to listen there finds the port free still.
fn free_address() -> Result<SocketAddr> {
    let [_, high, middle, low] = std::process::id().to_be_bytes(); // Below 2 to the 22nd on Linux.
    let own = Ipv4Addr::new(127, 128 | high, middle, low);
    Ok(TcpListener::bind((own, 0))?.local_addr()?)
}

fn make_empty(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).ok(); // What is not there need not be removed.
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())
}
