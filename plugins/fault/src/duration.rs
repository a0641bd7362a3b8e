//! Durations in the format of the Gateway API (GEP-2257), like `1m30s` and `200ms`, as Istio writes them, too.

use std::time::Duration;

/// The units, in the order in which they may follow each other, in milliseconds.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// The most digits of one number.
const MAX_DIGITS: usize = 5;

/// Parses a duration: up to four numbers of at most five digits with their units, from the largest to the smallest.
/// `None` for any other text.
pub fn parse(text: &str) -> Option<Duration> {
    let (mut rest, mut milliseconds, mut next_unit) = (text, 0, 0);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || digits > MAX_DIGITS {
            return None;
        }
        let (number, after) = rest.split_at(digits);
        let letters = after.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, after_unit) = after.split_at(letters);
        let index = UNITS.iter().position(|(name, _)| *name == unit)?;
        if index < next_unit {
            return None;
        }
        milliseconds += number.parse::<u64>().ok()? * UNITS[index].1;
        (rest, next_unit) = (after_unit, index + 1);
    }
    (next_unit > 0).then_some(Duration::from_millis(milliseconds))
}

/// Parses the delay of a request header: a duration, or a number of milliseconds.
pub fn parse_header(text: &str) -> Option<Duration> {
    let is_number = !text.is_empty() && text.len() <= 10 && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok().map(Duration::from_millis) } else { parse(text) }
}
