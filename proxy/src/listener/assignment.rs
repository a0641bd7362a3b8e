//! The listeners that a worker accepts on, as a complete set. The main thread replaces it, and the worker applies the
//! newest one. So updates do not queue up, however fast the configuration changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;
use weir_model::ListenerName;

use crate::listener::bind::BoundSockets;

/// The listeners that a worker accepts on.
#[derive(Clone, Default)]
pub(crate) struct ListenerAssignment {
    /// The listeners with their bound sockets.
    pub(crate) listeners: BTreeMap<ListenerName, Arc<BoundSockets>>,
    /// The drain deadline, once the process shuts down.
    pub(crate) drain: Option<Instant>,
}
