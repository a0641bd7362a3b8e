//! Pages for operators, on loopback only: what serves, how it fares, and how to end it. Started by `app`, runs on the
//! main runtime, never touches a worker.
//!
//! | page | method | |
//! |---|---|---|
//! | `/ready` | GET | 200 once a configuration serves and nothing drains |
//! | `/stats/prometheus` | GET | metrics |
//! | `/config_dump` | GET | what serves, and the last refusal |
//! | `/clusters`, `/listeners`, `/plugins` | GET | state of each |
//! | `/plugins/reset?name=` | POST | call a plugin again that failed too often |
//! | `/drain`, `/quit` | POST | end gracefully; end now |
//! | `/logging?level=` | POST | how much is logged |

mod control;
mod dump;
mod server;
mod state;
mod stats;

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use crate::active::ActiveConfig;
use crate::config::ConfigStatus;
use crate::drain::DrainWatcher;
use crate::filter::PluginState;
use crate::listener::ListenerState;
use crate::telemetry::{LogLevel, Metrics};

pub(crate) use server::AdminServer;

/// What the pages show and change.
pub(crate) struct Admin {
    /// What serves.
    pub(crate) active: Arc<ArcSwap<ActiveConfig>>,
    /// What became of the changes so far.
    pub(crate) status: Arc<ConfigStatus>,
    /// What is listened on.
    pub(crate) listeners: watch::Receiver<Vec<ListenerState>>,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
    /// What plugins count themselves.
    pub(crate) plugin_state: Arc<PluginState>,
    /// How much is logged; `None` when this process does not own its log.
    pub(crate) log_level: Option<LogLevel>,
    /// Whether the process is ending.
    pub(crate) drain: DrainWatcher,
    /// Where the process takes wishes to end from.
    pub(crate) endings: mpsc::Sender<Ending>,
}

/// A wish that the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// When what is in flight has ended, or at the deadline.
    Gracefully,
    /// Now.
    Now,
}
