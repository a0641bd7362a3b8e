//! Phases of a plugin instance, and the streams that use it.
//!
//! ```text
//! Serving ──drain──► Draining ──the last stream has left──► ShuttingDown ──proxy_done, or a deadline──► Removed
//! ```

use std::cell::Cell;

/// Phase of a plugin instance. It moves forward only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PluginPhase {
    /// New streams may use the plugin.
    Serving,
    /// New streams use another VM, or none.
    Draining,
    /// The plugin context is done, and may still be called until the guest has finished.
    ShuttingDown,
    /// The plugin context is deleted. Other plugins may still use the VM.
    Removed,
}

/// The phase of a plugin instance, and the number of streams that may still call it.
#[derive(Debug)]
pub(crate) struct PluginLifecycle {
    phase: Cell<PluginPhase>,
    active_streams: Cell<usize>,
}

/// True for the one transition after which a plugin instance has no stream and gets none: it can shut down.
pub(crate) type IsDrained = bool;

impl PluginLifecycle {
    /// Returns the lifecycle of a plugin that serves.
    pub(crate) fn new() -> Self {
        Self { phase: Cell::new(PluginPhase::Serving), active_streams: Cell::new(0) }
    }

    /// Returns the phase.
    pub(crate) fn phase(&self) -> PluginPhase {
        self.phase.get()
    }

    /// Counts a stream that may call the plugin.
    pub(crate) fn stream_started(&self) {
        debug_assert!(self.phase() == PluginPhase::Serving, "a draining plugin gets no stream");
        self.active_streams.set(self.active_streams.get() + 1);
    }

    /// Counts the end of a stream.
    pub(crate) fn stream_ended(&self) -> IsDrained {
        let left = self.active_streams.get().saturating_sub(1);
        self.active_streams.set(left);
        left == 0 && self.phase() == PluginPhase::Draining
    }

    /// Stops new streams. A second call has no effect.
    pub(crate) fn drain(&self) -> IsDrained {
        if self.phase() != PluginPhase::Serving {
            return false;
        }
        self.phase.set(PluginPhase::Draining);
        self.active_streams.get() == 0
    }

    /// Begins the shutdown of a drained plugin.
    pub(crate) fn begin_shutdown(&self) {
        debug_assert!(self.phase() == PluginPhase::Draining && self.active_streams.get() == 0);
        self.phase.set(PluginPhase::ShuttingDown);
    }

    /// Ends the plugin: it is not called again.
    pub(crate) fn remove(&self) {
        self.phase.set(PluginPhase::Removed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Start,
        End,
        Drain,
    }

    proptest! {
        /// Whatever the order of streams and drains, the plugin is drained exactly once, without a stream.
        #[test]
        fn plugin_is_drained_once(steps in proptest::collection::vec(
            prop_oneof![Just(Step::Start), Just(Step::End), Just(Step::Drain)], 0..60)) {
            let lifecycle = PluginLifecycle::new();
            let (mut streams, mut drained, mut phase) = (0, 0, PluginPhase::Serving);
            let end = |streams: &mut usize| {
                *streams -= 1;
                usize::from(lifecycle.stream_ended())
            };
            for step in steps {
                match step {
                    // A handle gives no draining plugin to a stream.
                    Step::Start if lifecycle.phase() == PluginPhase::Serving => {
                        lifecycle.stream_started();
                        streams += 1;
                    }
                    Step::End if streams > 0 => drained += end(&mut streams),
                    Step::Drain => drained += usize::from(lifecycle.drain()),
                    Step::Start | Step::End => {}
                }
                prop_assert!(lifecycle.phase() >= phase);
                phase = lifecycle.phase();
                prop_assert!(drained == usize::from(phase == PluginPhase::Draining && streams == 0));
            }
            drained += usize::from(lifecycle.drain());
            while streams > 0 {
                drained += end(&mut streams);
            }
            prop_assert_eq!(drained, 1);
        }
    }
}
