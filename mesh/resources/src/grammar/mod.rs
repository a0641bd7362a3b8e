//! How single texts and numbers have to look: names, host names, paths, headers, ports. Called by `resource` for each
//! field; every rule cites where it is from.

pub(crate) mod http;
pub(crate) mod name;

/// Why a text or number cannot stand where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Objection {
    /// What is wrong, without a full stop.
    pub(crate) reason: String,
    /// What to write instead.
    pub(crate) hint: String,
}

impl Objection {
    pub(crate) fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: hint.into() }
    }
}

impl From<weir_model::UnitError> for Objection {
    fn from(error: weir_model::UnitError) -> Self {
        Self { reason: error.reason, hint: error.hint }
    }
}
