//! Decodes bounds and timeouts of HTTP connections. An absent field has the proxy's default, and 0 disables a timeout.

use std::num::NonZeroU32;
use std::time::Duration;

use prost::Message as _;
use weir_model::limits::{MAX_HEAD_BYTES, MAX_HEADERS, MAX_TARGET_BYTES, MAX_UPGRADES};
use weir_model::{DownstreamProtocolOptions, HeadLimits, UpgradeProtocol, UpstreamProtocolOptions};

use super::field_cursor::{FieldCursor, unsupported};
use super::value::duration;
use crate::encode::KIB;
use crate::proto::hcm::http_connection_manager::UpgradeConfig;
use crate::proto::{self, PreserveCaseFormatterConfig, core, protobuf};

/// The fields of a connection manager that limit its connections.
pub(super) struct DownstreamFields {
    pub(super) common: Option<core::HttpProtocolOptions>,
    pub(super) http1: Option<core::Http1ProtocolOptions>,
    pub(super) http2: Option<core::Http2ProtocolOptions>,
    pub(super) upgrade_configs: Vec<UpgradeConfig>,
    pub(super) max_request_headers_kb: Option<protobuf::UInt32Value>,
    pub(super) request_headers_timeout: Option<protobuf::Duration>,
    pub(super) stream_idle_timeout: Option<protobuf::Duration>,
}

/// Decodes the options of a connection manager. The bound of the target is the default.
pub(super) fn downstream(options: DownstreamFields, cursor: &FieldCursor<'_>) -> Option<DownstreamProtocolOptions> {
    let DownstreamFields {
        common,
        http1: http1_options,
        http2: http2_options,
        upgrade_configs,
        max_request_headers_kb,
        request_headers_timeout,
        stream_idle_timeout,
    } = options;
    let defaults = DownstreamProtocolOptions::default();
    let at = cursor.field("common_http_protocol_options");
    let common = common.unwrap_or_default();
    let max_response_headers_kb = common.max_response_headers_kb;
    unsupported!(at; max_response_headers_kb);
    let common = core::HttpProtocolOptions { max_response_headers_kb: None, ..common };
    // All of them before the first `?`: every rejection is reported.
    let connection = connection_options(common, defaults.idle_timeout, &at);
    let preserve_header_case = http1(http1_options.unwrap_or_default(), &cursor.field("http_protocol_options"));
    http2(http2_options.unwrap_or_default(), &cursor.field("http2_protocol_options"));
    let upgrades = upgrades(upgrade_configs, &cursor.field("upgrade_configs"));
    let bytes = head_bytes(max_request_headers_kb, &cursor.field("max_request_headers_kb"));
    let head_timeout_at = cursor.field("request_headers_timeout");
    let head_timeout = match request_headers_timeout {
        None => Some(defaults.head_timeout),
        Some(timeout) => duration(timeout, &head_timeout_at).and_then(|timeout| match timeout {
            Duration::ZERO => head_timeout_at.reject_value("has no limit", "give a time above 0"),
            timeout => Some(timeout),
        }),
    };
    let stream_idle_at = cursor.field("stream_idle_timeout");
    let stream_idle_timeout = optional(stream_idle_timeout, defaults.stream_idle_timeout, &stream_idle_at);
    let UpstreamProtocolOptions { head, preserve_header_case: _, max_requests, idle_timeout, max_age } = connection?;
    Some(DownstreamProtocolOptions {
        head: HeadLimits { bytes: bytes?, headers: head.headers },
        target_bytes: defaults.target_bytes,
        preserve_header_case: preserve_header_case?,
        max_requests,
        head_timeout: head_timeout?,
        stream_idle_timeout: stream_idle_timeout?.0,
        idle_timeout,
        max_age,
        upgrades: upgrades?.into(),
    })
}

/// Decodes the options of a cluster, but `preserve_header_case`, which [`http1`] decodes.
pub(super) fn upstream(
    options: core::HttpProtocolOptions,
    cursor: &FieldCursor<'_>,
) -> Option<UpstreamProtocolOptions> {
    connection_options(options, UpstreamProtocolOptions::default().idle_timeout, cursor)
}

/// Decodes the protocols that requests may switch to.
fn upgrades(configs: Vec<UpgradeConfig>, cursor: &FieldCursor<'_>) -> Option<Vec<UpgradeProtocol>> {
    if configs.len() > MAX_UPGRADES {
        return cursor.reject_value("has too many entries", &format!("{MAX_UPGRADES} at most"));
    }
    let mut upgrades = Vec::with_capacity(configs.len());
    let mut is_valid = true;
    for (index, config) in configs.into_iter().enumerate() {
        let cursor = cursor.entry(index);
        let UpgradeConfig { upgrade_type, filters, enabled } = config;
        unsupported!(cursor; filters);
        if enabled.is_some_and(|enabled| !enabled.value) {
            continue;
        }
        match UpgradeProtocol::new(&upgrade_type) {
            Some(protocol) => upgrades.push(protocol),
            None => {
                cursor.field("upgrade_type").reject("is no protocol to switch to", "a token such as `websocket`");
                is_valid = false;
            }
        }
    }
    is_valid.then_some(upgrades)
}

/// Decodes the options of an HTTP/2 codec. The proxy always accepts extended CONNECT.
#[expect(deprecated, reason = "a deprecated field is rejected, too")]
pub(super) fn http2(options: core::Http2ProtocolOptions, cursor: &FieldCursor<'_>) {
    let core::Http2ProtocolOptions {
        hpack_table_size,
        max_concurrent_streams,
        initial_stream_window_size,
        initial_connection_window_size,
        allow_connect: _,
        allow_metadata,
        max_outbound_frames,
        max_outbound_control_frames,
        max_consecutive_inbound_frames_with_empty_payload,
        max_inbound_priority_frames_per_stream,
        max_inbound_window_update_frames_per_data_frame_sent,
        stream_error_on_invalid_http_messaging,
        override_stream_error_on_invalid_http_message,
        custom_settings_parameters,
        connection_keepalive,
        use_oghttp2_codec,
        max_metadata_size,
        enable_huffman_encoding,
        max_header_field_size_kb,
        disallow_obs_text,
        stream_reset_burst,
        stream_reset_rate,
    } = options;
    unsupported!(cursor; hpack_table_size, max_concurrent_streams, initial_stream_window_size,
        initial_connection_window_size, allow_metadata, max_outbound_frames, max_outbound_control_frames,
        max_consecutive_inbound_frames_with_empty_payload, max_inbound_priority_frames_per_stream,
        max_inbound_window_update_frames_per_data_frame_sent, stream_error_on_invalid_http_messaging,
        override_stream_error_on_invalid_http_message, custom_settings_parameters, connection_keepalive,
        use_oghttp2_codec, max_metadata_size, enable_huffman_encoding, max_header_field_size_kb, disallow_obs_text,
        stream_reset_burst, stream_reset_rate);
}

/// Decodes the options of an HTTP/1 codec. Returns true if the names of headers are forwarded as sent.
pub(super) fn http1(options: core::Http1ProtocolOptions, cursor: &FieldCursor<'_>) -> Option<bool> {
    use core::http1_protocol_options::{HeaderKeyFormat, header_key_format::HeaderFormat};
    let core::Http1ProtocolOptions {
        allow_absolute_url,
        accept_http_10,
        default_host_for_http_10,
        header_key_format,
        enable_trailers,
        allow_chunked_length,
        override_stream_error_on_invalid_http_message,
        send_fully_qualified_url,
        use_balsa_parser,
        allow_custom_methods,
        ignore_http_11_upgrade,
    } = options;
    unsupported!(cursor; allow_absolute_url, accept_http_10, default_host_for_http_10, enable_trailers,
        allow_chunked_length, override_stream_error_on_invalid_http_message, send_fully_qualified_url, use_balsa_parser,
        allow_custom_methods, ignore_http_11_upgrade);
    let Some(HeaderKeyFormat { header_format }) = header_key_format else { return Some(false) };
    let cursor = cursor.field("header_key_format");
    match header_format {
        None => Some(false),
        Some(HeaderFormat::ProperCaseWords(_)) => {
            cursor.field("proper_case_words").reject_value("is not supported", "use the preserve_case formatter")
        }
        Some(HeaderFormat::StatefulFormatter(core::TypedExtensionConfig { name: _, typed_config })) => {
            let cursor = cursor.field("stateful_formatter");
            let config = cursor.required(typed_config)?;
            if config.type_url != proto::type_url::<PreserveCaseFormatterConfig>() {
                return cursor.reject_value("is not supported", "use the preserve_case formatter");
            }
            let PreserveCaseFormatterConfig {
                forward_reason_phrase: _, // The proxy always forwards it.
                formatter_type_on_envoy_headers,
            } = cursor.checked(PreserveCaseFormatterConfig::decode(&*config.value))?;
            unsupported!(cursor; formatter_type_on_envoy_headers);
            Some(true)
        }
    }
}

/// Decodes the message that a connection manager and a cluster share. Its bound of head bytes is a cluster's.
fn connection_options(
    options: core::HttpProtocolOptions,
    default_idle_timeout: Option<Duration>,
    cursor: &FieldCursor<'_>,
) -> Option<UpstreamProtocolOptions> {
    let core::HttpProtocolOptions {
        idle_timeout,
        max_connection_duration,
        max_connection_duration_jitter,
        max_headers_count,
        max_response_headers_kb,
        max_stream_duration,
        headers_with_underscores_action,
        max_requests_per_connection,
    } = options;
    unsupported!(cursor; max_connection_duration_jitter, max_stream_duration, headers_with_underscores_action);
    let bytes = head_bytes(max_response_headers_kb, &cursor.field("max_response_headers_kb"));
    let headers = headers(max_headers_count, cursor);
    let idle_timeout = optional(idle_timeout, default_idle_timeout, &cursor.field("idle_timeout"));
    let max_age = optional(max_connection_duration, None, &cursor.field("max_connection_duration"));
    Some(UpstreamProtocolOptions {
        head: HeadLimits { bytes: bytes?, headers: headers? },
        preserve_header_case: false,
        max_requests: max_requests(max_requests_per_connection),
        idle_timeout: idle_timeout?.0,
        max_age: max_age?.0,
    })
}

/// Decodes the longest target of an HTTP/1 request, as text.
pub(super) fn target_bytes(text: &str, cursor: &FieldCursor<'_>) -> Option<u32> {
    match text.parse::<u32>() {
        Ok(bytes @ 1..=MAX_TARGET_BYTES) => Some(bytes),
        _ => cursor.reject_value("is no size of a target", &format!("1 to {MAX_TARGET_BYTES} bytes")),
    }
}

fn head_bytes(kib: Option<protobuf::UInt32Value>, cursor: &FieldCursor<'_>) -> Option<u32> {
    const MAX_KIB: u32 = MAX_HEAD_BYTES / KIB;
    match kib.map(|kib| kib.value) {
        None => Some(HeadLimits::default().bytes),
        Some(kib @ 1..=MAX_KIB) => Some(kib * KIB),
        Some(_) => cursor.reject_value("is no size of a head", &format!("1 to {MAX_KIB} KiB")),
    }
}

fn headers(count: Option<protobuf::UInt32Value>, cursor: &FieldCursor<'_>) -> Option<u32> {
    match count.map(|count| count.value) {
        None => Some(HeadLimits::default().headers),
        Some(count @ 1..=MAX_HEADERS) => Some(count),
        Some(_) => {
            cursor.field("max_headers_count").reject_value("is no number of headers", &format!("1 to {MAX_HEADERS}"))
        }
    }
}

fn max_requests(count: Option<protobuf::UInt32Value>) -> Option<NonZeroU32> {
    count.and_then(|count| NonZeroU32::new(count.value))
}

/// A timeout that 0 disables: `None` is no limit.
struct OptionalTimeout(Option<Duration>);

/// Decodes a timeout that 0 disables.
fn optional(
    timeout: Option<protobuf::Duration>,
    default: Option<Duration>,
    cursor: &FieldCursor<'_>,
) -> Option<OptionalTimeout> {
    let Some(timeout) = timeout else { return Some(OptionalTimeout(default)) };
    let timeout = duration(timeout, cursor)?;
    Some(OptionalTimeout((!timeout.is_zero()).then_some(timeout)))
}
