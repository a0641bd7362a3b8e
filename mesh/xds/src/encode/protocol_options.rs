//! Encodes bounds and timeouts of HTTP connections. All of them are written, also defaults, because Envoy's differ.

use std::num::NonZeroU32;
use std::time::Duration;

use weir_model::{DownstreamProtocolOptions, HeadLimits, UpstreamProtocolOptions};

use super::{duration, uint32_value};
use crate::proto::{core, hcm, protobuf};

/// Bytes of the unit of Envoy's head bounds.
pub(crate) const KIB: u32 = 1024;
/// Metadata field of a listener: the longest target of an HTTP/1 request, in bytes.
pub(crate) const MAX_TARGET_BYTES: &str = "maxTargetBytes";

/// Adds a listener's options to its connection manager, but the bound of the target, which is metadata.
pub(super) fn downstream(
    manager: hcm::HttpConnectionManager,
    options: &DownstreamProtocolOptions,
) -> hcm::HttpConnectionManager {
    let DownstreamProtocolOptions {
        head: HeadLimits { bytes, headers },
        target_bytes: _,
        max_requests,
        head_timeout,
        stream_idle_timeout,
        idle_timeout,
        max_age,
    } = *options;
    hcm::HttpConnectionManager {
        common_http_protocol_options: Some(core::HttpProtocolOptions {
            idle_timeout: Some(optional(idle_timeout)),
            max_connection_duration: max_age.map(duration),
            max_headers_count: Some(uint32_value(headers)),
            max_requests_per_connection: max_requests.map(NonZeroU32::get).map(uint32_value),
            ..core::HttpProtocolOptions::default()
        }),
        max_request_headers_kb: Some(uint32_value(bytes / KIB)),
        request_headers_timeout: Some(duration(head_timeout)),
        stream_idle_timeout: Some(optional(stream_idle_timeout)),
        ..manager
    }
}

/// Encodes the options of a cluster.
pub(super) fn upstream(options: &UpstreamProtocolOptions) -> core::HttpProtocolOptions {
    let UpstreamProtocolOptions { head: HeadLimits { bytes, headers }, max_requests, idle_timeout, max_age } = *options;
    core::HttpProtocolOptions {
        idle_timeout: Some(optional(idle_timeout)),
        max_connection_duration: max_age.map(duration),
        max_headers_count: Some(uint32_value(headers)),
        max_response_headers_kb: Some(uint32_value(bytes / KIB)),
        max_requests_per_connection: max_requests.map(NonZeroU32::get).map(uint32_value),
        ..core::HttpProtocolOptions::default()
    }
}

/// Encodes a timeout that 0 disables.
fn optional(timeout: Option<Duration>) -> protobuf::Duration {
    duration(timeout.unwrap_or_default())
}
