//! The response to a rejected request, as plain values.

use crate::bucket::QuotaStatus;
use crate::config::Limit;
use crate::decide::RejectReason;

/// The response to a rejected request.
#[derive(Debug, PartialEq, Eq)]
pub struct Rejection {
    /// 429; 400 when a value of the key is missing, 503 when the host cannot count.
    pub status: u16,
    /// The reason as one word, for the access log.
    pub details: String,
    /// The body of the response.
    pub text: String,
    /// Seconds until a retry can succeed.
    pub retry_after_s: Option<u64>,
    /// The state of the limit, for the `ratelimit-…` headers.
    pub quota: Option<QuotaStatus>,
}

impl Rejection {
    /// Returns the response for a limit that rejects a request.
    pub fn new(limit: &Limit, reason: RejectReason) -> Self {
        let name = &limit.name;
        let word = name.replace('-', "_");
        let (status, details, text, retry_after_s) = match reason {
            RejectReason::Limited { wait_s, .. } => {
                (429, format!("rate_limit_{word}"), format!("too many requests: limit {name}\n"), Some(wait_s))
            }
            RejectReason::MissingKey => {
                let text = format!("bad request: a value of the key of limit {name} is missing\n");
                (400, format!("rate_limit_{word}_missing_key"), text, None)
            }
            RejectReason::Contended => {
                let text = format!("too many requests at once: limit {name}\n");
                (429, "rate_limit_contended".to_owned(), text, Some(1))
            }
            RejectReason::Unavailable => {
                let text = format!("limit {name} is unavailable\n");
                (503, "rate_limit_unavailable".to_owned(), text, Some(1))
            }
        };
        let quota = match reason {
            RejectReason::Limited { quota, .. } => Some(quota),
            RejectReason::Contended | RejectReason::Unavailable | RejectReason::MissingKey => None,
        };
        Self { status, details, text, retry_after_s, quota }
    }
}
