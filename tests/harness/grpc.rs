//! Servers and proxyless xDS clients of grpc-js. `cargo xtask test` installs it.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::artifact::target_folder;
use crate::wait::with_deadline;

/// A server that responds with its port. Dropping it kills the process.
#[derive(Debug)]
pub struct GrpcServer {
    _child: Child,
    address: SocketAddr,
}

/// A proxyless client that follows a control plane. Dropping it kills the process.
#[derive(Debug)]
pub struct GrpcClient {
    _child: Child,
    _folder: TempDir,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl GrpcServer {
    /// Starts a server, and waits until it serves.
    pub async fn start() -> Self {
        let mut child = node("grpc_server.cjs").spawn().expect("node starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = with_deadline("the port of a gRPC server", lines.next_line()).await.expect("it can be read");
        let port: u16 = line.and_then(|line| line.parse().ok()).expect("the first line is the port");
        Self { _child: child, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// Returns its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl GrpcClient {
    /// Starts a client that resolves `target` through the control plane.
    pub fn start(control_plane: SocketAddr, target: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("grpc-test-").tempdir().expect("a temporary folder");
        let bootstrap = json!({
            "xds_servers": [{
                "server_uri": control_plane.to_string(),
                "channel_creds": [{"type": "insecure"}],
                "server_features": ["xds_v3"],
            }],
            "node": {"id": "client", "locality": {}},
        });
        let path = folder.path().join("bootstrap.json");
        fs::write(&path, bootstrap.to_string()).expect("a temporary folder can be written");
        let mut command = node("grpc_client.cjs");
        let mut child = command.arg(target).env("GRPC_XDS_BOOTSTRAP", path).spawn().expect("node starts");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { _child: child, _folder: folder, input, output }
    }

    /// Makes `count` calls, one after another. Returns the number of responses by the server's port, and the number of
    /// failures by error text.
    pub async fn call(&mut self, count: usize) -> BTreeMap<String, usize> {
        self.input.write_all(format!("{count}\n").as_bytes()).await.expect("the client reads");
        let line = with_deadline("calls of a gRPC client", self.output.next_line()).await.expect("it can be read");
        serde_json::from_str(&line.expect("the client runs")).expect("it writes JSON")
    }
}

/// Returns the folder in which `cargo xtask tools` installs npm packages.
pub fn node_modules() -> PathBuf {
    target_folder().join("bench/node/node_modules")
}

fn node(script: &str) -> Command {
    let modules = node_modules();
    assert!(modules.join("@grpc/grpc-js-xds").is_dir(), "there is no grpc-js: `cargo xtask test` installs it");
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(script);
    let mut command = Command::new("node");
    command.arg(path).env("NODE_PATH", modules).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    command
}
