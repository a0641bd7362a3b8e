//! One running `weir-proxy agent`, which serves a workload's certificates to an Envoy by SDS.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::artifact::binary;
use crate::control::ControlPlane;
use crate::wait::wait_until;

/// A running agent. Dropping it kills the process.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    folder: TempDir,
}

impl Agent {
    /// Starts an agent for the workload `namespace/account`, and waits until its SDS socket exists.
    pub async fn start(control: &ControlPlane, workload: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("agent-test-").tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("token"), control.join_token(workload).await).expect("a temporary folder can be written");
        let mut command = Command::new(binary());
        command.args(["agent", "--xds", &format!("https://{}", control.xds_mtls()), "--node", workload]);
        command
            .arg("--join-token-path")
            .arg(path("token"))
            .arg("--socket")
            .arg(path("sds"))
            .arg("--cache")
            .arg(path("cache"));
        let log = File::create(path("agent.log")).expect("a temporary folder can be written");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let mut agent = Self { child: command.spawn().expect("weir-proxy starts"), folder };
        wait_until("the socket of an agent", async || {
            let ended = agent.child.try_wait().expect("a child has a status");
            assert!(ended.is_none(), "the agent has ended with {ended:?}:\n{}", agent.log());
            agent.socket().exists().then_some(())
        })
        .await;
        agent
    }

    /// Returns the path of the SDS socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("sds")
    }

    /// Returns everything that the agent has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("agent.log")).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            crate::wait::print_error(&format!("the log of the agent:\n{}", self.log()));
        }
        self.child.start_kill().ok();
    }
}
