//! The error types of this folder: fixed texts, so that they cost the module little code.

/// The reason why a token is denied, as one word for the access log: `auth_jwt_expired`.
pub type DenyReason = &'static str;

/// The fault of a key in the configuration, as the end of a sentence that begins with the field.
pub type KeyError = &'static str;
