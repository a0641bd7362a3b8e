//! The admin server: HTTP/1.1 on one loopback address, and the table of pages.
//!
//! Any web page in an operator's browser can send requests to loopback addresses. The server therefore rejects requests
//! with an `origin`, and requests whose `host` is not a loopback host (DNS rebinding).

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use http::header::{ALLOW, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};
use weir_model::is_loopback_host;

use crate::admin::response::{AdminResponse, text};
use crate::admin::state::AdminState;
use crate::admin::{config_dump, lifecycle, prometheus, resources};
use crate::limits::{ACCEPT_RETRY_PAUSE, ADMIN_HEAD_TIMEOUT, MAX_ADMIN_CONNECTIONS};
use crate::task;

/// A function that returns the response of a page, from the state and the query of the request.
type Handler = fn(&AdminState, &str) -> AdminResponse;

/// A page of the admin server.
struct Page {
    method: Method,
    path: &'static str,
    /// The query in the index; empty if the page has none.
    query: &'static str,
    help: &'static str,
    handler: Handler,
}

impl Page {
    const fn get(path: &'static str, help: &'static str, handler: Handler) -> Self {
        Self { method: Method::GET, path, query: "", help, handler }
    }

    const fn post(path: &'static str, query: &'static str, help: &'static str, handler: Handler) -> Self {
        Self { method: Method::POST, path, query, help, handler }
    }

    fn allows(&self, method: &Method) -> bool {
        self.method == *method || (self.method == Method::GET && *method == Method::HEAD)
    }
}

/// The reason why the admin server cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminServerError {
    /// The address is reachable from other hosts.
    #[error("--admin {0} is not a loopback address: the admin pages have no password, so they are for this host only")]
    NotLoopback(SocketAddr),
    /// The address cannot be bound.
    #[error("--admin {0} cannot be bound: {1}; choose another address, or port 0 for a free one")]
    Bind(SocketAddr, io::Error),
}

/// The bound admin server.
pub(crate) struct AdminServer {
    socket: TcpListener,
    address: SocketAddr,
}

impl AdminServer {
    /// Binds the address.
    ///
    /// # Errors
    /// The address is not a loopback address, or cannot be bound.
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self, AdminServerError> {
        if !address.ip().is_loopback() {
            return Err(AdminServerError::NotLoopback(address));
        }
        let failed = |error| AdminServerError::Bind(address, error);
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address })
    }

    /// Returns the bound address, with the real port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves the pages until the process exits.
    pub(crate) async fn serve(self, state: Arc<AdminState>) {
        let permits = Arc::new(Semaphore::new(MAX_ADMIN_CONNECTIONS));
        loop {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            match self.socket.accept().await {
                Ok((stream, _)) => {
                    let state = Arc::clone(&state);
                    task::spawn("admin connection", async move {
                        serve_connection(state, stream).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    warn!(%error, "the admin server cannot accept, retrying");
                    tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
                }
            }
        }
    }
}

async fn serve_connection(state: Arc<AdminState>, stream: TcpStream) {
    let service = service_fn(move |request: Request<Incoming>| {
        let response = respond(&state, request.method(), request.uri(), request.headers());
        async move { Ok::<_, Infallible>(response) }
    });
    let mut codec = http1::Builder::new();
    codec.timer(TokioTimer::new()).header_read_timeout(ADMIN_HEAD_TIMEOUT);
    if let Err(error) = codec.serve_connection(TokioIo::new(stream), service).await {
        debug!(%error, "an admin connection closed early");
    }
}

fn respond(state: &AdminState, method: &Method, uri: &Uri, headers: &HeaderMap) -> AdminResponse {
    if !is_local_request(headers) {
        return text(StatusCode::FORBIDDEN, "the admin pages are for this host: use a loopback address as host\n");
    }
    if uri.path() == "/" {
        return text(StatusCode::OK, &index());
    }
    let Some(page) = PAGES.iter().find(|page| page.path == uri.path()) else {
        return text(StatusCode::NOT_FOUND, &index());
    };
    if page.allows(method) {
        return (page.handler)(state, uri.query().unwrap_or_default());
    }
    let mut response = text(StatusCode::METHOD_NOT_ALLOWED, &format!("use {}\n", page.method));
    let allowed = if page.method == Method::GET { "GET" } else { "POST" };
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

static PAGES: [Page; 10] = [
    Page::get("/ready", "200 while the proxy can serve, else 503 and the reason", lifecycle::ready),
    Page::get("/stats/prometheus", "metrics", prometheus::metrics),
    Page::get("/config_dump", "active configuration, and the last rejection", config_dump::config_dump),
    Page::get("/clusters", "clusters, their endpoints and counts", resources::clusters),
    Page::get("/listeners", "listeners and their real addresses", resources::listeners),
    Page::get("/plugins", "plugins, their modules and VMs", resources::plugins),
    Page::post("/plugins/reset", "?name=NAMESPACE/NAME", "close the breakers of a plugin", resources::reset_plugin),
    Page::post("/drain", "", "graceful shutdown", lifecycle::drain),
    Page::post("/quit", "", "immediate shutdown", lifecycle::quit),
    Page::post("/logging", "?level=info", "off, error, warn, info, debug or trace", lifecycle::logging),
];

fn index() -> String {
    let mut text = String::from("pages of weir-proxy:\n");
    for Page { method, path, query, help, .. } in &PAGES {
        let path = format!("{path}{query}");
        text.push_str(&format!("  {method:<4} {path:<19}  {help}\n"));
    }
    text
}

/// Returns false if a browser sent the request on behalf of a page from another origin.
fn is_local_request(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    !headers.contains_key(ORIGIN) && is_loopback_authority(host)
}

/// Returns true if `authority` is a loopback host with an optional port.
fn is_loopback_authority(authority: &str) -> bool {
    let host = authority.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let host = host.map_or(authority, |(host, _)| host);
    is_loopback_host(&host.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_authorities_are_accepted() {
        for (host, expected) in [
            ("localhost", true),
            ("LOCALHOST:15000", true),
            ("127.0.0.1:15000", true),
            ("127.8.9.1", true),
            ("[::1]:15000", true),
            ("evil.example:15000", false),
            ("localhost.evil.example", false),
            ("10.0.0.1", false),
            ("", false),
        ] {
            assert_eq!(is_loopback_authority(host), expected, "{host}");
        }
    }

    #[tokio::test]
    async fn bind_rejects_non_loopback_address() {
        let address: SocketAddr = "0.0.0.0:0".parse().unwrap();
        let error = AdminServer::bind(address).await.map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("not a loopback address"));
    }
}
