//! Follows a shared store: reads what other replicas write.

use std::sync::Arc;

use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::access::TokenStore;
use crate::ca::CertificateAuthority;
use crate::limits::{STORE_POLL_INTERVAL, STORE_WATCH_DEBOUNCE};
use crate::publish::Publisher;
use crate::store::ResourceStore;
use crate::task;

/// The parts that follow a shared store. One failing does not stop the others.
#[derive(Clone)]
pub(super) struct StoreFollowers {
    pub(super) publisher: Arc<Publisher>,
    pub(super) tokens: Arc<TokenStore>,
    pub(super) ca: Arc<CertificateAuthority>,
}

impl StoreFollowers {
    /// Reads what other replicas have written, and returns the errors. Blocks.
    fn sync(&self, store: &ResourceStore) -> Vec<String> {
        let results = [
            self.publisher.sync().map_err(|error| error.to_string()),
            self.tokens.reload(store).map_err(|error| error.to_string()),
            self.ca.reload().map_err(|error| error.to_string()),
        ];
        results.into_iter().filter_map(Result::err).collect()
    }
}

/// Synchronizes after each change of a shared store. Returns at once if the store is not shared.
pub(super) async fn run(store: Arc<ResourceStore>, followers: StoreFollowers) {
    let Some(mut changes) = store.changes() else { return };
    let mut logged = Vec::new();
    loop {
        // A broken watch may be silent, so the store is also polled.
        drop(timeout(STORE_POLL_INTERVAL, changes.changed()).await);
        sleep(STORE_WATCH_DEBOUNCE).await;
        changes.borrow_and_update();
        let (store, followers) = (Arc::clone(&store), followers.clone());
        let Some(reasons) = task::blocking(move || followers.sync(&store)).await else { continue };
        if reasons == logged {
            continue; // Already logged.
        }
        reasons.iter().for_each(|reason| warn!("cannot sync shared store: {reason}"));
        if reasons.is_empty() {
            info!("shared store synced again");
        }
        logged = reasons;
    }
}
