//! The certificate authority: its status, and the rotation of its root.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};

use crate::api::blocking::blocking;
use crate::api::response::{ApiError, AuditDetails, JsonResponse};
use crate::api::state::ApiState;
use crate::ca::CaError;

pub(crate) async fn get(State(api): State<Arc<ApiState>>) -> Response {
    JsonResponse(api.ca.status()).into_response()
}

pub(crate) async fn rotate(State(api): State<Arc<ApiState>>) -> Result<Response, ApiError> {
    blocking(move || {
        let status = api.ca.rotate()?;
        let mut response = JsonResponse(status).into_response();
        response.extensions_mut().insert(AuditDetails::with_object("Authority: a new root".to_owned()));
        Ok(response)
    })
    .await
}

impl From<CaError> for ApiError {
    fn from(error: CaError) -> Self {
        match error {
            CaError::RotationInProgress(_) | CaError::ExternallyManaged => Self::conflict(error.to_string()),
            other => Self::busy(other.to_string()),
        }
    }
}
