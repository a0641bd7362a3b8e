//! The certificate authority: what it signs with, and the change to another root.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::api::Api;
use crate::api::answer::{Done, Failure, Json};
use crate::api::resources::blocking;
use crate::authority::AuthorityError;

pub(crate) async fn get(State(api): State<Arc<Api>>) -> Response {
    Json(api.authority.status()).into_response()
}

pub(crate) async fn rotate(State(api): State<Arc<Api>>) -> Result<Response, Failure> {
    blocking(move || {
        let status = api.authority.rotate()?;
        let mut response = Json(status).into_response();
        response.extensions_mut().insert(Done::with("Authority: a new root".to_owned()));
        Ok(response)
    })
    .await
}

impl From<AuthorityError> for Failure {
    fn from(error: AuthorityError) -> Self {
        match error {
            AuthorityError::Rotating(_) | AuthorityError::Given => Self::conflict(error.to_string()),
            other => Self::busy(other.to_string()),
        }
    }
}
