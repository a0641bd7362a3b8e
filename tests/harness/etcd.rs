//! A real etcd of one or several members, the store that replicas of the control plane share. `cargo xtask test`
//! installs it.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use http::Request;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::addresses::own_address;
use crate::body::{Body, empty, full};
use crate::client::{Client, read};
use crate::wait::wait_until;

/// One running etcd cluster. Dropping it kills its members.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Member>,
    folder: TempDir,
    arguments: Vec<String>,
    partitioned: BTreeSet<usize>,
}

#[derive(Debug)]
struct Member {
    child: Child,
    addresses: MemberAddresses,
}

/// The addresses at which one member listens.
#[derive(Debug, Clone, Copy)]
struct MemberAddresses {
    clients: SocketAddr,
    peers: SocketAddr,
}

impl Etcd {
    /// Starts a cluster of `members` members, and waits until each serves.
    pub async fn start(members: usize) -> Self {
        Self::start_with(members, &[]).await
    }

    /// Starts a cluster as [`Etcd::start`] does, with more arguments for each member.
    pub async fn start_with(members: usize, arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("etcd-test-").tempdir().expect("a temporary folder");
        let addresses: Vec<_> =
            (0..members).map(|_| MemberAddresses { clients: own_address(), peers: own_address() }).collect();
        let cluster = cluster(&addresses);
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let mut members = Vec::new();
        for (index, addresses) in addresses.iter().enumerate() {
            let child = spawn(folder.path(), index, addresses, &cluster, &arguments);
            members.push(Member { child, addresses: *addresses });
        }
        let mut etcd = Self { members, folder, arguments, partitioned: BTreeSet::new() };
        for index in 0..etcd.members.len() {
            etcd.wait_for(index).await;
        }
        etcd
    }

    /// Returns the store URL for a control plane's `--store`.
    pub fn url(&self) -> String {
        let members: Vec<_> = self.members.iter().map(|member| member.addresses.clients.to_string()).collect();
        format!("etcd://{}/test", members.join(","))
    }

    /// Sends a request to the JSON gateway of the first member: `/v3/kv/deleterange`.
    pub async fn call(&self, path: &str, body: &Value) -> Value {
        let request = Request::post(path).header("content-type", "application/json");
        let request = request.body(full(body.to_string().into_bytes())).expect("a valid request");
        let response = Client::http1(self.members[0].addresses.clients).await.send(request).await;
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        serde_json::from_str(&response.text()).expect("JSON")
    }

    /// Kills a member, as a crash would.
    pub async fn kill(&mut self, member: usize) {
        self.members[member].child.kill().await.expect("a child can be killed");
    }

    /// Stops a member's process: it still accepts connections, and does not respond.
    pub async fn pause(&self, member: usize) {
        self.signal(member, "-STOP").await;
    }

    /// Continues a member that was paused.
    pub async fn resume(&self, member: usize) {
        self.signal(member, "-CONT").await;
    }

    /// Cuts a member off: packets to its addresses are lost. Needs root.
    pub fn partition(&mut self, member: usize) {
        if self.partitioned.insert(member) {
            self.filter(member, "-I");
        }
    }

    /// Ends [`Etcd::partition`].
    pub fn reconnect(&mut self, member: usize) {
        if self.partitioned.remove(&member) {
            self.filter(member, "-D");
        }
    }

    /// Adds or removes the packet filter of a member.
    fn filter(&self, member: usize, action: &str) {
        let MemberAddresses { clients, peers } = self.members[member].addresses;
        for address in [clients, peers] {
            let (host, port) = (address.ip().to_string(), address.port().to_string());
            for direction in [["-d", &host, "--dport", &port], ["-s", &host, "--sport", &port]] {
                let mut command = std::process::Command::new("iptables");
                command.args(["-w", action, "INPUT", "-p", "tcp"]).args(direction).args(["-j", "DROP"]);
                let status = command.status().expect("iptables runs");
                assert!(status.success(), "iptables: {status}");
            }
        }
    }

    async fn signal(&self, member: usize, signal: &str) {
        let id = self.members[member].child.id().expect("it runs").to_string();
        let status = Command::new("kill").args([signal, &id]).status().await.expect("kill runs");
        assert!(status.success(), "{status}");
    }

    /// Starts a member again at its addresses with its data, and waits until it serves.
    pub async fn restart(&mut self, index: usize) {
        let addresses: Vec<_> = self.members.iter().map(|member| member.addresses).collect();
        self.members[index].child =
            spawn(self.folder.path(), index, &addresses[index], &cluster(&addresses), &self.arguments);
        self.wait_for(index).await;
    }

    async fn wait_for(&mut self, index: usize) {
        let log = self.folder.path().join(format!("{index}.log"));
        let Member { child, addresses } = &mut self.members[index];
        wait_until("an etcd that serves", async || {
            let ended = child.try_wait().expect("a child has a status");
            let log = || std::fs::read_to_string(&log).unwrap_or_default();
            assert!(ended.is_none(), "etcd has ended with {ended:?}:\n{}", log());
            tokio::net::TcpStream::connect(addresses.clients).await.ok()?;
            // etcd accepts connections before it serves, and does not respond on them.
            let request = async { read(Client::http1(addresses.clients).await.try_send(health()).await?).await };
            let response = timeout(Duration::from_secs(1), request).await.ok()?.ok()?;
            response.text().contains("true").then_some(())
        })
        .await;
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.members.iter_mut().for_each(|member| drop(member.child.start_kill()));
        for member in std::mem::take(&mut self.partitioned) {
            self.filter(member, "-D");
        }
    }
}

fn health() -> Request<Body> {
    Request::get("/health").body(empty()).expect("a valid path")
}

/// Returns the value of `--initial-cluster`.
fn cluster(addresses: &[MemberAddresses]) -> String {
    let members = addresses.iter().enumerate().map(|(index, member)| format!("m{index}=http://{}", member.peers));
    members.collect::<Vec<_>>().join(",")
}

fn spawn(folder: &Path, index: usize, addresses: &MemberAddresses, cluster: &str, arguments: &[String]) -> Child {
    let MemberAddresses { clients, peers } = addresses;
    let log = File::options().create(true).append(true).open(folder.join(format!("{index}.log")));
    let log = log.expect("a temporary folder can be written");
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(folder.join(index.to_string())).args(["--name", &format!("m{index}")]);
    command.args(["--initial-cluster", cluster, "--logger", "zap"]);
    command.args(["--listen-client-urls", &format!("http://{clients}")]);
    command.args(["--advertise-client-urls", &format!("http://{clients}")]);
    command.args(["--listen-peer-urls", &format!("http://{peers}")]);
    command.args(["--initial-advertise-peer-urls", &format!("http://{peers}")]);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
    command.spawn().expect("etcd starts: `cargo xtask test` installs it")
}
