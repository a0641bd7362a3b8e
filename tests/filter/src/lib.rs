//! A filter for tests: its configuration says what it does in which callback. `steps.rs` lists what it can do.
//!
//! ```json
//! {"tick_ms": 10, "request_headers": [{"do": "set", "name": "x-a", "value": "1"}, {"do": "pause", "path": "/slow"}]}
//! ```

mod steps;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use proxy_wasm::hostcalls;
use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::{Action, ContextType, LogLevel};

use steps::{Config, Direction, Moment, Run};

proxy_wasm::main! {{
    proxy_wasm::set_log_level(LogLevel::Trace);
    proxy_wasm::set_root_context(|_| Box::new(Plugin::default()));
}}

thread_local! {
    /// Streams that wait for a tick, and in which direction.
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
                log::error!("the configuration of the test filter is wrong: {error}");
                return false;
            }
        }
        if let Some(period) = self.config.tick_ms {
            self.set_tick_period(Duration::from_millis(period));
        }
        let mut run = Run::outside_streams(Moment::Configure);
        run.steps(&self.config.configure);
        !run.refused
    }

    fn on_tick(&mut self) {
        Run::outside_streams(Moment::Tick).steps(&self.config.tick);
        for (context, direction) in WAITING.take() {
            if hostcalls::set_effective_context(context).is_ok() {
                direction.resume();
            }
        }
    }

    fn create_http_context(&self, id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream { id, config: Rc::clone(&self.config), path: String::new() }))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

/// A stream context.
struct Stream {
    id: u32,
    config: Rc<Config>,
    /// As it was when the request came.
    path: String,
}

impl Stream {
    fn run(&self, moment: Moment, size: usize, ends: bool) -> Action {
        let mut run = Run::of(moment, &self.path, (size, ends));
        run.steps(self.config.at(moment));
        if let Some(direction) = run.waits_for_tick {
            WAITING.with_borrow_mut(|waiting| waiting.push((self.id, direction)));
        }
        run.action
    }
}

impl Context for Stream {
    fn on_http_call_response(&mut self, _token: u32, headers: usize, body: usize, _trailers: usize) {
        self.run(Moment::CallResponse, body, headers == 0);
    }

    fn on_done(&mut self) -> bool {
        self.run(Moment::Done, 0, true);
        true
    }
}

impl HttpContext for Stream {
    fn on_http_request_headers(&mut self, _count: usize, ends: bool) -> Action {
        self.path = self.get_http_request_header(":path").unwrap_or_default();
        self.run(Moment::RequestHeaders, 0, ends)
    }

    fn on_http_request_body(&mut self, size: usize, ends: bool) -> Action {
        self.run(Moment::RequestBody, size, ends)
    }

    fn on_http_request_trailers(&mut self, _count: usize) -> Action {
        self.run(Moment::RequestTrailers, 0, true)
    }

    fn on_http_response_headers(&mut self, _count: usize, ends: bool) -> Action {
        self.run(Moment::ResponseHeaders, 0, ends)
    }

    fn on_http_response_body(&mut self, size: usize, ends: bool) -> Action {
        self.run(Moment::ResponseBody, size, ends)
    }

    fn on_http_response_trailers(&mut self, _count: usize) -> Action {
        self.run(Moment::ResponseTrailers, 0, true)
    }

    fn on_log(&mut self) {
        self.run(Moment::Log, 0, true);
    }
}
