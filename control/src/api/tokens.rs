//! Tokens: made, listed, revoked.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;

use crate::access::{NewToken, Role, Token};
use crate::api::Api;
use crate::api::answer::{Done, Failure, Json};
use crate::api::resources::blocking;

/// A token that was just made.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MadeToken {
    /// The token.
    #[serde(flatten)]
    token: Token,
    /// What to send as `Authorization: Bearer …`, or a proxy's join token. Nobody can get it a second time.
    secret: String,
}

pub(crate) async fn list(State(api): State<Arc<Api>>) -> Response {
    Json(api.tokens.all()).into_response()
}

pub(crate) async fn make(State(api): State<Arc<Api>>, body: String) -> Result<Response, Failure> {
    let new: NewToken = serde_json::from_str(&body)
        .map_err(|error| Failure::bad_request(format!("the body must say {{name, role}} in JSON: {error}")))?;
    blocking(move || {
        let (token, mut secret) = api.tokens.make(api.publisher.store(), new)?;
        if token.role == Role::Proxy {
            // So that a proxy knows its control plane by it.
            secret = format!("{secret}.{}", api.authority.pin()?);
        }
        let done = Done::of_token(&token);
        let mut response = Json(MadeToken { token, secret }).into_response();
        response.extensions_mut().insert(done);
        Ok(response)
    })
    .await
}

pub(crate) async fn revoke(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Result<Response, Failure> {
    blocking(move || {
        let token = api.tokens.revoke(api.publisher.store(), &id)?;
        let done = Done::of_token(&token);
        let mut response = Json(token).into_response();
        response.extensions_mut().insert(done);
        Ok(response)
    })
    .await
}
