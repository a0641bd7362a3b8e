//! The environment of a bench: its folder, its origin, its free addresses.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use weir_sdk::testing::http::{self, Message};

use super::certificates::Certificates;
use super::process::BenchProcess;
use super::transport::Transport;
use super::websocket_origin;
use crate::tools;
use crate::workspace::{Metadata, root};

/// The build of Weir that is measured.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    /// The executable.
    pub(crate) program: PathBuf,
    /// The folder of its modules.
    pub(crate) plugins: PathBuf,
}

/// State shared by all runs. Dropping it stops the origin.
pub(super) struct BenchEnv {
    folder: PathBuf,
    proxy: Proxy,
    origin: BenchProcess,
    addresses: OriginAddresses,
    certificates: Certificates,
}

/// The addresses of the origin by protocol, beside the one of plain HTTP/1.1.
struct OriginAddresses {
    tls: SocketAddr,
    mutual_tls: SocketAddr,
    http2: SocketAddr,
    websocket: SocketAddr,
}

impl BenchEnv {
    /// Starts the origin; the folder is `target/bench`.
    pub(super) fn prepare(proxy: Proxy) -> Result<Self> {
        Self::prepare_in(proxy, Metadata::read()?.target()?.join("bench"))
    }

    /// Creates a folder and starts the origin.
    pub(super) fn prepare_in(proxy: Proxy, folder: PathBuf) -> Result<Self> {
        let place = folder.join("origin");
        make_empty(&place)?;
        let address = free_address()?;
        let addresses = OriginAddresses {
            tls: free_address()?,
            mutual_tls: free_address()?,
            http2: free_address()?,
            websocket: free_address()?,
        };
        let certificates = Certificates::make(&folder.join("certificates"))?;
        let mut values = vec![
            ("FOLDER", place.display().to_string()),
            ("ORIGIN", address.to_string()),
            ("ORIGIN_TLS", addresses.tls.to_string()),
            ("ORIGIN_MUTUAL_TLS", addresses.mutual_tls.to_string()),
            ("ORIGIN_HTTP2", addresses.http2.to_string()),
            ("KIB", "0123456789abcdef".repeat(64)),
        ];
        values.extend(certificates.values());
        let text = fs::read_to_string(root()?.join("xtask/bench/origin.conf"))?;
        let config = place.join("nginx.conf");
        fs::write(&config, fill(&text, &values))?;
        let mut command = Command::new(tools::path_of("nginx").context("nginx")?);
        command.arg("-c").arg(config).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(File::create(place.join("err.log"))?);
        let origin = BenchProcess::start(command, address, &place)?;
        websocket_origin::start(addresses.websocket)?;
        Ok(Self { folder, proxy, origin, addresses, certificates })
    }

    /// Returns the number of requests that the origin has answered so far.
    pub(super) fn served(&self) -> Result<u64> {
        let answer =
            http::send(self.origin.address(), &Message::request("GET", "/served").with_header("host", "bench"))?;
        let text = answer.text();
        // The page has the line "server accepts handled requests" and three numbers below it.
        let third = || text.split_once("requests")?.1.split_whitespace().nth(2)?.parse().ok();
        third().with_context(|| format!("the origin does not count its requests: {text}"))
    }

    /// Returns its folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the build of Weir.
    pub(super) fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Creates an empty folder below `target/bench`.
    pub(super) fn empty_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name.to_lowercase());
        make_empty(&folder)?;
        Ok(folder)
    }

    /// Returns an address of this machine without a listener.
    #[expect(clippy::unused_self, reason = "addresses are part of the env")]
    pub(super) fn free_address(&self) -> Result<SocketAddr> {
        free_address()
    }

    /// Returns the certificates.
    pub(super) fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Returns the values about the origin for configurations.
    pub(super) fn values(&self, transport: Transport) -> Vec<(&'static str, String)> {
        let address = match transport {
            Transport::Plain => self.origin.address(),
            Transport::UpstreamTls => self.addresses.tls,
            Transport::UpstreamMutualTls => self.addresses.mutual_tls,
            Transport::Http2 | Transport::Grpc => self.addresses.http2,
            Transport::WebSocket => self.addresses.websocket,
        };
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

/// Returns an address on a loopback IP of this process alone, so that the port is still free when a proxy binds it.
fn free_address() -> Result<SocketAddr> {
    let [_, high, middle, low] = std::process::id().to_be_bytes(); // Below 2 to the 22nd on Linux.
    let own = Ipv4Addr::new(127, 128 | high, middle, low);
    Ok(TcpListener::bind((own, 0))?.local_addr()?)
}

fn make_empty(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).ok(); // What is not there need not be removed.
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())
}
