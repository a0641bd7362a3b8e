//! Buckets in shared data, changed by compare-and-swap: exact across workers with nothing but the standard ABI.
//!
//! ```text
//!  key ─► hash ─► `rl-LIMIT-(hash % slots)` ─► slot of 8 buckets ─► bucket
//! ```
//!
//! The number of slots is fixed, so memory is bounded whatever keys arrive.

use crate::bucket::{Rate, Standing, Take};
use crate::digits::push_hex;
use crate::host::{Host, Unavailable, Written};
use crate::limits::MAX_ATTEMPTS;
use crate::slot::{Room, Slot};

/// Where a bucket is, and how it fills.
#[derive(Debug, Clone)]
pub struct Place {
    slot: String,
    key: u64,
    rate: Rate,
    now: u64,
}

/// What became of a request at a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It took a token.
    Taken(Standing, Room),
    /// There was none.
    Empty(Standing, Wait),
}

/// Seconds until there is a token.
pub type Wait = u64;

/// Why nothing became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Others were always faster.
    Contended,
    /// The host keeps no shared data now.
    Unavailable,
}

impl From<Unavailable> for Failure {
    fn from(_: Unavailable) -> Self {
        Self::Unavailable
    }
}

/// Whether a slot is to be written.
enum Edit<T> {
    Keep(T),
    Write(T),
}

impl Place {
    /// The bucket of `key` under the limit with the number `limit`.
    pub fn new(limit: u64, slots: u64, key: u64, (rate, now): (Rate, u64)) -> Self {
        Self { slot: slot_name(limit, key % slots.max(1)), key, rate, now }
    }

    /// Takes a token. An empty bucket is not written, so refusing costs one look.
    pub fn take<H: Host>(&self, host: &H) -> Result<Outcome, Failure> {
        self.change(host, |slot| match self.rate.take(slot.full_at(self.key), self.now) {
            Take::Taken(full_at) => {
                let room = slot.set(self.key, full_at, self.now);
                Edit::Write(Outcome::Taken(self.rate.standing(full_at, self.now), room))
            }
            Take::Empty { full_at, is_corrected } => {
                let standing = self.rate.standing(full_at, self.now);
                let outcome = Outcome::Empty(standing, self.rate.wait_s(full_at, self.now));
                if !is_corrected {
                    return Edit::Keep(outcome);
                }
                slot.set(self.key, full_at, self.now);
                Edit::Write(outcome)
            }
        })
    }

    /// What [`Place::take`] would say, without taking anything.
    pub fn look<H: Host>(&self, host: &H) -> Result<Outcome, Failure> {
        self.change(host, |slot| {
            Edit::Keep(match self.rate.take(slot.full_at(self.key), self.now) {
                Take::Taken(full_at) => Outcome::Taken(self.rate.standing(full_at, self.now), Room::Enough),
                Take::Empty { full_at, .. } => {
                    Outcome::Empty(self.rate.standing(full_at, self.now), self.rate.wait_s(full_at, self.now))
                }
            })
        })
    }

    /// Gives back a token that was taken for a request which another limit refuses.
    pub fn give_back<H: Host>(&self, host: &H) -> Result<(), Failure> {
        self.change(host, |slot| {
            let full_at = slot.full_at(self.key);
            slot.set(self.key, self.rate.give_back(full_at), self.now);
            Edit::Write(())
        })
    }

    fn change<H: Host, T>(&self, host: &H, edit: impl Fn(&mut Slot) -> Edit<T>) -> Result<T, Failure> {
        for _attempt in 0..MAX_ATTEMPTS {
            let (mut bytes, version) = host.read(&self.slot)?;
            let mut slot = Slot::unpack(&bytes);
            let outcome = match edit(&mut slot) {
                Edit::Keep(outcome) => return Ok(outcome),
                Edit::Write(outcome) => outcome,
            };
            slot.pack(&mut bytes);
            if host.write(&self.slot, &bytes, version)? == Written::Done {
                return Ok(outcome);
            }
        }
        Err(Failure::Contended)
    }
}

/// `rl-LIMIT-SLOT`, in hexadecimal digits: at least 16 and 5.
fn slot_name(limit: u64, slot: u64) -> String {
    let mut name = String::with_capacity(28);
    name.push_str("rl-");
    push_hex(&mut name, limit, 16);
    name.push('-');
    push_hex(&mut name, slot, 5);
    name
}
