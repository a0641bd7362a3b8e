//! The two protocols of a stream, and what a peer's request says.

use std::sync::Arc;

use crate::kind::Kind;
use crate::report::Report;

/// Which of the two protocols a peer speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Each response says what has changed.
    Delta,
    /// Each response says everything of its kind that was asked for.
    StateOfTheWorld,
}

/// What a request said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// It only asks.
    Asked,
    /// The last response of the kind was taken in: the resources that it brought or took away.
    Accepted(Kind, Vec<Arc<str>>),
    /// The last response of the kind was refused, or some of what it brought, and why.
    Refused(Kind, Vec<Arc<str>>, String),
    /// What became of everything that was taken in.
    Reported(Report),
    /// It answers a response that is not the last one: what it says of it is void.
    Stale,
    /// It asks for a kind that we do not know, by its type URL.
    Unknown(String),
    /// It asks for too much.
    TooMany(Kind),
}
