//! Verifies RS256: RSA signatures with PKCS#1 v1.5 padding and SHA-256 (RFC 8017 §8.2.2).
//!
//! All values are public, so the code need not take constant time. The padding is not parsed. The expected plaintext is
//! built and compared as a whole, so a signature with malformed padding is never accepted.

use sha2::{Digest, Sha256};

use super::reason::KeyError;

/// The accepted sizes of a modulus, in bits. Shorter ones can be broken (RFC 7518 §3.3); longer ones take milliseconds.
const SIZES: std::ops::RangeInclusive<usize> = 2048..=4096;

/// The only accepted public exponent, 65537, as bytes.
const EXPONENT: [u8; 3] = [1, 0, 1];

/// Primes that must not divide a modulus, which is the product of two large primes.
const SMALL_PRIMES: [u32; 15] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47];

/// The DER before a SHA-256 digest (RFC 8017 §9.2).
const DIGEST_INFO: [u8; 19] = [0x30, 0x31, 0x30, 0x0d, 6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1, 5, 0, 4, 0x20];

/// A public key. Numbers are digits of 32 bits, lowest first, and as long as the modulus.
pub(super) struct PublicKey {
    modulus: Vec<u32>,
    /// The length of a signature.
    bytes: usize,
    /// -1 / modulus, modulo 2^32.
    negative_inverse: u32,
    /// R² modulo the modulus, where R is 2^32 to the number of digits. Converts a number to Montgomery form.
    r_squared: Vec<u32>,
}

impl PublicKey {
    /// Creates a key from a modulus and an exponent, both with the highest byte first.
    pub(super) fn new(modulus: &[u8], exponent: &[u8]) -> Result<Self, KeyError> {
        let modulus = without_zeros(modulus);
        let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
        if !SIZES.contains(&bits) {
            return Err("is an RSA key of less than 2048 or more than 4096 bits");
        }
        if without_zeros(exponent) != EXPONENT {
            return Err("is an RSA key with another exponent than 65537");
        }
        let remainder = |prime| modulus.iter().fold(0, |rest, &byte| (rest << 8 | u32::from(byte)) % prime);
        if SMALL_PRIMES.iter().any(|&prime| remainder(prime) == 0) {
            return Err("is no RSA key: a small number divides its modulus");
        }
        let bytes = modulus.len();
        let modulus = digits(modulus, bytes.div_ceil(4));
        // Each step of Newton's iteration doubles the number of correct bits: 1, 2, 4, 8, 16, 32.
        let mut inverse: u32 = 1;
        for _ in 0..5 {
            inverse = inverse.wrapping_mul(2_u32.wrapping_sub(modulus[0].wrapping_mul(inverse)));
        }
        let r_squared = r_squared(&modulus);
        Ok(Self { modulus, bytes, negative_inverse: inverse.wrapping_neg(), r_squared })
    }

    /// Returns whether `signature` is this key's signature of `message`.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        if signature.len() != self.bytes {
            return false;
        }
        let signature = digits(signature, self.modulus.len());
        if !is_less(&signature, &self.modulus) {
            return false;
        }
        let mut padded = vec![0xff; self.bytes];
        let digest_start = self.bytes - 32;
        let info_start = digest_start - DIGEST_INFO.len();
        padded[..2].copy_from_slice(&[0, 1]);
        padded[info_start - 1] = 0;
        padded[info_start..digest_start].copy_from_slice(&DIGEST_INFO);
        padded[digest_start..].copy_from_slice(&Sha256::digest(message));
        self.to_the_exponent(&signature) == digits(&padded, self.modulus.len())
    }

    /// Returns `number` to the power of 65537.
    fn to_the_exponent(&self, number: &[u32]) -> Vec<u32> {
        let mut power = self.multiply(number, &self.r_squared);
        for _ in 0..16 {
            power = self.multiply(&power, &power);
        }
        self.multiply(&power, number) // A factor in normal form converts the product back to normal form.
    }

    /// Returns Montgomery's product, `left * right / R` modulo the modulus.
    fn multiply(&self, left: &[u32], right: &[u32]) -> Vec<u32> {
        let size = self.modulus.len();
        let mut sum = vec![0; size + 2];
        for &digit in left {
            add_product(&mut sum, right, digit);
            // Adding this multiple of the modulus makes the lowest digit zero. The digit is then shifted out.
            let factor = sum[0].wrapping_mul(self.negative_inverse);
            add_product(&mut sum, &self.modulus, factor);
            sum.copy_within(1.., 0);
            sum[size + 1] = 0;
        }
        let overflow = sum[size] != 0;
        sum.truncate(size);
        if overflow || !is_less(&sum, &self.modulus) {
            subtract(&mut sum, &self.modulus);
        }
        sum
    }
}

/// Returns 2^(64 * digits) modulo `modulus`, by doubling 1.
fn r_squared(modulus: &[u32]) -> Vec<u32> {
    let mut number = vec![0; modulus.len()];
    number[0] = 1;
    for _ in 0..modulus.len() * 64 {
        let mut carry = 0;
        for digit in &mut number {
            let doubled = *digit << 1 | carry;
            carry = *digit >> 31;
            *digit = doubled;
        }
        if carry == 1 || !is_less(&number, modulus) {
            subtract(&mut number, modulus);
        }
    }
    number
}

/// Computes `sum += factors * digit`, where `sum` is two digits longer than `factors`.
fn add_product(sum: &mut [u32], factors: &[u32], digit: u32) {
    let (low, high) = sum.split_at_mut(factors.len());
    let mut carry = 0;
    for (sum, &factor) in low.iter_mut().zip(factors) {
        (*sum, carry) = low_and_high(u64::from(factor) * u64::from(digit) + u64::from(*sum) + u64::from(carry));
    }
    for sum in high {
        (*sum, carry) = low_and_high(u64::from(*sum) + u64::from(carry));
    }
}

#[expect(clippy::cast_possible_truncation, reason = "cuts a number in two halves")]
fn low_and_high(number: u64) -> (u32, u32) {
    (number as u32, (number >> 32) as u32)
}

/// Computes `number -= other`. A borrow out of the highest digit is dropped.
fn subtract(number: &mut [u32], other: &[u32]) {
    let mut borrow = false;
    for (digit, &other) in number.iter_mut().zip(other) {
        let (difference, first) = digit.overflowing_sub(other);
        let (difference, second) = difference.overflowing_sub(u32::from(borrow));
        *digit = difference;
        borrow = first || second;
    }
}

fn is_less(left: &[u32], right: &[u32]) -> bool {
    left.iter().rev().lt(right.iter().rev())
}

/// Converts a number with the highest byte first to `size` digits.
fn digits(bytes: &[u8], size: usize) -> Vec<u32> {
    let digit = |part: &[u8]| part.iter().fold(0, |digit, &byte| digit << 8 | u32::from(byte));
    let mut digits: Vec<u32> = bytes.rchunks(4).map(digit).collect();
    digits.resize(size, 0);
    digits
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    &bytes[zeros..]
}
