//! The decision on one request: checks all limits that match it, and reports the strictest.
//!
//! ```text
//!  each limit ─┬► all have a token ─► allowed; reports the limit with the fewest tokens
//!              └► one is empty ─► 429 rate_limit_NAME of the limit with the longest wait;
//!                                 tokens of the other limits are refunded
//! ```

use crate::bucket::QuotaStatus;
use crate::config::{Config, Limit, OnError};
use crate::host::Host;
use crate::key::{self, Key, MissingKey};
use crate::limit_table::LimitTable;
use crate::slot::Insertion;
use crate::store::{Failure, Outcome, SlotRef};

/// The decision on a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Decision<'c> {
    /// The result.
    pub verdict: Verdict<'c>,
    /// Buckets that were evicted before they were full.
    pub evicted: u32,
    /// Limits that could not count.
    pub failed: u32,
}

/// The result for a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<'c> {
    /// The request passes. Has the state of the strictest limit, or `None` if no limit matches.
    Allowed(Option<QuotaStatus>),
    /// The limit rejects the request.
    Rejected(&'c Limit, RejectReason),
}

/// The reason of a rejection. If several limits reject a request, the highest rank is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectReason {
    /// The bucket is empty.
    Limited {
        /// Seconds until the bucket has a token.
        wait_s: u64,
        /// The state of the limit.
        quota: QuotaStatus,
    },
    /// Other workers changed the bucket on each attempt.
    Contended,
    /// The host's shared data is unavailable.
    Unavailable,
    /// The request has no value for a part of the key.
    MissingKey,
}

/// Decides on one request, and counts it if it passes.
pub fn decide<'c, H: Host>(config: &'c Config, table: &LimitTable, host: &H) -> Decision<'c> {
    let now = host.now();
    let mut decision = Decision { verdict: Verdict::Allowed(None), evicted: 0, failed: 0 };
    let mut taken: Vec<SlotRef> = Vec::new();
    for (limit, &number) in config.limits.iter().zip(&table.limits) {
        if !limit.filter.matches(host) {
            continue;
        }
        let key = match key::from_request(&limit.key, limit.missing, host, table.seed, number) {
            Key::Counted(key) => key,
            Key::Missing if limit.missing == MissingKey::Skip => continue,
            Key::Missing => {
                decision.reject(limit, RejectReason::MissingKey);
                continue;
            }
        };
        let slot_ref = SlotRef::new(number, config.slots, key, limit.rate, now);
        let is_rejected = matches!(decision.verdict, Verdict::Rejected(..));
        match if is_rejected { slot_ref.peek(host) } else { slot_ref.take(host) } {
            Ok(Outcome::Taken(..)) if is_rejected => {}
            Ok(Outcome::Taken(quota, insertion)) => {
                taken.push(slot_ref);
                decision.evicted += u32::from(insertion == Insertion::Evicted);
                decision.allow(quota);
            }
            Ok(Outcome::Empty(quota, wait_s)) => decision.reject(limit, RejectReason::Limited { wait_s, quota }),
            Err(failure) => {
                decision.failed += 1;
                if config.on_error == OnError::Reject {
                    decision.reject(limit, failure.into());
                }
            }
        }
    }
    if matches!(decision.verdict, Verdict::Rejected(..)) {
        let not_refunded = taken.iter().filter(|slot_ref| slot_ref.refund(host).is_err()).count();
        decision.failed += u32::try_from(not_refunded).unwrap_or(u32::MAX);
    }
    decision
}

impl<'c> Decision<'c> {
    fn allow(&mut self, quota: QuotaStatus) {
        if let Verdict::Allowed(strictest) = &mut self.verdict {
            let strictness = |quota: &QuotaStatus| (quota.remaining, u64::MAX - quota.reset_s);
            *strictest = Some(strictest.map_or(quota, |strictest| std::cmp::min_by_key(strictest, quota, strictness)));
        }
    }

    fn reject(&mut self, limit: &'c Limit, reason: RejectReason) {
        let is_stricter = match &self.verdict {
            Verdict::Allowed(_) => true,
            Verdict::Rejected(_, known) => reason.rank() > known.rank(),
        };
        if is_stricter {
            self.verdict = Verdict::Rejected(limit, reason);
        }
    }
}

impl RejectReason {
    fn rank(self) -> (u8, u64) {
        match self {
            Self::Limited { wait_s, .. } => (0, wait_s),
            Self::Contended => (1, 0),
            Self::Unavailable => (2, 0),
            Self::MissingKey => (3, 0),
        }
    }
}

impl From<Failure> for RejectReason {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Contended => Self::Contended,
            Failure::Unavailable => Self::Unavailable,
        }
    }
}
