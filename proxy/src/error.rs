//! The one list of ways in which a request fails: what happened, whose fault it is, what the downstream is told, and
//! what the access log says. `docs/operations.md` shows the same table, compared by a test.

use std::fmt;

use http::StatusCode;

/// Who made a request fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Whoever sent the request.
    Downstream,
    /// The endpoint, or the way to it.
    Upstream,
    /// A filter.
    Filter,
    /// The proxy, or how it was configured.
    Proxy,
}

impl Fault {
    /// As the access log writes it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Downstream => "downstream",
            Self::Upstream => "upstream",
            Self::Filter => "filter",
            Self::Proxy => "proxy",
        }
    }
}

/// A way in which a request fails. The variants are the rows of [`ProxyError::row`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ProxyError {
    /// The request cannot be understood or is not allowed to exist; the text says why.
    BadRequest(&'static str),
    /// More headers, or longer ones, than [`crate::limits`] allows.
    HeadersTooLarge,
    /// The body does not fit where a filter holds it back.
    BodyTooLarge,
    /// No route of the listener matches.
    NoRoute,
    /// A filter changed the request so that a route with other filters matches (invariant I8b).
    RouteChangedChain,
    /// A filter marked the request for a target that its route does not have; the text is the mark.
    UnknownMark(String),
    /// The route answers by itself; the text is its detail.
    NoTarget(String),
    /// The cluster has no endpoint that may be used.
    NoEndpoint,
    /// No connection to an endpoint could be opened; the text says why.
    ConnectFailed(String),
    /// No connection to an endpoint was open in time.
    ConnectTimeout,
    /// The endpoint closed or reset before its response was whole.
    UpstreamReset(String),
    /// The endpoint did not speak HTTP.
    UpstreamProtocol(String),
    /// The response did not come in time.
    RequestTimeout,
    /// One attempt's response head did not come in time.
    AttemptTimeout,
    /// Nothing moved on the stream for too long.
    StreamIdle,
    /// The downstream went away.
    DownstreamGone,
    /// A filter failed and its policy is Closed; name of the plugin and detail (`filter_trap`, `filter_deadline`, …).
    FilterFailed {
        /// The plugin.
        plugin: String,
        /// What failed, in snake case.
        detail: &'static str,
    },
    /// A filter made a head that must not go on the wire (a line break in a value, no `:path`, …).
    FilterOutput {
        /// The plugin.
        plugin: String,
    },
    /// A filter closed the stream.
    FilterClosed {
        /// The plugin.
        plugin: String,
    },
    /// A bound on what is in flight was reached; the text names it.
    Overflow(&'static str),
}

/// One row of the table.
pub(crate) struct Row {
    /// Stable, in snake case: the access log's `details`.
    pub(crate) detail: &'static str,
    /// Whose fault.
    pub(crate) fault: Fault,
    /// What the downstream is told.
    pub(crate) status: StatusCode,
    /// Envoy's letters for it in the access log (`response_flags`).
    pub(crate) flag: &'static str,
    /// True when nothing of the request can have been acted on, so another attempt is safe.
    pub(crate) retryable: bool,
    /// What happened, in words.
    pub(crate) reason: &'static str,
}

impl ProxyError {
    /// The error's row in the table.
    #[expect(clippy::too_many_lines, reason = "a table: one row for each way to fail")]
    pub(crate) fn row(&self) -> Row {
        use Fault::{Downstream, Filter, Proxy, Upstream};
        let row =
            |detail, fault, status, flag, retryable, reason| Row { detail, fault, status, flag, retryable, reason };
        match self {
            Self::BadRequest(_) => {
                row("bad_request", Downstream, StatusCode::BAD_REQUEST, "DPE", false, "the request is not valid")
            }
            Self::HeadersTooLarge => row(
                "headers_too_large",
                Downstream,
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "DPE",
                false,
                "the request has too many headers or too long ones",
            ),
            Self::BodyTooLarge => row(
                "body_too_large",
                Downstream,
                StatusCode::PAYLOAD_TOO_LARGE,
                "-",
                false,
                "a filter holds the body back and it is larger than the limit",
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
                "the route has no target that may be used",
            ),
            Self::NoEndpoint => row(
                "no_healthy_upstream",
                Upstream,
                StatusCode::SERVICE_UNAVAILABLE,
                "UH",
                false,
                "the cluster has no endpoint that may be used",
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
                "no connection to the endpoint was open in time",
            ),
            Self::UpstreamReset(_) => row(
                "upstream_reset",
                Upstream,
                StatusCode::SERVICE_UNAVAILABLE,
                "UC",
                false,
                "the endpoint closed the connection before its response was whole",
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
                "the response did not come in time",
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
                "nothing moved on the stream for too long",
            ),
            Self::DownstreamGone => row(
                "downstream_gone",
                Downstream,
                StatusCode::BAD_REQUEST,
                "DC",
                false,
                "the downstream went away before the response was whole",
            ),
            Self::FilterFailed { detail, .. } => row(
                detail,
                Filter,
                StatusCode::SERVICE_UNAVAILABLE,
                "FF",
                false,
                "a filter failed and its failure policy is Closed",
            ),
            Self::FilterOutput { .. } => row(
                "filter_invalid_head",
                Filter,
                StatusCode::INTERNAL_SERVER_ERROR,
                "FF",
                false,
                "a filter made a head that must not go on the wire",
            ),
            Self::FilterClosed { .. } => {
                row("filter_closed_stream", Filter, StatusCode::BAD_GATEWAY, "FF", false, "a filter closed the stream")
            }
            Self::Overflow(_) => row(
                "overflow",
                Proxy,
                StatusCode::SERVICE_UNAVAILABLE,
                "UO",
                false,
                "a bound on what is in flight was reached",
            ),
        }
    }

    /// The plugin whose doing it is, if it is one's.
    pub(crate) fn plugin(&self) -> Option<&str> {
        match self {
            Self::FilterFailed { plugin, .. } | Self::FilterOutput { plugin } | Self::FilterClosed { plugin } => {
                Some(plugin)
            }
            _ => None,
        }
    }

    /// What is known beyond the row: the endpoint's error, the plugin's name, the bound.
    pub(crate) fn cause(&self) -> Option<&str> {
        match self {
            Self::BadRequest(text) | Self::Overflow(text) => Some(text),
            Self::UnknownMark(text)
            | Self::NoTarget(text)
            | Self::ConnectFailed(text)
            | Self::UpstreamReset(text)
            | Self::UpstreamProtocol(text) => Some(text),
            Self::FilterFailed { plugin, .. } | Self::FilterOutput { plugin } | Self::FilterClosed { plugin } => {
                Some(plugin)
            }
            Self::HeadersTooLarge
            | Self::BodyTooLarge
            | Self::NoRoute
            | Self::RouteChangedChain
            | Self::NoEndpoint
            | Self::ConnectTimeout
            | Self::RequestTimeout
            | Self::AttemptTimeout
            | Self::StreamIdle
            | Self::DownstreamGone => None,
        }
    }
}

impl fmt::Display for ProxyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.row().reason)?;
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
            ProxyError::UpstreamReset(text()),
            ProxyError::UpstreamProtocol(text()),
            ProxyError::RequestTimeout,
            ProxyError::AttemptTimeout,
            ProxyError::StreamIdle,
            ProxyError::DownstreamGone,
            ProxyError::FilterFailed { plugin: plugin(), detail: "filter_…" },
            ProxyError::FilterOutput { plugin: plugin() },
            ProxyError::FilterClosed { plugin: plugin() },
            ProxyError::Overflow(""),
        ]
    }

    #[test]
    fn the_table_is_the_one_in_the_docs() {
        let written = include_str!("../../docs/operations.md");
        let rows = all().into_iter().map(|error| {
            let Row { detail, fault, status, flag, retryable, reason } = error.row();
            let again = if retryable { "yes" } else { "no" };
            format!("| `{detail}` | {} | {} | {flag} | {again} | {reason} |", fault.name(), status.as_u16())
        });
        for row in rows {
            assert!(written.contains(&row), "docs/operations.md should have this row:\n{row}");
        }
        assert_eq!(written.lines().filter(|line| line.starts_with("| `")).count(), all().len());
    }
}
