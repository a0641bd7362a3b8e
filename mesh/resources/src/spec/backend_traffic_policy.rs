//! `BackendTrafficPolicy`: load balancing, bounds and timeouts for the endpoints of Services.

use schemars::JsonSchema;
use serde::Deserialize;

/// Load balancing, bounds and timeouts for the endpoints of Services. A Service has at most one policy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BackendTrafficPolicySpec {
    /// The Services that the policy applies to, in its own namespace.
    pub(crate) target_refs: Vec<ServiceRef>,
    /// The load balancing among the endpoints.
    pub(crate) balancing: Option<LoadBalancerSpec>,
    /// Leaves out endpoints whose requests fail. Default: none is left out.
    pub(crate) outlier_detection: Option<OutlierDetectionSpec>,
    /// The share of requests that may be retries.
    pub(crate) retry_constraint: Option<RetryConstraintSpec>,
    /// Bounds of responses and connections.
    pub(crate) http1: Option<BackendHttp1Spec>,
    /// The TCP keepalive of connections to the endpoints, also of TCPRoutes and callouts.
    pub(crate) tcp_keepalive: Option<TcpKeepaliveSpec>,
    /// The timeouts.
    pub(crate) timeouts: Option<PolicyTimeouts>,
}

/// Ejects endpoints whose requests fail: an ejected endpoint gets no requests for `ejectionTime` times the number of its
/// ejections in short succession. If fewer than half of the endpoints are left, requests go to all of them.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct OutlierDetectionSpec {
    /// Ejects after so many responses with a 5xx status in a row. Attempts without a response count, too, unless
    /// `consecutiveLocalErrors` is set. 0 disables it. Default: 5.
    pub(crate) consecutive_errors: Option<u32>,
    /// Ejects after so many responses with 502, 503 or 504 in a row. Attempts without a response count as above. Default:
    /// 0, disabled.
    pub(crate) consecutive_gateway_errors: Option<u32>,
    /// Ejects after so many attempts without a response in a row: no connection, a reset, or the end of
    /// `timeouts.backendRequest`. Default: 0, disabled.
    pub(crate) consecutive_local_errors: Option<u32>,
    /// Ejects endpoints whose share of successes is far below that of the others. Default: disabled.
    pub(crate) success_rate: Option<SuccessRateSpec>,
    /// The time over which success rates are counted, and after which the number of ejections falls by one. Default:
    /// `10s`.
    pub(crate) interval: Option<String>,
    /// The time of a first ejection. Default: `30s`.
    pub(crate) ejection_time: Option<String>,
    /// The longest ejection. Default: `5m`, at least `ejectionTime`.
    pub(crate) max_ejection_time: Option<String>,
    /// The endpoints that may be ejected at the same time, for each 100. Default: 50.
    pub(crate) max_ejected: Option<u32>,
}

/// Ejects an endpoint whose share of successes is below the mean of all, less a multiple of their standard deviation.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct SuccessRateSpec {
    /// The endpoints with enough requests, without which none is ejected. Default: 5.
    pub(crate) minimum_endpoints: Option<u32>,
    /// The requests of an endpoint in an interval, without which it is not looked at. Default: 100.
    pub(crate) minimum_requests: Option<u32>,
    /// The multiple of the standard deviation, in thousandths. Default: 1900.
    pub(crate) stdev_factor: Option<u32>,
}

/// The share of the requests to a Service that may be retries, as in the Gateway API's XBackendTrafficPolicy. A retry
/// beyond it is not made: the response, or the error of the attempt, is the result. Retries of requests that reached no
/// endpoint are always made.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RetryConstraintSpec {
    /// The share. Default: 20 of 100 requests of the last 10 seconds.
    pub(crate) budget: Option<RetryBudgetSpec>,
    /// The retries that are always allowed, however few requests there are. Default: 10 a second.
    pub(crate) min_retry_rate: Option<MinRetryRateSpec>,
}

/// A share of requests.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RetryBudgetSpec {
    /// The retries for each 100 requests, 0 to 100. Default: 20.
    pub(crate) percent: Option<u32>,
    /// The time over which requests and retries are counted, `1s` to `1h`. Default: `10s`.
    pub(crate) interval: Option<String>,
}

/// A rate of retries.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct MinRetryRateSpec {
    /// The retries in each interval, up to 1000000. Default: 10.
    pub(crate) count: Option<u32>,
    /// The interval, `1s` to `1h`. Default: `1s`.
    pub(crate) interval: Option<String>,
}

/// Probes of connections on which nothing is received. An endpoint that has vanished, and one that does not acknowledge
/// what it was sent, is noticed after `idleTime` and `probes` times `interval`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct TcpKeepaliveSpec {
    /// The time without a received byte until the first probe, in whole seconds. Default: `15s`.
    pub(crate) idle_time: Option<String>,
    /// The time from one probe to the next, in whole seconds. Default: `5s`.
    pub(crate) interval: Option<String>,
    /// The probes without an answer until the connection is closed. Default: 3.
    pub(crate) probes: Option<u32>,
}

/// Bounds of responses and connections.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct BackendHttp1Spec {
    /// The bytes of a response's head, in steps of `1Ki`. Also bounds the headers of HTTP/2, as in Envoy. A response
    /// with a larger head becomes a 502. Default: `64Ki`.
    pub(crate) max_head_bytes: Option<String>,
    /// The number of a response's headers. Also holds for HTTP/2, as in Envoy. Default: 100.
    pub(crate) max_headers: Option<u32>,
    /// The requests of one connection to an endpoint. Default: no limit.
    pub(crate) max_requests_per_connection: Option<u32>,
    /// If true, HTTP/1 responses are forwarded with the upper and lower case of their header names, for clients that
    /// distinguish it. Names that the proxy or a filter adds are in lower case. Default: `false`, all in lower case.
    pub(crate) preserve_header_case: Option<bool>,
}

/// A target of a BackendTrafficPolicy.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ServiceRef {
    /// Empty for `Service`, `weir.dev` for `ServiceEntry`. Default: the kind's own.
    pub(crate) group: Option<String>,
    /// `Service` or `ServiceEntry`; both mean the same objects.
    pub(crate) kind: String,
    /// The Service's name.
    pub(crate) name: String,
}

/// Load balancing among endpoints.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct LoadBalancerSpec {
    /// The algorithm. Default without `balancing`: `RoundRobin`.
    pub(crate) algorithm: LoadBalancerAlgorithm,
}

/// A load-balancing algorithm.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
pub(crate) enum LoadBalancerAlgorithm {
    /// Endpoints in turn, in proportion to their weights.
    RoundRobin,
    /// The less loaded of two endpoints picked at random.
    LeastRequest,
    /// A random endpoint, in proportion to the weights.
    Random,
}

/// Timeouts, as in `500ms` or `1m30s`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PolicyTimeouts {
    /// To open a connection to an endpoint. Default: `5s`.
    pub(crate) connect: Option<String>,
    /// For a request until the end of its response, if the HTTPRoute's rule sets no timeout. `0s` disables the limit.
    /// Default: `15s`.
    pub(crate) request: Option<String>,
    /// Without a request, until a connection to an endpoint is closed; in steps of `500ms`. `0s` disables the limit.
    /// Default: `4s`.
    pub(crate) connection_idle: Option<String>,
    /// The age of a connection to an endpoint, after which it is sent no further request; in steps of `500ms`. Default:
    /// no limit.
    pub(crate) connection_age: Option<String>,
}
