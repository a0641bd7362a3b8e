//! The condition of a limit on requests.

use std::borrow::Cow;

use weir_sdk::matching::PathMatch;
use weir_sdk::path::readings;

use crate::host::Host;

/// The requests that a limit counts, by method and path. An empty list matches every request.
///
/// A request can have more than one reading, like `/login;x` and `/%6cogin`. A limit counts a request when **any** reading
/// matches, as a deny rule of `auth` does. So no spelling of a path escapes a limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// The methods, any of which matches.
    pub methods: Vec<String>,
    /// The paths, any of which matches a reading; compared without the query.
    pub paths: Vec<PathMatch>,
}

impl Match {
    /// Returns whether the limit counts the request of `host`.
    pub fn matches<H: Host>(&self, host: &H) -> bool {
        let method = || host.header(":method").unwrap_or_default();
        let path = || host.header(":path").unwrap_or_default();
        (self.methods.is_empty() || contains_method(&self.methods, &method()))
            && (self.paths.is_empty() || contains_path(&self.paths, &readings(&path())))
    }
}

fn contains_method(methods: &[String], wanted: &[u8]) -> bool {
    methods.iter().any(|method| method.as_bytes().eq_ignore_ascii_case(wanted))
}

fn contains_path(paths: &[PathMatch], readings: &[Cow<'_, [u8]>]) -> bool {
    paths.iter().any(|path| readings.iter().any(|reading| path.matches_loosely(reading)))
}
