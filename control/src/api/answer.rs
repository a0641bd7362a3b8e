//! Answers: values as JSON, and failures with a status, a reason, and every refusal with its place.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use tracing::error;
use weir_resources::Refusal;

use crate::access::{Token, TokenError};
use crate::publish::Refused;
use crate::store::StoreError;

/// A value as JSON.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(mut bytes) => {
                bytes.push(b'\n');
                ([(header::CONTENT_TYPE, "application/json")], Body::from(bytes)).into_response()
            }
            Err(error) => {
                error!(%error, "an answer cannot be written as JSON");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

/// What a request has done, for the audit log; goes with its response.
#[derive(Debug, Clone, Default)]
pub(crate) struct Done {
    pub(crate) revision: Option<u64>,
    pub(crate) objects: Vec<String>,
    /// Nothing has changed, and the same will be said again soon: not for the audit log.
    pub(crate) is_routine: bool,
}

impl Done {
    /// Nothing but that somebody is there still.
    pub(crate) fn routine() -> Self {
        Self { is_routine: true, ..Self::default() }
    }

    /// Something without a revision, with this.
    pub(crate) fn with(object: String) -> Self {
        Self { objects: vec![object], ..Self::default() }
    }

    /// Something with a token.
    pub(crate) fn of_token(token: &Token) -> Self {
        let Token { id, name, role, .. } = token;
        Self::with(format!("Token {id} `{name}` {role:?}"))
    }
}

/// Why a request was not done.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    body: FailureBody,
}

/// What a failure says.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct FailureBody {
    /// What is wrong, and what to do about it.
    error: String,
    /// Each thing that is wrong with what was sent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<RefusalSchema>")]
    refusals: Vec<Refusal>,
}

/// One thing that is wrong with what was sent.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the schema of `weir_resources::Refusal`, for the description of the API")]
struct RefusalSchema {
    /// The file, as the request calls it; `stored` is what was applied before.
    file: String,
    /// The line, from 1; 0 when none is to blame.
    line: u32,
    /// The column, from 1.
    column: u32,
    /// The object: `HTTPRoute default/api`.
    object: Option<String>,
    /// The field: `spec.rules[0].backendRefs[0].name`.
    field: String,
    /// What is wrong.
    reason: String,
    /// What to do about it.
    hint: String,
}

impl Failure {
    fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self { status, body: FailureBody { error: error.into(), refusals: Vec::new() } }
    }

    pub(crate) fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "send a token that is known: `Authorization: Bearer weir_…`")
    }

    pub(crate) fn forbidden(error: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, error)
    }

    pub(crate) fn not_found(error: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error)
    }

    pub(crate) fn conflict(error: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, error)
    }

    pub(crate) fn busy(error: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let status = match &refused {
            Refused::Invalid(_) | Refused::NotTold(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Refused::NotFound(_) => StatusCode::NOT_FOUND,
            Refused::Conflict(_) => StatusCode::CONFLICT,
            Refused::Forbidden(_) => StatusCode::FORBIDDEN,
            Refused::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let error = refused.to_string();
        let refusals = if let Refused::Invalid(refusals) = refused { refusals } else { Vec::new() };
        Self { status, body: FailureBody { error, refusals } }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::busy(error.to_string())
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Invalid(reason) => Self::bad_request(reason),
            TokenError::NotFound(_) => Self::not_found(error.to_string()),
            TokenError::Store(error) => error.into(),
        }
    }
}
