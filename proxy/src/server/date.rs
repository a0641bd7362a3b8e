//! The `date` header of responses that come without one, written once a second.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use weir_http1::encode;

struct CachedDate {
    second: u64,
    text: String,
}

thread_local! {
    static DATE: RefCell<CachedDate> = const { RefCell::new(CachedDate { second: 0, text: String::new() }) };
}

/// Appends the `date` field of now (RFC 9110 §6.6.1).
pub(super) fn write_date(out: &mut Vec<u8>) {
    let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|date| {
        if date.second != second || date.text.is_empty() {
            date.second = second;
            date.text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
        }
        encode::field(out, b"date", date.text.as_bytes());
    });
}
