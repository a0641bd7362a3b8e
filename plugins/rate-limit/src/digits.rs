//! Formats numbers without the standard library, whose formatting would be a third of the filter's cost.

use std::fmt::{self, Write as _};

/// The decimal digits of a number.
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    /// Formats a number.
    pub fn new(mut number: u64) -> Self {
        let mut digits = [b'0'; 20];
        let mut start = digits.len();
        loop {
            start -= 1;
            digits[start] += last_digit(number, 10);
            number /= 10;
            if number == 0 {
                return Self { digits, start };
            }
        }
    }

    /// Returns the digits.
    pub fn as_bytes(&self) -> &[u8] {
        &self.digits[self.start..]
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_bytes().iter().try_for_each(|digit| formatter.write_char(char::from(*digit)))
    }
}

/// Appends a number in lower-case hexadecimal digits, at least `at_least` of them.
pub fn push_hex(text: &mut String, number: u64, at_least: u32) {
    let needed = (u64::BITS - number.leading_zeros()).div_ceil(4);
    for index in (0..needed.max(at_least)).rev() {
        let digit = last_digit(number >> (4 * index), 16);
        text.push(char::from(if digit < 10 { b'0' + digit } else { b'a' - 10 + digit }));
    }
}

/// Returns the last digit of a number in this base.
#[expect(clippy::cast_possible_truncation, reason = "a digit is less than the base")]
const fn last_digit(number: u64, base: u8) -> u8 {
    (number % base as u64) as u8
}
