//! Who a workload is: a SPIFFE ID (SPIFFE-ID standard, sections 2 and 3), in parts.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;

/// Bytes of a SPIFFE ID (SPIFFE-ID, section 2.3).
const MAX_ID_BYTES: usize = 2_048;

/// Bytes of a trust domain (SPIFFE-ID, section 2.3).
const MAX_DOMAIN_BYTES: usize = 255;

/// Characters of a text that is none that are shown.
const MAX_SHOWN: usize = 200;

/// The namespace of identities: who trusts its roots believes what they sign of it, and of nothing else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct TrustDomain(Arc<str>);

/// A workload within its trust domain: the path of its SPIFFE ID, `/ns/shop/sa/reviews`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Workload(Arc<str>);

/// A workload of a trust domain: `spiffe://mesh.example/ns/shop/sa/reviews`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    /// Whose it is.
    pub domain: TrustDomain,
    /// Which it is.
    pub workload: Workload,
}

/// A text that is no identity, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoIdentity(String);

impl fmt::Display for NoIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for NoIdentity {}

/// A text that a stranger may have written, fit for a log: without line breaks, and not long.
fn shown(text: &str) -> String {
    let short: String = text.chars().take(MAX_SHOWN).collect();
    format!("{short:?}")
}

impl TrustDomain {
    /// A trust domain: 1 to 255 lower-case letters, digits, dots, hyphens and underscores.
    ///
    /// # Errors
    /// Why the text is none.
    pub fn new(text: &str) -> Result<Self, NoIdentity> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        if text.is_empty() || text.len() > MAX_DOMAIN_BYTES || !text.bytes().all(is_plain) {
            let reason = "is not a trust domain: write lower-case letters, digits, `.`, `-` and `_`";
            return Err(NoIdentity(format!("{} {reason}", shown(text))));
        }
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A workload of this domain.
    pub fn id(&self, workload: &Workload) -> SpiffeId {
        SpiffeId { domain: self.clone(), workload: workload.clone() }
    }
}

impl Workload {
    /// A workload by its path: segments of letters, digits, `.`, `-` and `_`, each after a `/`, none of them `.` or `..`.
    ///
    /// # Errors
    /// Why the text is none.
    pub fn new(path: &str) -> Result<Self, NoIdentity> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_segment = |text: &str| !matches!(text, "" | "." | "..") && text.bytes().all(is_plain);
        let segments = path.strip_prefix('/').filter(|_| path.len() <= MAX_ID_BYTES - MAX_DOMAIN_BYTES);
        if !segments.is_some_and(|segments| segments.split('/').all(is_segment)) {
            let path = shown(path);
            return Err(NoIdentity(format!("{path} is not the path of a SPIFFE ID, as `/ns/shop/sa/reviews` is")));
        }
        Ok(Self(path.into()))
    }

    /// The service account of a namespace, as Kubernetes meshes write it.
    ///
    /// # Errors
    /// One of the names does not go into a SPIFFE ID.
    pub fn of_account(namespace: &str, account: &str) -> Result<Self, NoIdentity> {
        match Self::new(&format!("/ns/{namespace}/sa/{account}")) {
            Ok(workload) if workload.namespace() == Some(namespace) => Ok(workload),
            Ok(workload) => {
                Err(NoIdentity(format!("{} is not one namespace and one account", shown(workload.as_str()))))
            }
            Err(error) => Err(error),
        }
    }

    /// The namespace, of one that is a service account.
    pub fn namespace(&self) -> Option<&str> {
        match self.0.split('/').collect::<Vec<_>>()[..] {
            ["", "ns", namespace, "sa", _] => Some(namespace),
            _ => None,
        }
    }

    /// The path.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "spiffe://{}{}", self.domain, self.workload)
    }
}

impl FromStr for SpiffeId {
    type Err = NoIdentity;

    fn from_str(text: &str) -> Result<Self, NoIdentity> {
        let rest = text.strip_prefix("spiffe://").filter(|_| text.len() <= MAX_ID_BYTES);
        let parts = rest.and_then(|rest| Some(rest.split_at(rest.find('/')?)));
        let (domain, path) =
            parts.ok_or_else(|| NoIdentity(format!("{} is not a SPIFFE ID of a workload", shown(text))))?;
        Ok(Self { domain: TrustDomain::new(domain)?, workload: Workload::new(path)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_the_standard() {
        for text in ["spiffe://mesh.example/ns/shop/sa/reviews", "spiffe://a/b", "spiffe://a_b-1/X.y/..z"] {
            assert_eq!(text.parse::<SpiffeId>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "spiffe://",
            "spiffe://a",
            "spiffe://a/",
            "spiffe://a//b",
            "spiffe://a/b/",
            "spiffe://a/./b",
            "spiffe://a/../b",
            "spiffe://A/b",
            "SPIFFE://a/b",
            "https://a/b",
            "spiffe://a:1/b",
            "spiffe://u@a/b",
            "spiffe://a/b?c",
            "spiffe://a/b#c",
            "spiffe://a/%41",
            "spiffe://a/ü",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text}");
        }
        assert!(format!("spiffe://a/{}", "b".repeat(MAX_ID_BYTES)).parse::<SpiffeId>().is_err());
    }

    #[test]
    fn a_service_account_says_its_namespace() {
        let workload = Workload::of_account("shop", "reviews").unwrap();
        assert_eq!((workload.as_str(), workload.namespace()), ("/ns/shop/sa/reviews", Some("shop")));
        assert_eq!(Workload::new("/ns/shop/sa/reviews/x").unwrap().namespace(), None);
        assert!(Workload::of_account("a", "b/ns/c/sa/d").is_err() && Workload::of_account("a/b", "c").is_err());
        let forged = "spiffe://a/\n2026 INFO all is well".parse::<SpiffeId>().unwrap_err().to_string();
        assert!(!forged.contains('\n'), "{forged}");
    }
}
