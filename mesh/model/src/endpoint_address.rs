//! Addresses of endpoints: IP sockets and Unix sockets.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::limits::MAX_UNIX_PATH_BYTES;

/// The address that an endpoint listens on.
///
/// The text is `127.0.0.1:9001`, `[::1]:9001` or `unix:/run/app.sock`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EndpointAddress {
    /// An IP address and port.
    Socket(SocketAddr),
    /// A Unix socket on the host of the proxy.
    Unix(UnixPath),
}

impl EndpointAddress {
    /// Returns the IP address and port; `None` for a Unix socket.
    pub const fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl From<SocketAddr> for EndpointAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Socket(address)
    }
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{path}"),
        }
    }
}

impl Serialize for EndpointAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The path of a Unix socket: absolute, at most [`MAX_UNIX_PATH_BYTES`], without control characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixPath(Arc<str>);

/// The reason why a text is no path of a Unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnixPathError {
    /// The fault of the text.
    pub reason: &'static str,
    /// The remedy.
    pub hint: &'static str,
}

impl UnixPath {
    /// Returns a path.
    ///
    /// # Errors
    /// The fault of the text.
    pub fn new(path: &str) -> Result<Self, UnixPathError> {
        let error = |reason, hint| Err(UnixPathError { reason, hint });
        if path.starts_with('@') {
            return error("names an abstract socket, which is not supported", "listen on a path, as in /run/app.sock");
        }
        if !path.starts_with('/') || path.ends_with('/') {
            return error("is not the absolute path of a socket", "write it as in /run/app.sock");
        }
        if path.len() > MAX_UNIX_PATH_BYTES {
            return error("is longer than the path of a socket can be", "at most 107 bytes");
        }
        if path.chars().any(char::is_control) {
            return error("has a control character", "write it as in /run/app.sock");
        }
        Ok(Self(Arc::from(path)))
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UnixPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_unix_sockets_are_absolute_and_short() {
        let longest = format!("/{}", "a".repeat(MAX_UNIX_PATH_BYTES - 1));
        for path in ["/run/app.sock", "/a b", &longest] {
            let address = EndpointAddress::Unix(UnixPath::new(path).unwrap());
            assert_eq!(address.to_string(), format!("unix:{path}"));
        }
        let too_long = format!("{longest}a");
        for path in ["", "/", "run/app.sock", "/run/", "@app", "/a\0b", "/a\nb", &too_long] {
            assert!(UnixPath::new(path).is_err(), "{path:?}");
        }
        let socket = EndpointAddress::from(SocketAddr::from(([127, 0, 0, 1], 80)));
        assert_eq!((socket.to_string().as_str(), socket.socket().unwrap().port()), ("127.0.0.1:80", 80));
    }
}
