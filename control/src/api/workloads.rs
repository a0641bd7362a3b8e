//! Workloads that register themselves.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};

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
    check(&token, &namespace)?;
    let said: Registration = serde_json::from_str(&body).map_err(|error| {
        Failure::bad_request(format!("the body must say {{address, leaseSeconds}} in JSON: {error}"))
    })?;
    let place = Arc::clone(&api.writers).try_acquire_owned();
    let place = place.map_err(|_| Failure::busy("too many changes wait; try again soon"))?;
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
    check(&token, &namespace)?;
    blocking(move || {
        let workload = api.publisher.unregister((&namespace, &service, &name))?;
        let mut response = Json(workload).into_response();
        response.extensions_mut().insert(Done::with(format!("Workload {namespace}/{service}/{name}")));
        Ok(response)
    })
    .await
}

/// An editor of the namespace may, and a workload of the namespace.
fn check(token: &Token, namespace: &str) -> Result<(), Failure> {
    let own = token.workload.as_deref().and_then(|workload| workload.split_once('/')).map(|(own, _)| own);
    let may = match token.role {
        Role::Proxy => own == Some(namespace),
        Role::Viewer => false,
        Role::Editor | Role::Admin => {
            token.namespaces.as_ref().is_none_or(|namespaces| namespaces.iter().any(|it| it == namespace))
        }
    };
    let refused = || Failure::forbidden(format!("the token `{}` may register no workload of {namespace}", token.name));
    may.then_some(()).ok_or_else(refused)
}
