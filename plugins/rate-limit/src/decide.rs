//! The decision on one request: all limits that are for it, the strictest answer.
//!
//! ```text
//!  each limit ─┬► every one has a token ─► allowed; told is the one with the fewest left
//!              └► one has none ─► 429 rate_limit_NAME; told is the one with the longest wait,
//!                                 and what the others gave is given back
//! ```

use crate::bucket::Standing;
use crate::config::{Config, Limit, OnError};
use crate::host::Host;
use crate::key::{self, Key, MissingKey};
use crate::scope::Scope;
use crate::slot::Room;
use crate::store::{Failure, Outcome, Place};

/// What happens to the request.
#[derive(Debug, PartialEq, Eq)]
pub struct Decision<'c> {
    /// May it pass?
    pub verdict: Verdict<'c>,
    /// Buckets that were forgotten for it before they were full.
    pub evicted: u32,
    /// Limits that could not be asked.
    pub failed: u32,
}

/// May it pass?
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<'c> {
    /// Yes. If a limit is for it, that is where it stands.
    Allowed(Option<Standing>),
    /// No.
    Refused(&'c Limit, Reason),
}

/// Why not. The last of several is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There have been too many.
    Limited {
        /// Seconds until the next may pass.
        wait_s: u64,
        /// Where the limit stands.
        standing: Standing,
    },
    /// So many want the same bucket that it could not be changed.
    Contended,
    /// The host keeps no shared data now.
    Unavailable,
    /// It lacks what it is counted by.
    MissingKey,
}

/// Decides on one request, and counts it if it may pass.
pub fn decide<'c, H: Host>(config: &'c Config, scope: &Scope, host: &H) -> Decision<'c> {
    let now = host.now();
    let mut decision = Decision { verdict: Verdict::Allowed(None), evicted: 0, failed: 0 };
    let mut taken: Vec<Place> = Vec::new();
    for (limit, &number) in config.limits.iter().zip(&scope.limits) {
        if !limit.matches.holds(host) {
            continue;
        }
        let key = match key::of_request(&limit.key, limit.missing, host, (scope.seed, number)) {
            Key::Counted(key) => key,
            Key::Missing if limit.missing == MissingKey::Skip => continue,
            Key::Missing => {
                decision.refuse(limit, Reason::MissingKey);
                continue;
            }
        };
        let place = Place::new(number, config.slots, key, (limit.rate, now));
        let is_lost = matches!(decision.verdict, Verdict::Refused(..));
        match if is_lost { place.look(host) } else { place.take(host) } {
            Ok(Outcome::Taken(..)) if is_lost => {}
            Ok(Outcome::Taken(standing, room)) => {
                taken.push(place);
                decision.evicted += u32::from(room == Room::Made);
                decision.allow(standing);
            }
            Ok(Outcome::Empty(standing, wait_s)) => decision.refuse(limit, Reason::Limited { wait_s, standing }),
            Err(failure) => {
                decision.failed += 1;
                if config.on_error == OnError::Refuse {
                    decision.refuse(limit, failure.into());
                }
            }
        }
    }
    if matches!(decision.verdict, Verdict::Refused(..)) {
        let not_given = taken.iter().filter(|place| place.give_back(host).is_err()).count();
        decision.failed += u32::try_from(not_given).unwrap_or(u32::MAX);
    }
    decision
}

impl<'c> Decision<'c> {
    fn allow(&mut self, standing: Standing) {
        if let Verdict::Allowed(told) = &mut self.verdict {
            let strictness = |standing: &Standing| (standing.remaining, u64::MAX - standing.reset_s);
            *told = Some(told.map_or(standing, |told| std::cmp::min_by_key(told, standing, strictness)));
        }
    }

    fn refuse(&mut self, limit: &'c Limit, reason: Reason) {
        let is_stricter = match &self.verdict {
            Verdict::Allowed(_) => true,
            Verdict::Refused(_, known) => reason.rank() > known.rank(),
        };
        if is_stricter {
            self.verdict = Verdict::Refused(limit, reason);
        }
    }
}

impl Reason {
    fn rank(self) -> (u8, u64) {
        match self {
            Self::Limited { wait_s, .. } => (0, wait_s),
            Self::Contended => (1, 0),
            Self::Unavailable => (2, 0),
            Self::MissingKey => (3, 0),
        }
    }
}

impl From<Failure> for Reason {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Contended => Self::Contended,
            Failure::Unavailable => Self::Unavailable,
        }
    }
}
