//! Binding the sockets of one address: first a probe that tells whether somebody else has it, then one socket for each
//! worker. Nothing is accepted before [`Bound::listen`].

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::LISTEN_BACKLOG;

/// The sockets of one address, one for each worker.
pub(crate) struct Bound {
    address: SocketAddr,
    listening: AtomicBool,
    retired: AtomicBool,
    /// By worker, until the worker takes it.
    sockets: Mutex<Vec<Option<Socket>>>,
}

/// Why an address cannot be bound, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BindError {
    /// What is wrong, in words.
    pub(crate) reason: String,
    /// What to do about it.
    pub(crate) hint: String,
}

/// Whether to ask first if another process has the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probe {
    /// Ask.
    First,
    /// Sockets of our own are in the way of asking.
    Skip,
}

impl Bound {
    /// Binds one socket for each worker. Port 0 takes a free port, the same for all.
    ///
    /// # Errors
    /// Why not, for the person who wrote the address.
    pub(crate) fn bind(address: SocketAddr, workers: usize, probe: Probe) -> Result<Self, BindError> {
        Self::try_bind(address, workers, probe).map_err(|error| BindError::new(address, &error))
    }

    fn try_bind(mut address: SocketAddr, workers: usize, probe: Probe) -> io::Result<Self> {
        if probe == Probe::First && address.port() != 0 {
            // With SO_REUSEPORT a second process of the same user would get half of the connections, silently.
            let asked = socket(address)?;
            asked.bind(&address.into())?;
            asked.listen(1)?;
        }
        let mut sockets = Vec::with_capacity(workers);
        for _ in 0..workers {
            let socket = socket(address)?;
            socket.set_reuse_port(true)?;
            socket.bind(&address.into())?;
            if let Some(real) = socket.local_addr()?.as_socket() {
                address = real;
            }
            sockets.push(Some(socket));
        }
        let (listening, retired) = (AtomicBool::new(false), AtomicBool::new(false));
        Ok(Self { address, listening, retired, sockets: Mutex::new(sockets) })
    }

    /// The real address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the kernel completes connections; workers find them in the queue. Calls after the first do nothing.
    ///
    /// # Errors
    /// Why not, for the person who wrote the address.
    pub(crate) fn listen(&self) -> Result<(), BindError> {
        if self.listening.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        for socket in self.sockets.lock().iter().flatten() {
            socket.listen(LISTEN_BACKLOG).map_err(|error| BindError::new(self.address, &error))?;
        }
        Ok(())
    }

    /// One worker's socket; once.
    pub(crate) fn take(&self, worker: usize) -> Option<TcpListener> {
        self.sockets.lock().get_mut(worker)?.take().map(TcpListener::from)
    }

    /// Workers close their sockets; nobody else may use these any more.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    /// True once workers close their sockets.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// True when no other socket can be bound to `address` beside these without sharing.
    pub(crate) fn overlaps(&self, address: SocketAddr) -> bool {
        let (ours, other) = (self.address.ip(), address.ip());
        self.address.port() == address.port()
            && ours.is_ipv4() == other.is_ipv4()
            && (ours == other || ours.is_unspecified() || other.is_unspecified())
    }
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?; // Connections of an earlier process that linger must not keep us out.
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
    fn all_workers_get_the_same_free_port() {
        let bound = Bound::bind(LOOPBACK, 3, Probe::First).unwrap_or_else(|error| panic!("{error:?}"));
        assert_ne!(bound.address().port(), 0);
        bound.listen().unwrap();
        for worker in 0..3 {
            assert_eq!(bound.take(worker).unwrap().local_addr().unwrap(), bound.address());
            assert!(bound.take(worker).is_none());
        }
    }

    #[test]
    fn a_port_in_use_is_refused_even_when_its_owner_would_share_it() {
        let plain = TcpListener::bind(LOOPBACK).unwrap();
        let sharing = Bound::bind(LOOPBACK, 1, Probe::First).unwrap_or_else(|error| panic!("{error:?}"));
        sharing.listen().unwrap();
        for address in [plain.local_addr().unwrap(), sharing.address()] {
            let Err(error) = Bound::bind(address, 1, Probe::First) else { panic!("{address} is in use") };
            assert_eq!(error.reason, format!("{address} is in use by another process"));
        }
    }

    #[test]
    fn nothing_is_accepted_before_listen() {
        let bound = Bound::bind(LOOPBACK, 1, Probe::First).unwrap_or_else(|error| panic!("{error:?}"));
        let refused = std::net::TcpStream::connect(bound.address()).map(|_| ()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        bound.listen().unwrap();
        std::net::TcpStream::connect(bound.address()).unwrap();
    }

    #[test]
    fn addresses_overlap_when_one_holds_the_other() {
        let bound = |address: &str| Bound {
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
