//! Host names of URLs and addresses: the check that allows plaintext connections.

use std::net::IpAddr;

/// Returns true if `host` is `localhost` or a loopback address; an IPv6 address may stand in brackets, as in a URL.
///
/// Credentials and unauthenticated configuration are sent in plaintext only to such hosts. Names are compared as text
/// and never resolved, so a DNS answer cannot turn another host into a loopback host.
pub fn is_loopback_host(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_hosts_are_distinguished_from_similar_names() {
        for loopback in ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"] {
            assert!(is_loopback_host(loopback), "{loopback}");
        }
        for other in ["", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "0.0.0.0", "[::]"] {
            assert!(!is_loopback_host(other), "{other}");
        }
    }
}
