//! Addresses for those who cannot listen on port 0, and for nobody.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// The first of this process's ports: below those that the kernel gives away.
const FIRST_PORT: u16 = 10_000;

/// An address of loopback that nobody else listens at, now and later: an IP address of this test's process, and another
/// port each time.
///
/// A free port of `127.0.0.1` would be the kernel's to give away again as soon as it is let go, to another test's
/// listener or for a connection.
pub fn own_address() -> SocketAddr {
    static PORTS: AtomicU16 = AtomicU16::new(FIRST_PORT);
    let [_, b, c, d] = std::process::id().to_be_bytes(); // At most 22 bits on Linux.
    let ip = Ipv4Addr::new(127, 64 | b, c, d);
    (ip, PORTS.fetch_add(1, Ordering::Relaxed)).into()
}

/// A port of `127.0.0.1` that is free at this moment, for what listens nowhere else.
pub fn free_address() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address")
}
