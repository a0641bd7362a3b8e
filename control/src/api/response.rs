//! Responses: values as JSON, and errors as problem details (RFC 9457) with the diagnostics of the request's resources.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use tracing::error;
use weir_resources::Diagnostic;

use crate::access::{Token, TokenError};
use crate::publish::ChangeError;
use crate::store::StoreError;

/// A value, sent as JSON.
#[derive(Debug)]
pub(crate) struct JsonResponse<T>(pub(crate) T);

impl<T: Serialize> IntoResponse for JsonResponse<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(mut bytes) => {
                bytes.push(b'\n');
                ([(header::CONTENT_TYPE, "application/json")], Body::from(bytes)).into_response()
            }
            Err(error) => {
                error!(%error, "a response cannot be written as JSON");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}

/// The audit log's details of a request. Handlers attach them to the response.
#[derive(Debug, Clone, Default)]
pub(crate) struct AuditDetails {
    /// The revision that the change made.
    pub(crate) revision: Option<u64>,
    /// The objects that the request changed, or would change.
    pub(crate) objects: Vec<String>,
    /// True for a frequent request that changed nothing, such as the renewal of a lease. It is not recorded.
    pub(crate) is_routine: bool,
}

impl AuditDetails {
    /// Returns the details of a request that is not recorded.
    pub(crate) fn routine() -> Self {
        Self { is_routine: true, ..Self::default() }
    }

    /// Returns the details of a change of one object, without a revision.
    pub(crate) fn with_object(object: String) -> Self {
        Self { objects: vec![object], ..Self::default() }
    }

    /// Returns the details of a change of a token.
    pub(crate) fn with_token(token: &Token) -> Self {
        let Token { id, name, role, .. } = token;
        Self::with_object(format!("Token {id} `{name}` {role:?}"))
    }
}

/// An error response.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    body: ApiErrorBody,
}

/// The media type of an error response.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// The type of a problem that its status describes (RFC 9457 §4.2.1).
const BY_STATUS: &str = "about:blank";

/// The type of a problem with diagnostics in `refusals`.
const INVALID_RESOURCES: &str = "urn:weir:problem:invalid-resources";

/// The body of an error response: problem details (RFC 9457).
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ApiErrorBody {
    /// The type of the problem: `about:blank`, or `urn:weir:problem:invalid-resources` if `refusals` has the reasons.
    #[serde(rename = "type")]
    problem_type: &'static str,
    /// The type in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// The error, and what to do about it.
    detail: String,
    /// The text of `detail`, for clients of earlier releases.
    error: String,
    /// The faults of the request's resources.
    #[serde(rename = "refusals", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<DiagnosticSchema>")]
    diagnostics: Vec<Diagnostic>,
}

/// One fault of a resource, or a warning about it.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "the schema of `weir_resources::Diagnostic`, for the description of the API")]
pub(crate) struct DiagnosticSchema {
    /// The file, as the request names it; `stored` for an object that was applied before.
    file: String,
    /// The line, from 1; 0 for a fault without a position.
    line: u32,
    /// The column, from 1.
    column: u32,
    /// The object: `HTTPRoute default/api`.
    object: Option<String>,
    /// The field: `spec.rules[0].backendRefs[0].name`.
    field: String,
    /// The fault.
    reason: String,
    /// A hint for the correction.
    hint: String,
}

impl ApiError {
    /// Returns an error with a status and a reason.
    pub(crate) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        let detail = error.into();
        let body = ApiErrorBody {
            problem_type: BY_STATUS,
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            error: detail.clone(),
            detail,
            diagnostics: Vec::new(),
        };
        Self { status, body }
    }

    /// Returns an error for the faults of resources.
    fn invalid(detail: String, diagnostics: Vec<Diagnostic>) -> Self {
        let mut error = Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail);
        error.body.problem_type = INVALID_RESOURCES;
        error.body.title = "Invalid resources";
        error.body.diagnostics = diagnostics;
        error
    }

    /// Returns the error for a panic.
    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "this failed by a bug of weir-control; see its log")
    }

    pub(crate) fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    pub(crate) fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "send a valid token: `Authorization: Bearer weir_…`")
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

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, JsonResponse(self.body)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(PROBLEM_JSON));
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        let status = match &error {
            ChangeError::Invalid(_) | ChangeError::Unpublishable(_) => StatusCode::UNPROCESSABLE_ENTITY,
            ChangeError::NotFound(_) => StatusCode::NOT_FOUND,
            ChangeError::Conflict(_) => StatusCode::CONFLICT,
            ChangeError::Forbidden(_) => StatusCode::FORBIDDEN,
            ChangeError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let text = error.to_string();
        match error {
            ChangeError::Invalid(diagnostics) => Self::invalid(text, diagnostics),
            _ => Self::new(status, text),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        Self::busy(error.to_string())
    }
}

impl From<TokenError> for ApiError {
    fn from(error: TokenError) -> Self {
        match error {
            TokenError::Invalid(reason) => Self::bad_request(reason),
            TokenError::NotFound(_) => Self::not_found(error.to_string()),
            TokenError::Store(error) => error.into(),
        }
    }
}
