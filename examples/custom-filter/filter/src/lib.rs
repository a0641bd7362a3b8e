//! A custom filter: closes some paths for maintenance, and lists them in a header of each response.

use serde::Deserialize;
use weir_sdk::metrics::Counter;
use weir_sdk::{Action, HttpFilter, Rc, Reply, RequestHeaders, ResponseHeaders, log};

static REJECTED: Counter = Counter::new("maintenance_rejected_total");

/// The `config` of the `Filter` resource.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    /// The closed paths. Requests for them and for paths below them are rejected.
    closed: Vec<String>,
    /// The body of the response to a rejected request.
    message: String,
}

struct Maintenance {
    config: Rc<Config>,
}

weir_sdk::register!(Maintenance);

impl HttpFilter for Maintenance {
    type Config = Config;

    fn new(config: &Rc<Config>) -> Self {
        Self { config: Rc::clone(config) }
    }

    fn on_request_headers(&mut self, request: &mut RequestHeaders) -> Action {
        let path = request.path();
        if !self.config.closed.iter().any(|closed| is_at_or_below(&path, closed)) {
            return Action::Continue;
        }
        REJECTED.add(1);
        log::info!("{path} is closed for maintenance");
        let reply = Reply::new(503).details("maintenance").text(&format!("{}\n", self.config.message));
        reply.header("retry-after", "600").into()
    }

    fn on_response_headers(&mut self, response: &mut ResponseHeaders) -> Action {
        response.set("x-maintenance", self.config.closed.join(", "));
        Action::Continue
    }
}

fn is_at_or_below(path: &str, closed: &str) -> bool {
    path.strip_prefix(closed).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']))
}
