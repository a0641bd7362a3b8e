//! Quantities with units in resources: `16Mi`, `10ms`, `1/3`. Durations and sizes print in the form that they parse.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::limits::MAX_DURATION;

/// The reason why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct UnitError {
    /// The error, without a full stop.
    pub reason: String,
    /// The accepted form.
    pub hint: String,
}

fn unit_error(reason: String, hint: &str) -> UnitError {
    UnitError { reason, hint: hint.to_owned() }
}

/// A duration in the format of the Gateway API (GEP-2257): `1h30m`, `500ms`, `0s`; at most [`MAX_DURATION`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayDuration(pub Duration);

const DURATION_HINT: &str = "write whole numbers with h, m, s or ms, as in `500ms`, `10s` or `1h30m`";

impl FromStr for GatewayDuration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || unit_error(format!("`{text}` is not a duration"), DURATION_HINT);
        let mut rest = text;
        let mut total = Duration::ZERO;
        while !rest.is_empty() {
            let digits = rest.find(|character: char| !character.is_ascii_digit()).ok_or_else(bad)?;
            if digits == 0 || digits > 5 {
                return Err(bad());
            }
            let number: u64 = rest[..digits].parse().map_err(|_| bad())?;
            rest = &rest[digits..];
            let (unit, length) = if rest.starts_with("ms") {
                (Duration::from_millis(number), 2)
            } else {
                match rest.as_bytes().first() {
                    Some(b'h') => (Duration::from_secs(number * 3_600), 1),
                    Some(b'm') => (Duration::from_secs(number * 60), 1),
                    Some(b's') => (Duration::from_secs(number), 1),
                    _ => return Err(bad()),
                }
            };
            rest = &rest[length..];
            total += unit;
        }
        if text.is_empty() {
            return Err(bad());
        }
        if total > MAX_DURATION {
            return Err(unit_error(format!("`{text}` is too long"), "the longest duration is `99999h`"));
        }
        Ok(Self(total))
    }
}

impl fmt::Display for GatewayDuration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        match millis {
            0 => formatter.write_str("0s"),
            _ if millis.is_multiple_of(3_600_000) => write!(formatter, "{}h", millis / 3_600_000),
            _ if millis.is_multiple_of(60_000) => write!(formatter, "{}m", millis / 60_000),
            _ if millis.is_multiple_of(1_000) => write!(formatter, "{}s", millis / 1_000),
            _ => write!(formatter, "{millis}ms"),
        }
    }
}

impl Serialize for GatewayDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A number of bytes in the format of Kubernetes quantities: `512`, `64Ki`, `16Mi`, `1Gi`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

const SIZE_UNITS: [(&str, u64); 6] =
    [("Ki", 1 << 10), ("Mi", 1 << 20), ("Gi", 1 << 30), ("k", 1_000), ("M", 1_000_000), ("G", 1_000_000_000)];

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let bad = || unit_error(format!("`{text}` is not a size"), "write bytes with Ki, Mi or Gi, as in `16Mi`");
        let (digits, unit) = SIZE_UNITS
            .iter()
            .find_map(|(suffix, unit)| text.strip_suffix(suffix).map(|digits| (digits, *unit)))
            .unwrap_or((text, 1));
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(bad());
        }
        digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).map(Self).ok_or_else(bad)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (suffix, unit) in [SIZE_UNITS[2], SIZE_UNITS[1], SIZE_UNITS[0]] {
            if self.0 != 0 && self.0.is_multiple_of(unit) {
                return write!(formatter, "{}{suffix}", self.0 / unit);
            }
        }
        write!(formatter, "{}", self.0)
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A share of requests: `numerator / denominator`, from 0 to 1, in lowest terms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
pub struct Fraction {
    numerator: u32,
    denominator: u32,
}

impl Fraction {
    /// All requests.
    pub const ALL: Self = Self { numerator: 1, denominator: 1 };

    /// Returns `numerator / denominator` in lowest terms.
    ///
    /// # Errors
    /// The denominator is 0, or the fraction is above 1.
    pub fn new(numerator: u32, denominator: u32) -> Result<Self, UnitError> {
        if denominator == 0 {
            return Err(unit_error("the denominator is 0".to_owned(), "leave `denominator` out for hundredths"));
        }
        if numerator > denominator {
            return Err(unit_error(format!("{numerator}/{denominator} is more than all"), "at most the denominator"));
        }
        let divisor = greatest_divisor(numerator, denominator);
        Ok(Self { numerator: numerator / divisor, denominator: denominator / divisor })
    }

    /// Returns the numerator.
    pub const fn numerator(self) -> u32 {
        self.numerator
    }

    /// Returns the denominator, which is not 0.
    pub const fn denominator(self) -> u32 {
        self.denominator
    }

    /// Returns true for this share of all `random` values, which are uniform over `u32`.
    pub fn samples(self, random: u32) -> bool {
        (u64::from(random) * u64::from(self.denominator)) >> 32 < u64::from(self.numerator)
    }
}

/// Returns the greatest common divisor (Euclid's algorithm). `other` is not 0.
const fn greatest_divisor(one: u32, other: u32) -> u32 {
    let (mut one, mut other) = (one, other);
    while one != 0 {
        (one, other) = (other % one, one);
    }
    other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_parse_in_gateway_api_format() {
        for (text, expected) in [
            ("0s", Some(0)),
            ("10ms", Some(10)),
            ("1h30m", Some(5_400_000)),
            ("1m500ms", Some(60_500)),
            ("99999h", Some(359_996_400_000)),
            ("", None),
            ("10", None),
            ("1.5s", None),
            ("-1s", None),
            ("100000s", None),
            ("1d", None),
            ("s", None),
            ("10 s", None),
        ] {
            assert_eq!(text.parse::<GatewayDuration>().ok().map(|duration| duration.0.as_millis()), expected, "{text}");
        }
    }

    #[test]
    fn sizes_parse_as_kubernetes_quantities() {
        for (text, expected) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("64Ki", Some(65_536)),
            ("16Mi", Some(16 << 20)),
            ("4Gi", Some(4 << 30)),
            ("1k", Some(1_000)),
            ("", None),
            ("Mi", None),
            ("1.5Mi", None),
            ("99999999999Gi", None),
            ("16 Mi", None),
        ] {
            assert_eq!(text.parse::<ByteSize>().ok().map(|size| size.0), expected, "{text}");
        }
    }

    #[test]
    fn printed_units_read_back() {
        for millis in [0, 1, 999, 1_000, 59_000, 60_000, 61_000, 3_600_000, 5_400_000] {
            let duration = GatewayDuration(Duration::from_millis(millis));
            assert_eq!(duration.to_string().parse(), Ok(duration));
        }
        for bytes in [0, 1, 1023, 1024, 1 << 20, 3 << 29, 1 << 30] {
            assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
        }
    }

    #[test]
    fn fractions_are_in_lowest_terms() {
        for (numerator, denominator, expected) in [(50, 100, (1, 2)), (0, 7, (0, 1)), (7, 7, (1, 1)), (3, 7, (3, 7))] {
            let fraction = Fraction::new(numerator, denominator).unwrap();
            assert_eq!((fraction.numerator(), fraction.denominator()), expected);
        }
    }

    #[test]
    fn fraction_samples_its_share() {
        let third = Fraction::new(1, 3).unwrap();
        let sampled = (0..30_000u32).filter(|index| third.samples(index.wrapping_mul(143_165))).count();
        assert!((9_900..10_100).contains(&sampled), "{sampled}");
        assert!(Fraction::ALL.samples(u32::MAX) && !Fraction::new(0, 100).unwrap().samples(0));
    }
}
