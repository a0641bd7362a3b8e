//! The control API: JSON over HTTP, described by itself at `/api/v1/openapi.json`. Every operation stands once, in
//! `operations.rs`, with the role that it needs; `authorize` below runs before each.

mod answer;
mod authority;
mod bundles;
mod deadline;
mod diff;
mod hidden;
mod listener;
mod objects;
mod operations;
mod proxies;
mod resources;
mod revisions;
mod tokens;
mod watch;
mod workloads;

use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Request, State};
use axum::http::{Method, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tracing::debug;
use weir_identity::ServerConfig;

pub use operations::openapi;

use crate::access::{AuditEntry, AuditLog, Role, Token, Tokens};
use crate::api::answer::{Done, Failure};
use crate::api::listener::TlsListener;
use crate::authority::Authority;
use crate::board::Board;
use crate::limits::{
    MAX_AUDITED_PATH, MAX_PUSHES, MAX_REGISTRATIONS, MAX_REQUEST_BYTES, MAX_WAITING_WRITERS, MAX_WATCHERS,
    REQUEST_BODY_TIMEOUT,
};
use crate::publish::Publisher;
use crate::status::ProxyBook;
use crate::task;

/// What the API speaks for.
pub struct Api {
    /// The one writer.
    pub publisher: Arc<Publisher>,
    /// What is told.
    pub board: Arc<Board>,
    /// Who is told.
    pub book: Arc<ProxyBook>,
    /// Who may ask.
    pub tokens: Arc<Tokens>,
    /// Who says who is who.
    pub authority: Arc<Authority>,
    /// Where changes are noted.
    pub audit: AuditLog,
    /// Places for those who wait for the writer.
    pub(crate) writers: Arc<Semaphore>,
    /// Places for workloads that register themselves.
    pub(crate) registrations: Arc<Semaphore>,
    /// Places for those who push bundles.
    pub(crate) pushes: Arc<Semaphore>,
    /// Places for those who follow changes.
    pub(crate) watchers: Arc<Semaphore>,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Caller(pub(crate) Token);

impl Api {
    /// An API for these.
    pub fn new(
        publisher: Arc<Publisher>,
        board: Arc<Board>,
        book: Arc<ProxyBook>,
        (tokens, audit): (Arc<Tokens>, AuditLog),
        authority: Arc<Authority>,
    ) -> Arc<Self> {
        let (writers, watchers) =
            (Arc::new(Semaphore::new(MAX_WAITING_WRITERS)), Arc::new(Semaphore::new(MAX_WATCHERS)));
        let pushes = Arc::new(Semaphore::new(MAX_PUSHES));
        let registrations = Arc::new(Semaphore::new(MAX_REGISTRATIONS));
        Arc::new(Self { publisher, board, book, tokens, authority, audit, writers, registrations, pushes, watchers })
    }
}

/// Serves the API until the process ends; by TLS, if there is a certificate.
///
/// # Errors
/// The listener fails.
pub async fn serve_api(listener: TcpListener, tls: Option<Arc<ServerConfig>>, api: Arc<Api>) -> std::io::Result<()> {
    let service = router(api).into_make_service_with_connect_info::<listener::Caller>();
    match tls {
        None => axum::serve(listener, service).await,
        Some(config) => axum::serve(TlsListener::new(listener, config)?, service).await,
    }
}

fn router(api: Arc<Api>) -> Router {
    let mut router = Router::new();
    for operation in operations::operations() {
        let authorized = from_fn_with_state((Arc::clone(&api), operation.role), authorize);
        router = router.route(operation.path, operation.handler.route_layer(authorized));
    }
    router
        .fallback(|| async { Failure::not_found("there is nothing here; /api/v1/openapi.json says what there is") })
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES)) // A bundle is read by its own handler, in its own bounds.
        .with_state(api)
}

/// Lets a request through whose token may do it, and notes what changes. It goes on when the caller hangs up: what it
/// does is noted in any case.
async fn authorize(
    State((api, role)): State<(Arc<Api>, Role)>,
    ConnectInfo(listener::Caller(address)): ConnectInfo<listener::Caller>,
    request: Request,
    next: Next,
) -> Response {
    let Some(token) = bearer(&request).and_then(|text| api.tokens.find(text)) else {
        debug!(%address, "a request without a token that is known");
        return Failure::unauthorized().into_response();
    };
    let done = task::complete(async move {
        let is_change = request.method() != Method::GET;
        let asked = format!("{} {}", request.method(), request.uri().path());
        let asked = asked.chars().take(MAX_AUDITED_PATH).collect();
        let is_dry_run = request.uri().query().is_some_and(|query| query.contains("dry_run=true"));
        let response = run(&token, role, request, next).await;
        if is_change {
            let nothing = Done::default();
            let done = response.extensions().get::<Done>().unwrap_or(&nothing);
            if done.is_routine {
                return response;
            }
            api.audit.note(&AuditEntry {
                time: jiff::Timestamp::now(),
                token: &token.id,
                author: &token.name,
                address: address.to_string(),
                request: asked,
                is_dry_run,
                status: response.status().as_u16(),
                revision: done.revision,
                objects: &done.objects,
            });
        }
        response
    });
    done.await.unwrap_or_else(|| Failure::busy("this failed by a bug of weir-control").into_response())
}

async fn run(token: &Token, role: Role, mut request: Request, next: Next) -> Response {
    if token.role < role {
        let (name, has) = (&token.name, token.role);
        let reason = format!("this needs the role {role:?}, and the token `{name}` has the role {has:?}");
        return Failure::forbidden(reason).into_response();
    }
    request.extensions_mut().insert(Caller(token.clone()));
    let request = request.map(|body| deadline::within(body, REQUEST_BODY_TIMEOUT));
    next.run(request).await
}

fn bearer(request: &Request) -> Option<&str> {
    request.headers().get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}
