//! The table of request failures: the cause, the party at fault, the downstream's status, and the access log's fields.
//!
//! `docs/operations.md` shows the same table; a test compares them.

use std::fmt;

use http::StatusCode;
use weir_http1::Rejection;

/// The detail of [`ProxyError::NoTarget`] when no backend of the route has a weight above 0.
pub(crate) const NO_BACKEND_WEIGHT: &str = "no_backend_weight";

/// The party at fault for a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The downstream.
    Downstream,
    /// The endpoint, or the connection to it.
    Upstream,
    /// A filter.
    Filter,
    /// The proxy, or its configuration.
    Proxy,
}

impl Fault {
    /// Returns the name in the access log (`who_failed`).
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Downstream => "Downstream",
            Self::Upstream => "Upstream",
            Self::Filter => "Filter",
            Self::Proxy => "Proxy",
        }
    }
}

/// A request failure. [`ProxyError::info`] has the table row of each variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ProxyError {
    /// The request is not valid HTTP/1; `docs/http1.md` lists the details.
    Malformed(Rejection),
    /// The downstream expects what the proxy does not have.
    ExpectationFailed,
    /// The target's scheme is `https`, and the connection is not secured.
    Misdirected,
    /// The listener does not allow switching to the requested protocol; the text is its name.
    UpgradeNotAllowed(String),
    /// The downstream did not send a complete request head in time.
    HeadTimeout,
    /// The request is malformed, ambiguous or not allowed; the text has the reason.
    BadRequest(&'static str),
    /// More or longer headers than [`crate::limits`] allows.
    HeadersTooLarge,
    /// The body exceeds the limit of what a filter may buffer.
    BodyTooLarge,
    /// No route of the listener matches.
    NoRoute,
    /// A filter changed the request so that a route with other filters matches (invariant I9).
    RouteChangedChain,
    /// A filter's routing mark names no target of the route; the text is the mark.
    UnknownMark(String),
    /// The route has no usable target; the text is its detail.
    NoTarget(String),
    /// The cluster has no usable endpoint.
    NoEndpoint,
    /// Connecting to an endpoint failed; the text has the cause.
    ConnectFailed(String),
    /// Connecting to an endpoint took longer than the connect timeout.
    ConnectTimeout,
    /// The TLS handshake with an endpoint failed; the text has the cause.
    TlsFailed(String),
    /// The endpoint closed or reset the connection before its response was complete; the text has the cause.
    UpstreamReset(String),
    /// The endpoint's response is not valid HTTP; the text has the cause.
    UpstreamProtocol(String),
    /// The response took longer than the request timeout.
    RequestTimeout,
    /// The response took longer than the gRPC request's own `grpc-timeout`.
    GrpcTimeout,
    /// The response head of one attempt took longer than the attempt timeout.
    AttemptTimeout,
    /// The stream was inactive for longer than the stream idle timeout, and the downstream had to act.
    StreamIdle,
    /// The stream was inactive for longer than the stream idle timeout, and the endpoint had to act.
    UpstreamIdle,
    /// The downstream closed or reset the connection before the response was complete.
    DownstreamGone,
    /// A filter failed and its failure policy is Closed.
    FilterFailed {
        /// The plugin.
        plugin: String,
        /// The failure's detail, in snake case: `filter_trap`, `filter_deadline`, …
        detail: &'static str,
    },
    /// A filter produced a head that must not go on the wire (a line break in a value, no `:path`, …).
    FilterOutput {
        /// The plugin.
        plugin: String,
    },
    /// A filter closed the stream.
    FilterClosed {
        /// The plugin.
        plugin: String,
    },
    /// A changed AuthorizationPolicy denies a request that an earlier configuration allowed.
    AccessRevoked {
        /// The plugin of the policy.
        plugin: String,
    },
    /// A limit on what is in flight was reached; the text names the limit.
    Overflow(&'static str),
}

/// One row of the table of failures.
pub(crate) struct ErrorInfo {
    /// The access log's `details`: stable, in snake case.
    pub(crate) detail: &'static str,
    /// The party at fault.
    pub(crate) fault: Fault,
    /// The downstream's status.
    pub(crate) status: StatusCode,
    /// Envoy's response flag, in the access log's `response_flags`.
    pub(crate) flag: &'static str,
    /// True when no endpoint can have acted on the request, so that another attempt is safe.
    pub(crate) retryable: bool,
    /// The failure in words.
    pub(crate) reason: &'static str,
}

impl ProxyError {
    /// Returns the error's row in the table.
    #[expect(clippy::too_many_lines, reason = "a table with one row for each error")]
    pub(crate) fn info(&self) -> ErrorInfo {
        use Fault::{Downstream, Filter, Proxy, Upstream};
        let row = |detail, fault, status, flag, retryable, reason| ErrorInfo {
            detail,
            fault,
            status,
            flag,
            retryable,
            reason,
        };
        match self {
            Self::Malformed(rejection) => {
                row(rejection.name(), Downstream, rejection.status(), "DPE", false, "the request is not valid HTTP/1")
            }
            Self::ExpectationFailed => row(
                "expectation_failed",
                Downstream,
                StatusCode::EXPECTATION_FAILED,
                "DPE",
                false,
                "only 100-continue can be expected",
            ),
            Self::Misdirected => row(
                "misdirected_request",
                Downstream,
                StatusCode::MISDIRECTED_REQUEST,
                "DPE",
                false,
                "the target is https, and the connection is not secured",
            ),
            Self::UpgradeNotAllowed(_) => row(
                "upgrade_not_allowed",
                Downstream,
                StatusCode::FORBIDDEN,
                "-",
                false,
                "the listener does not allow switching to the requested protocol",
            ),
            Self::HeadTimeout => row(
                "request_head_timeout",
                Downstream,
                StatusCode::REQUEST_TIMEOUT,
                "DPE",
                false,
                "the request head was not complete in time",
            ),
            Self::BadRequest(_) => {
                row("bad_request", Downstream, StatusCode::BAD_REQUEST, "DPE", false, "the request is not valid")
            }
            Self::HeadersTooLarge => row(
                "headers_too_large",
                Downstream,
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "DPE",
                false,
                "the request headers are too many or too large",
            ),
            Self::BodyTooLarge => row(
                "body_too_large",
                Downstream,
                StatusCode::PAYLOAD_TOO_LARGE,
                "-",
                false,
                "a filter buffers the body and it exceeds the limit",
            ),
            Self::NoRoute => {
                row("route_not_found", Downstream, StatusCode::NOT_FOUND, "NR", false, "no route matches the request")
            }
            Self::RouteChangedChain => row(
                "route_changed_chain",
                Filter,
                StatusCode::INTERNAL_SERVER_ERROR,
                "FF",
                false,
                "a filter changed the request so that a route with other filters matches",
            ),
            Self::UnknownMark(_) => row(
                "routing_mark_unknown",
                Filter,
                StatusCode::INTERNAL_SERVER_ERROR,
                "FF",
                false,
                "a filter marked the request for a target that its route does not have",
            ),
            Self::NoTarget(_) => row(
                "no_target",
                Proxy,
                StatusCode::INTERNAL_SERVER_ERROR,
                "NC",
                false,
                "the route has no usable target",
            ),
            Self::NoEndpoint => row(
                "no_healthy_upstream",
                Upstream,
                StatusCode::SERVICE_UNAVAILABLE,
                "UH",
                false,
                "the cluster has no usable endpoint",
            ),
            Self::ConnectFailed(_) => row(
                "upstream_connect_failed",
                Upstream,
                StatusCode::SERVICE_UNAVAILABLE,
                "UF",
                true,
                "no connection to the endpoint could be opened",
            ),
            Self::ConnectTimeout => row(
                "upstream_connect_timeout",
                Upstream,
                StatusCode::SERVICE_UNAVAILABLE,
                "UF",
                true,
                "the connection to the endpoint timed out",
            ),
            Self::TlsFailed(_) => row(
                "upstream_tls_failed",
                Upstream,
                StatusCode::SERVICE_UNAVAILABLE,
                "UF",
                true,
                "the TLS handshake with the endpoint failed",
            ),
            Self::UpstreamReset(_) => row(
                "upstream_reset",
                Upstream,
                StatusCode::SERVICE_UNAVAILABLE,
                "UC",
                false,
                "the endpoint closed the connection before its response was complete",
            ),
            Self::UpstreamProtocol(_) => row(
                "upstream_protocol_error",
                Upstream,
                StatusCode::BAD_GATEWAY,
                "UPE",
                false,
                "the endpoint did not speak HTTP",
            ),
            Self::RequestTimeout => row(
                "request_timeout",
                Upstream,
                StatusCode::GATEWAY_TIMEOUT,
                "UT",
                false,
                "the response was not complete in time",
            ),
            Self::GrpcTimeout => row(
                "grpc_timeout",
                Upstream,
                StatusCode::GATEWAY_TIMEOUT,
                "UT",
                false,
                "the response was not complete by the deadline of the gRPC request",
            ),
            Self::AttemptTimeout => row(
                "attempt_timeout",
                Upstream,
                StatusCode::GATEWAY_TIMEOUT,
                "UT",
                false,
                "the endpoint's response did not begin in time",
            ),
            Self::StreamIdle => row(
                "stream_idle_timeout",
                Downstream,
                StatusCode::REQUEST_TIMEOUT,
                "SI",
                false,
                "the stream was idle for too long",
            ),
            Self::UpstreamIdle => row(
                "upstream_idle_timeout",
                Upstream,
                StatusCode::GATEWAY_TIMEOUT,
                "SI",
                false,
                "the endpoint sent nothing for too long",
            ),
            Self::DownstreamGone => row(
                "downstream_gone",
                Downstream,
                StatusCode::BAD_REQUEST,
                "DC",
                false,
                "the downstream disconnected before the response was complete",
            ),
            Self::FilterFailed { detail, .. } => row(
                detail,
                Filter,
                StatusCode::SERVICE_UNAVAILABLE,
                "FF",
                false,
                "a filter failed and its failure policy is FailClosed",
            ),
            Self::FilterOutput { .. } => row(
                "filter_invalid_head",
                Filter,
                StatusCode::INTERNAL_SERVER_ERROR,
                "FF",
                false,
                "a filter produced invalid headers",
            ),
            Self::FilterClosed { .. } => {
                row("filter_closed_stream", Filter, StatusCode::BAD_GATEWAY, "FF", false, "a filter closed the stream")
            }
            Self::AccessRevoked { .. } => row(
                "access_revoked",
                Downstream,
                StatusCode::FORBIDDEN,
                "-",
                false,
                "an AuthorizationPolicy was changed and denies the request",
            ),
            Self::Overflow(_) => row(
                "overflow",
                Proxy,
                StatusCode::SERVICE_UNAVAILABLE,
                "UO",
                false,
                "a limit of concurrent work was reached",
            ),
        }
    }

    /// Returns the plugin that caused the failure; `None` when no plugin did.
    pub(crate) fn plugin(&self) -> Option<&str> {
        match self {
            Self::FilterFailed { plugin, .. }
            | Self::FilterOutput { plugin }
            | Self::FilterClosed { plugin }
            | Self::AccessRevoked { plugin } => Some(plugin),
            _ => None,
        }
    }

    /// Returns the detail that the row does not have: the endpoint's error, the plugin's name, the limit.
    pub(crate) fn cause(&self) -> Option<&str> {
        match self {
            Self::BadRequest(text) | Self::Overflow(text) => Some(text),
            Self::UpgradeNotAllowed(text)
            | Self::UnknownMark(text)
            | Self::NoTarget(text)
            | Self::ConnectFailed(text)
            | Self::TlsFailed(text)
            | Self::UpstreamReset(text)
            | Self::UpstreamProtocol(text) => Some(text),
            Self::FilterFailed { plugin, .. }
            | Self::FilterOutput { plugin }
            | Self::FilterClosed { plugin }
            | Self::AccessRevoked { plugin } => Some(plugin),
            Self::Malformed(rejection) => Some(rejection.reason()),
            Self::ExpectationFailed
            | Self::Misdirected
            | Self::HeadTimeout
            | Self::HeadersTooLarge
            | Self::BodyTooLarge
            | Self::NoRoute
            | Self::RouteChangedChain
            | Self::NoEndpoint
            | Self::ConnectTimeout
            | Self::RequestTimeout
            | Self::GrpcTimeout
            | Self::AttemptTimeout
            | Self::StreamIdle
            | Self::UpstreamIdle
            | Self::DownstreamGone => None,
        }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.info().reason)?;
        match self.cause() {
            Some(cause) => write!(formatter, ": {cause}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ProxyError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<ProxyError> {
        let (text, plugin) = (String::new, || "ns/name".to_owned());
        vec![
            ProxyError::ExpectationFailed,
            ProxyError::Misdirected,
            ProxyError::UpgradeNotAllowed(text()),
            ProxyError::HeadTimeout,
            ProxyError::BadRequest(""),
            ProxyError::HeadersTooLarge,
            ProxyError::BodyTooLarge,
            ProxyError::NoRoute,
            ProxyError::RouteChangedChain,
            ProxyError::UnknownMark(text()),
            ProxyError::NoTarget(text()),
            ProxyError::NoEndpoint,
            ProxyError::ConnectFailed(text()),
            ProxyError::ConnectTimeout,
            ProxyError::TlsFailed(text()),
            ProxyError::UpstreamReset(text()),
            ProxyError::UpstreamProtocol(text()),
            ProxyError::RequestTimeout,
            ProxyError::GrpcTimeout,
            ProxyError::AttemptTimeout,
            ProxyError::StreamIdle,
            ProxyError::UpstreamIdle,
            ProxyError::DownstreamGone,
            ProxyError::FilterFailed { plugin: plugin(), detail: "filter_…" },
            ProxyError::FilterOutput { plugin: plugin() },
            ProxyError::FilterClosed { plugin: plugin() },
            ProxyError::AccessRevoked { plugin: plugin() },
            ProxyError::Overflow(""),
        ]
    }

    #[test]
    fn table_equals_table_in_operations_docs() {
        let docs = include_str!("../../docs/operations.md");
        let rows = all().into_iter().map(|error| {
            let ErrorInfo { detail, fault, status, flag, retryable, reason } = error.info();
            let retry = if retryable { "yes" } else { "no" };
            format!("| `{detail}` | {} | {} | {flag} | {retry} | {reason} |", fault.name(), status.as_u16())
        });
        let rejections = include_str!("../../docs/http1.md");
        for rejection in Rejection::ALL {
            let row = format!("| `{}` | {} | {} |", rejection.name(), rejection.status().as_u16(), rejection.reason());
            assert!(rejections.contains(&row), "docs/http1.md should have this row:\n{row}");
        }
        for row in rows {
            assert!(docs.contains(&row), "docs/operations.md should have this row:\n{row}");
        }
        assert_eq!(docs.lines().filter(|line| line.starts_with("| `")).count(), all().len());
    }
}
