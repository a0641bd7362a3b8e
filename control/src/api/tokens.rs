//! Tokens: create, list, revoke.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::access::{Role, Token, TokenRequest};
use crate::api::blocking::blocking;
use crate::api::response::{ApiError, AuditDetails, JsonResponse};
use crate::api::state::ApiState;

/// A new token with its secret.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreatedToken {
    /// The token.
    #[serde(flatten)]
    token: Token,
    /// The text for `Authorization: Bearer …`, or a proxy's join token. It cannot be read again.
    secret: String,
}

pub(crate) async fn list(State(api): State<Arc<ApiState>>) -> Response {
    JsonResponse(api.tokens.all()).into_response()
}

pub(crate) async fn create(State(api): State<Arc<ApiState>>, body: String) -> Result<Response, ApiError> {
    let request: TokenRequest = serde_json::from_str(&body)
        .map_err(|error| ApiError::bad_request(format!("the body must be {{name, role}} in JSON: {error}")))?;
    blocking(move || {
        let (token, mut secret) = api.tokens.create(api.publisher.store(), request)?;
        if token.role == Role::Proxy {
            // The fingerprint authenticates the control plane to the proxy.
            secret = format!("{secret}.{}", api.ca.root_fingerprint()?);
        }
        let details = AuditDetails::with_token(&token);
        let mut response = JsonResponse(CreatedToken { token, secret }).into_response();
        response.extensions_mut().insert(details);
        Ok(response)
    })
    .await
}

pub(crate) async fn revoke(State(api): State<Arc<ApiState>>, Path(id): Path<String>) -> Result<Response, ApiError> {
    blocking(move || {
        let token = api.tokens.revoke(api.publisher.store(), &id)?;
        let details = AuditDetails::with_token(&token);
        let mut response = JsonResponse(token).into_response();
        response.extensions_mut().insert(details);
        Ok(response)
    })
    .await
}
