//! The running parts of the demo: an origin, a folder of resources, a proxy.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use weir_sdk::testing::http::Message;
use weir_sdk::testing::{Origin, Proxy};

use crate::progress::{Stopwatch, print};
use crate::workspace::{Metadata, root};

const LISTENER: &str = "default/edge/http";

/// The two versions of the example's service, with their addresses in its `services.yaml`.
const EXAMPLE_ORIGINS: [(&str, &str); 2] = [("v1", "127.0.0.1:9000"), ("v2", "127.0.0.1:9001")];

/// The running proxy and origins.
pub(crate) struct DemoEnv {
    proxy: Proxy,
    address: SocketAddr,
    folder: PathBuf,
    /// Dropping an origin stops it.
    _origins: Vec<Origin>,
}

impl DemoEnv {
    /// Starts the origins and the proxy.
    pub(crate) fn start() -> Result<Self> {
        let mut origins = Vec::new();
        let mut addresses = Vec::new();
        for (version, written) in EXAMPLE_ORIGINS {
            let origin = Origin::answering(move |request| answer(version, request))?;
            print(&format!("an origin, version {version}, listens on {}", origin.address()));
            addresses.push((written, origin.address()));
            origins.push(origin);
        }
        let folder = Metadata::read()?.target()?.join("demo");
        copy_example(&folder, &addresses)?;
        print(&format!("the resources are in {}", shown(&folder)));

        let clock = Stopwatch::start();
        let proxy = Proxy::start(&folder, &[LISTENER])?;
        let address = proxy.listener(LISTENER)?;
        print(&format!("weir-proxy serves on {address} after {}", clock.elapsed()));
        Ok(Self { proxy, address, folder, _origins: origins })
    }

    /// Returns the address on which the proxy listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the proxy.
    pub(crate) fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Returns the folder of resources, as a command would name it.
    pub(crate) fn folder(&self) -> String {
        shown(&self.folder)
    }

    /// Returns the proxy's executable, as a command would name it.
    pub(crate) fn binary() -> Result<String> {
        Ok(shown(&Proxy::binary()?))
    }

    /// Blocks until the proxy exits.
    pub(crate) fn serve(&mut self) -> Result<()> {
        Ok(self.proxy.wait_for_end()?)
    }
}

/// Returns a text with the authenticated consumer and the version, so that the effect of the filters is visible.
fn answer(version: &str, request: &Message) -> Message {
    let consumer = request.header("x-auth-consumer").unwrap_or_else(|| "somebody".to_owned());
    Message::response(200, &format!("hello {consumer} from {version}, you asked for {}\n", request.path()))
}

fn copy_example(folder: &Path, origins: &[(&str, SocketAddr)]) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for entry in fs::read_dir(root()?.join("examples/quickstart"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|end| end == "yaml") {
            let text = fs::read_to_string(&path)?;
            let text =
                origins.iter().fold(text, |text, (written, address)| text.replace(written, &address.to_string()));
            let name = path.file_name().context("a file has a name")?;
            fs::write(folder.join(name), text)?;
        }
    }
    Ok(())
}

/// Returns the path relative to the current folder, if it is below.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}
