//! One running `weir-proxy agent`: it gives an Envoy its identity.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Stdio;

use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::artefact::binary;
use crate::control::ControlPlane;
use crate::wait::until;

/// A running agent. It is killed when this is dropped.
#[derive(Debug)]
pub struct Agent {
    child: Child,
    folder: TempDir,
}

impl Agent {
    /// Starts one for a workload, `namespace/account`, and waits until it serves.
    pub async fn start(control: &ControlPlane, workload: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("agent-test-").tempdir().expect("a temporary folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("token"), control.join_token(workload).await).expect("a temporary folder can be written");
        let mut command = Command::new(binary());
        command.args(["agent", "--xds", &format!("https://{}", control.mutual()), "--node", workload]);
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
        until("the socket of an agent", async || {
            let ended = agent.child.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "the agent has ended with {ended:?}:\n{}", agent.log());
            agent.socket().exists().then_some(())
        })
        .await;
        agent
    }

    /// The socket that the identity is given on.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("sds")
    }

    /// Everything that it has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("agent.log")).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            crate::wait::complain(&format!("the log of the agent:\n{}", self.log()));
        }
        self.child.start_kill().ok();
    }
}
