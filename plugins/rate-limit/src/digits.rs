//! Numbers as text, without the standard library's formatting, which would be a third of what the filter costs.

use std::fmt::{self, Write as _};

/// A number in decimal digits.
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    /// The digits of this number.
    pub fn of(mut number: u64) -> Self {
        let mut digits = [b'0'; 20];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] += last_of(number, 10);
            number /= 10;
            if number == 0 {
                return Self { digits, start };
            }
        }
    }

    /// The digits.
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|digit| formatter.write_char(char::from(*digit)))
    }
}

/// Writes a number in lower-case hexadecimal digits, at least so many.
pub fn push_hex(text: &mut String, number: u64, at_least: u32) {
    let needed = (u64::BITS - number.leading_zeros()).div_ceil(4);
    for place in (0..needed.max(at_least)).rev() {
        let digit = last_of(number >> (4 * place), 16);
        text.push(char::from(if digit < 10 { b'0' + digit } else { b'a' - 10 + digit }));
    }
}

/// The last digit.
#[expect(clippy::cast_possible_truncation, reason = "a digit is less than the base")]
const fn last_of(number: u64, base: u8) -> u8 {
    (number % base as u64) as u8
}
