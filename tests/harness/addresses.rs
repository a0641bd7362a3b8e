//! Loopback addresses for servers that cannot listen on port 0, and for endpoints on which no server listens.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// The first port that [`own_address`] returns. It is below the kernel's range of ephemeral ports.
const FIRST_PORT: u16 = 10_000;

/// Returns a loopback address that no other process uses: the IP address is derived from the process id, and each call
/// returns another port.
///
/// A free port of `127.0.0.1` is not safe: the kernel may assign it to another test's listener or connection as soon
/// as it is released.
pub fn own_address() -> SocketAddr {
    static PORTS: AtomicU16 = AtomicU16::new(FIRST_PORT);
    let [_, b, c, d] = std::process::id().to_be_bytes(); // At most 22 bits on Linux.
    let ip = Ipv4Addr::new(127, 64 | b, c, d);
    (ip, PORTS.fetch_add(1, Ordering::Relaxed)).into()
}

/// Returns two addresses like that of [`own_address`], with one port.
pub fn own_addresses() -> [SocketAddr; 2] {
    let one = own_address();
    let [_, b, c, d] = std::process::id().to_be_bytes();
    [one, (Ipv4Addr::new(127, 128 | b, c, d), one.port()).into()]
}

/// Returns an address of `127.0.0.1` whose port is free at this moment, for servers that listen on no other IP address.
///
/// Another process may take the port before the server listens.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address")
}
