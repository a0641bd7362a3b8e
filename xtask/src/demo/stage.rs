//! The running parts of the demo: an origin, a folder of resources, a proxy.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use weir_sdk::testing::http::Message;
use weir_sdk::testing::{Origin, Proxy};

use crate::progress::{Clock, say};
use crate::workspace::{Metadata, root};

const LISTENER: &str = "default/edge/http";

/// Where the origin of the example is, in its `services.yaml`.
const EXAMPLE_ORIGIN: &str = "127.0.0.1:9000";

/// Everything that runs.
pub(crate) struct Stage {
    proxy: Proxy,
    address: SocketAddr,
    folder: PathBuf,
    /// Kept because it stops when it is dropped.
    _origin: Origin,
}

impl Stage {
    /// Starts everything.
    pub(crate) fn set() -> Result<Self> {
        let origin = Origin::answering(answer)?;
        say(&format!("an origin listens on {}", origin.address()));
        let folder = Metadata::read()?.target()?.join("demo");
        copy_example(&folder, origin.address())?;
        say(&format!("the resources are in {}", shown(&folder)));

        let clock = Clock::start();
        let proxy = Proxy::start(&folder, &[LISTENER])?;
        let address = proxy.listener(LISTENER)?;
        say(&format!("weir-proxy serves on {address} after {}", clock.elapsed()));
        Ok(Self { proxy, address, folder, _origin: origin })
    }

    /// Where the proxy listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The proxy.
    pub(crate) fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// The folder of resources, as a command would name it.
    pub(crate) fn folder(&self) -> String {
        shown(&self.folder)
    }

    /// The proxy's executable, as a command would name it.
    pub(crate) fn binary() -> Result<String> {
        Ok(shown(&Proxy::binary()?))
    }

    /// Goes on until the proxy ends.
    pub(crate) fn serve(&mut self) -> Result<()> {
        Ok(self.proxy.wait_for_end()?)
    }
}

/// Says who it thinks has come, so that the filter's work can be seen.
fn answer(request: &Message) -> Message {
    let consumer = request.header("x-auth-consumer").unwrap_or_else(|| "somebody".to_owned());
    Message::response(200, &format!("hello {consumer}, you asked for {}\n", request.path()))
}

fn copy_example(folder: &Path, origin: SocketAddr) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for entry in fs::read_dir(root()?.join("examples/quickstart"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "yaml") {
            let text = fs::read_to_string(&path)?.replace(EXAMPLE_ORIGIN, &origin.to_string());
            let name = path.file_name().context("a file has a name")?;
            fs::write(folder.join(name), text)?;
        }
    }
    Ok(())
}

/// Relative to where the person stands, if it is below.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}
