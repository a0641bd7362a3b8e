//! HTTP callouts: requests that a filter sends.
//!
//! ```no_run
//! use weir_sdk::{Action, CallResponse, HttpCall, HttpFilter, NoConfig, Rc, Reply, RequestHeaders};
//!
//! struct CheckPermission;
//!
//! impl HttpFilter for CheckPermission {
//!     type Config = NoConfig;
//!     fn new(_: &Rc<NoConfig>) -> Self {
//!         Self
//!     }
//!     fn on_request_headers(&mut self, request: &mut RequestHeaders) -> Action {
//!         let call = HttpCall::get("default/permission:80", "/check").header("x-path", &request.path());
//!         let sent = call.send(|_filter: &mut Self, response: &mut CallResponse| match response.status() {
//!             200 => Action::Continue, // Resumes the paused request.
//!             _ => Reply::new(403).details("permission_denied").into(),
//!         });
//!         match sent {
//!             Ok(()) => Action::Pause,
//!             Err(error) => Reply::new(503).text(&error.to_string()).into(),
//!         }
//!     }
//! }
//! ```
//!
//! The callback runs once, or never when the stream ends first. A failed call has status 0.

use std::any::Any;
use std::cell::RefCell;
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType};

use crate::error::HostError;
use crate::filter::Action;
use crate::headers::{Headers, RequestHeaders, ResponseHeaders};

/// Timeout of a call that sets no other.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// An HTTP request to a cluster. The cluster of a `Service` is `namespace/name:port`.
#[derive(Debug, Clone)]
pub struct HttpCall {
    cluster: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    timeout: Duration,
}

impl HttpCall {
    /// Creates a `GET` of `path`.
    pub fn get(cluster: &str, path: &str) -> Self {
        Self::new("GET", cluster, path)
    }

    /// Creates a `POST` of `body` to `path`.
    pub fn post(cluster: &str, path: &str, body: &[u8]) -> Self {
        Self { body: Some(body.to_vec()), ..Self::new("POST", cluster, path) }
    }

    /// Creates a request with any method. `:authority` is the cluster's name unless [`HttpCall::header`] sets another.
    pub fn new(method: &str, cluster: &str, path: &str) -> Self {
        let headers = [(":method", method), (":path", path), (":authority", cluster)];
        let headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        Self { cluster: cluster.to_owned(), headers, body: None, timeout: DEFAULT_TIMEOUT }
    }

    /// Sets a header.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(key, _)| key != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the time within which the response must arrive.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Sends the request. `callback` receives the filter of this stream and the response. Its result is applied to the
    /// message that the current callback pauses.
    ///
    /// # Errors
    /// Returns the host's error, for example for an unknown cluster. Then `callback` does not run.
    pub fn send<F: 'static>(
        &self,
        callback: impl FnOnce(&mut F, &mut CallResponse) -> Action + 'static,
    ) -> Result<(), HostError> {
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let body = self.body.as_deref();
        let token = hostcalls::dispatch_http_call(&self.cluster, headers, body, Vec::new(), self.timeout)?;
        let callback: Callback<F> = Box::new(callback);
        PENDING.with_borrow_mut(|pending| pending.push(PendingCall { token, callback: Box::new(callback) }));
        Ok(())
    }
}

/// The function that is called with the response.
pub(crate) type Callback<F> = Box<dyn FnOnce(&mut F, &mut CallResponse) -> Action>;

/// A call sent in the current callback. `crate::dispatch` takes it when the callback returns.
pub(crate) struct PendingCall {
    pub(crate) token: u32,
    /// A [`Callback`] of the filter's type.
    pub(crate) callback: Box<dyn Any>,
}

thread_local! {
    static PENDING: RefCell<Vec<PendingCall>> = const { RefCell::new(Vec::new()) };
}

/// Takes the calls sent since the last call of this function.
pub(crate) fn take_pending() -> Vec<PendingCall> {
    PENDING.take()
}

/// The response to an [`HttpCall`], readable during the callback.
#[derive(Debug)]
pub struct CallResponse {
    headers: Headers,
    body_len: usize,
}

impl CallResponse {
    pub(crate) fn new(body_len: usize) -> Self {
        Self { headers: Headers::new(MapType::HttpCallResponseHeaders), body_len }
    }

    /// Returns the status; 0 when the call failed. A timeout is usually a 504.
    pub fn status(&self) -> u16 {
        self.headers.text(":status").and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// Returns the headers of the response.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// Returns the body of the response.
    pub fn body(&self) -> Vec<u8> {
        hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, self.body_len).ok().flatten().unwrap_or_default()
    }

    /// Returns the request of the stream that sent the call. It can be modified while paused in its headers.
    pub fn request(&self) -> RequestHeaders {
        RequestHeaders::new(false)
    }

    /// Returns the response of the stream that sent the call, if a response callback sent it.
    pub fn response(&self) -> ResponseHeaders {
        ResponseHeaders::new(false)
    }
}
