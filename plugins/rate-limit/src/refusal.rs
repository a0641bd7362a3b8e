//! The answer to a request that may not pass, as plain values.

use crate::bucket::Standing;
use crate::config::Limit;
use crate::decide::Reason;

/// The answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 429; 400 when a value is missing, 503 when the host cannot count.
    pub status: u16,
    /// The reason as one word, for the access log.
    pub details: String,
    /// The reason in words, for the downstream.
    pub text: String,
    /// Seconds until it is worth trying again.
    pub retry_after_s: Option<u64>,
    /// Where the limit stands.
    pub standing: Option<Standing>,
}

/// The answer for a reason.
pub fn answer(limit: &Limit, reason: Reason) -> Refusal {
    let name = &limit.name;
    let word = name.replace('-', "_");
    let (status, details, text, retry_after_s) = match reason {
        Reason::Limited { wait_s, .. } => {
            (429, format!("rate_limit_{word}"), format!("too many requests: limit {name}\n"), Some(wait_s))
        }
        Reason::MissingKey => {
            let text = format!("bad request: it lacks what limit {name} counts by\n");
            (400, format!("rate_limit_{word}_missing_key"), text, None)
        }
        Reason::Contended => {
            let text = format!("too many requests at once: limit {name}\n");
            (429, "rate_limit_contended".to_owned(), text, Some(1))
        }
        Reason::Unavailable => {
            let text = format!("limit {name} cannot be asked now\n");
            (503, "rate_limit_unavailable".to_owned(), text, Some(1))
        }
    };
    let standing = match reason {
        Reason::Limited { standing, .. } => Some(standing),
        Reason::Contended | Reason::Unavailable | Reason::MissingKey => None,
    };
    Refusal { status, details, text, retry_after_s, standing }
}
