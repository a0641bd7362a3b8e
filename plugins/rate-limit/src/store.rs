//! Buckets in shared data, changed by compare-and-swap. The count is exact across workers, with the standard ABI only.
//!
//! ```text
//!  key ─► hash ─► `rl-LIMIT-(hash % slots)` ─► slot of 8 buckets ─► bucket
//! ```
//!
//! The number of slots is fixed, so memory is bounded for any number of keys.

use crate::bucket::{QuotaStatus, Rate, TakeResult};
use crate::digits::push_hex;
use crate::host::{CasResult, Host, Unavailable};
use crate::limits::MAX_ATTEMPTS;
use crate::slot::{Insertion, Slot};

/// A reference to the bucket of a key in its slot, with the rate and the time of the request.
#[derive(Debug, Clone)]
pub struct SlotRef {
    slot: String,
    key: u64,
    rate: Rate,
    now: u64,
}

/// The result of a request at a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A token was taken.
    Taken(QuotaStatus, Insertion),
    /// The bucket is empty.
    Empty(QuotaStatus, Wait),
}

/// Seconds until the bucket has a token.
pub type Wait = u64;

/// The reason why a bucket could not be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Other workers changed the slot on each attempt.
    Contended,
    /// The host's shared data is unavailable.
    Unavailable,
}

impl From<Unavailable> for Failure {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

/// The result of an edit: leaves the slot unchanged, or writes it.
enum Edit<T> {
    Unchanged(T),
    Write(T),
}

impl SlotRef {
    /// Creates a reference to the bucket of `key` for the limit with the number `limit`.
    pub fn new(limit: u64, slots: u64, key: u64, rate: Rate, now: u64) -> Self {
        Self { slot: slot_name(limit, key % slots.max(1)), key, rate, now }
    }

    /// Takes a token. An empty bucket is not written, so a rejection costs one read.
    pub fn take<H: Host>(&self, host: &H) -> Result<Outcome, Failure> {
        self.change(host, |slot| match self.rate.take(slot.full_at(self.key), self.now) {
            TakeResult::Taken(full_at) => {
                let insertion = slot.set(self.key, full_at, self.now);
                Edit::Write(Outcome::Taken(self.rate.quota(full_at, self.now), insertion))
            }
            TakeResult::Empty { full_at, is_corrected } => {
                let quota = self.rate.quota(full_at, self.now);
                let outcome = Outcome::Empty(quota, self.rate.wait_s(full_at, self.now));
                if !is_corrected {
                    return Edit::Unchanged(outcome);
                }
                slot.set(self.key, full_at, self.now);
                Edit::Write(outcome)
            }
        })
    }

    /// Returns the result that [`SlotRef::take`] would have, without taking a token.
    pub fn peek<H: Host>(&self, host: &H) -> Result<Outcome, Failure> {
        self.change(host, |slot| {
            Edit::Unchanged(match self.rate.take(slot.full_at(self.key), self.now) {
                TakeResult::Taken(full_at) => Outcome::Taken(self.rate.quota(full_at, self.now), Insertion::Fit),
                TakeResult::Empty { full_at, .. } => {
                    Outcome::Empty(self.rate.quota(full_at, self.now), self.rate.wait_s(full_at, self.now))
                }
            })
        })
    }

    /// Returns a token that was taken for a request which another limit rejects.
    pub fn refund<H: Host>(&self, host: &H) -> Result<(), Failure> {
        self.change(host, |slot| {
            let full_at = slot.full_at(self.key);
            slot.set(self.key, self.rate.refund(full_at), self.now);
            Edit::Write(())
        })
    }

    fn change<H: Host, T>(&self, host: &H, edit: impl Fn(&mut Slot) -> Edit<T>) -> Result<T, Failure> {
        for _attempt in 0..MAX_ATTEMPTS {
            let (mut bytes, version) = host.read(&self.slot)?;
            let mut slot = Slot::unpack(&bytes);
            let outcome = match edit(&mut slot) {
                Edit::Unchanged(outcome) => return Ok(outcome),
                Edit::Write(outcome) => outcome,
            };
            slot.pack(&mut bytes);
            if host.write(&self.slot, &bytes, version)? == CasResult::Stored {
                return Ok(outcome);
            }
        }
        Err(Failure::Contended)
    }
}

/// Returns `rl-LIMIT-SLOT` with at least 16 and 5 hexadecimal digits.
fn slot_name(limit: u64, slot: u64) -> String {
    let mut name = String::with_capacity(28);
    name.push_str("rl-");
    push_hex(&mut name, limit, 16);
    name.push('-');
    push_hex(&mut name, slot, 5);
    name
}
