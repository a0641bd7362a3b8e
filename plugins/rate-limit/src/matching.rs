//! Which requests a limit is for.

use weir_sdk::matching::{PathMatch, without_query};

use crate::host::Host;

/// Requests with one of these methods and one of these paths. An empty list is every one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// Methods.
    pub methods: Vec<String>,
    /// Paths, compared without the query.
    pub paths: Vec<PathMatch>,
}

impl Match {
    /// Whether the limit is for this request.
    pub fn holds<H: Host>(&self, host: &H) -> bool {
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
