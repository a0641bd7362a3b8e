//! The condition of a limit on requests.

use weir_sdk::matching::{PathMatch, without_query};

use crate::host::Host;

/// The requests that a limit counts, by method and path. An empty list matches every request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// The methods, any of which matches.
    pub methods: Vec<String>,
    /// The paths, any of which matches; compared without the query.
    pub paths: Vec<PathMatch>,
}

impl Match {
    /// Returns whether the limit counts the request of `host`.
    pub fn matches<H: Host>(&self, host: &H) -> bool {
        let method = || host.header(":method").unwrap_or_default();
        let path = || host.header(":path").unwrap_or_default();
        (self.methods.is_empty() || contains_method(&self.methods, &method()))
            && (self.paths.is_empty() || contains_path(&self.paths, without_query(&path())))
    }
}

fn contains_method(methods: &[String], wanted: &[u8]) -> bool {
    methods.iter().any(|method| method.as_bytes() == wanted)
}

fn contains_path(paths: &[PathMatch], wanted: &[u8]) -> bool {
    paths.iter().any(|path| path.matches(wanted))
}
