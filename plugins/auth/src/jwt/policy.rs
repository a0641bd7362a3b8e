//! The options of tokens: their limits, and the condition on the subject.

/// The conditions on a token that the configuration sets.
#[derive(Debug, Clone, Copy)]
pub struct TokenPolicy {
    /// `maxTokenBytes`: the longest token, in bytes.
    pub token_bytes: usize,
    /// `maxClaimValues`: the values (texts, numbers, lists, objects) of the claims, and of the header.
    pub claim_values: usize,
    /// `maxHeaderBytes`: the longest subject, and the longest value of a header that is set from a claim, in bytes.
    pub header_bytes: usize,
    /// The condition on `sub`.
    pub subject: SubjectPolicy,
}

/// The condition on `sub`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectPolicy {
    /// A token without a subject is denied.
    Required,
    /// A token without a subject is valid, and sets no consumer.
    Optional,
}

impl Default for TokenPolicy {
    fn default() -> Self {
        Self { token_bytes: 8 * 1024, claim_values: 1024, header_bytes: 2048, subject: SubjectPolicy::Required }
    }
}
