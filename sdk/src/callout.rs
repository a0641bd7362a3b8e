//! Requests that a filter makes itself.
//!
//! ```no_run
//! use weir_sdk::{Action, CallResponse, HttpCall, HttpFilter, NoConfig, Rc, Reply, RequestHeaders};
//!
//! struct AskFirst;
//!
//! impl HttpFilter for AskFirst {
//!     type Config = NoConfig;
//!     fn new(_: &Rc<NoConfig>) -> Self {
//!         Self
//!     }
//!     fn on_request_headers(&mut self, request: &mut RequestHeaders) -> Action {
//!         let call = HttpCall::get("default/permission:80", "/may-i").header("x-path", &request.path());
//!         let started = call.send(|_filter: &mut Self, answer: &mut CallResponse| match answer.status() {
//!             200 => Action::Continue, // The request, which has waited here, goes on.
//!             _ => Reply::new(403).details("asked_first").into(),
//!         });
//!         match started {
//!             Ok(()) => Action::Pause,
//!             Err(error) => Reply::new(503).text(&error.to_string()).into(),
//!         }
//!     }
//! }
//! ```
//!
//! The callback runs exactly once, or never when the stream ends first. A call that gets no answer has status 0.

use std::any::Any;
use std::cell::RefCell;
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::types::{BufferType, MapType};

use crate::error::HostError;
use crate::filter::Action;
use crate::headers::{Headers, RequestHeaders, ResponseHeaders};

/// How long a call may take when the filter does not say.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// An HTTP request to a cluster: a `Service` is the cluster `namespace/name:port`.
#[derive(Debug, Clone)]
pub struct HttpCall {
    cluster: String,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    timeout: Duration,
}

impl HttpCall {
    /// A `GET` of `path`.
    pub fn get(cluster: &str, path: &str) -> Self {
        Self::new("GET", cluster, path)
    }

    /// A `POST` of `body` to `path`.
    pub fn post(cluster: &str, path: &str, body: &[u8]) -> Self {
        Self { body: Some(body.to_vec()), ..Self::new("POST", cluster, path) }
    }

    /// Any method. The authority is the cluster's name until [`HttpCall::header`] sets another `:authority`.
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

    /// How long the answer may take.
    pub fn timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Starts the call. `callback` gets the filter of this stream back together with the answer; what it returns is
    /// applied to the message that the starting callback has paused.
    pub fn send<F: 'static>(
        &self,
        callback: impl FnOnce(&mut F, &mut CallResponse) -> Action + 'static,
    ) -> Result<(), HostError> {
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let body = self.body.as_deref();
        let token = hostcalls::dispatch_http_call(&self.cluster, headers, body, Vec::new(), self.timeout)?;
        let callback: Callback<F> = Box::new(callback);
        STARTED.with_borrow_mut(|started| started.push(Started { token, callback: Box::new(callback) }));
        Ok(())
    }
}

/// What is called when the answer is there.
pub(crate) type Callback<F> = Box<dyn FnOnce(&mut F, &mut CallResponse) -> Action>;

/// A call that was started in the running callback; `crate::dispatch` takes it over when the callback returns.
pub(crate) struct Started {
    pub(crate) token: u32,
    /// A [`Callback`] of the filter's type.
    pub(crate) callback: Box<dyn Any>,
}

thread_local! {
    static STARTED: RefCell<Vec<Started>> = const { RefCell::new(Vec::new()) };
}

/// The calls started since this was last asked.
pub(crate) fn take_started() -> Vec<Started> {
    STARTED.take()
}

/// The answer to an [`HttpCall`], readable during the callback.
#[derive(Debug)]
pub struct CallResponse {
    headers: Headers,
    body_len: usize,
}

impl CallResponse {
    pub(crate) fn new(body_len: usize) -> Self {
        Self { headers: Headers::of(MapType::HttpCallResponseHeaders), body_len }
    }

    /// The status; 0 when no answer came. A timeout is usually seen as a 504.
    pub fn status(&self) -> u16 {
        self.headers.text(":status").and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// The headers of the answer.
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The body of the answer.
    pub fn body(&self) -> Vec<u8> {
        hostcalls::get_buffer(BufferType::HttpCallResponseBody, 0, self.body_len).ok().flatten().unwrap_or_default()
    }

    /// The request of the stream that made the call; it can be changed while it is paused in its headers.
    pub fn request(&self) -> RequestHeaders {
        RequestHeaders::new(false)
    }

    /// The response of the stream that made the call, if the call was made from there.
    pub fn response(&self) -> ResponseHeaders {
        ResponseHeaders::new(false)
    }
}
