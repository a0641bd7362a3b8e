//! `HTTPRoute` of the Gateway API. The route and its rules are defined here because the `gateway-api` crate has
//! `retry` only among its experimental types, which would all be compiled. The parts of a rule are the crate's.

use gateway_api::httproutes::{
    HttpRouteParentRefs, HttpRouteRulesBackendRefs, HttpRouteRulesFilters, HttpRouteRulesMatches,
    HttpRouteRulesTimeouts,
};
use schemars::JsonSchema;
use serde::Deserialize;

/// Forwards requests to Services by host, path, method, headers and query.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HttpRouteSpec {
    /// The host names that the route serves, in the format of a listener. Default: all hosts of the listeners.
    pub(crate) hostnames: Option<Vec<String>>,
    /// The Gateways that the route attaches to, at least one.
    pub(crate) parent_refs: Option<Vec<HttpRouteParentRefs>>,
    /// The rules, at least one.
    pub(crate) rules: Option<Vec<HttpRouteRule>>,
}

/// Matches, and what happens to the requests that match.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct HttpRouteRule {
    /// The Services; each request is forwarded to one of them.
    pub(crate) backend_refs: Option<Vec<HttpRouteRulesBackendRefs>>,
    /// Changes to requests and responses, redirects, mirrors and CORS.
    pub(crate) filters: Option<Vec<HttpRouteRulesFilters>>,
    /// The matches; the rule applies to requests that match one of them. Default: all requests.
    pub(crate) matches: Option<Vec<HttpRouteRulesMatches>>,
    /// A name for users, unique in the route.
    pub(crate) name: Option<String>,
    /// Retries of requests on which an endpoint may have acted. Default: a request is sent again only if no endpoint can
    /// have acted on it, at most twice.
    pub(crate) retry: Option<RetrySpec>,
    /// Timeouts, as in `500ms` or `1m30s`.
    pub(crate) timeouts: Option<HttpRouteRulesTimeouts>,
}

/// Retries of a request. A request is sent again after an attempt without a response (the connection was closed or
/// could not be opened, the stream was reset, or `timeouts.backendRequest` was over), and after a response with one of
/// `codes`. Requests with the methods POST, PATCH and others that are not idempotent are sent again only by a match
/// that names their `method`. A request whose body has more than 64 KiB is not sent again after they were sent.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RetrySpec {
    /// The retries of one request, 0 to 10. Default: 2.
    pub(crate) attempts: Option<i64>,
    /// The least time before a retry. As much again at most is added at random, and twice as much before each further
    /// retry, up to ten times. Default: a random time up to `25ms`, `50ms`, and so on up to `250ms`.
    pub(crate) backoff: Option<String>,
    /// The statuses of responses after which a request is sent again, 400 to 599. A `retry-after` of at most 5 seconds
    /// in such a response takes the place of the back-off; a response with a longer one is not followed by a retry.
    pub(crate) codes: Option<Vec<i64>>,
}
