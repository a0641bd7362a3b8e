//! Encodes bounds and timeouts of HTTP connections. All of them are written, also defaults, because Envoy's differ.

use std::num::NonZeroU32;
use std::time::Duration;

use weir_model::{DownstreamProtocolOptions, HeadLimits, UpgradeProtocol, UpstreamProtocolOptions};

use super::{duration, uint32_value};
use crate::proto::{PreserveCaseFormatterConfig, core, hcm, pack, protobuf};

/// Bytes of the unit of Envoy's head bounds.
pub(crate) const KIB: u32 = 1024;
/// Envoy's name of the formatter that preserves the upper and lower case of header names.
const PRESERVE_CASE: &str = "envoy.http.stateful_header_formatters.preserve_case";
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
        preserve_header_case,
        max_requests,
        head_timeout,
        stream_idle_timeout,
        idle_timeout,
        max_age,
        ref upgrades,
    } = *options;
    let upgrade = |protocol: &UpgradeProtocol| hcm::http_connection_manager::UpgradeConfig {
        upgrade_type: protocol.as_str().to_owned(),
        ..hcm::http_connection_manager::UpgradeConfig::default()
    };
    hcm::HttpConnectionManager {
        common_http_protocol_options: Some(core::HttpProtocolOptions {
            idle_timeout: Some(optional(idle_timeout)),
            max_connection_duration: max_age.map(duration),
            max_headers_count: Some(uint32_value(headers)),
            max_requests_per_connection: max_requests.map(NonZeroU32::get).map(uint32_value),
            ..core::HttpProtocolOptions::default()
        }),
        http_protocol_options: preserve_header_case.then(|| http1(true)),
        // RFC 8441: upgrades of HTTP/2.
        http2_protocol_options: (!upgrades.is_empty()).then(http2),
        upgrade_configs: upgrades.iter().map(upgrade).collect(),
        max_request_headers_kb: Some(uint32_value(bytes / KIB)),
        request_headers_timeout: Some(duration(head_timeout)),
        stream_idle_timeout: Some(optional(stream_idle_timeout)),
        ..manager
    }
}

/// Encodes the options of a cluster, but `preserve_header_case`, which [`http1`] encodes.
pub(super) fn upstream(options: &UpstreamProtocolOptions) -> core::HttpProtocolOptions {
    let UpstreamProtocolOptions {
        head: HeadLimits { bytes, headers },
        preserve_header_case: _,
        max_requests,
        idle_timeout,
        max_age,
    } = *options;
    core::HttpProtocolOptions {
        idle_timeout: Some(optional(idle_timeout)),
        max_connection_duration: max_age.map(duration),
        max_headers_count: Some(uint32_value(headers)),
        max_response_headers_kb: Some(uint32_value(bytes / KIB)),
        max_requests_per_connection: max_requests.map(NonZeroU32::get).map(uint32_value),
        ..core::HttpProtocolOptions::default()
    }
}

/// Encodes the options of an HTTP/1 codec. Envoy forwards reason phrases only with the names of headers as sent; the
/// proxy always does.
pub(super) fn http1(preserve_header_case: bool) -> core::Http1ProtocolOptions {
    use core::http1_protocol_options::{HeaderKeyFormat, header_key_format::HeaderFormat};
    if !preserve_header_case {
        return core::Http1ProtocolOptions::default();
    }
    let config = PreserveCaseFormatterConfig { forward_reason_phrase: true, ..PreserveCaseFormatterConfig::default() };
    let formatter = core::TypedExtensionConfig { name: PRESERVE_CASE.to_owned(), typed_config: Some(pack(&config)) };
    core::Http1ProtocolOptions {
        header_key_format: Some(HeaderKeyFormat { header_format: Some(HeaderFormat::StatefulFormatter(formatter)) }),
        ..core::Http1ProtocolOptions::default()
    }
}

/// Encodes the options of an HTTP/2 codec: extended CONNECT (RFC 8441), with which requests switch to another protocol.
pub(super) fn http2() -> core::Http2ProtocolOptions {
    core::Http2ProtocolOptions { allow_connect: true, ..core::Http2ProtocolOptions::default() }
}

/// Encodes a timeout that 0 disables.
fn optional(timeout: Option<Duration>) -> protobuf::Duration {
    duration(timeout.unwrap_or_default())
}
