//! One case of an HTTP stream: a request, and the filter's steps on it.

/// A request, and the filter's steps on it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// Name in reports and in `docs/envoy-differences.md`.
    pub(crate) name: String,
    /// Lines of the probe's script, without the path at their beginning: `request_headers proxy_log 2 "hello"`.
    pub(crate) steps: Vec<String>,
    /// Request that the client sends.
    pub(crate) request: RequestSpec,
    /// True if the values that the filter reads differ from run to run. Only their type or length is compared.
    pub(crate) is_volatile: bool,
    /// True if responses to its callouts may arrive before or after the stream's end. They are not compared.
    pub(crate) ignores_callout_responses: bool,
}

/// Request of a case.
#[derive(Debug, Clone)]
pub(crate) struct RequestSpec {
    pub(crate) method: &'static str,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    /// Body. Empty if the request has none.
    pub(crate) body: &'static str,
    /// True if a trailer follows the body.
    pub(crate) trailers: bool,
    /// Query, with its `?`. It is appended to the path.
    pub(crate) query: &'static str,
}

impl Default for RequestSpec {
    fn default() -> Self {
        Self { method: "GET", headers: vec![("x-sent", "yes")], body: "", trailers: false, query: "" }
    }
}

impl RequestSpec {
    /// Returns a request with a body and a trailer.
    pub(crate) fn full() -> Self {
        Self { method: "POST", body: "request-body", trailers: true, ..Self::default() }
    }
}

impl Case {
    /// Returns a case with these steps and the default request.
    pub(crate) fn new(name: impl Into<String>, steps: &[&str]) -> Self {
        let steps = steps.iter().map(|step| (*step).to_owned()).collect();
        Self {
            name: name.into(),
            steps,
            request: RequestSpec::default(),
            is_volatile: false,
            ignores_callout_responses: false,
        }
    }

    /// Returns the case with another request.
    pub(crate) fn with_request(self, request: RequestSpec) -> Self {
        Self { request, ..self }
    }
}
