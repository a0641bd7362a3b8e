//! A real etcd of one or several members: the store that control planes share. `cargo xtask test` installs it.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use http::Request;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::addresses::own_address;
use crate::body::{Body, empty};
use crate::client::{Client, read};
use crate::wait::until;

/// One running etcd. It is killed when this is dropped.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    folder: TempDir,
}

#[derive(Debug)]
struct Member {
    child: Child,
    clients: SocketAddr,
    peers: SocketAddr,
}

impl Etcd {
    /// Starts one with this many members, and waits until it serves.
    pub async fn start(members: usize) -> Self {
        let folder = tempfile::Builder::new().prefix("etcd-test-").tempdir().expect("a temporary folder");
        let addresses: Vec<_> = (0..members).map(|_| (own_address(), own_address())).collect();
        let cluster = cluster(&addresses);
        let member = |(index, (clients, peers)): (usize, &(SocketAddr, SocketAddr))| {
            let child = spawn(folder.path(), index, (*clients, *peers), &cluster);
            Member { child, clients: *clients, peers: *peers }
        };
        let members = addresses.iter().enumerate().map(member).collect();
        let mut etcd = Self { members, folder };
        for index in 0..etcd.members.len() {
            etcd.wait_for(index).await;
        }
        etcd
    }

    /// What a control plane is told to keep everything in.
    pub fn url(&self) -> String {
        let members: Vec<_> = self.members.iter().map(|member| member.clients.to_string()).collect();
        format!("etcd://{}/test", members.join(","))
    }

    /// Ends a member at once, as a crash would.
    pub async fn kill(&mut self, member: usize) {
        self.members[member].child.kill().await.expect("a child can be killed");
    }

    /// Stops a member where it is, or lets it go on: it takes connections and does not answer.
    pub async fn hang(&self, member: usize, hangs: bool) {
        let id = self.members[member].child.id().expect("it runs").to_string();
        let signal = if hangs { "-STOP" } else { "-CONT" };
        let status = Command::new("kill").args([signal, &id]).status().await.expect("kill runs");
        assert!(status.success(), "{status}");
    }

    /// Starts a member again where it was, and waits until it serves.
    pub async fn restart(&mut self, index: usize) {
        let addresses: Vec<_> = self.members.iter().map(|member| (member.clients, member.peers)).collect();
        self.members[index].child = spawn(self.folder.path(), index, addresses[index], &cluster(&addresses));
        self.wait_for(index).await;
    }

    async fn wait_for(&mut self, index: usize) {
        let log = self.folder.path().join(format!("{index}.log"));
        let Member { child, clients, .. } = &mut self.members[index];
        until("an etcd that serves", async || {
            let ended = child.try_wait().expect("a child can be asked");
            let said = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none(), "etcd has ended with {ended:?}:\n{}", said());
            tokio::net::TcpStream::connect(*clients).await.ok()?;
            // A connection from before it serves is never answered, or reset when it ends instead: its log tells.
            let asked = async { read(Client::http1(*clients).await.attempt(health()).await?).await };
            let answer = timeout(Duration::from_secs(1), asked).await.ok()?.ok()?;
            answer.text().contains("true").then_some(())
        })
        .await;
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.members.iter_mut().for_each(|member| drop(member.child.start_kill()));
    }
}

fn health() -> Request<Body> {
    Request::get("/health").body(empty()).expect("a valid path")
}

fn cluster(addresses: &[(SocketAddr, SocketAddr)]) -> String {
    let members = addresses.iter().enumerate().map(|(index, (_, peers))| format!("m{index}=http://{peers}"));
    members.collect::<Vec<_>>().join(",")
}

fn spawn(folder: &Path, index: usize, (clients, peers): (SocketAddr, SocketAddr), cluster: &str) -> Child {
    let log = File::options().create(true).append(true).open(folder.join(format!("{index}.log")));
    let log = log.expect("a temporary folder can be written");
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(folder.join(index.to_string())).args(["--name", &format!("m{index}")]);
    command.args(["--initial-cluster", cluster, "--logger", "zap"]);
    command.args(["--listen-client-urls", &format!("http://{clients}")]);
    command.args(["--advertise-client-urls", &format!("http://{clients}")]);
    command.args(["--listen-peer-urls", &format!("http://{peers}")]);
    command.args(["--initial-advertise-peer-urls", &format!("http://{peers}")]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
    command.spawn().expect("etcd starts: `cargo xtask test` installs it")
}
