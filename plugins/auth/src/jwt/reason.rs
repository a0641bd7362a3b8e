//! The error types of this folder: fixed texts, so that they cost the module little code.

/// The reason why a token is denied, as one word for the access log: `auth_jwt_expired`.
pub type DenyReason = &'static str;

/// The token is longer than `maxTokenBytes`.
pub(super) const TOO_LONG: DenyReason = "auth_jwt_too_long";

/// The header or the claims have more values than `maxClaimValues`.
pub(super) const TOO_MANY_VALUES: DenyReason = "auth_jwt_too_many_values";

/// A claim for a header, or the subject, is longer than `maxHeaderBytes`.
pub(super) const CLAIM_TOO_LONG: DenyReason = "auth_jwt_claim_too_long";

/// The fault of a key in the configuration, as the end of a sentence that begins with the field.
pub type KeyError = &'static str;
