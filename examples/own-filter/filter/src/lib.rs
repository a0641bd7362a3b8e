//! A filter of your own: it closes some paths for maintenance and tells every downstream so in a header.

use serde::Deserialize;
use weir_sdk::metrics::Counter;
use weir_sdk::{Action, HttpFilter, Rc, Reply, RequestHeaders, ResponseHeaders, log};

static TURNED_AWAY: Counter = Counter::new("maintenance_turned_away_total");

/// The `config` of the `Filter` resource.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Config {
    /// Requests for these paths, and for what is below them, are turned away.
    closed: Vec<String>,
    /// What they are told.
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
        TURNED_AWAY.add(1);
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
