//! Cross-origin policies of routes (CORS, the Fetch standard).

use std::sync::Arc;

use serde::Serialize;

use crate::matcher::StringMatch;

/// The cross-origin requests that a route allows (`CorsPolicy` in Envoy). The texts are the values of response headers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CorsPolicy {
    /// The allowed values of `origin`; one must match.
    pub allow_origins: Vec<StringMatch>,
    /// True if requests may have credentials.
    pub allow_credentials: bool,
    /// `access-control-allow-methods`; empty to leave it out. `*` allows all.
    pub allow_methods: Arc<str>,
    /// `access-control-allow-headers`; empty to leave it out. `*` allows all.
    pub allow_headers: Arc<str>,
    /// `access-control-expose-headers`; empty to leave it out. `*` exposes all.
    pub expose_headers: Arc<str>,
    /// `access-control-max-age` in seconds; empty to leave it out.
    pub max_age: Arc<str>,
    /// True if preflight requests of other origins are forwarded. Otherwise they are answered without CORS headers.
    pub forwards_other_preflights: bool,
}
