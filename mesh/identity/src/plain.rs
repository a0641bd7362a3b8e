//! Whom one may speak to in plain text.

use std::net::IpAddr;

/// Whether a host, as a URL names it, is the machine that this runs on.
pub fn is_this_machine(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_only_look_like_it_are_others() {
        for here in ["localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"] {
            assert!(is_this_machine(here), "{here}");
        }
        for other in ["", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "0.0.0.0", "[::]"] {
            assert!(!is_this_machine(other), "{other}");
        }
    }
}
