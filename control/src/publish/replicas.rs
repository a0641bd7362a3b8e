//! Other control planes that share the store: what they have written is taken up before anything is changed here, and as
//! soon as they have written it.

use tracing::info;

use crate::limits::MAX_CONFLICTS;
use crate::publish::{Inner, Publisher, Refused};
use crate::store::State;

impl Publisher {
    /// Takes up what other control planes have written, and tells it.
    ///
    /// # Errors
    /// It cannot be read, or is not understood here; what was told before goes on.
    pub fn follow(&self) -> Result<(), Refused> {
        let (head, stamp) = (self.store.head()?, self.store.bundle_stamp()?); // Nobody waits for these.
        if self.registry.reload()? {
            self.workloads_changed.notify_one();
        }
        let mut inner = self.inner.lock();
        if head == inner.state.head && stamp == inner.told_bundles {
            return Ok(());
        }
        self.take_others(&mut inner)
    }

    pub(super) fn take_others(&self, inner: &mut Inner) -> Result<(), Refused> {
        if !self.store.is_shared() {
            return Ok(());
        }
        for _ in 0..MAX_CONFLICTS {
            // The bundles after the revisions that name them.
            let next = self.store.newer(&inner.state)?;
            self.bundles.reload()?;
            if next.is_none() && self.bundles.stamp() == inner.told_bundles {
                return Ok(());
            }
            let next = next.unwrap_or_else(|| inner.state.clone());
            match self.take(inner, next.clone()) {
                // Meanwhile somebody may have changed what this names.
                Err(Refused::Invalid(_) | Refused::NotTold(_)) if self.store.head()? != next.head => {}
                taken => return taken.map_err(|refused| not_understood(refused, next.revision)),
            }
        }
        Err(overtaken())
    }

    /// Tells a state.
    fn take(&self, inner: &mut Inner, next: State) -> Result<(), Refused> {
        let (compiled, told) = self.prepare_untried(inner, &next)?;
        if next.head == inner.state.head && told.says_the_same(&self.board.told()) {
            inner.told_bundles = self.bundles.stamp(); // One that nothing names.
            return Ok(());
        }
        inner.texts = inner.texts_of(&next);
        inner.state = next;
        info!(revision = inner.state.revision, "another control plane has changed something");
        self.tell(inner, &compiled, told);
        Ok(())
    }
}

fn not_understood(refused: Refused, revision: u64) -> Refused {
    match refused {
        Refused::Invalid(refusals) => {
            let reasons: Vec<String> = refusals.iter().map(ToString::to_string).collect();
            let reasons = reasons.join("; ");
            Refused::Conflict(format!(
                "revision {revision}, made by another control plane, is not understood here: {reasons}; do all of them run \
                 the same program, with the same --config, --plugins and --trusted-signers?"
            ))
        }
        other => other,
    }
}

/// Others were first again and again.
pub(super) fn overtaken() -> Refused {
    Refused::Conflict(format!("other control planes were first {MAX_CONFLICTS} times; try again"))
}
