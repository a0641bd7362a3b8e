//! Timestamps as RFC 3339 in UTC with milliseconds: `2026-01-31T23:59:59.999Z`. Used by the access log and the admin
//! pages.

use std::time::{SystemTime, UNIX_EPOCH};

/// A formatter that caches the text of the last second, because the access log writes many lines per second.
#[derive(Debug, Default)]
pub(crate) struct TimestampFormatter {
    second: u64,
    text: String,
}

impl TimestampFormatter {
    /// Appends a timestamp. Times before 1970 are written as 1970.
    pub(crate) fn write(&mut self, time: SystemTime, line: &mut Vec<u8>) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if since.as_secs() != self.second || self.text.is_empty() {
            self.second = since.as_secs();
            self.text = seconds(since.as_secs());
        }
        line.extend_from_slice(self.text.as_bytes());
        let millis = since.subsec_millis();
        let digit = |divisor: u32| b'0' + u8::try_from(millis / divisor % 10).unwrap_or(0);
        line.extend_from_slice(&[b'.', digit(100), digit(10), digit(1), b'Z']);
    }
}

/// Returns a timestamp as text.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let mut line = Vec::with_capacity(24);
    TimestampFormatter::default().write(time, &mut line);
    String::from_utf8(line).unwrap_or_default()
}

/// Returns `2026-01-31T23:59:59`. The date is computed by Howard Hinnant's `civil_from_days` for days since 1970-01-01.
fn seconds(since_1970: u64) -> String {
    let (days, second) = (since_1970 / 86_400, since_1970 % 86_400);
    let shifted = days + 719_468; // Days since 0000-03-01, so that leap days are at the end of the year.
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn timestamps_are_rfc3339() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_210_096_007, "2024-02-29T12:34:56.007Z"),
            (1_767_225_599_000, "2025-12-31T23:59:59.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn cached_second_is_replaced_when_it_changes() {
        let mut timestamps = TimestampFormatter::default();
        let mut line = Vec::new();
        for millis in [1_000, 1_001, 2_002] {
            timestamps.write(UNIX_EPOCH + Duration::from_millis(millis), &mut line);
        }
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "1970-01-01T00:00:01.000Z1970-01-01T00:00:01.001Z1970-01-01T00:00:02.002Z"
        );
    }
}
