//! Addresses whose packets are dropped, like those of a host that has vanished. Needs iptables.

use std::net::SocketAddr;
use std::process::Command;

/// Drops the packets from an address until it is dropped.
#[derive(Debug)]
pub struct Silenced(SocketAddr);

impl Silenced {
    /// Drops the packets from an IPv4 address and port from now on.
    pub fn new(address: SocketAddr) -> Self {
        Self::filter(address, "-A");
        Self(address)
    }

    fn filter(address: SocketAddr, action: &str) {
        let (host, port) = (address.ip().to_string(), address.port().to_string());
        let mut command = Command::new("iptables");
        command.args(["-w", action, "INPUT", "-p", "tcp", "-s", &host, "--sport", &port, "-j", "DROP"]);
        let status = command.status().expect("iptables runs: `cargo xtask test` installs it");
        assert!(status.success(), "iptables: {status}");
    }
}

impl Drop for Silenced {
    fn drop(&mut self) {
        Self::filter(self.0, "-D");
    }
}
