//! A filter for tests. Its configuration lists the steps of each callback; `steps.rs` has the kinds of steps.
//!
//! ```json
//! {"tick_ms": 10, "request_headers": [{"do": "set", "name": "x-a", "value": "1"}, {"do": "pause", "path": "/slow"}]}
//! ```

mod steps;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

use steps::{CallbackName, CallbackRun, Config, Direction};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| Box::new(Plugin::default()));
}}

thread_local! {
    /// Paused streams that the next tick resumes, with their direction.
    static WAITING: RefCell<Vec<(u32, Direction)>> = const { RefCell::new(Vec::new()) };
}

/// The plugin context.
#[derive(Default)]
struct Plugin {
    config: Rc<Config>,
}

impl Context for Plugin {}

impl RootContext for Plugin {
    fn on_configure(&mut self, _size: usize) -> bool {
        let bytes = self.get_plugin_configuration().unwrap_or_default();
        match serde_json::from_slice::<Config>(&bytes) {
            Ok(config) => self.config = Rc::new(config),
            Err(error) => {
                log::error!("the configuration of the test filter is invalid: {error}");
                return false;
            }
        }
        if let Some(period) = self.config.tick_ms {
            self.set_tick_period(Duration::from_millis(period));
        }
        let mut run = CallbackRun::outside_streams(CallbackName::Configure);
        run.steps(&self.config.configure);
        !run.is_rejected
    }

    fn on_tick(&mut self) {
        CallbackRun::outside_streams(CallbackName::Tick).steps(&self.config.tick);
        for (context, direction) in WAITING.take() {
            if hostcalls::set_effective_context(context).is_ok() {
                direction.resume();
            }
        }
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { id, config: Rc::clone(&self.config), path: String::new(), request_bytes: Cell::new(0) }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// A stream context.
struct Stream {
    id: u32,
    config: Rc<Config>,
    /// Path of the request, before any filter changed it.
    path: String,
    /// Bytes of the request's body so far, without pauses.
    request_bytes: Cell<usize>,
}

impl Stream {
    fn run(&self, callback: CallbackName, size: usize, end_of_stream: bool) -> Action {
        let mut run = CallbackRun::in_stream(callback, &self.path, size, end_of_stream);
        if callback == CallbackName::RequestBody {
            self.request_bytes.set(self.request_bytes.get() + size);
        }
        run.request_bytes = self.request_bytes.get();
        run.steps(self.config.steps_of(callback));
        if let Some(direction) = run.waits_for_tick {
            WAITING.with_borrow_mut(|waiting| waiting.push((self.id, direction)));
        }
        run.action
    }
}

impl Context for Stream {
    fn on_http_call_response(&mut self, _token: u32, headers: usize, body: usize, _trailers: usize) {
        self.run(CallbackName::CallResponse, body, headers == 0);
    }

    fn on_done(&mut self) -> bool {
        self.run(CallbackName::Done, 0, true);
        true
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        self.path = self.get_http_request_header(":path").unwrap_or_default();
        self.run(CallbackName::RequestHeaders, 0, end_of_stream)
    }

    fn on_http_request_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.run(CallbackName::RequestBody, size, end_of_stream)
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        self.run(CallbackName::RequestTrailers, 0, true)
    }

    fn on_http_response_headers(&mut self, _count: usize, end_of_stream: bool) -> Action {
        self.run(CallbackName::ResponseHeaders, 0, end_of_stream)
    }

    fn on_http_response_body(&mut self, size: usize, end_of_stream: bool) -> Action {
        self.run(CallbackName::ResponseBody, size, end_of_stream)
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        self.run(CallbackName::ResponseTrailers, 0, true)
    }

    fn on_log(&mut self) {
        self.run(CallbackName::Log, 0, true);
    }
}
