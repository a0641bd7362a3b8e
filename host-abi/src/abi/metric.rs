//! `MetricKind`: what a guest's metric counts (`proxy_define_metric`).

use crate::abi::wire_enum;

wire_enum! {
    /// What a metric counts.
    MetricKind {
        /// Only grows.
        Counter = 0,
        /// Goes up and down.
        Gauge = 1,
        /// Collects values.
        Histogram = 2,
    }
}
