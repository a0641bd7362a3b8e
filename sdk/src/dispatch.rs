//! Connects `proxy_wasm` with [`HttpFilter`]: the plugin context and the stream context of a registered filter.
//!
//! ```text
//!  host ─► proxy_wasm ─► PluginContext<F>   configuration, ticks; creates stream contexts
//!                     └► StreamContext<F>   one F; actions, local replies, calls in flight
//! ```
//!
//! The macro in `crate::register` is the only caller.

use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action as WasmAction, BufferType, ContextType, LogLevel, MapType};

use crate::body::Body;
use crate::callout::{self, CallResponse, Callback};
use crate::config;
use crate::filter::{Action, HttpFilter, StreamEnd};
use crate::headers::{Headers, RequestHeaders, ResponseHeaders};
use crate::reply::Reply;

/// Registers `F` as the filter of this module. Called once, at the start of the VM.
pub fn start<F: HttpFilter>() {
    proxy_wasm::set_log_level(LogLevel::Info); // Also sets the panic hook, which logs the text of a panic.
    proxy_wasm::set_root_context(|_id| Box::new(PluginContext::<F> { config: None }));
}

/// The plugin context. One per VM.
struct PluginContext<F: HttpFilter> {
    /// `None` until the first configuration is accepted.
    config: Option<Rc<F::Config>>,
}

impl<F: HttpFilter> Context for PluginContext<F> {}

impl<F: HttpFilter> RootContext for PluginContext<F> {
    fn on_configure(&mut self, len: usize) -> bool {
        if let Ok(level) = hostcalls::get_log_level() {
            proxy_wasm::set_log_level(level);
        }
        let json = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, len).ok().flatten().unwrap_or_default();
        match config::parse::<F::Config>(&json) {
            Ok(config) => {
                if let Some(period) = F::tick_period(&config) {
                    start_ticking(period);
                }
                self.config = Some(Rc::new(config));
                true
            }
            Err(rejected) => {
                for error in rejected.errors() {
                    log::error!("configuration rejected: {error}");
                }
                false
            }
        }
    }

    fn on_tick(&mut self) {
        if let Some(config) = &self.config {
            F::on_tick(config);
        }
    }

    /// Logs a stream for which the host creates no context: the filter is an access logger (`phase: Log`; Envoy's
    /// `envoy.access_loggers.wasm`). The new filter has seen no request.
    fn on_log(&mut self) {
        if let Some(config) = &self.config {
            F::new(config).on_log(&stream_end());
        }
    }

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        let filter = self.config.as_ref().map(F::new);
        Some(Box::new(StreamContext { filter, calls: Vec::new() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

fn stream_end() -> StreamEnd {
    StreamEnd { request: RequestHeaders::new(true), response: ResponseHeaders::new(true) }
}

fn start_ticking(period: Duration) {
    let at_least_a_millisecond = period.max(Duration::from_millis(1)); // Zero would stop the timer.
    if let Err(status) = hostcalls::set_tick_period(at_least_a_millisecond) {
        log::error!("ticks were not started: {status:?}");
    }
}

/// The direction of a message.
#[derive(Debug, Clone, Copy)]
enum Direction {
    Request,
    Response,
}

/// A call that awaits its response.
struct InFlightCall<F> {
    token: u32,
    sent_in: Direction,
    callback: Callback<F>,
}

/// The stream context. One per stream.
struct StreamContext<F: HttpFilter> {
    /// `None` when the host starts a stream before the configuration is accepted.
    filter: Option<F>,
    calls: Vec<InFlightCall<F>>,
}

impl<F: HttpFilter> StreamContext<F> {
    fn run(&mut self, direction: Direction, callback: impl FnOnce(&mut F) -> Action) -> WasmAction {
        let action = match &mut self.filter {
            Some(filter) => callback(filter),
            None => Reply::new(503).details("filter_not_configured").into(),
        };
        self.store_sent_calls(direction);
        match action {
            Action::Continue => WasmAction::Continue,
            Action::Pause => WasmAction::Pause,
            Action::Reply(reply) => {
                reply.send();
                WasmAction::Pause
            }
        }
    }

    fn store_sent_calls(&mut self, sent_in: Direction) {
        for pending in callout::take_pending() {
            let token = pending.token;
            match pending.callback.downcast::<Callback<F>>() {
                Ok(callback) => self.calls.push(InFlightCall { token, sent_in, callback: *callback }),
                Err(_) => log::error!("the callback of a call expects another filter type; its response is dropped"),
            }
        }
    }
}

impl<F: HttpFilter> Context for StreamContext<F> {
    fn on_http_call_response(&mut self, token: u32, _headers: usize, body_len: usize, _trailers: usize) {
        let Some(index) = self.calls.iter().position(|call| call.token == token) else { return };
        let call = self.calls.swap_remove(index);
        let direction = call.sent_in;
        let callback = |filter: &mut F| (call.callback)(filter, &mut CallResponse::new(body_len));
        if self.run(direction, callback) == WasmAction::Continue {
            resume(direction);
        }
    }
}

fn resume(direction: Direction) {
    let result = match direction {
        Direction::Request => hostcalls::resume_http_request(),
        Direction::Response => hostcalls::resume_http_response(),
    };
    if let Err(status) = result {
        log::error!("the {direction:?} was not resumed: {status:?}");
    }
}

impl<F: HttpFilter> HttpContext for StreamContext<F> {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> WasmAction {
        self.run(Direction::Request, |filter| filter.on_request_headers(&mut RequestHeaders::new(end_of_stream)))
    }

    fn on_http_request_body(&mut self, len: usize, end_of_stream: bool) -> WasmAction {
        let mut body = Body::new(BufferType::HttpRequestBody, len, end_of_stream);
        self.run(Direction::Request, |filter| filter.on_request_body(&mut body))
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> WasmAction {
        let mut trailers = Headers::new(MapType::HttpRequestTrailers);
        self.run(Direction::Request, |filter| filter.on_request_trailers(&mut trailers))
    }

    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> WasmAction {
        self.run(Direction::Response, |filter| filter.on_response_headers(&mut ResponseHeaders::new(end_of_stream)))
    }

    fn on_http_response_body(&mut self, len: usize, end_of_stream: bool) -> WasmAction {
        let mut body = Body::new(BufferType::HttpResponseBody, len, end_of_stream);
        self.run(Direction::Response, |filter| filter.on_response_body(&mut body))
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> WasmAction {
        let mut trailers = Headers::new(MapType::HttpResponseTrailers);
        self.run(Direction::Response, |filter| filter.on_response_trailers(&mut trailers))
    }

    fn on_log(&mut self) {
        if let Some(filter) = &mut self.filter {
            filter.on_log(&stream_end());
        }
    }
}
