//! One filter of a measured chain.

/// A filter with its module, phase and configuration.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) name: &'static str,
    pub(super) phase: &'static str,
    /// Configuration: the same text for each proxy.
    pub(super) config: &'static str,
    /// `Worker` or `Stream`; Envoy has no equivalent of the latter.
    pub(super) isolation: &'static str,
}
