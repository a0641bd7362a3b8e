//! A third-party control plane: a small xDS server in Python (`tests/peers/xds_server.py`), written from Envoy's
//! documentation without code of this repository. `cargo xtask test` installs what it needs.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::artifact::target_folder;
use crate::wait::{spawn_background, wait_until, with_deadline};

/// One running server. Dropping it kills the process.
#[derive(Debug)]
pub struct ThirdPartyXdsServer {
    child: Child,
    commands: ChildStdin,
    port: u16,
    requests: Arc<Mutex<Vec<Value>>>,
}

impl ThirdPartyXdsServer {
    /// Starts a server without resources.
    pub async fn start() -> Self {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers/xds_server.py");
        let python = target_folder().join("bench/venv/bin/python");
        let mut command = Command::new(&python);
        command.arg(script).kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped());
        let started = command.spawn();
        let mut child = started.unwrap_or_else(|error| panic!("{}: {error}; run `cargo xtask test`", python.display()));
        let commands = child.stdin.take().expect("it has a standard input");
        let mut lines = BufReader::new(child.stdout.take().expect("it has a standard output"));
        let port = next(&mut lines).await.expect("the first line has the port")["port"].as_u64().expect("a port");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        spawn_background(async move {
            while let Some(request) = next(&mut lines).await {
                log.lock().push(request);
            }
        });
        Self { child, commands, port: u16::try_from(port).expect("a port"), requests }
    }

    /// Returns its port on `127.0.0.1`.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sends a command. `peers/xds_server.py` describes the commands.
    pub async fn command(&mut self, command: Value) {
        let line = format!("{command}\n");
        with_deadline("the server to read", self.commands.write_all(line.as_bytes())).await.expect("the server reads");
    }

    /// Returns every xDS request so far.
    pub fn requests(&self) -> Vec<Value> {
        self.requests.lock().clone()
    }

    /// Waits until the server has received a request that matches, and returns it.
    pub async fn wait_for(&self, what: &str, matches: impl Fn(&Value) -> bool) -> Value {
        wait_until(&format!("{what}; there were {:#?}", self.requests()), async || {
            self.requests.lock().iter().find(|request| matches(request)).cloned()
        })
        .await
    }

    /// Kills the server.
    pub async fn stop(mut self) {
        self.child.kill().await.expect("a child can be killed");
    }
}

async fn next(lines: &mut BufReader<ChildStdout>) -> Option<Value> {
    let mut line = String::new();
    lines.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
}
