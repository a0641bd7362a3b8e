//! Plans of a bench: the build to measure, and the number of measurements.

/// The build of the proxy that is measured.
#[derive(Clone, Copy)]
pub(super) enum Build {
    /// The package in `target/dist`, which `cargo xtask release` builds.
    Packaged,
    /// An ordinary release, which takes half the time to build. The bench builds it.
    Plain,
}

/// The build to measure, and the number of measurements.
#[derive(Clone, Copy)]
pub(crate) struct BenchPlan {
    pub(super) build: Build,
    /// Turns of a second for each proxy.
    pub(super) rounds: usize,
    /// Pairs of slices for a small filter; filters with a larger cost have a quarter as many.
    pub(super) pairs: usize,
    /// Turns for each proxy with many routes and many connections.
    pub(super) scale_rounds: usize,
    /// Turns for each proxy with bodies, pipelining and slow clients.
    pub(super) row_rounds: usize,
    /// Measurements of memory.
    pub(super) starts: usize,
}

/// The plan of the figures in the documentation.
pub(crate) const FULL: BenchPlan =
    BenchPlan { build: Build::Packaged, rounds: 25, pairs: 1_200, scale_rounds: 9, row_rounds: 9, starts: 5 };

/// A short plan that shows whether a change did harm.
pub(crate) const QUICK: BenchPlan =
    BenchPlan { build: Build::Plain, rounds: 7, pairs: 200, scale_rounds: 3, row_rounds: 3, starts: 3 };
