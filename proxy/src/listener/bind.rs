//! Binds the sockets of one address: first a probe for other users of the address, then one socket for each worker. No
//! connection is accepted before [`BoundSockets::listen`].

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::LISTEN_BACKLOG;

/// The sockets of one address, one for each worker.
pub(crate) struct BoundSockets {
    address: SocketAddr,
    listening: AtomicBool,
    retired: AtomicBool,
    /// The sockets by worker, until the worker takes its own.
    sockets: Mutex<Vec<Option<Socket>>>,
}

/// The reason why an address cannot be bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BindError {
    /// The fault.
    pub(crate) reason: String,
    /// The remedy. May be empty.
    pub(crate) hint: String,
}

/// The check that no other process uses the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PortProbe {
    /// Checks the port before binding.
    Check,
    /// Skips the check, because sockets of this process would make it fail.
    Skip,
}

impl BoundSockets {
    /// Binds one socket for each worker. Port 0 binds a free port, the same for all.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub(crate) fn bind(address: SocketAddr, workers: usize, probe: PortProbe) -> Result<Self, BindError> {
        Self::try_bind(address, workers, probe).map_err(|error| BindError::new(address, &error))
    }

    fn try_bind(mut address: SocketAddr, workers: usize, probe: PortProbe) -> io::Result<Self> {
        if probe == PortProbe::Check && address.port() != 0 {
            // With SO_REUSEPORT a second process of the same user would silently get half of the connections.
            let probe = socket(address)?;
            probe.bind(&address.into())?;
            probe.listen(1)?;
        }
        let mut sockets = Vec::with_capacity(workers);
        for _ in 0..workers {
            let socket = socket(address)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            if let Some(bound) = socket.local_addr()?.as_socket() {
                address = bound;
            }
            sockets.push(Some(socket));
        }
        let (listening, retired) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { address, listening, retired, sockets: Mutex::new(sockets) })
    }

    /// Returns the bound address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts listening: the kernel completes connections, and workers accept them from the queue. Later calls do
    /// nothing.
    ///
    /// # Errors
    /// The kernel does not let a socket listen.
    pub(crate) fn listen(&self) -> Result<(), BindError> {
        if self.listening.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        for socket in self.sockets.lock().iter().flatten() {
            socket.listen(LISTEN_BACKLOG).map_err(|error| BindError::new(self.address, &error))?;
        }
        Ok(())
    }

    /// Takes one worker's socket; `None` after the first call.
    pub(crate) fn take(&self, worker: usize) -> Option<TcpListener> {
        self.sockets.lock().get_mut(worker)?.take().map(TcpListener::from)
    }

    /// Marks the sockets as being closed by their workers. A later update must not use them again.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// Returns true after [`BoundSockets::retire`].
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Returns true if another socket for `address` could be bound only by sharing the port with these.
    pub(crate) fn overlaps(&self, address: SocketAddr) -> bool {
        let (ours, other) = (self.address.ip(), address.ip());
        self.address.port() == address.port()
            && ours.is_ipv4() == other.is_ipv4()
            && (ours == other || ours.is_unspecified() || other.is_unspecified())
    }
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?; // Lingering connections of an earlier process must not block the address.
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?; // `[::]` and `0.0.0.0` are two listeners, as in Envoy.
    }
    Ok(socket)
}

impl BindError {
    fn new(address: SocketAddr, error: &io::Error) -> Self {
        let port = address.port();
        let (reason, hint) = match error.kind() {
            io::ErrorKind::AddrInUse => (
                format!("{address} is in use by another process"),
                format!("`ss -ltnp 'sport = :{port}'` shows which; stop it or choose another port"),
            ),
            io::ErrorKind::PermissionDenied => (
                format!("this process may not listen on port {port}"),
                "choose a port above 1023, or give the process the capability CAP_NET_BIND_SERVICE".to_owned(),
            ),
            io::ErrorKind::AddrNotAvailable => (
                format!("no interface of this machine has the address {}", address.ip()),
                "`0.0.0.0` is every address of this machine".to_owned(),
            ),
            _ => (format!("{address} cannot be bound: {error}"), String::new()),
        };
        Self { reason, hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn port_zero_binds_same_free_port_for_all_workers() {
        let bound = BoundSockets::bind(LOOPBACK, 3, PortProbe::Check).unwrap_or_else(|error| panic!("{error:?}"));
        assert_ne!(bound.address().port(), 0);
        bound.listen().unwrap();
        for worker in 0..3 {
            assert_eq!(bound.take(worker).unwrap().local_addr().unwrap(), bound.address());
            assert!(bound.take(worker).is_none());
        }
    }

    #[test]
    fn port_in_use_is_rejected_even_if_shareable() {
        let plain = TcpListener::bind(LOOPBACK).unwrap();
        let sharing = BoundSockets::bind(LOOPBACK, 1, PortProbe::Check).unwrap_or_else(|error| panic!("{error:?}"));
        sharing.listen().unwrap();
        for address in [plain.local_addr().unwrap(), sharing.address()] {
            let Err(error) = BoundSockets::bind(address, 1, PortProbe::Check) else { panic!("{address} is in use") };
            assert_eq!(error.reason, format!("{address} is in use by another process"));
        }
    }

    #[test]
    fn connection_is_refused_before_listen() {
        let bound = BoundSockets::bind(LOOPBACK, 1, PortProbe::Check).unwrap_or_else(|error| panic!("{error:?}"));
        let refused = std::net::TcpStream::connect(bound.address()).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        bound.listen().unwrap();
        std::net::TcpStream::connect(bound.address()).unwrap();
    }

    #[test]
    fn addresses_overlap_if_one_includes_the_other() {
        let bound = |address: &str| BoundSockets {
            address: address.parse().unwrap(),
            listening: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            sockets: Mutex::default(),
        };
        for (ours, other, expected) in [
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("[::]:80", "0.0.0.0:80", false),
            ("[::]:80", "[::1]:80", true),
        ] {
            assert_eq!(bound(ours).overlaps(other.parse().unwrap()), expected, "{ours} {other}");
        }
    }
}
