//! What a worker is to accept on: the whole of it, not a change. The main thread replaces it, the worker follows the
//! newest; so nothing queues up however fast the configuration changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;
use weir_model::ListenerName;

use crate::listener::bind::Bound;

/// What a worker is to accept on.
#[derive(Clone, Default)]
pub(crate) struct Assignment {
    /// The listeners, and where their sockets are taken from.
    pub(crate) listeners: BTreeMap<ListenerName, Arc<Bound>>,
    /// When the whole process ends gracefully: until when connections may take.
    pub(crate) drain: Option<Instant>,
}
