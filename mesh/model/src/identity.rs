//! Identities of workloads: SPIFFE IDs (SPIFFE-ID standard, sections 2 and 3) and their parts.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Serialize;

/// Most bytes of a SPIFFE ID (SPIFFE-ID, section 2.3).
const MAX_ID_BYTES: usize = 2_048;

/// Most bytes of a trust domain (SPIFFE-ID, section 2.3).
const MAX_DOMAIN_BYTES: usize = 255;

/// Most characters of an invalid text that an error quotes.
const MAX_QUOTED_CHARS: usize = 200;

/// The namespace of SPIFFE IDs. Its root certificates are trusted for IDs of this domain only.
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
    /// The trust domain that issued the ID.
    pub domain: TrustDomain,
    /// The path of the ID.
    pub workload: Workload,
}

/// The reason why a text is not a SPIFFE ID, or not a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseIdentityError(String);

impl fmt::Display for ParseIdentityError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for ParseIdentityError {}

/// Quotes a text of an unauthenticated peer for a log: line breaks are escaped, and the length is bounded.
fn quote(text: &str) -> String {
    let short: String = text.chars().take(MAX_QUOTED_CHARS).collect();
    format!("{short:?}")
}

impl TrustDomain {
    /// Returns a trust domain: 1 to 255 lower-case letters, digits, dots, hyphens and underscores.
    ///
    /// # Errors
    /// The text is empty, too long, or contains another character.
    pub fn new(text: &str) -> Result<Self, ParseIdentityError> {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        if text.is_empty() || text.len() > MAX_DOMAIN_BYTES || !text.bytes().all(is_plain) {
            let reason = "is not a trust domain: write lower-case letters, digits, `.`, `-` and `_`";
            return Err(ParseIdentityError(format!("{} {reason}", quote(text))));
        }
        Ok(Self(text.into()))
    }

    /// Returns the domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the SPIFFE ID of a workload of this domain.
    pub fn id(&self, workload: &Workload) -> SpiffeId {
        SpiffeId { domain: self.clone(), workload: workload.clone() }
    }
}

impl Workload {
    /// Returns the workload with this path: segments of letters, digits, `.`, `-` and `_`, each after a `/`.
    ///
    /// # Errors
    /// The path is too long, or a segment is empty, `.`, `..` or contains another character.
    pub fn new(path: &str) -> Result<Self, ParseIdentityError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_segment = |text: &str| !matches!(text, "" | "." | "..") && text.bytes().all(is_plain);
        let segments = path.strip_prefix('/').filter(|_| path.len() <= MAX_ID_BYTES - MAX_DOMAIN_BYTES);
        if !segments.is_some_and(|segments| segments.split('/').all(is_segment)) {
            let path = quote(path);
            return Err(ParseIdentityError(format!(
                "{path} is not the path of a SPIFFE ID, as `/ns/shop/sa/reviews` is"
            )));
        }
        Ok(Self(path.into()))
    }

    /// Returns the workload of a service account, in the form that Istio uses: `/ns/NAMESPACE/sa/ACCOUNT`.
    ///
    /// # Errors
    /// A name is not one segment of a SPIFFE ID.
    pub fn from_service_account(namespace: &str, account: &str) -> Result<Self, ParseIdentityError> {
        match Self::new(&format!("/ns/{namespace}/sa/{account}")) {
            Ok(workload) if workload.namespace() == Some(namespace) => Ok(workload),
            Ok(workload) => {
                Err(ParseIdentityError(format!("{} is not one namespace and one account", quote(workload.as_str()))))
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the namespace of a service account; `None` for other paths.
    pub fn namespace(&self) -> Option<&str> {
        match self.0.split('/').collect::<Vec<_>>()[..] {
            ["", "ns", namespace, "sa", _] => Some(namespace),
            _ => None,
        }
    }

    /// Returns the path.
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
    type Err = ParseIdentityError;

    fn from_str(text: &str) -> Result<Self, ParseIdentityError> {
        let rest = text.strip_prefix("spiffe://").filter(|_| text.len() <= MAX_ID_BYTES);
        let parts = rest.and_then(|rest| Some(rest.split_at(rest.find('/')?)));
        let (domain, path) =
            parts.ok_or_else(|| ParseIdentityError(format!("{} is not a SPIFFE ID of a workload", quote(text))))?;
        Ok(Self { domain: TrustDomain::new(domain)?, workload: Workload::new(path)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spiffe_ids_follow_the_standard() {
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
    fn service_account_path_yields_namespace() {
        let workload = Workload::from_service_account("shop", "reviews").unwrap();
        assert_eq!((workload.as_str(), workload.namespace()), ("/ns/shop/sa/reviews", Some("shop")));
        assert_eq!(Workload::new("/ns/shop/sa/reviews/x").unwrap().namespace(), None);
        assert!(
            Workload::from_service_account("a", "b/ns/c/sa/d").is_err()
                && Workload::from_service_account("a/b", "c").is_err()
        );
        let forged = "spiffe://a/\n2026 INFO all is well".parse::<SpiffeId>().unwrap_err().to_string();
        assert!(!forged.contains('\n'), "{forged}");
    }
}
