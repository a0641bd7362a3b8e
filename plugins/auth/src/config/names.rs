//! Checks of the names in a configuration: headers and consumers.

use weir_sdk::config::FieldReader;
use weir_sdk::matching::is_token;

/// The header with the authenticated consumer, for the upstream. The filter removes it from downstream requests.
pub const CONSUMER_HEADER: &str = "x-auth-consumer";

/// Compares header names without regard to case, and with `_` equal to `-`. Upstreams that turn header names into
/// variables cannot distinguish `x_auth_consumer` from `x-auth-consumer`.
pub(super) fn is_same_name(left: &str, right: &[u8]) -> bool {
    let plain = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    left.len() == right.len() && left.bytes().map(plain).eq(right.iter().copied().map(plain))
}

pub(super) fn check_consumer(fields: &FieldReader, name: &str, value: &str) {
    if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        fields.report(name, "is sent upstream as a header, so it may hold visible ASCII only");
    }
}

pub(super) fn check_header_name(fields: &FieldReader, name: &str, value: &str) {
    if !is_token(value) {
        fields.report(name, "is not a legal header name");
    }
}
