//! Workloads that register themselves as endpoints of a Service.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use tokio::sync::OwnedSemaphorePermit;
use weir_resources::{Kind, ObjectId};

use crate::access::Token;
use crate::api::blocking::blocking;
use crate::api::response::{ApiError, AuditDetails, JsonResponse};
use crate::api::state::{ApiState, Principal, try_permit};
use crate::workload_registry::{Registration, WorkloadKey};

type WorkloadPath = Path<(String, String, String)>;

pub(crate) async fn list(State(api): State<Arc<ApiState>>) -> Response {
    JsonResponse(api.publisher.workloads().all()).into_response()
}

pub(crate) async fn register(
    State(api): State<Arc<ApiState>>,
    Extension(Principal(token)): Extension<Principal>,
    Path((namespace, service, name)): WorkloadPath,
    body: String,
) -> Result<Response, ApiError> {
    let permit = registration_permit(&api)?;
    let key = WorkloadKey { namespace, service, name };
    check_token(&api, &token, &key)?;
    let registration: Registration = serde_json::from_str(&body).map_err(|error| {
        ApiError::bad_request(format!("the body must be {{address, leaseSeconds}} in JSON: {error}"))
    })?;
    blocking(move || {
        let _permit = permit;
        let (workload, has_changed) = api.publisher.register(&key, registration)?;
        let mut response = JsonResponse(workload).into_response();
        response.extensions_mut().insert(if has_changed { audit_details(&key) } else { AuditDetails::routine() });
        Ok(response)
    })
    .await
}

pub(crate) async fn unregister(
    State(api): State<Arc<ApiState>>,
    Extension(Principal(token)): Extension<Principal>,
    Path((namespace, service, name)): WorkloadPath,
) -> Result<Response, ApiError> {
    let permit = registration_permit(&api)?;
    let key = WorkloadKey { namespace, service, name };
    check_token(&api, &token, &key)?;
    blocking(move || {
        let _permit = permit;
        let workload = api.publisher.unregister(&key)?;
        let mut response = JsonResponse(workload).into_response();
        response.extensions_mut().insert(audit_details(&key));
        Ok(response)
    })
    .await
}

fn registration_permit(api: &ApiState) -> Result<OwnedSemaphorePermit, ApiError> {
    let busy = "too many workloads register at the same time; try again soon";
    try_permit(&api.permits.registrations, busy)
}

fn check_token(api: &ApiState, token: &Token, key: &WorkloadKey) -> Result<(), ApiError> {
    let WorkloadKey { namespace, service, .. } = key;
    let service_account = || {
        let id = ObjectId::new(Kind::ServiceEntry.name(), namespace, service)?;
        let value = api.publisher.object_value(&id)?;
        Some(value.pointer("/spec/identity/serviceAccount")?.as_str()?.to_owned())
    };
    if token.may_register(namespace, service_account) {
        return Ok(());
    }
    let name = &token.name;
    Err(ApiError::forbidden(format!("the token `{name}` may register no workload of {namespace}/{service}")))
}

fn audit_details(key: &WorkloadKey) -> AuditDetails {
    let WorkloadKey { namespace, service, name } = key;
    AuditDetails::with_object(format!("Workload {namespace}/{service}/{name}"))
}
