//! A filter for tests of the SDK. Its configuration lists the results of each callback, in the order of its calls; further
//! calls continue.
//!
//! ```json
//! {"own_tick_ms": 100, "request_headers": [{"pause_for_ms": 200}], "pause_end": [{"call": "default/verdicts:80"}]}
//! ```

use std::time::Duration;

use weir_sdk::metrics::Counter;
use weir_sdk::{
    Action, Body, CallResponse, HttpCall, HttpFilter, Rc, Reply, RequestHeaders, ResponseHeaders, StreamEnd,
};

static OWN_TICKS: Counter = Counter::new("own_ticks");
static PAUSE_ENDS: Counter = Counter::new("pause_ends");
static BODY_CALLS: Counter = Counter::new("body_calls");
static ENDS: Counter = Counter::new("ends");

#[derive(serde::Deserialize, Default, Debug)]
#[serde(default, deny_unknown_fields)]
struct Config {
    own_tick_ms: Option<u64>,
    /// True if only requests with the header `x-pause` have these results.
    only_marked: bool,
    request_headers: Vec<Step>,
    request_body: Vec<Step>,
    response_headers: Vec<Step>,
    response_body: Vec<Step>,
    pause_end: Vec<Step>,
}

/// The result of a callback.
#[derive(serde::Deserialize, Debug)]
#[serde(rename_all = "snake_case")]
enum Step {
    Continue,
    Pause,
    PauseForMs(u64),
    Reply(u16),
    /// Sends a call to a cluster, whose response continues the message, and pauses.
    Call(String),
    /// Sends a call to a cluster, and pauses for a time.
    CallAndPauseForMs(String, u64),
}

#[derive(Debug)]
struct Pausing {
    config: Rc<Config>,
    is_active: bool,
    /// Calls so far, by callback.
    calls: [usize; 5],
}

weir_sdk::register!(Pausing);

impl Pausing {
    fn step(&mut self, callback: usize, steps: fn(&Config) -> &Vec<Step>) -> Action {
        let config = Rc::clone(&self.config);
        let Some(step) = steps(&config).get(self.calls[callback]).filter(|_| self.is_active) else {
            return Action::Continue;
        };
        self.calls[callback] += 1;
        match step {
            Step::Continue => Action::Continue,
            Step::Pause => Action::Pause,
            Step::PauseForMs(milliseconds) => Action::PauseFor(Duration::from_millis(*milliseconds)),
            Step::Reply(status) => Reply::new(*status).into(),
            Step::Call(cluster) => call(cluster).unwrap_or(Action::Pause),
            Step::CallAndPauseForMs(cluster, milliseconds) => {
                call(cluster).unwrap_or(Action::PauseFor(Duration::from_millis(*milliseconds)))
            }
        }
    }
}

/// Sends a call. Returns a reply if the host does not accept it.
fn call(cluster: &str) -> Option<Action> {
    let sent =
        HttpCall::get(cluster, "/").send(|_: &mut Pausing, response: &mut CallResponse| match response.status() {
            200 => Action::Continue,
            status => Reply::new(502).text(&format!("the callee's status is {status}")).into(),
        });
    sent.err().map(|error| Reply::new(502).text(&error.to_string()).into())
}

impl HttpFilter for Pausing {
    type Config = Config;

    fn new(config: &Rc<Config>) -> Self {
        Self { config: Rc::clone(config), is_active: !config.only_marked, calls: [0; 5] }
    }

    fn on_request_headers(&mut self, request: &mut RequestHeaders) -> Action {
        self.is_active |= request.first("x-pause").is_some();
        self.step(0, |config| &config.request_headers)
    }

    fn on_request_body(&mut self, _body: &mut Body) -> Action {
        BODY_CALLS.add(1);
        self.step(1, |config| &config.request_body)
    }

    fn on_response_headers(&mut self, _response: &mut ResponseHeaders) -> Action {
        self.step(2, |config| &config.response_headers)
    }

    fn on_response_body(&mut self, _body: &mut Body) -> Action {
        self.step(3, |config| &config.response_body)
    }

    fn on_pause_end(&mut self) -> Action {
        PAUSE_ENDS.add(1);
        self.step(4, |config| &config.pause_end)
    }

    fn on_log(&mut self, _end: &StreamEnd) {
        ENDS.add(1);
    }

    fn tick_period(config: &Config) -> Option<Duration> {
        config.own_tick_ms.map(Duration::from_millis)
    }

    fn on_tick(_config: &Rc<Config>) {
        OWN_TICKS.add(1);
    }
}
