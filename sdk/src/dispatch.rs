//! Between `proxy_wasm` and [`HttpFilter`]: the plugin context and the stream context of a registered filter.
//!
//! ```text
//!  host ─► proxy_wasm ─► PluginContext<F>   configuration, ticks; makes the stream contexts
//!                     └► StreamContext<F>   one F; answers, replies, calls in flight
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

/// Makes `F` the filter of this module. Called once, when the VM starts.
pub fn start<F: HttpFilter>() {
    proxy_wasm::set_log_level(LogLevel::Info); // Sets the panic hook too, so that a panic's text reaches the log.
    proxy_wasm::set_root_context(|_id| Box::new(PluginContext::<F> { config: None }));
}

/// The plugin context: one per VM.
struct PluginContext<F: HttpFilter> {
    /// `None` until the first configuration was accepted.
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
            Err(refusal) => {
                for error in refusal.errors() {
                    log::error!("configuration refused: {error}");
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

    fn create_http_context(&self, _id: u32) -> Option<Box<dyn HttpContext>> {
        let filter = self.config.as_ref().map(F::new);
        Some(Box::new(StreamContext { filter, calls: Vec::new() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

fn start_ticking(period: Duration) {
    let at_least_a_millisecond = period.max(Duration::from_millis(1)); // Zero would stop the timer.
    if let Err(status) = hostcalls::set_tick_period(at_least_a_millisecond) {
        log::error!("ticks were not started: {status:?}");
    }
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy)]
enum Direction {
    Request,
    Response,
}

/// A call that waits for its answer.
struct Call<F> {
    token: u32,
    started_by: Direction,
    callback: Callback<F>,
}

/// The stream context: one per stream.
struct StreamContext<F: HttpFilter> {
    /// `None` only if the host begins a stream before the configuration was accepted.
    filter: Option<F>,
    calls: Vec<Call<F>>,
}

impl<F: HttpFilter> StreamContext<F> {
    fn run(&mut self, direction: Direction, callback: impl FnOnce(&mut F) -> Action) -> WasmAction {
        let action = match &mut self.filter {
            Some(filter) => callback(filter),
            None => Reply::new(503).details("filter_not_configured").into(),
        };
        self.keep_started_calls(direction);
        match action {
            Action::Continue => WasmAction::Continue,
            Action::Pause => WasmAction::Pause,
            Action::Reply(reply) => {
                reply.send();
                WasmAction::Pause
            }
        }
    }

    fn keep_started_calls(&mut self, started_by: Direction) {
        for started in callout::take_started() {
            let token = started.token;
            match started.callback.downcast::<Callback<F>>() {
                Ok(callback) => self.calls.push(Call { token, started_by, callback: *callback }),
                Err(_) => log::error!("the callback of a call takes another filter's type; its answer will be dropped"),
            }
        }
    }
}

impl<F: HttpFilter> Context for StreamContext<F> {
    fn on_http_call_response(&mut self, token: u32, _headers: usize, body_len: usize, _trailers: usize) {
        let Some(index) = self.calls.iter().position(|call| call.token == token) else { return };
        let call = self.calls.swap_remove(index);
        let direction = call.started_by;
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
        let mut trailers = Headers::of(MapType::HttpRequestTrailers);
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
        let mut trailers = Headers::of(MapType::HttpResponseTrailers);
        self.run(Direction::Response, |filter| filter.on_response_trailers(&mut trailers))
    }

    fn on_log(&mut self) {
        let end = StreamEnd { request: RequestHeaders::new(true), response: ResponseHeaders::new(true) };
        if let Some(filter) = &mut self.filter {
            filter.on_end(&end);
        }
    }
}
