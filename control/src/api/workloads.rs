//! Workloads that register themselves.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use tokio::sync::OwnedSemaphorePermit;
use weir_resources::{Kind, ObjectId};

use crate::access::{Role, Token};
use crate::api::answer::{Done, Failure, Json};
use crate::api::resources::blocking;
use crate::api::{Api, Caller};
use crate::registry::Registration;

type WorkloadPath = Path<(String, String, String)>;

pub(crate) async fn list(State(api): State<Arc<Api>>) -> Response {
    Json(api.publisher.workloads().all()).into_response()
}

pub(crate) async fn register(
    State(api): State<Arc<Api>>,
    Extension(Caller(token)): Extension<Caller>,
    Path((namespace, service, name)): WorkloadPath,
    body: String,
) -> Result<Response, Failure> {
    let place = place(&api)?;
    check(&api, &token, (&namespace, &service))?;
    let said: Registration = serde_json::from_str(&body).map_err(|error| {
        Failure::bad_request(format!("the body must say {{address, leaseSeconds}} in JSON: {error}"))
    })?;
    blocking(move || {
        let _place = place;
        let (workload, is_news) = api.publisher.register((&namespace, &service, &name), said)?;
        let mut response = Json(workload).into_response();
        let done = || Done::with(format!("Workload {namespace}/{service}/{name}"));
        response.extensions_mut().insert(if is_news { done() } else { Done::routine() });
        Ok(response)
    })
    .await
}

pub(crate) async fn unregister(
    State(api): State<Arc<Api>>,
    Extension(Caller(token)): Extension<Caller>,
    Path((namespace, service, name)): WorkloadPath,
) -> Result<Response, Failure> {
    let place = place(&api)?;
    check(&api, &token, (&namespace, &service))?;
    blocking(move || {
        let _place = place;
        let workload = api.publisher.unregister((&namespace, &service, &name))?;
        let mut response = Json(workload).into_response();
        response.extensions_mut().insert(Done::with(format!("Workload {namespace}/{service}/{name}")));
        Ok(response)
    })
    .await
}

fn place(api: &Api) -> Result<OwnedSemaphorePermit, Failure> {
    let place = Arc::clone(&api.registrations).try_acquire_owned();
    place.map_err(|_| Failure::busy("too many workloads register at the same time; try again soon"))
}

/// An editor of the namespace may; and a workload, for Services whose endpoints must prove to be that workload.
fn check(api: &Api, token: &Token, (namespace, service): (&str, &str)) -> Result<(), Failure> {
    let is_its_own = || {
        let (own, account) = token.workload.as_deref()?.split_once('/')?;
        let value = api.publisher.value_of(&ObjectId::new(Kind::Service.name(), namespace, service)?)?;
        let asked = value.pointer("/spec/identity/serviceAccount")?;
        (own == namespace && asked == account).then_some(())
    };
    let may = match token.role {
        Role::Proxy => is_its_own().is_some(),
        Role::Viewer => false,
        Role::Editor | Role::Admin => token.is_for(namespace),
    };
    let refused = || {
        let name = &token.name;
        Failure::forbidden(format!("the token `{name}` may register no workload of {namespace}/{service}"))
    };
    may.then_some(()).ok_or_else(refused)
}
