//! Connects `proxy_wasm` with [`HttpFilter`]: the plugin context and the stream context of a registered filter.
//!
//! ```text
//!  host ─► proxy_wasm ─► PluginContext<F>   configuration, ticks; creates stream contexts
//!                     └► StreamContext<F>   owns a Stream<F>, which has one F
//! ```
//!
//! The macro in `crate::register` is the only caller.

use std::rc::Rc;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action as WasmAction, BufferType, ContextType, LogLevel, MapType};

use crate::body::Body;
use crate::callout;
use crate::config;
use crate::filter::{Action, HttpFilter, StreamEnd};
use crate::headers::{Headers, RequestHeaders, ResponseHeaders};
use crate::pauses::PausedStreams;
use crate::stream::{SharedStream, Stream};
use crate::timer::Direction;

/// Registers `F` as the filter of this module. Called once, at the start of the VM.
pub fn start<F: HttpFilter>() {
    proxy_wasm::set_log_level(LogLevel::Info); // Also sets the panic hook, which logs the text of a panic.
    proxy_wasm::set_root_context(|_id| Box::new(PluginContext::<F> { config: None, paused: Rc::default() }));
}

/// The plugin context. One for each configuration in a VM.
struct PluginContext<F: HttpFilter> {
    /// `None` until the first configuration is accepted.
    config: Option<Rc<F::Config>>,
    paused: Rc<PausedStreams>,
}

impl<F: HttpFilter> Context for PluginContext<F> {
    fn on_http_call_response(&mut self, token: u32, _headers: usize, body_len: usize, _trailers: usize) {
        self.paused.on_call_response(token, body_len);
    }
}

impl<F: HttpFilter> RootContext for PluginContext<F> {
    fn on_configure(&mut self, len: usize) -> bool {
        if let Ok(level) = hostcalls::get_log_level() {
            proxy_wasm::set_log_level(level);
        }
        let json = hostcalls::get_buffer(BufferType::PluginConfiguration, 0, len).ok().flatten().unwrap_or_default();
        match config::parse::<F::Config>(&json) {
            Ok(config) => {
                self.paused.set_own_period(F::tick_period(&config));
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
        self.paused.on_tick(&|| {
            if let Some(config) = &self.config {
                F::on_tick(config);
            }
            // A call of a tick has no stream, so its response has no filter to go to.
            drop(callout::take_pending());
        });
    }

    /// Logs a stream for which the host creates no context: the filter is an access logger (`phase: Log`; Envoy's
    /// `envoy.access_loggers.wasm`). The new filter has seen no request.
    fn on_log(&mut self) {
        if let Some(config) = &self.config {
            F::new(config).on_log(&stream_end());
        }
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        let filter = self.config.as_ref().map(F::new);
        Some(Box::new(StreamContext { stream: Stream::new(id, filter, &self.paused) }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

fn stream_end() -> StreamEnd {
    StreamEnd { request: RequestHeaders::new(true), response: ResponseHeaders::new(true) }
}

/// The stream context. One per stream.
struct StreamContext<F: HttpFilter> {
    stream: Rc<SharedStream<F>>,
}

impl<F: HttpFilter> StreamContext<F> {
    fn run(&self, direction: Direction, callback: impl FnOnce(&mut F) -> Action) -> WasmAction {
        self.stream.borrow_mut().run(direction, callback)
    }
}

impl<F: HttpFilter> Context for StreamContext<F> {
    fn on_http_call_response(&mut self, token: u32, _headers: usize, body_len: usize, _trailers: usize) {
        self.stream.borrow_mut().on_call_response(token, body_len);
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
        if let Some(filter) = self.stream.borrow_mut().filter() {
            filter.on_log(&stream_end());
        }
    }
}
