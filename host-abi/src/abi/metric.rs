//! `MetricKind`: the type of a guest's metric (`proxy_define_metric`).

use crate::abi::wire_enum;

wire_enum! {
    /// The type of a metric.
    MetricKind {
        /// A value that only increases.
        Counter = 0,
        /// A value that increases and decreases.
        Gauge = 1,
        /// A distribution of values.
        Histogram = 2,
    }
}
