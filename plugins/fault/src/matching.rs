//! The condition on the requests that may get a fault.

use weir_sdk::matching::PathMatch;
use weir_sdk::path::readings;

use crate::request::Request;

/// The requests that may get a fault, by method, path and headers. An empty list matches every request.
///
/// A path matches as in a limit of `rate-limit`: a request can have more than one reading, like `/login;x`, and matches
/// when any of them does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Match {
    /// The methods, any of which matches.
    pub methods: Vec<String>,
    /// The paths, any of which matches a reading; compared without the query.
    pub paths: Vec<PathMatch>,
    /// The headers, all of which must match.
    pub headers: Vec<HeaderMatch>,
}

/// The condition on a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderMatch {
    /// The name, in lower case.
    pub name: String,
    /// The required first value; `None` accepts any value.
    pub exact: Option<String>,
}

impl Match {
    /// Returns whether the request matches.
    pub fn matches(&self, request: &impl Request) -> bool {
        (self.methods.is_empty() || self.matches_method(request))
            && (self.paths.is_empty() || self.matches_path(request))
            && self.headers.iter().all(|header| header.matches(request))
    }

    fn matches_method(&self, request: &impl Request) -> bool {
        let method = request.header(":method").unwrap_or_default();
        self.methods.iter().any(|wanted| wanted.as_bytes().eq_ignore_ascii_case(&method))
    }

    fn matches_path(&self, request: &impl Request) -> bool {
        let path = request.header(":path").unwrap_or_default();
        let readings = readings(&path);
        self.paths.iter().any(|path| readings.iter().any(|reading| path.matches_loosely(reading)))
    }
}

impl HeaderMatch {
    fn matches(&self, request: &impl Request) -> bool {
        let value = request.header(&self.name);
        value.is_some_and(|value| self.exact.as_ref().is_none_or(|exact| exact.as_bytes() == value))
    }
}
