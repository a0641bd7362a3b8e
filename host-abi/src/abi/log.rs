//! `LogLevel`: how serious a guest's message is (`proxy_log`, `proxy_get_log_level`).

use crate::abi::wire_enum;

wire_enum! {
    /// How serious a message of a guest is.
    LogLevel {
        /// Follows every step.
        Trace = 0,
        /// Helps to find a fault.
        Debug = 1,
        /// Worth knowing.
        Info = 2,
        /// Something is wrong but handled.
        Warn = 3,
        /// Something failed.
        Error = 4,
        /// The filter cannot go on.
        Critical = 5,
    }
}
