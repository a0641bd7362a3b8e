//! How often the log tells what a filter does wrong: a guest makes the same fault thousands of times in one call, and
//! nobody reads the same line thousands of times. Pure: times go in, a verdict comes out.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::MAX_COMPLAINTS;

/// The time in which complaints count together.
const WINDOW: Duration = Duration::from_secs(1);

/// What becomes of a complaint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Complaint {
    /// It is logged.
    Tell,
    /// It is not, and the log says that no more are until the second has passed.
    TellOfSilence,
    /// It is not.
    Keep,
}

/// Complaints about one plugin on one worker.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    since: Option<Instant>,
    made: u32,
}

impl Complaints {
    /// One more, now.
    pub(super) fn add(&mut self, now: Instant) -> Complaint {
        if self.since.is_none_or(|since| now.duration_since(since) >= WINDOW) {
            self.since = Some(now);
            self.made = 0;
        }
        self.made = self.made.saturating_add(1);
        match self.made {
            ..=MAX_COMPLAINTS => Complaint::Tell,
            made if made == MAX_COMPLAINTS + 1 => Complaint::TellOfSilence,
            _ => Complaint::Keep,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_complaints() {
        let start = Instant::now();
        let mut complaints = Complaints::default();
        for _ in 0..2 {
            let now = start + WINDOW * u32::from(complaints.since.is_some());
            let verdicts: Vec<_> = (0..1_000).map(|_| complaints.add(now)).collect();
            let count = |wanted| verdicts.iter().filter(|verdict| **verdict == wanted).count();
            assert_eq!(count(Complaint::Tell), MAX_COMPLAINTS as usize);
            assert_eq!(count(Complaint::TellOfSilence), 1);
        }
    }
}
