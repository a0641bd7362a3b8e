//! The `date` header of responses that come without one, written once a second.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;
use weir_http1::encode;

struct CachedDate {
    second: u64,
    text: String,
}

thread_local! {
    static DATE: RefCell<CachedDate> = const { RefCell::new(CachedDate { second: 0, text: String::new() }) };
}

/// Returns the value of the `date` header of now (RFC 9110 §6.6.1).
pub(super) fn date_header() -> HeaderValue {
    with_date(|date| HeaderValue::from_str(date).expect("a date is ASCII text"))
}

/// Appends the `date` field of now.
pub(super) fn write_date(out: &mut Vec<u8>) {
    with_date(|date| encode::field(out, b"date", date.as_bytes()));
}

fn with_date<T>(read: impl FnOnce(&str) -> T) -> T {
    let second = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|date| {
        if date.second != second || date.text.is_empty() {
            date.second = second;
            date.text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
        }
        read(&date.text)
    })
}
