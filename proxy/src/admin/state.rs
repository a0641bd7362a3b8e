//! The state that admin pages show and change. Created by `app`.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, watch};

use crate::active::ActiveConfig;
use crate::config::ConfigStatus;
use crate::drain::DrainWatcher;
use crate::filter::SharedPluginState;
use crate::identity::Identity;
use crate::listener::ListenerStatus;
use crate::telemetry::{LogLevelHandle, Metrics};

/// The parts of the process that admin pages show and change.
pub(crate) struct AdminState {
    /// The active configuration.
    pub(crate) active: Arc<ArcSwap<ActiveConfig>>,
    /// The results of configuration changes.
    pub(crate) status: Arc<ConfigStatus>,
    /// The bound listeners.
    pub(crate) listeners: watch::Receiver<Vec<ListenerStatus>>,
    /// The metrics of the data plane.
    pub(crate) metrics: Arc<Metrics>,
    /// The metrics that plugins define.
    pub(crate) plugin_state: Arc<SharedPluginState>,
    /// The workload identity of the proxy.
    pub(crate) identity: Arc<Identity>,
    /// The level of the process log; `None` if this process does not own its log.
    pub(crate) log_level: Option<LogLevelHandle>,
    /// The state of the graceful shutdown.
    pub(crate) drain: DrainWatcher,
    /// The queue of shutdown requests to the process.
    pub(crate) shutdown_requests: mpsc::Sender<ShutdownMode>,
}

/// The mode of a shutdown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShutdownMode {
    /// Requests in flight finish first, at most until the drain timeout.
    Graceful,
    /// The process exits at once.
    Immediate,
}
