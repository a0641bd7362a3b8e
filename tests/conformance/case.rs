//! One case: a request, and what the filter does with it.

/// A request, and what the filter does with it.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    /// What it is called in reports and in the list of differences.
    pub(crate) name: String,
    /// Lines of the probe's script without their path: `request_headers proxy_log 2 "hello"`.
    pub(crate) steps: Vec<String>,
    /// What is sent.
    pub(crate) sent: Sent,
    /// Whether what the filter reads is never the same twice.
    pub(crate) is_volatile: bool,
    /// Whether answers to its callouts may come before or after its end: they are left out.
    pub(crate) leaves_answers_out: bool,
}

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) method: &'static str,
    pub(crate) headers: Vec<(&'static str, &'static str)>,
    /// Its body; none when it is empty.
    pub(crate) body: &'static str,
    /// Whether trailers follow.
    pub(crate) trailers: bool,
    /// More of its path.
    pub(crate) query: &'static str,
}

impl Default for Sent {
    fn default() -> Self {
        Self { method: "GET", headers: vec![("x-sent", "yes")], body: "", trailers: false, query: "" }
    }
}

impl Sent {
    /// A request with a body and trailers.
    pub(crate) fn whole() -> Self {
        Self { method: "POST", body: "request-body", trailers: true, ..Self::default() }
    }
}

impl Case {
    /// A case with these steps.
    pub(crate) fn new(name: impl Into<String>, steps: &[&str]) -> Self {
        let steps = steps.iter().map(|step| (*step).to_owned()).collect();
        Self { name: name.into(), steps, sent: Sent::default(), is_volatile: false, leaves_answers_out: false }
    }

    /// With another request.
    pub(crate) fn sending(self, sent: Sent) -> Self {
        Self { sent, ..self }
    }
}
