//! `LogLevel`: the level of a guest's log message (`proxy_log`, `proxy_get_log_level`).

use crate::abi::wire_enum;

wire_enum! {
    /// The level of a guest's log message.
    LogLevel {
        /// Every step of the filter.
        Trace = 0,
        /// Details for troubleshooting.
        Debug = 1,
        /// Normal events of interest.
        Info = 2,
        /// A problem that the filter handled.
        Warn = 3,
        /// A failure.
        Error = 4,
        /// A failure after which the filter cannot continue.
        Critical = 5,
    }
}
