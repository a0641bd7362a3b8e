//! The layer before each handler: authenticates the token, checks its role, and records changes in the audit log.

use std::sync::Arc;

use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::{Method, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tracing::debug;

use crate::access::{AuditEntry, Role, Token, bearer_token};
use crate::api::operation::Operation;
use crate::api::response::{ApiError, AuditDetails};
use crate::api::state::{ApiState, Principal};
use crate::limits::MAX_AUDITED_PATH;
use crate::net::ClientAddr;
use crate::task;

/// The rules of one operation.
#[derive(Clone)]
pub(crate) struct RoutePolicy {
    api: Arc<ApiState>,
    role: Role,
    accepts_dry_run: bool,
}

/// The part of a query that the audit log contains.
#[derive(Debug, Deserialize)]
struct DryRunQuery {
    #[serde(default)]
    dry_run: bool,
}

impl RoutePolicy {
    pub(crate) fn new(api: Arc<ApiState>, operation: &Operation) -> Self {
        Self { api, role: operation.role, accepts_dry_run: operation.accepts_dry_run }
    }

    /// Returns true if the handler treats a request with this URI as a dry run.
    fn is_dry_run(&self, uri: &Uri) -> bool {
        self.accepts_dry_run && is_dry_run(uri)
    }
}

/// Runs the handler if the token has the operation's role, and records a change in the audit log. The request
/// completes, and is recorded, even if the client disconnects.
pub(crate) async fn authorize(
    State(policy): State<RoutePolicy>,
    ConnectInfo(ClientAddr(address)): ConnectInfo<ClientAddr>,
    request: Request,
    next: Next,
) -> Response {
    let Some(token) = bearer(&request).and_then(|text| policy.api.tokens.authenticate(text)) else {
        debug!(%address, "request without a valid token");
        return ApiError::unauthorized().into_response();
    };
    let response = task::run_detached(async move {
        let is_change = request.method() != Method::GET;
        let operation = format!("{} {}", request.method(), request.uri().path());
        let operation = operation.chars().take(MAX_AUDITED_PATH).collect();
        let is_dry_run = policy.is_dry_run(request.uri());
        let response = run(&token, policy.role, request, next).await;
        if is_change {
            let default = AuditDetails::default();
            let details = response.extensions().get::<AuditDetails>().unwrap_or(&default);
            if details.is_routine {
                return response;
            }
            policy.api.audit.record(&AuditEntry {
                time: jiff::Timestamp::now(),
                token: &token.id,
                author: &token.name,
                address: address.to_string(),
                request: operation,
                is_dry_run,
                status: response.status().as_u16(),
                revision: details.revision,
                objects: &details.objects,
            });
        }
        response
    });
    response.await.unwrap_or_else(|| ApiError::internal().into_response())
}

async fn run(token: &Token, role: Role, mut request: Request, next: Next) -> Response {
    if token.role < role {
        let (name, actual) = (&token.name, token.role);
        let reason = format!("this needs the role {role:?}, and the token `{name}` has the role {actual:?}");
        return ApiError::forbidden(reason).into_response();
    }
    request.extensions_mut().insert(Principal(token.clone()));
    next.run(request).await
}

fn bearer(request: &Request) -> Option<&str> {
    bearer_token(request.headers().get(header::AUTHORIZATION)?.to_str().ok()?)
}

/// Parses `dry_run` as the handlers do. A query that does not parse is rejected by the handler.
fn is_dry_run(uri: &Uri) -> bool {
    Query::<DryRunQuery>::try_from_uri(uri).is_ok_and(|Query(query)| query.dry_run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dry_run_is_a_parameter_and_no_part_of_another_one() {
        for (query, expected) in [
            ("", false),
            ("?dry_run=true", true),
            ("?message=a&dry_run=true", true),
            ("?dry_run=false", false),
            ("?dry_run=1", false),
            ("?message=dry_run=true", false),
            ("?message=a%26dry_run=true", false),
            ("?no_dry_run=true", false),
        ] {
            let uri: Uri = format!("/api/v1/apply{query}").parse().unwrap();
            assert_eq!(is_dry_run(&uri), expected, "{query}");
        }
    }
}
