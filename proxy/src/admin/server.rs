//! The admin server: HTTP/1.1 on one loopback address, and the way from a path to its page.
//!
//! Any web page that the operator looks at can send requests to loopback, so requests that a browser sent for another
//! origin, or under a name that is not loopback's, are refused.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::admin::{Admin, control, dump, state, stats};
use crate::limits::{ADMIN_HEAD_TIMEOUT, MAX_ADMIN_CONNECTIONS};
use crate::task;

/// A page's answer.
pub(super) type Page = Response<Full<Bytes>>;

/// Why there is no admin server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminServerError {
    /// The address could be reached by others.
    #[error(
        "--admin {0} is not a loopback address: the admin pages have no password, so they are for this machine only"
    )]
    NotLoopback(SocketAddr),
    /// The address cannot be bound.
    #[error("--admin {0} cannot be bound: {1}; choose another address, or port 0 for a free one")]
    Bind(SocketAddr, io::Error),
}

/// The admin server, listening.
pub(crate) struct AdminServer {
    socket: TcpListener,
    address: SocketAddr,
}

impl AdminServer {
    /// Listens.
    ///
    /// # Errors
    /// The address is not loopback's, or taken.
    pub(crate) async fn bind(address: SocketAddr) -> Result<Self, AdminServerError> {
        if !address.ip().is_loopback() {
            return Err(AdminServerError::NotLoopback(address));
        }
        let failed = |error| AdminServerError::Bind(address, error);
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address })
    }

    /// The real address.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves the pages for as long as the process lives.
    pub(crate) async fn serve(self, admin: Arc<Admin>) {
        let places = Arc::new(Semaphore::new(MAX_ADMIN_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match self.socket.accept().await {
                Ok((stream, _)) => {
                    let admin = Arc::clone(&admin);
                    task::spawn("admin connection", async move {
                        serve_connection(admin, stream).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    warn!(%error, "the admin server cannot accept, tried again");
                    tokio::time::sleep(crate::limits::ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

async fn serve_connection(admin: Arc<Admin>, stream: TcpStream) {
    let service = service_fn(move |request: Request<Incoming>| {
        let page = answer(&admin, request.method(), request.uri(), request.headers());
        async move { Ok::<_, Infallible>(page) }
    });
    let mut codec = http1::Builder::new();
    codec.timer(TokioTimer::new()).header_read_timeout(ADMIN_HEAD_TIMEOUT);
    if let Err(error) = codec.serve_connection(TokioIo::new(stream), service).await {
        debug!(%error, "an admin connection ended early");
    }
}

fn answer(admin: &Admin, method: &Method, uri: &http::Uri, headers: &HeaderMap) -> Page {
    if !is_from_here(headers) {
        return text(StatusCode::FORBIDDEN, "the admin pages are for this machine: use a loopback address as host\n");
    }
    let (get, post) = (method == Method::GET || method == Method::HEAD, method == Method::POST);
    let wrong_method = |allowed: &'static str| {
        let mut page = text(StatusCode::METHOD_NOT_ALLOWED, &format!("use {allowed}\n"));
        page.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        page
    };
    match uri.path() {
        "/ready" | "/stats/prometheus" | "/config_dump" | "/clusters" | "/listeners" | "/plugins" if !get => {
            wrong_method("GET")
        }
        "/drain" | "/quit" | "/logging" | "/plugins/reset" if !post => wrong_method("POST"),
        "/ready" => control::ready(admin),
        "/stats/prometheus" => stats::prometheus(admin),
        "/config_dump" => dump::config_dump(admin),
        "/clusters" => state::clusters(admin),
        "/listeners" => state::listeners(admin),
        "/plugins" => state::plugins(admin),
        "/plugins/reset" => state::reset_plugin(admin, uri.query().unwrap_or_default()),
        "/drain" => control::drain(admin),
        "/quit" => control::quit(admin),
        "/logging" => control::logging(admin, uri.query().unwrap_or_default()),
        "/" => text(StatusCode::OK, PAGES),
        _ => text(StatusCode::NOT_FOUND, PAGES),
    }
}

const PAGES: &str = "\
pages of weir-proxy:
  GET  /ready               200 once a configuration serves
  GET  /stats/prometheus    metrics
  GET  /config_dump         what serves, and the last refusal
  GET  /clusters            clusters, their endpoints and counts
  GET  /listeners           listeners and their real addresses
  GET  /plugins             plugins, their modules and VMs
  POST /plugins/reset?name=NAMESPACE/NAME  call a plugin again that failed too often
  POST /drain               end gracefully
  POST /quit                end now
  POST /logging?level=info  off, error, warn, info, debug or trace
";

/// True unless a browser sent this on behalf of a page from elsewhere.
fn is_from_here(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    !headers.contains_key(ORIGIN) && is_loopback_host(host)
}

fn is_loopback_host(host: &str) -> bool {
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let name = name.map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost")
        || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A page of text.
pub(super) fn text(status: StatusCode, content: &str) -> Page {
    page(status, "text/plain; charset=utf-8", content.to_owned())
}

/// A page of JSON, indented for people.
pub(super) fn json(value: &impl serde::Serialize) -> Page {
    match serde_json::to_string_pretty(value) {
        Ok(content) => page(StatusCode::OK, "application/json", content + "\n"),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("cannot be written as JSON: {error}\n")),
    }
}

/// A page.
pub(super) fn page(status: StatusCode, content_type: &'static str, content: String) -> Page {
    let mut page = Response::new(Full::new(Bytes::from(content)));
    *page.status_mut() = status;
    page.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_answered() {
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
            assert_eq!(is_loopback_host(host), expected, "{host}");
        }
    }

    #[tokio::test]
    async fn others_may_not_reach_it() {
        let address: SocketAddr = "0.0.0.0:0".parse().unwrap();
        let refused = AdminServer::bind(address).await.map(|_| ()).unwrap_err();
        assert!(refused.to_string().contains("not a loopback address"));
    }
}
