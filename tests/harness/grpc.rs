//! gRPC servers and clients of somebody else (grpc-js), the clients without a proxy. `cargo xtask test` installs them.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::artefact::target_folder;
use crate::wait::within;

/// A server that says which one it is. It is killed when this is dropped.
#[derive(Debug)]
pub struct GrpcServer {
    _child: Child,
    address: SocketAddr,
}

/// A client that follows a control plane. It is killed when this is dropped.
#[derive(Debug)]
pub struct GrpcClient {
    _child: Child,
    _folder: TempDir,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl GrpcServer {
    /// Starts one, and waits until it serves.
    pub async fn start() -> Self {
        let mut child = node("grpc_server.cjs").spawn().expect("node starts");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let line = within("the port of a gRPC server", lines.next_line()).await.expect("it can be read");
        let port: u16 = line.and_then(|line| line.parse().ok()).expect("it says its port");
        Self { _child: child, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl GrpcClient {
    /// Starts one that asks this control plane where `target` is.
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

    /// Calls so often; how often each server has answered, by its port, and what errors there were.
    pub async fn call(&mut self, count: usize) -> BTreeMap<String, usize> {
        self.input.write_all(format!("{count}\n").as_bytes()).await.expect("the client reads");
        let line = within("calls of a gRPC client", self.output.next_line()).await.expect("it can be read");
        serde_json::from_str(&line.expect("the client runs")).expect("it writes JSON")
    }
}

/// Where `cargo xtask tools` puts packages of npm.
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
