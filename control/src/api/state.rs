//! The state of the API that its handlers share.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::access::{AuditLog, Token, TokenStore};
use crate::api::response::ApiError;
use crate::ca::CertificateAuthority;
use crate::health::Health;
use crate::limits::{MAX_BACKUPS, MAX_PUSHES, MAX_REGISTRATIONS, MAX_WAITING_WRITERS, MAX_WATCHERS};
use crate::publish::Publisher;
use crate::snapshot_cache::SnapshotCache;
use crate::status::ConnectedProxies;

/// The state of the API.
pub struct ApiState {
    /// Applies changes.
    pub publisher: Arc<Publisher>,
    /// The current snapshot.
    pub snapshot_cache: Arc<SnapshotCache>,
    /// The connected proxies.
    pub proxies: Arc<ConnectedProxies>,
    /// Authenticates requests.
    pub tokens: Arc<TokenStore>,
    /// Signs the mesh's certificates.
    pub ca: Arc<CertificateAuthority>,
    /// Records changes.
    pub audit: AuditLog,
    /// The faults of the store.
    pub health: Arc<Health>,
    /// The limits on concurrent requests.
    pub permits: RequestPermits,
}

/// The limits on concurrent requests, by kind. A request beyond its limit is answered with 503.
#[derive(Debug)]
pub struct RequestPermits {
    /// Changes that wait for the publisher.
    pub(crate) writers: Arc<Semaphore>,
    /// Registrations of workloads.
    pub(crate) registrations: Arc<Semaphore>,
    /// Bundles that are pushed.
    pub(crate) pushes: Arc<Semaphore>,
    /// Backups of the store.
    pub(crate) backups: Arc<Semaphore>,
    /// Watches of the change feed.
    pub(crate) watchers: Arc<Semaphore>,
}

impl RequestPermits {
    /// Returns the permits of an API with at most `connections` connections. Watches may use half of them.
    pub fn new(connections: usize) -> Self {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Self {
            writers: semaphore(MAX_WAITING_WRITERS),
            registrations: semaphore(MAX_REGISTRATIONS),
            pushes: semaphore(MAX_PUSHES),
            backups: semaphore(MAX_BACKUPS),
            watchers: semaphore(MAX_WATCHERS.min((connections / 2).max(1))),
        }
    }
}

/// Returns a permit, or an error with the text `busy` if none is left.
pub(crate) fn try_permit(permits: &Arc<Semaphore>, busy: &str) -> Result<OwnedSemaphorePermit, ApiError> {
    Arc::clone(permits).try_acquire_owned().map_err(|_| ApiError::busy(busy))
}

/// The authenticated requester.
#[derive(Debug, Clone)]
pub(crate) struct Principal(pub(crate) Token);
